"""Focus and paste back: refine a crop at the model's working size inside a picture of any size.

The mask's box with a margin is cut out of the draft and enlarged (Focus-and-Refine, RefineAnything, arXiv
2604.06870); the matching part of the reference is laid onto the same frame. That match is found by keypoints where
they agree on one turn, scale and tilt, or by a search of coarse content (:mod:`refbench.omnirefiner.align`); else the
user's box in the reference is used, else the whole reference. The
better it lies, the less the model must search: a reference that is only slightly off is what it reads best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refbench.crops import MARGIN, crop_box, cut, soft_mask
from refbench.images import Image, Mask, mask_box
from refbench.omnirefiner.align import FINE, agreement, align
from refbench.schema import Box

Match: TypeAlias = Literal["keypoints", "content", "box", "whole"]
Matrix: TypeAlias = NDArray[np.float64]

LEAST_INLIERS = 10
AGREED = 0.5
"""Least masked correlation at which a search by content is believed."""
TRUST = 0.1
"""Head start of keypoints, which see more than coarse content does."""


@dataclass(frozen=True, slots=True)
class Focus:
    """A crop at the working size S and what is needed to put it back."""

    draft: Tensor
    """(3, S, S) in [-1, 1]."""
    reference: Tensor
    """(3, S, S) in [-1, 1], the matching part of the reference on the same frame."""
    mask: Tensor
    """(1, S, S) in {0, 1}."""
    picture: Image
    """The whole draft."""
    picture_mask: Mask
    """The whole mask."""
    box: Box
    """The crop (x, y, side, side) in the draft; it may reach over the frame, where the draft is mirrored."""
    match: Match
    """How the part of the reference was found."""


def _tensor(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, C) uint8 -> (C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 127.5 - 1


def resize_crop(picture: Tensor, size: int) -> Tensor:
    """(C, H, W) -> (C, size, size), antialiased bicubic."""
    if picture.shape[-1] == size and picture.shape[-2] == size:
        return picture
    return torch.nn.functional.interpolate(picture[None], (size, size), mode="bicubic", antialias=True)[0]


def match_keypoints(draft: Image, reference: Image, box: Box, reference_box: Box | None) -> Matrix | None:
    """The map (3, 3) from draft px to reference px that SIFT keypoints near the crop agree on, or None.

    Keypoints inside the mask count too: most drafts keep some of the detail. A homography is taken where enough of
    them agree, a similarity where fewer do; maps that fold, shrink or stretch beyond five-fold, or that lead out of
    the reference (or away from the user's box) are refused.
    """
    import cv2

    x, y, side, _ = box
    area = np.zeros(draft.shape[:2], np.uint8)
    area[max(y, 0) : y + side, max(x, 0) : x + side] = 255
    allowed = None
    if reference_box is not None:
        u, v, w, h = reference_box
        grow = max(w, h) // 2
        allowed = np.zeros(reference.shape[:2], np.uint8)
        allowed[max(v - grow, 0) : v + h + grow, max(u - grow, 0) : u + w + grow] = 255
    vision: Any = cv2  # its stubs lack SIFT
    sift = vision.SIFT_create(nfeatures=1500, contrastThreshold=0.02)
    here, described = sift.detectAndCompute(cv2.cvtColor(draft, cv2.COLOR_RGB2GRAY), area)
    there, known = sift.detectAndCompute(cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY), allowed)
    if described is None or known is None or len(here) < 4 or len(there) < 4:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(described, known, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < 0.8 * p[1].distance]
    if len(good) < LEAST_INLIERS:
        return None
    source = np.array([here[m.queryIdx].pt for m in good], np.float64)
    target = np.array([there[m.trainIdx].pt for m in good], np.float64)
    tolerance = 0.02 * side * _scale_of(source, target) + 1.5
    homography, inside = vision.findHomography(source, target, cv2.RANSAC, tolerance, maxIters=2000, confidence=0.995)
    if homography is not None and int(inside.sum()) >= 2 * LEAST_INLIERS:
        full = np.asarray(homography, np.float64)
        if _sane(full, box, reference, reference_box):
            return full
    similarity, inside = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=tolerance, maxIters=2000)
    if similarity is None or int(inside.sum()) < LEAST_INLIERS:
        return None
    full = np.vstack([similarity, [0, 0, 1]]).astype(np.float64)
    return full if _sane(full, box, reference, reference_box) else None


def _scale_of(source: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    spread = np.median(np.abs(source - np.median(source, 0)), 0).sum()
    return float(np.clip(np.median(np.abs(target - np.median(target, 0)), 0).sum() / max(spread, 1e-6), 0.2, 5))


def _corners(box: Box) -> NDArray[np.float64]:
    x, y, width, height = box
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)


def _apply(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    lifted = np.c_[points, np.ones(len(points))] @ matrix.T
    moved: NDArray[np.float64] = lifted[:, :2] / lifted[:, 2:]
    return moved


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def _sane(matrix: Matrix, box: Box, reference: Image, reference_box: Box | None) -> bool:
    corners = np.c_[_corners(box), np.ones(4)] @ matrix.T
    if (
        np.any(corners[:, 2] <= 1e-6 * np.abs(corners[:, 2]).max())
        or np.abs(corners[:, 2]).max() > 4 * np.abs(corners[:, 2]).min()
    ):
        return False
    quad = corners[:, :2] / corners[:, 2:]
    ratio = _area(quad) / _area(_corners(box))
    if not 0.04 < ratio < 25:
        return False
    edges = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if edges.max() > 3 * edges.min():
        return False
    centre = _apply(matrix, np.array([[box[0] + box[2] / 2, box[1] + box[3] / 2]], np.float64))[0]
    x, y, width, height = reference_box or (0, 0, reference.shape[1], reference.shape[0])
    grow = 0.25 * max(width, height) if reference_box else 0.0
    return bool(x - grow <= centre[0] <= x + width + grow and y - grow <= centre[1] <= y + height + grow)


def match_box(box: Box, mask: Mask, reference: Image, reference_box: Box | None) -> Matrix:
    """The map (3, 3) that takes the mask's box onto the reference's box, or the crop onto the whole reference.

    Centres fall on each other and the scale is the same both ways, so that nothing is squeezed.
    """
    if reference_box is not None:
        here: Box = mask_box(mask)
        there: Box = reference_box
        scale = float(np.sqrt(there[2] * there[3] / (here[2] * here[3])))
    else:
        here, there = box, (0, 0, reference.shape[1], reference.shape[0])
        scale = max(there[2] / here[2], there[3] / here[3])
    source = np.array([here[0] + here[2] / 2, here[1] + here[3] / 2])
    target = np.array([there[0] + there[2] / 2, there[1] + there[3] / 2])
    move = target - scale * source
    return np.array([[scale, 0, move[0]], [0, scale, move[1]], [0, 0, 1]], np.float64)


def _frame(box: Box, size: int) -> Matrix:
    """Pixel centres of a square frame of `size` px over a box -> draft px."""
    step = box[2] / size
    return np.array([[step, 0, box[0] + step / 2 - 0.5], [0, step, box[1] + step / 2 - 0.5], [0, 0, 1]], np.float64)


def find_match(draft: Image, reference: Image, mask: Mask, box: Box, reference_box: Box | None) -> tuple[Matrix, Match]:
    """The map (3, 3) from draft px to reference px and how it was found.

    Keypoints give one proposal, a search by coarse content around the user's box (or the whole reference) another;
    the one under which draft and reference agree better is taken, the box itself where neither agrees.
    """
    side = box[2]
    wide: Box = (box[0] - side // 2, box[1] - side // 2, 2 * side, 2 * side)
    frame, field = _frame(box, FINE), _frame(wide, 2 * FINE)
    seen = resize_crop(_tensor(cut(draft, box)), FINE)
    marked = torch.from_numpy(cut(mask.astype(np.uint8)[..., None], box)).permute(2, 0, 1).float()
    marked = resize_crop(marked, FINE).clamp(0, 1)
    placed = match_box(box, mask, reference, reference_box)
    match: Match = "box" if reference_box is not None else "whole"
    found: list[tuple[float, Matrix, Match]] = []
    points = match_keypoints(draft, reference, box, reference_box)
    if points is not None:
        shown = _tensor(sample_reference(reference, points, wide, 2 * FINE))
        found.append((agreement(seen, shown, marked, np.linalg.inv(field) @ frame) + TRUST, points, "keypoints"))
    shown = _tensor(sample_reference(reference, placed, wide, 2 * FINE))
    moved, score = align(seen, shown, marked)
    matrix = placed @ field @ moved @ np.linalg.inv(frame)
    if score >= AGREED and _sane(matrix, box, reference, reference_box):
        found.append((score, matrix, "content"))
    if not found:
        return placed, match
    best = max(found, key=lambda item: item[0])
    return best[1], best[2]


def sample_reference(reference: Image, matrix: Matrix, box: Box, size: int) -> Image:
    """The reference seen through `matrix` on the crop's frame: (size, size, 3), antialiased, mirrored at its border."""
    import cv2

    full = matrix @ _frame(box, size)
    quad = _apply(full, np.array([(0, 0), (size, 0), (size, size), (0, size)], np.float64))
    shrink = max(1.0, float(np.sqrt(max(_area(quad), 1e-9))) / size)
    picture = reference
    if shrink > 1.05:
        height, width = (max(2, round(v / shrink)) for v in reference.shape[:2])
        picture = np.asarray(cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        sx, sy = width / reference.shape[1], height / reference.shape[0]
        full = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]], np.float64) @ full
    warped = cv2.warpPerspective(
        picture, full, (size, size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.ascontiguousarray(warped)


def focus(
    draft: Image, reference: Image, mask: Mask, size: int, *, reference_box: Box | None = None, margin: float = MARGIN
) -> Focus:
    """Cut the crop to refine out of draft and reference, at `size` px.

    Args:
        draft: (H, W, 3).
        reference: (h, w, 3), any size.
        mask: (H, W), not empty.
        size: the working size, a multiple of the model's token side.
        reference_box: (x, y, width, height) of the detail in the reference, where the user has drawn it.
        margin: around the mask's box, share of its longer side.
    """
    box = crop_box(mask, margin)
    matrix, match = find_match(draft, reference, mask, box, reference_box)
    inside = cut(mask.astype(np.uint8)[..., None], box)
    marked = torch.from_numpy(inside).permute(2, 0, 1).float()
    scaled = (
        torch.nn.functional.adaptive_max_pool2d(marked[None], (size, size))[0]
        if box[2] >= size
        else (torch.nn.functional.interpolate(marked[None], (size, size), mode="nearest-exact")[0])
    )
    return Focus(
        draft=resize_crop(_tensor(cut(draft, box)), size).clamp(-1, 1),
        reference=_tensor(sample_reference(reference, matrix, box, size)),
        mask=scaled, picture=draft, picture_mask=mask, box=box, match=match,
    )  # fmt: skip


def paste_back(focused: Focus, refined: Tensor) -> Image:
    """Put a refined crop (3, S, S) in [-1, 1] back; every pixel outside the mask stays as it was.

    What is added is the *change* at the working size, enlarged: detail of the draft finer than the working size
    stays, so that a crop which needed no change comes back exactly.
    """
    x, y, side, _ = focused.box
    change = resize_crop(refined.float() - focused.draft, side).permute(1, 2, 0).numpy() * 127.5
    height, width = focused.picture.shape[:2]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    weights = soft_mask(focused.picture_mask)[top:bottom, left:right, None]
    out = focused.picture.copy()
    old = out[top:bottom, left:right].astype(np.float32)
    new = old + weights * change[top - y : bottom - y, left - x : right - x]
    out[top:bottom, left:right] = np.where(weights > 0, np.clip(np.rint(new), 0, 255), old).astype(np.uint8)
    return out
