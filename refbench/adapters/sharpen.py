"""Model `sharpen`: reference-free deconvolution, the answer of someone who never looks at the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration.opencv import cv2
from refbench.schema import AdapterCard, Inputs

Float = NDArray[np.float32]


def richardson_lucy(image: Float, sigma: float, rounds: int) -> Float:
    """Deconvolve non-negative (H, W) values by a Gaussian of `sigma` px.

    W. H. Richardson (JOSA 1972), L. B. Lucy (AJ 1974).
    """
    estimate = image.copy()
    for _ in range(rounds):
        ratio = image / np.maximum(cv2.GaussianBlur(estimate, (0, 0), sigma), 1e-3)
        estimate = estimate * cv2.GaussianBlur(ratio, (0, 0), sigma)
    return estimate


def sharpened(draft: Image, mask: Mask, strength: float = 1.0) -> Image:
    """Sharpen the luma inside the mask; colours and everything outside stay.

    The luma is deconvolved and then held to the range of its 5 x 5 surroundings, grown by a quarter, which keeps
    edges from ringing. The blur is taken from the draft itself: the width (sigma 0.6 to 2 px) whose re-blurring
    changes the masked content about as much as a Gaussian edge of that width would (Crete et al., SPIE 2007).

    Args:
        draft: (H, W, 3) uint8.
        mask: (H, W) bool.
        strength: 0 to 1, share of the correction that is applied.
    """
    x, y, w, h = mask_box(mask, 16)
    crop = draft[y : y + h, x : x + w].astype(np.float32)
    inside = mask[y : y + h, x : x + w]
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    fine = luma - cv2.GaussianBlur(luma, (0, 0), 1.0)
    middle = cv2.GaussianBlur(luma, (0, 0), 1.0) - cv2.GaussianBlur(luma, (0, 0), 2.0)
    lost = float(np.sqrt(np.mean(middle[inside] ** 2)) / (np.sqrt(np.mean(fine[inside] ** 2)) + 1e-3))
    sigma = float(np.clip(0.6 + 0.5 * (lost - 0.6), 0.6, 2.0))
    sharp = richardson_lucy(luma + 1.0, sigma, 8) - 1.0
    kernel = np.ones((5, 5), np.uint8)
    low, high = cv2.erode(luma, kernel), cv2.dilate(luma, kernel)
    slack = 0.25 * (high - low)
    change = np.clip(sharp, low - slack, high + slack) - luma
    edge = cv2.GaussianBlur(np.pad(inside, 1).astype(np.float32), (0, 0), 1.5)[1:-1, 1:-1]
    weight = strength * np.clip(2 * edge - 1, 0, 1)[..., None]
    out = draft.copy()
    result = np.rint(np.clip(crop + weight * change[..., None], 0, 255)).astype(np.uint8)
    out[y : y + h, x : x + w][inside] = result[inside]
    return out


class Sharpen:
    """Deconvolves the draft inside the mask."""

    card = AdapterCard(
        name="sharpen",
        summary="Richardson-Lucy deconvolution of the draft inside the mask, held to the local range; no reference.",
        licence="Apache-2.0",
        paper="https://doi.org/10.1364/JOSA.62.000055",
        needs_reference=False,
        requires=("cv2",),
    )

    def __init__(self, *, device: str = "cpu", strength: float = 1.0) -> None:
        self.device = device
        self.strength = strength

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft, sharpened inside the mask; see :func:`sharpened`."""
        return sharpened(inputs.draft, inputs.mask, self.strength)
