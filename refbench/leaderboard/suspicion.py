"""Outputs that no model could have made from draft, reference and mask: the target itself, or nearly.

A model does not know the target's grain. Where the draft has lost it, the finest detail of an honest answer
is right in places and wrong in others; that of a copy of the target, even blended, recompressed or with
noise added, follows the target everywhere. So the finest band (what a Gaussian of 1 px takes away) of the
output is correlated with the target's, inside the mask, beside the draft's own correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, resize

FINE_CORRELATION = 0.97
"""Above this in the finest band, an answer follows the target's grain."""
MIDDLE_CORRELATION = 0.98
"""... and above this in the next band (1 to 2 px), which noise hides less."""
DRAFT_CORRELATION = 0.9
"""A draft that has the grain itself proves nothing about what was made of it."""
EQUAL_SHARE = 0.5
"""Share of the spoilt pixels that are exactly the target's."""
MIN_PIXELS = 400
"""Smaller regions are not judged."""
UNRELATED = 0.3
"""Correlation of output and draft outside the mask, at 24 px, below which they show different pictures."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one output looks like beside its target and draft."""

    copy: bool
    """Follows the target where a model could not know it."""
    unchanged: bool
    """Equals the draft, pixel by pixel."""
    unrelated: bool
    """Shows something else than the draft outside the mask."""
    equal: float
    """Share of the spoilt pixels that equal the target exactly."""
    fine: float
    """Correlation with the target in the finest band, NaN where the region is too small."""
    middle: float


def _luma(image: Image) -> NDArray[np.float64]:
    values: NDArray[np.float64] = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return values


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    one, two = one - one.mean(), two - two.mean()
    size = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum() / size) if size > 1e-9 else 0.0


def look(output: Image, target: Image, draft: Image, mask: Mask) -> Look:
    """Compare one output with what its model could not see.

    Args:
        output: (H, W, 3) uint8, as target and draft.
        mask: (H, W) bool.
    """
    from scipy.ndimage import binary_erosion, gaussian_filter

    spoilt = (draft != target).any(axis=2) & mask
    equal = float((output == target).all(axis=2)[spoilt].mean()) if spoilt.sum() >= MIN_PIXELS else 0.0
    inside = binary_erosion(mask, iterations=2)
    fine = middle = float("nan")
    known = False
    if inside.sum() >= MIN_PIXELS:
        bands = {}
        for name, image in (("output", output), ("target", target), ("draft", draft)):
            grey = _luma(image)
            one, two = gaussian_filter(grey, 1.0), gaussian_filter(grey, 2.0)
            bands[name] = (grey - one)[inside], (one - two)[inside]
        fine = _correlation(bands["output"][0], bands["target"][0])
        middle = _correlation(bands["output"][1], bands["target"][1])
        known = _correlation(bands["draft"][0], bands["target"][0]) > DRAFT_CORRELATION
    follows = not known and fine > FINE_CORRELATION and middle > MIDDLE_CORRELATION
    small = (24, 24)
    outside = ~resize(np.repeat(mask[:, :, None].astype(np.uint8) * 255, 3, axis=2), small)[:, :, 0].astype(bool)
    there, here = _luma(resize(output, small)), _luma(resize(draft, small))
    unrelated = bool(outside.sum() >= 24 and _correlation(there[outside], here[outside]) < UNRELATED)
    unchanged = bool(np.array_equal(output, draft))
    return Look(
        copy=not unchanged and (equal > EQUAL_SHARE or follows),
        unchanged=unchanged,
        unrelated=unrelated,
        equal=equal,
        fine=fine,
        middle=middle,
    )
