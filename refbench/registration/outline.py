"""The last pixels of a print's pose from its outline: the figure in the draft against the figure in the reference.

A garbled label keeps its panel and a wrong pattern its patch: what is inside misleads, the outline does not. Both
figures are cut out (GrabCut), and their mattes are aligned by ECC (Evangelidis and Psarakis, TPAMI 2008).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration import light
from refbench.registration.opencv import cv2
from refbench.registration.pose import Matrix
from refbench.schema import Box

Float = NDArray[np.float32]

SIDE = 160
"""Outlines are aligned with the mask's window reduced to this long side (px)."""
SOFT = 1.5
"""Sigma in px of the mattes' edges: what pulls them onto each other."""

STRETCH = 1.3
"""Most by which a start may be stretched in one direction against the other: another label has another shape."""


class Outlines:
    """The figures of a draft and of a reference, and how well a pose lays the one on the other.

    Args:
        draft, reference: (H, W, 3) and (h, w, 3).
        mask: (H, W), not empty; the draft's figure is looked for inside it.
        reference_box: (x, y, width, height), in which the reference's figure is looked for.
    """

    def __init__(self, draft: Image, reference: Image, mask: Mask, reference_box: Box) -> None:
        left, top, wide, high = mask_box(mask, max(12, max(mask_box(mask)[2:]) // 4))
        factor = min(1.0, SIDE / max(wide, high))
        self.size = (max(24, round(wide * factor)), max(24, round(high * factor)))
        across, down = wide / self.size[0], high / self.size[1]
        self.local = np.array([[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2], [0, 0, 1.0]])
        window = np.s_[top : top + high, left : left + wide]
        here = light.figure(np.ascontiguousarray(draft[window]), mask[window])
        self.here = _softened(cv2.resize(here, self.size, interpolation=cv2.INTER_AREA))
        boxed = np.zeros(reference.shape[:2], bool)
        x, y, w, h = reference_box
        boxed[max(y, 0) : y + h, max(x, 0) : x + w] = True
        self.there = light.figure(reference, boxed) if boxed.any() else boxed.astype(np.float32)
        self.whole = bool(np.array_equal(self.there, boxed))
        """No figure was found in the reference's box but all of it."""

    def shown(self, matrix: Matrix) -> Float:
        """The reference's soft matte through a map from the reduced window to it."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return _softened(cv2.warpPerspective(self.there, matrix, self.size, flags=flags))

    def overlap(self, pose: Matrix) -> float:
        """Intersection over union in [0, 1] of the soft mattes through a pose (draft px -> reference px)."""
        return _overlap(self.here, self.shown(pose @ self.local))

    def fit(self, starts: Iterable[Matrix]) -> tuple[Matrix, float] | None:
        """The pose at which the figures cover each other best, begun from each of some, and its :meth:`overlap`; None
        where there is nothing to align."""
        best, likeness = None, 0.0
        if float(self.here.sum()) < 16 or not self.there.any():
            return None
        for start in starts:
            matrix = start @ self.local
            found = _overlap(self.here, self.shown(matrix))
            for motion in (cv2.MOTION_AFFINE, cv2.MOTION_HOMOGRAPHY):
                step = _step(self.here, self.shown(matrix), motion)
                moved = None if step is None else matrix @ step
                overlap = 0.0 if moved is None else _overlap(self.here, self.shown(moved))
                if moved is not None and overlap > found and _stretch(start @ self.local, moved, self.size) < STRETCH:
                    matrix, found = moved, overlap
            if found > likeness:
                best, likeness = matrix @ np.linalg.inv(self.local), found
        return None if best is None else (best, likeness)


def _softened(matte: NDArray[np.float32]) -> Float:
    return np.asarray(cv2.GaussianBlur(matte, (0, 0), SOFT), np.float32)


def _overlap(a: Float, b: Float) -> float:
    return float(np.minimum(a, b).sum() / max(float(np.maximum(a, b).sum()), 1e-6))


def _step(here: Float, there: Float, motion: int) -> Matrix | None:
    start = np.eye(3 if motion == cv2.MOTION_HOMOGRAPHY else 2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    try:
        _, step = cv2.findTransformECC(here, there, start, motion, criteria, None, 3)
    except cv2.error:  # it raises when the mattes do not overlap at all
        return None
    whole = np.vstack([step, [0, 0, 1]]) if len(step) == 2 else step
    return np.asarray(whole, np.float64)


def _stretch(before: Matrix, after: Matrix, size: tuple[int, int]) -> float:
    """How much one direction was stretched against the other, in the middle of a (width, height) frame: 1 or more."""
    slopes = []
    for matrix in (before, after):
        u, v, w = matrix @ np.array([size[0] / 2, size[1] / 2, 1.0])
        slopes.append((matrix[:2, :2] * w - np.outer([u, v], matrix[2, :2])) / (w * w))
    values = np.linalg.svd(np.linalg.inv(slopes[0]) @ slopes[1], compute_uv=False)
    return float(values[0] / max(float(values[1]), 1e-9))
