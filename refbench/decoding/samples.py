"""A picture that Pillow has opened as samples, 16 bits a channel where the file has them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refbench.decoding.colour import SIGNS, Samples, divided
from refbench.decoding.opening import open_picture
from refbench.decoding.rare import jpeg2000_samples, tiff_samples
from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL import Image as PILImage
    from PIL.ImageFile import ImageFile

MODELS = {"L": "GRAY", "LA": "GRAY", "I;16": "GRAY", "I": "GRAY", "F": "GRAY", "RGB": "RGB", "RGBA": "RGB",
          "CMYK": "CMYK", "LAB": "LAB"}  # fmt: skip

KEY_BITS = {"L;2": 2, "L;4": 4, "L": 8, "RGB": 8}
"""Bits of a PNG's transparent key by raw mode; Pillow scales the samples to 8 bits but not the key."""


def samples_of(picture: PILImage.Image, where: str) -> Samples:
    """The samples of a loaded picture in any of Pillow's modes; of 16-bit colour Pillow keeps the upper 8 bits."""
    profile = picture.info.get("icc_profile")
    key = picture.info.get("transparency")
    mode = picture.mode
    if mode in ("P", "PA"):
        picture, key = picture.convert("RGBA" if picture.has_transparency_data else "RGB"), None
    elif mode in ("1", "La", "RGBa", "RGBX", "YCbCr", "HSV"):
        simple = {"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
        picture.info.pop("transparency", None)  # Pillow would make the key an alpha channel
        picture = picture.convert(simple)
    mode = picture.mode
    grey = mode in ("I", "F") or mode.startswith("I;16")
    values: NDArray[Any] = _grey_16_bits(picture, where) if grey else np.asarray(picture)
    if values.ndim == 2:
        values = values[..., None]
    elif mode == "LAB":
        values = values ^ SIGNS
    alpha: NDArray[Any] | None = None
    if mode in ("LA", "RGBA"):
        values, alpha = values[..., :-1], values[..., -1]
    return Samples(values, _keyed(values, key) if alpha is None else alpha, MODELS[mode[:4]], profile)


def _keyed(values: NDArray[Any], key: object) -> NDArray[np.uint8] | None:
    """Alpha (H, W) that is 0 where the samples equal the key, None without a key."""
    if not isinstance(key, int | tuple):
        return None
    keyed = (values == np.atleast_1d(np.asarray(key))).all(axis=2)
    return np.where(keyed, 0, 255).astype(np.uint8)


def _grey_16_bits(picture: PILImage.Image, where: str) -> NDArray[np.uint16]:
    """Grey with more than 8 bits (65535 is white; 4095 with 12 bits) or floating point in [0, 1], as 16 bits."""
    tags = getattr(picture, "tag_v2", {})
    values: NDArray[Any] = np.asarray(picture)
    bits = tags.get(258, (16,))[0]
    top = 1.0 if picture.mode == "F" else 4095.0 if bits == 12 else 65535.0
    low, high = values.min(initial=0), values.max(initial=0)
    if not (low >= 0 and high <= top):  # also where it is not a number
        raise RefbenchError(
            f"Expected grey values from 0 to {top:g} at {where}, but they span [{low:g}, {high:g}]; "
            "save it with 8 or 16 bits a channel."
        )
    if top != 65535.0:
        values = np.rint(values * (65535.0 / top))
    grey = values.astype(np.uint16)
    return 65535 - grey if tags.get(262) == 0 else grey  # TIFF's WhiteIsZero, which Pillow turns only with 8 bits


def deep_samples(picture: ImageFile, data: bytes, where: str) -> Samples | None:
    """The samples where they are colour with more than 8 bits, None for every other picture."""
    if picture.format == "JPEG2000":
        return jpeg2000_samples(picture, data, where)
    if not picture.tile or picture.format not in ("PNG", "TIFF"):
        return None
    args = picture.tile[0].args
    raw = str(args[0] if isinstance(args, tuple) else args)
    tags = getattr(picture, "tag_v2", {})
    planes = picture.mode if picture.tile[0].codec_name == "libtiff" and max(tags.get(258, (1,))) <= 8 else ""
    if tags.get(284) == 2 and planes not in ("P", "RGB", "RGBA", "CMYK"):
        return tiff_samples(data, where)[0]  # separate planes, of which Pillow reads only these right
    if picture.format == "PNG" and raw in KEY_BITS and "transparency" in picture.info:
        top = 2 ** KEY_BITS[raw] - 1
        given = np.atleast_1d(picture.info["transparency"])
        picture.info["transparency"] = tuple(((given & top) * (255 // top)).tolist())
    if not raw.endswith((";16B", ";16L", ";16N")) or raw.startswith("I;"):
        return None
    key, profile = picture.info.get("transparency"), picture.info.get("icc_profile")
    kind, order = raw[:-4], raw[-1]
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    values: NDArray[Any]
    if kind == "LA":  # four bytes a pixel, which are read as such
        four = _read_as(data, "RGBA", where).astype(np.uint16)
        values = four[..., 0::2] << 8 | four[..., 1::2]
    else:
        plain = kind.replace("a", "A")  # as stored: Pillow would divide by alpha, in 8 bits
        upper, lower = (_read_as(data, f"{plain};16{o}", where) for o in (order, "BL"[order == "B"]))
        values = upper.astype(np.uint16) << 8 | lower
    picture.load()  # for what stands behind the pixels: EXIF
    if kind in ("RGB", "RGBX", "CMYK"):
        return Samples(values, _keyed(values, key), "CMYK" if kind == "CMYK" else "RGB", profile)
    colour, alpha = values[..., :-1], values[..., -1]
    if kind == "RGBa":
        colour = divided(colour, alpha)
    return Samples(colour, alpha, "GRAY" if kind == "LA" else "RGB", profile)


def _read_as(data: bytes, raw: str, where: str) -> NDArray[np.uint8]:
    """The samples unpacked in Pillow's raw mode `raw`."""
    picture = open_picture(data, where)
    assert picture is not None
    picture.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in picture.tile
    ]
    return np.asarray(picture)
