"""Kinds of pictures that Pillow does not read, or not right: rare TIFFs by tifffile, deep JPEG 2000 by OpenCV."""

from __future__ import annotations

import io
import logging
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refbench.decoding.colour import SIGNS, Samples, divided
from refbench.decoding.opening import check_size, one_line
from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL import Image as PILImage

QUIET = logging.NullHandler()


def jpeg2000_samples(picture: PILImage.Image, data: bytes, where: str) -> Samples | None:
    """The samples of JPEG 2000 colour with more than 8 bits, None for others, of which only the ICC profile is read."""
    at = data.find(b"\xff\x4f\xff\x51")
    bits = max((data[at + 42 + 3 * i] & 0x7F) + 1 for i in range(len(picture.getbands()))) if at >= 0 else 8
    profile = None
    box = data.find(b"colr\x02", 0, max(at, 0))
    if box >= 4:
        (length,) = struct.unpack(">I", data[box - 4 : box])
        profile = picture.info["icc_profile"] = data[box + 7 : box - 4 + length]
    if bits <= 8 or picture.mode in ("I;16", "P", "PA"):
        return None
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damage is told by the error below
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if picture.mode != "LA" else None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if found is None or found.dtype != np.uint16:
        raise RefbenchError(
            f"Expected a JPEG 2000 picture of RGB or RGBA at {where}, but it is {picture.mode} of {bits} bits; save "
            "it as PNG."
        )
    values = found[..., [2, 1, 0, 3][: found.shape[2]]]
    if bits < 16:
        values = np.rint(values * (65535.0 / (2**bits - 1))).astype(np.uint16)
    return Samples(values[..., :3], values[..., 3] if values.shape[2] == 4 else None, "RGB", profile)


def tiff_samples(data: bytes, where: str) -> tuple[Samples, int]:
    """Samples and orientation of a TIFF that Pillow does not read (16-bit grey with alpha, floating colour ...)."""
    import tifffile

    logging.getLogger("tifffile").addHandler(QUIET)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            check_size(page.imagewidth, page.imagelength, where)
            space = {0: "GRAY", 1: "GRAY", 2: "RGB", 5: "CMYK", 8: "LAB"}[int(page.photometric)]
            count = {"GRAY": 1, "CMYK": 4}.get(space, 3)
            planes, extra, bits = (
                int(page.samplesperpixel),
                [int(e) for e in page.extrasamples],
                int(page.bitspersample),
            )
            if len(file.pages) > 1 or not count <= planes <= count + 4:
                raise ValueError(f"{len(file.pages)} pages of {planes} channels")
            values = np.asarray(page.asarray())
            if int(page.planarconfig) == 2 and planes > 1:
                values = np.moveaxis(values.reshape(planes, page.imagelength, page.imagewidth), 0, 2)
            values = _full_range(values.reshape(page.imagelength, page.imagewidth, planes), bits)
            profile: bytes | None = page.tags[34675].value if 34675 in page.tags else None
            orientation = int(page.tags[274].value) if 274 in page.tags else 1
    except RefbenchError:
        raise
    except Exception as error:  # tifffile raises TiffFileError, KeyError, ValueError, zlib.error ...
        raise RefbenchError(
            f"Expected a TIFF of 8 or 16 bits a channel at {where}, but it cannot be decoded ({one_line(error)}); it "
            "is damaged or of a rare kind, save it as PNG."
        ) from None
    colour, alpha = values[..., :count], values[..., count] if extra[:1] in ([1], [2]) else None
    if int(page.photometric) == 0:
        colour = np.iinfo(colour.dtype).max - colour
    if space == "LAB":
        colour = colour ^ (SIGNS if colour.dtype == np.uint8 else SIGNS.astype(np.uint16) << 8)
    if extra[:1] == [1] and alpha is not None:
        colour = divided(colour, alpha)
    return Samples(colour, alpha, space, profile), orientation


def _full_range(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Integers of up to 16 bits, or floating point in [0, 1], as uint8 or uint16 of full range."""
    if values.dtype in (np.uint8, np.uint16) and bits in (8, 16):
        return values
    if values.dtype.kind == "u" and bits < 16:
        values = values / (2**bits - 1)
    elif values.dtype.kind != "f" or not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
        raise ValueError(f"{values.dtype} from {values.min(initial=0):g} to {values.max(initial=0):g}")
    wide = values.astype(np.float64)  # half precision ends at 65504
    deep: NDArray[np.uint16] = np.rint(wide * 65535).astype(np.uint16)
    return deep
