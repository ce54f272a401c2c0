"""The few filters and colour conversions that metrics share, on OpenCV and numpy, in the precision of their input."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image

Floats: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

WHITE = (0.95047, 1.0, 1.08883)
"""D65, 2 degree observer, as in scikit-image."""
TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], dtype=np.float64
)
"""Linear sRGB to CIE XYZ, as in scikit-image."""


def unit(image: Image) -> Floats:
    """uint8 to float64 in [0, 1]."""
    return np.multiply(image, 1.0 / 255.0, dtype=np.float64)


def single(image: Image) -> Singles:
    """uint8 to float32 in [0, 1]."""
    return np.multiply(image, np.float32(1.0 / 255.0), dtype=np.float32)


def luma(rgb: Floats) -> Floats:
    """BT.601 luma 0.299 R + 0.587 G + 0.114 B, (h, w) in the range of `rgb`."""
    out: Floats = rgb @ np.array([0.299, 0.587, 0.114])
    return out


@lru_cache(maxsize=1)
def _linear() -> Floats:
    """The sRGB curve for the 256 possible levels."""
    level = np.arange(256) / 255.0
    return np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)


def lab(image: Image) -> Floats:
    """CIELAB (D65, 2 degrees) of an sRGB uint8 image (..., 3); L in [0, 100]. Equals ``skimage.color.rgb2lab``."""
    xyz = _linear()[image] @ (TO_XYZ / np.array(WHITE)[:, None]).T
    f = np.cbrt(xyz)
    dark = xyz <= 0.008856
    f[dark] = 7.787 * xyz[dark] + 16.0 / 116.0
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    out: Floats = np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)
    return out


@lru_cache(maxsize=64)
def gaussian(size: int, sigma: float) -> Floats:
    """A normalised Gaussian of `size` taps (an odd number), as a column (size, 1)."""
    at = np.arange(size) - (size - 1) / 2.0
    weights = np.exp(-(at**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    return np.asarray(weights[:, None], dtype=np.float64)


@lru_cache(maxsize=64)
def _gaussian_single(size: int, sigma: float) -> Singles:
    """:func:`gaussian` in float32, its middle tap set so that the taps still sum to 1 and a flat image stays."""
    weights = gaussian(size, sigma).astype(np.float32)
    weights[size // 2] += np.float32(1.0 - weights.sum(dtype=np.float64))
    return weights


def blur(image: NDArray[Real], size: int, sigma: float) -> NDArray[Real]:
    """Separable Gaussian of `size` taps over (h, w) or (h, w, c), borders reflected (d c b | a b c d)."""
    import cv2

    kernel = gaussian(size, sigma) if image.dtype == np.float64 else _gaussian_single(size, sigma)
    out = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(out, dtype=image.dtype).reshape(image.shape)


@lru_cache(maxsize=64)
def _shares(length: int, size: int, sigma: float) -> Floats:
    """(length,) share of a Gaussian of `size` taps around each pixel of a row that lies in the row."""
    taps = gaussian(size, sigma)[:, 0]
    away = np.abs(np.arange(length)[:, None] - np.arange(length)[None])
    reach = size // 2
    shares: Floats = np.where(away <= reach, taps[np.minimum(reach + away, size - 1)], 0.0).sum(axis=1)
    return shares


def covered(height: int, width: int, size: int, sigma: float) -> Floats:
    """What a Gaussian with zeros beyond the border makes of ones, (h, w): the share of the kernel in the image."""
    return np.outer(_shares(height, size, sigma), _shares(width, size, sigma))


def valid(image: NDArray[Real], size: int, sigma: float) -> NDArray[Real]:
    """:func:`blur` where the whole kernel lies in the image: (h - size + 1, w - size + 1, ...)."""
    reach = size // 2
    return blur(image, size, sigma)[reach : image.shape[0] - reach, reach : image.shape[1] - reach]


def halve(image: Floats) -> Floats:
    """Mean of 2 x 2 cells; where a side is odd both get one row and column of zeros at the end, as in piq."""
    height, width = image.shape[:2]
    odd = max(height % 2, width % 2)
    if odd:
        image = np.pad(image, ((0, odd), (0, odd), *([(0, 0)] * (image.ndim - 2))))
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    image = image[:height, :width]
    out: Floats = 0.25 * (image[0::2, 0::2] + image[1::2, 0::2] + image[0::2, 1::2] + image[1::2, 1::2])
    return out


def gradient(image: Floats, kernel: Floats) -> Floats:
    """Magnitude of the gradient of (h, w) by a 3 x 3 kernel and its transpose, zeros around the border."""
    import cv2

    across = cv2.filter2D(image, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
    down = cv2.filter2D(image, cv2.CV_64F, np.ascontiguousarray(kernel.T), borderType=cv2.BORDER_CONSTANT)
    out: Floats = np.sqrt(across * across + down * down)
    return out


PREWITT: Floats = np.array([[-1.0, 0.0, 1.0]] * 3) / 3.0
SCHARR: Floats = np.array([[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]]) / 16.0


def similarity(a: Floats, b: Floats, constant: float) -> Floats:
    """(2 a b + c) / (a^2 + b^2 + c), the form that SSIM, GMSD, FSIM, HaarPSI and MDSI share."""
    out: Floats = (2.0 * a * b + constant) / (a * a + b * b + constant)
    return out
