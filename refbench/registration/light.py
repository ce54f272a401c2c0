"""Make warped content sit in the draft: light and colour at low frequencies, and blending across the mask's edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration.opencv import cv2

Float = NDArray[np.float32]


def to_lab(image: Image) -> Float:
    """CIE Lab (L 0 to 100) of (H, W, 3) uint8 sRGB."""
    lab: Float = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab


def to_rgb(lab: Float) -> Image:
    """The reverse of :func:`to_lab`, rounded and clipped."""
    rgb = cv2.cvtColor(np.ascontiguousarray(lab, np.float32), cv2.COLOR_Lab2RGB)
    return np.asarray(np.rint(np.clip(rgb, 0, 1) * 255), np.uint8)


def masked_blur(image: Float, weight: Float, sigma: float) -> Float:
    """Normalised convolution: Gaussian mean (sigma in px) of the pixels that have weight, (H, W, C) or (H, W)."""
    many = image.ndim == 3
    total = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) + 1e-5
    blurred = cv2.GaussianBlur(
        image * (weight[..., None] if many else weight), (0, 0), sigma, borderType=cv2.BORDER_REFLECT
    )
    out: Float = blurred / (total[..., None] if many else total)
    return out


def membrane(difference: Float, known: Mask) -> Float:
    """The smoothest field that equals `difference` (H, W, C) where it is known.

    Solves Laplace's equation, which is what Poisson image editing (Perez et al., SIGGRAPH 2003) adds to pasted
    content. Coarse to fine: each level starts from the one below and is relaxed.
    """
    sureness = known.astype(np.float32)
    levels = [(difference * sureness[..., None], sureness)]
    while min(levels[-1][1].shape) > 4:
        value, weight = levels[-1]
        levels.append((cv2.pyrDown(value), cv2.pyrDown(weight)))
    value, weight = levels[-1]
    field = value / (weight[..., None] + 1e-4)
    for value, weight in reversed(levels[:-1]):
        field = cv2.resize(field, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
        sure = np.clip(weight, 0, 1)[..., None]
        fixed = value / (weight[..., None] + 1e-4)
        for _ in range(6):
            field = sure * fixed + (1 - sure) * field
            field = sure * fixed + (1 - sure) * cv2.blur(field, (3, 3), borderType=cv2.BORDER_REFLECT)
    return np.asarray(field, np.float32)


def figure(image: Image, inside: Mask) -> Float:
    """What stands inside a region apart from the background around it: a matte (h, w), 0 to 1.

    GrabCut (Rother et al., SIGGRAPH 2004) at about 160 px, started from the region. Where it finds next to nothing,
    or nearly everything, the whole region is the figure.

    Args:
        image: (h, w, 3) uint8.
        inside: (h, w) bool, not empty: where the figure can be.
    """
    whole = inside.astype(np.float32)
    x, y, w, h = mask_box(inside)
    x, y, w, h = mask_box(inside, max(4, max(w, h) // 3))
    factor = min(1.0, 160 / max(w, h))
    size = (max(8, round(w * factor)), max(8, round(h * factor)))
    small = cv2.resize(image[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
    region = cv2.resize(whole[y : y + h, x : x + w], size, interpolation=cv2.INTER_LINEAR) > 0.5
    if region.all() or region.sum() < 30:
        return whole
    labels = np.where(region, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cv2.setRNGSeed(0)
    try:
        labels, _, _ = cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return whole
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not 0.08 < float(found.sum()) / float(region.sum()) < 0.97:
        return whole
    soft = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 0.7)
    matte = np.zeros_like(whole)
    matte[y : y + h, x : x + w] = cv2.resize(soft, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(matte * whole, np.float32)


def painted_over(image: Image, mask: Mask) -> Image:
    """The image with the masked part filled from around it (Telea's fast marching), at about 200 px, so smoothly."""
    factor = min(1.0, 200 / max(image.shape[:2]))
    size = (max(4, round(image.shape[1] * factor)), max(4, round(image.shape[0] * factor)))
    hole = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    filled = cv2.inpaint(small, cv2.resize(hole, size, interpolation=cv2.INTER_NEAREST), 4, cv2.INPAINT_TELEA)
    out = image.copy()
    out[mask] = cv2.resize(filled, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)[mask]
    return out


def shading(luma: Float, sigma: float) -> Float:
    """The surface's light relative to its mean, (H, W), 0.6 to 1.4: what a print on it is darkened by."""
    low = cv2.GaussianBlur(luma, (0, 0), sigma)
    return np.asarray(np.clip(1 + 0.7 * (low / max(float(low.mean()), 1.0) - 1), 0.6, 1.4), np.float32)


def shrink_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask reduced to (height, width): true where any of its pixels was."""
    small = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA) > 0
    return np.asarray(small, bool)
