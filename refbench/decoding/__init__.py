"""From the bytes of a picture file to upright 8-bit sRGB: every depth, colour model, profile, key and alpha in one way.

Pillow knows the containers; where it would cut 16 bits to their upper 8 the lower ones are read too, and what it does
not read is left to tifffile (TIFF) and OpenCV (JPEG 2000). :mod:`refbench.images` is the front of this room.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refbench.decoding.colour import Samples, bands, to_srgb
from refbench.decoding.metadata import without_metadata
from refbench.decoding.opening import MAX_PIXELS, one_line, open_picture
from refbench.decoding.rare import tiff_samples
from refbench.decoding.samples import deep_samples, samples_of
from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL import Image as PILImage

__all__ = ["MAX_PIXELS", "Decoded", "decode", "decode_picture"]

TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
         7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
"""EXIF orientation -> Pillow's turn that undoes it."""


class Decoded(NamedTuple):
    """An upright picture."""

    colour: NDArray[np.uint8]
    """(H, W, 3) sRGB, not multiplied by alpha."""
    alpha: NDArray[Any] | None
    """(H, W), 8 or 16 bits; None where every pixel is opaque."""

    def over_white(self) -> NDArray[np.uint8]:
        """(H, W, 3) as seen on white paper."""
        if self.alpha is None:
            return self.colour
        top = int(np.iinfo(self.alpha.dtype).max)
        out = np.empty_like(self.colour)
        for rows in bands(self.alpha.shape):
            share = self.alpha[rows][..., None].astype(np.uint32)
            out[rows] = (self.colour[rows] * share + 255 * (top - share) + top // 2) // top
        return out


def decode(data: bytes, where: str) -> Decoded:
    """Decode any still picture; errors as :func:`refbench.images.decode_image`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large pictures and damaged metadata
        return _decode(data, where)


def _decode(data: bytes, where: str) -> Decoded:
    profile = None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        data, profile = without_metadata(data, where)
    picture = open_picture(data, where)
    try:
        if picture is None:
            samples, orientation = tiff_samples(data, where)
            return _turned(_srgb(samples), orientation)
        deep = deep_samples(picture, data, where)
        if deep is None:
            picture.load()
        samples = deep or samples_of(picture, where)
        if profile is not None:
            samples = samples._replace(profile=profile)
        return _turned(_srgb(samples), _orientation(picture))
    except RefbenchError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, zlib.error ... on damaged files
        raise RefbenchError(
            f"Expected a complete image at {where}, but it cannot be decoded ({one_line(error)}); it is truncated or "
            "damaged, write it again."
        ) from None


def decode_picture(picture: PILImage.Image, where: str) -> Decoded:
    """Decode a picture in memory (a frame, an adapter's answer).

    What ``Image.open`` gave is turned by its EXIF as its file is; what was made of it (a copy, a crop) is as it stands.
    """
    from PIL.ImageFile import ImageFile

    picture.load()  # Pillow turns a TIFF by itself then
    decoded = _srgb(samples_of(picture, where))
    return _turned(decoded, _orientation(picture)) if isinstance(picture, ImageFile) else decoded


def _srgb(samples: Samples) -> Decoded:
    alpha = samples.alpha
    if alpha is not None and int(alpha.min(initial=np.iinfo(alpha.dtype).max)) == np.iinfo(alpha.dtype).max:
        alpha = None
    colour = np.empty((*samples.colour.shape[:2], 3), np.uint8)
    convert = to_srgb(samples)
    for rows in bands(colour.shape):
        colour[rows] = convert(samples.colour[rows])
    return Decoded(colour, alpha)


def _orientation(picture: PILImage.Image) -> int:
    """EXIF's orientation, 1 (upright) where EXIF is missing or damaged."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF raises SyntaxError, struct.error, KeyError ...; it says nothing about the pixels
        return 1


def _turned(decoded: Decoded, orientation: int) -> Decoded:
    if orientation not in TURNS:
        return decoded
    from PIL import Image

    turn = Image.Transpose[TURNS[orientation]]
    colour, alpha = (None if plane is None else np.asarray(Image.fromarray(plane).transpose(turn)) for plane in decoded)
    assert colour is not None
    return Decoded(np.ascontiguousarray(colour), alpha)
