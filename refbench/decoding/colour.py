"""Samples of any depth and colour model to 8-bit sRGB, by the ICC profile where there is one.

Colour management is Little CMS's, through Pillow, which feeds it 8 bits a channel (grey: 16). Colour with 16 bits is
computed here for profiles of curves and a matrix, and for tables interpolated between the 8-bit colours around it; what
was 8 bits before it was saved with 16 takes the way of 8 bits, so that both files have the same pixels.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refbench.decoding.shaper import curves

if TYPE_CHECKING:
    from PIL import ImageCms

SIGNS = np.array([0, 128, 128], np.uint8)
"""Turns the sign of an 8-bit a* or b* into an offset of 128."""

D50 = np.array([0.9642, 1.0, 0.8249])
TO_SRGB = np.linalg.inv([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""XYZ under D50 to linear sRGB: its primaries (IEC 61966-2-1), adapted to D50."""


class Samples(NamedTuple):
    """A picture as its file has it."""

    colour: NDArray[Any]
    """(H, W, C), uint8 or uint16, full range; a* and b* with an offset of 128, with 16 bits in steps of 1/256."""
    alpha: NDArray[Any] | None
    """(H, W), uint8 or uint16; colour is not multiplied by it."""
    space: str
    """GRAY, RGB, CMYK or LAB."""
    profile: bytes | None
    """The embedded ICC profile."""


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows of about a megapixel, so that work in wide numbers needs little memory."""
    step = max(1, (1 << 20) // max(shape[1], 1))
    for top in range(0, shape[0], step):
        yield slice(top, top + step)


def divided(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Colour that was stored multiplied by alpha."""
    out, top = np.empty_like(colour), float(np.iinfo(alpha.dtype).max)
    for rows in bands(alpha.shape):
        share = np.maximum(alpha[rows], 1)[..., None].astype(np.float64)
        out[rows] = np.minimum(np.rint(colour[rows] * (top / share)), top)
    return out


def to_srgb(samples: Samples) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """The function that takes (h, w, C) of these samples to (h, w, 3) sRGB; a broken or foreign profile is sRGB."""
    from PIL import ImageCms

    if samples.space == "LAB":
        return _lab
    if samples.profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(samples.profile))
            described = source.profile.xcolor_space.strip()
            # A display's profile says what its greys look like, too.
            if described == samples.space or (described, samples.space) == ("RGB", "GRAY"):
                return _managed(source, described, samples)
        except (ImageCms.PyCMSError, OSError, ValueError, LookupError, ArithmeticError, struct.error):
            pass
    return _inks if samples.space == "CMYK" else lambda part: _three(_8_bits(part))


def _three(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return values if values.shape[2] == 3 else np.broadcast_to(values, (*values.shape[:2], 3))


def _8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """To the nearest of 256 levels."""
    return values if values.dtype == np.uint8 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _inks(part: NDArray[Any]) -> NDArray[np.uint8]:
    """CMYK without a profile: R = (255 - C)(255 - K) / 255 and so on, as Pillow has it."""
    light = float(np.iinfo(part.dtype).max) - part.astype(np.float64)
    return np.rint(light[..., :3] * light[..., 3:] * (255.0 / np.iinfo(part.dtype).max ** 2)).astype(np.uint8)


def _lab(part: NDArray[Any]) -> NDArray[np.uint8]:
    """CIE L*a*b* under D50 (CIE 15:2018, 8.2.1.1)."""
    y = (part[..., 0] * (100 / np.iinfo(part.dtype).max) + 16) / 116
    a, b = np.moveaxis(part[..., 1:] / (1 if part.dtype == np.uint8 else 256) - 128, 2, 0)
    f = np.stack([y + a / 500, y, y - b / 200], axis=2)
    xyz = D50 * np.where(f > 6 / 29, f**3, (f - 4 / 29) * (3 * (6 / 29) ** 2))
    return _coded(xyz)


def _coded(xyz: NDArray[np.float64]) -> NDArray[np.uint8]:
    """XYZ under D50 (..., 3) in sRGB (IEC 61966-2-1), clipped to its gamut."""
    linear = np.clip(xyz @ TO_SRGB.T, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels: NDArray[np.uint8] = np.rint(255 * coded).astype(np.uint8)
    return levels


def _managed(
    source: ImageCms.ImageCmsProfile, space: str, samples: Samples
) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    from PIL import Image, ImageCms

    matrix = space == "RGB" and source.profile.is_matrix_shaper
    # The optimisation resamples curves and tables coarsely (a linear grey's level 1 becomes 6 instead of 13); only
    # three curves and a matrix come out right with it, ten times faster.
    exact = ImageCms.Flags.NONE if matrix else ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(
        source, ImageCms.createProfile("sRGB"), "I;16" if space == "GRAY" else space, "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=exact,
    )  # fmt: skip

    def apply(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
        picture = Image.frombytes(mode, values.shape[1::-1], values.tobytes())
        return np.asarray(transform.apply(picture))

    if space == "GRAY":
        table = apply(np.arange(65536, dtype="<u2").reshape(256, 256), "I;16").reshape(-1, 3)
        return lambda part: table[part[..., 0].astype(np.uint16) * (257 if part.dtype == np.uint8 else 1)]

    exactly = _computed(source, samples.profile) if matrix and samples.colour.dtype == np.uint16 else None

    def colours(part: NDArray[Any]) -> NDArray[np.uint8]:
        if space == "RGB":
            part = np.ascontiguousarray(np.broadcast_to(part, (*part.shape[:2], 3)))
        if part.dtype == np.uint8:
            return apply(part, space)
        lower, rest = np.divmod(part, 257)
        if not rest.any():
            return apply(lower.astype(np.uint8), space)
        if exactly is not None:
            return exactly(part)
        share = rest.astype(np.float32) / 257
        total = np.zeros((*part.shape[:2], 3), np.float32)
        for corner in itertools.product((0, 1), repeat=part.shape[2]):
            weight = np.where(corner, share, 1 - share).prod(axis=2, keepdims=True)
            total += weight * apply(np.minimum(lower + np.array(corner, np.uint16), 255).astype(np.uint8), space)
        return np.rint(total).astype(np.uint8)

    return colours


def _computed(source: ImageCms.ImageCmsProfile, profile: bytes | None) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Curves and matrix of a profile for (h, w, 3) uint16."""
    bent = curves(profile or b"")
    found = source.profile.red_colorant, source.profile.green_colorant, source.profile.blue_colorant
    primaries = np.array([colorant[0] for colorant in found if colorant is not None])
    return lambda part: _coded(np.stack([curve[part[..., i]] for i, curve in enumerate(bent)], axis=2) @ primaries)
