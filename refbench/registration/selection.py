"""Keep the draft where it shows already what the laid reference shows.

A print that was garbled or exchanged is wrong in its figure; its ground, the light on it and what shines through it are
the draft's own and right. Laid in whole, a reference brings its own ground's folds and grain along. So it is let in
where it differs from the draft by a good part of the contrast between the two, and around there. It is let in or not:
half of each would show both, a double exposure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.images import Mask
from refbench.registration.opencv import cv2

Float = NDArray[np.float32]

CONTRAST = 95.0
"""Percentile of the differences inside the mask that stands for the contrast between draft and reference."""
UNLIKE, UNLIKE_OTHER = 0.35, 0.2
"""Share of the contrast from which the reference is let in; the second where the draft shows another thing, of which
nothing may shine through. Chosen on the validation suite (reports/omnirefiner-stage1.md)."""


def differing(draft: NDArray[np.uint8], laid: NDArray[np.uint8], inside: Mask, side: int, *, other: bool) -> Float:
    """Weights (H, W) of a laid reference over the draft it was laid into: 1 where they show other things, 0 where they
    show the same, with an edge of about a pixel between.

    Args:
        draft, laid: (H, W, 3).
        inside: (H, W), what is refined.
        side: the mask's longer side in px; differences are taken over about an eightieth of it, and the reference is
            let in a fortieth around them.
        other: the draft shows another thing than the reference.
    """
    apart = np.abs(laid.astype(np.float32) - draft).max(-1) * inside
    contrast = float(np.percentile(apart[inside], CONTRAST)) if inside.any() else 0.0
    if contrast < 1.0:
        return np.ones(inside.shape, np.float32)
    near = cv2.GaussianBlur(apart, (0, 0), max(0.8, side / 80))
    reach = 2 * round(side / 40) + 1
    near = np.asarray(cv2.dilate(near, np.ones((reach, reach), np.uint8)), np.float32)
    near = cv2.GaussianBlur(near, (0, 0), max(0.8, side / 120))
    chosen = (near > (UNLIKE_OTHER if other else UNLIKE) * contrast).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(chosen, (0, 0), 0.8), np.float32)
