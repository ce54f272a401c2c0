"""Outputs that no model could have made from draft, reference and mask: the target itself, or nearly.

A model does not know the target's grain. Where the draft has lost it, the finest detail of an honest answer
is right in places and wrong in others; that of a copy of the target, even blended, recompressed or with
noise added, follows the target everywhere. So the finest band (what a Gaussian of 1 px takes away) and the
next one (1 to 2 px) of the output are correlated with the target's inside the mask, on the samples whose
draft does not have the grain itself. One sample alone proves nothing; a share of samples, or the median
over all of them, does (see :mod:`refbench.leaderboard.intake`).

Measured on a third of `core`: the classical models' median correlation in the finest band is at most 0.09
and none has a sample above both limits; of copies with noise of 2 levels or recompressed at quality 90 nine
in ten samples or more exceed both, and the median of much stronger disguises is still 0.97 (noise of 4
levels), 0.93 (quality 75) and 0.84 (half draft).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, resize

FINE_CORRELATION = 0.95
"""Above this in the finest band, an answer follows the target's grain."""
MIDDLE_CORRELATION = 0.97
"""... and above this in the next band, which noise hides less."""
DRAFT_CORRELATION = 0.8
"""A draft that has the grain itself proves nothing about what was made of it: such samples are not judged."""
EQUAL_SHARE = 0.5
"""Share of the spoilt pixels with grain that are exactly the target's."""
GRAIN = 1.0
"""Grey levels in the finest band above which a pixel has grain; a flat area may be met exactly."""
MIN_PIXELS = 400
"""Smaller regions are not judged."""
UNRELATED = 0.3
"""Correlation of output and draft outside the mask, at 24 px, below which they show different pictures."""


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """What one output looks like beside its target and draft."""

    copy: bool
    """Follows the target where a model could not know it."""
    unchanged: bool
    """Equals the draft, pixel by pixel."""
    unrelated: bool
    """Shows something else than the draft outside the mask."""
    equal: float
    """Share of the spoilt pixels with grain that equal the target exactly."""
    judged: bool
    """Whether the draft has lost the grain, in a region large enough."""
    fine: float
    """Correlation with the target in the finest band, NaN where the region is too small."""
    middle: float
    """The same in the next band."""


def _luma(image: Image) -> NDArray[np.float64]:
    values: NDArray[np.float64] = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return values


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    one, two = one - one.mean(), two - two.mean()
    size = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum() / size) if size > 1e-9 else 0.0


def leak_check(output: Image, target: Image, draft: Image, mask: Mask) -> LeakCheck:
    """Compare one output with what its model could not see.

    Args:
        output: (H, W, 3) uint8, as target and draft.
        mask: (H, W) bool.
    """
    from scipy.ndimage import binary_erosion, gaussian_filter

    bands = {}
    for name, image in (("output", output), ("target", target), ("draft", draft)):
        grey = _luma(image)
        one, two = gaussian_filter(grey, 1.0), gaussian_filter(grey, 2.0)
        bands[name] = grey - one, one - two
    spoilt = (draft != target).any(axis=2) & mask & (np.abs(bands["target"][0]) > GRAIN)
    equal = float((output == target).all(axis=2)[spoilt].mean()) if spoilt.sum() >= MIN_PIXELS else 0.0
    inside = binary_erosion(mask, iterations=2)
    fine = middle = float("nan")
    judged = False
    if inside.sum() >= MIN_PIXELS:
        fine, middle = (_correlation(bands["output"][k][inside], bands["target"][k][inside]) for k in (0, 1))
        judged = _correlation(bands["draft"][0][inside], bands["target"][0][inside]) < DRAFT_CORRELATION
    follows = judged and fine > FINE_CORRELATION and middle > MIDDLE_CORRELATION
    small = (24, 24)
    outside = ~resize(np.repeat(mask[:, :, None].astype(np.uint8) * 255, 3, axis=2), small)[:, :, 0].astype(bool)
    there, here = _luma(resize(output, small)), _luma(resize(draft, small))
    unrelated = bool(outside.sum() >= 24 and _correlation(there[outside], here[outside]) < UNRELATED)
    unchanged = bool(np.array_equal(output, draft))
    return LeakCheck(
        copy=not unchanged and (equal > EQUAL_SHARE or follows),
        unchanged=unchanged,
        unrelated=unrelated,
        equal=equal,
        judged=judged,
        fine=fine,
        middle=middle,
    )
