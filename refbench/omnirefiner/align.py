"""Lay the reference on the draft's frame by what is left of the detail: coarse search, then ECC.

Keypoints die with the detail that a draft has lost, its coarse light and colour mostly survive. A grid of turns,
scales and shifts is compared by masked correlation at 32 px, the best are polished by the enhanced correlation
coefficient (Evangelidis and Psarakis, doi:10.1109/TPAMI.2008.113) as an affine map, and the best of all is kept if it
agrees well enough: where draft and reference show different things (another logo to be put in) nothing is moved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]

COARSE, FINE = 32, 64
"""Sides in px of the frames that the search and the polish see; the reference is shown on twice the field."""
TURNS = tuple(float(v) for v in np.deg2rad((-36, -24, -12, 0, 12, 24, 36)))
SCALES = (0.7, 0.84, 1.0, 1.19, 1.42)
SHIFTS = (-0.16, -0.08, 0.0, 0.08, 0.16)
"""Of the frame's side."""


def correlation(frames: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Masked correlation (N,) in [-1, 1] of frames (N, 3, S, S) with one target (3, S, S), weights (1, S, S) >= 0.

    Channels keep their own means (a tint does not matter) and share one spread (grey stays grey).
    """
    total = weights.sum().clamp(min=1e-6)
    a = frames - (frames * weights).sum((-1, -2), keepdim=True) / total
    b = target - (target * weights).sum((-1, -2), keepdim=True) / total
    both = (a * b * weights).sum((-1, -2, -3))
    spread = ((a * a * weights).sum((-1, -2, -3)) * (b * b * weights).sum()).sqrt()
    return both / spread.clamp(min=1e-6)


def candidates() -> Tensor:
    """All similarities of the grid (N, 2, 3), from the frame's [-1, 1]^2 to the reference's field, also [-1, 1]^2."""
    found = []
    for turn in TURNS:
        for scale in SCALES:
            cos, sin = 0.5 * scale * np.cos(turn), 0.5 * scale * np.sin(turn)
            found += [[[cos, -sin, x], [sin, cos, y]] for x in SHIFTS for y in SHIFTS]
    return torch.tensor(found, dtype=torch.float32)


def _shrunk(picture: Tensor, size: int) -> Tensor:
    return F.interpolate(picture[None], (size, size), mode="bilinear", antialias=True)[0]


def _pixels(affine: NDArray[np.float64], size: int) -> Matrix:
    """A map of [-1, 1]^2 to [-1, 1]^2 as one of frame px (side `size`) to field px (side 2 `size`)."""

    def centred(side: int) -> Matrix:
        half = side / 2
        return np.array([[1 / half, 0, 0.5 / half - 1], [0, 1 / half, 0.5 / half - 1], [0, 0, 1]])

    found: Matrix = np.linalg.inv(centred(2 * size)) @ np.vstack([affine, [0, 0, 1]]) @ centred(size)
    return found


def align(draft: Tensor, field: Tensor, mask: Tensor, start: Matrix | None = None) -> tuple[Matrix, float]:
    """The map from frame px to field px, both at FINE scale, and how well the two then agree.

    Args:
        draft: (3, S, S), the focus crop.
        field: (3, 2S, 2S), the reference on the same centre and twice the field.
        mask: (1, S, S).
        start: a map in [-1, 1] coordinates (2, 3) to polish; None searches the grid.

    Returns:
        (3, 3) and the masked correlation in [-1, 1].
    """
    import cv2

    vision: Any = cv2
    small, wide = _shrunk(draft, COARSE), _shrunk(field, 2 * COARSE)
    weights = _shrunk(F.max_pool2d(mask[None], 5, 1, 2)[0], COARSE).clamp(0, 1)
    if start is None:
        grid = candidates()
        lattice = F.affine_grid(grid, [len(grid), 3, COARSE, COARSE], align_corners=False)
        many = wide[None].expand(len(grid), -1, -1, -1)
        shown = F.grid_sample(many, lattice, align_corners=False, padding_mode="border")
        best = correlation(shown, small, weights).topk(3).indices
        starts = [grid[i].double().numpy() for i in best]
    else:
        starts = [start]
    fine, broad, inside = _shrunk(draft, FINE), _shrunk(field, 2 * FINE), _shrunk(mask, FINE)
    area = F.max_pool2d(inside[None], 5, 1, 2)[0].clamp(0, 1)
    template = fine.mean(0).numpy().astype(np.float32)
    picture = broad.mean(0).numpy().astype(np.float32)
    best_map, best_score = _pixels(np.asarray(starts[0]), FINE), -1.0
    for affine in starts:
        found = _pixels(np.asarray(affine), FINE)
        for polished in (found, _polish(vision, template, picture, found, area[0].numpy())):
            if polished is None:
                continue
            score = agreement(fine, broad, area, polished)
            if score > best_score:
                best_map, best_score = polished, score
    return best_map, best_score


def _polish(vision: Any, template: Any, picture: Any, start: Matrix, area: NDArray[np.float32]) -> Matrix | None:
    """ECC from `start` as an affine map; None where it does not converge or leaves the plausible."""
    allowed = vision.warpPerspective(area, start, picture.shape[::-1], flags=vision.INTER_NEAREST)
    allowed = vision.dilate((allowed > 0.1).astype(np.uint8), np.ones((9, 9), np.uint8))
    criteria = (vision.TERM_CRITERIA_EPS | vision.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, moved = vision.findTransformECC(
            template, picture, start[:2].astype(np.float32), vision.MOTION_AFFINE, criteria, allowed, 5
        )
    except vision.error:
        return None
    linear = moved[:, :2].astype(np.float64)
    stretch = np.linalg.svd(linear, compute_uv=False)
    if np.linalg.det(linear) <= 0 or stretch[0] > 2.2 or stretch[1] < 0.4 or stretch[0] > 2 * stretch[1]:
        return None
    return np.vstack([moved, [0, 0, 1]]).astype(np.float64)


def agreement(frame: Tensor, field: Tensor, weights: Tensor, matrix: Matrix) -> float:
    """Masked correlation of a frame (3, S, S) with the field seen through a map of frame px to field px."""
    import cv2

    side = frame.shape[-1]
    picture = np.ascontiguousarray(field.permute(1, 2, 0).numpy().astype(np.float32))
    seen = cv2.warpPerspective(
        picture, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return float(correlation(torch.from_numpy(seen).permute(2, 0, 1)[None], frame, weights)[0])
