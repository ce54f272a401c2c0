"""The only place that decodes, converts colour, resizes and encodes pictures.

An image inside refbench is a C-contiguous ``uint8`` array of shape (H, W, 3), sRGB. A mask is a
``bool`` array of shape (H, W), true where the detail is to be put right. Decoding turns EXIF
orientation, converts an embedded ICC profile to sRGB, scales 16 bits to 8, and composites alpha
over white, once and for all; nothing else in the package opens a picture.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL import Image as PILImage

Image: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused from their header, before decoding (300 MB as RGB)."""


FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""What is decoded, where this Pillow can; the rest of what Pillow knows (EPS runs a program) stays closed."""


COMMON = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")
"""First bytes of what Pillow opens without its further plugins."""


def _open(data: bytes, where: str) -> PILImage.Image:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise RefbenchError(f"Expected an image at {where}, but the file is empty (0 bytes); write it again.")
    (Image.preinit if data.startswith(COMMON) else Image.init)()  # all of Pillow's plugins are slow to import
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except UnidentifiedImageError:
        raise RefbenchError(
            f"Expected an image (PNG, JPEG, WebP, TIFF) at {where}, but the content is none of these; "
            "check that the file is what its name says."
        ) from None
    except Image.DecompressionBombError as error:
        found = re.search(r"\d{7,}", str(error))
        size = f"it has {int(found[0]) // 10**6}" if found else "its header says far more"
        raise RefbenchError(
            f"Expected at most {MAX_PIXELS // 10**6} megapixels at {where}, but {size}; scale it down or cut out the "
            "part to be refined."
        ) from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, EOFError, struct.error ... on damaged headers
        raise RefbenchError(
            f"Expected an image at {where}, but its header is broken ({error}); it is truncated or damaged, "
            "write it again."
        ) from None
    if picture.width * picture.height > MAX_PIXELS:
        raise RefbenchError(
            f"Expected at most {MAX_PIXELS // 10**6} megapixels at {where}, but it is {picture.width} x "
            f"{picture.height} px; scale it down or cut out the part to be refined."
        )
    if frames > 1:
        raise RefbenchError(
            f"Expected one still image at {where}, but it is animated or has several pages ({frames} frames); "
            "save the frame you mean as PNG."
        )
    return picture


def _to_srgb(picture: PILImage.Image) -> PILImage.Image:
    """Convert by the embedded ICC profile to sRGB; a broken profile is taken as sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    from PIL import ImageCms

    if picture.mode not in ("RGB", "CMYK", "L", "LAB", "YCbCr"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            picture,
            source,
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return converted if converted is not None else picture


def _grey_to_8_bits(picture: PILImage.Image, where: str) -> PILImage.Image:
    """16-bit grey (65535 is white) or floating point in [0, 1] as 8-bit grey, rounded to the nearest level."""
    from PIL import Image

    values = np.asarray(picture).astype(np.float64)
    top = 1.0 if picture.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0 or values.max(initial=0.0) > top:
        raise RefbenchError(
            f"Expected grey values from 0 to {top:g} at {where}, but they span [{values.min():g}, {values.max():g}]; "
            "save it with 8 or 16 bits a channel."
        )
    grey = Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8))
    grey.info.update(picture.info)
    grey.info.pop("transparency", None)
    return grey


def _to_rgb(picture: PILImage.Image, where: str) -> PILImage.Image:
    """Upright, 8 bits, sRGB, alpha over white."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture) or picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _grey_to_8_bits(picture, where)
    profile = picture.info.get("icc_profile")
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        colour = rgba.convert("RGB")
        if profile:
            colour.info["icc_profile"] = profile
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(_to_srgb(colour), mask=rgba.getchannel("A"))
        return white
    if picture.mode == "P":
        picture = picture.convert("RGB")
        if profile:
            picture.info["icc_profile"] = profile
    picture = _to_srgb(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def from_pil(picture: PILImage.Image, where: str) -> Image:
    """A PIL image of any mode as (H, W, 3) uint8 sRGB, by the rules of :func:`decode_image`.

    Raises:
        RefbenchError: it cannot be read or has values outside its range.
    """
    try:
        return np.ascontiguousarray(np.asarray(_to_rgb(picture.copy(), where)))
    except RefbenchError:
        raise
    except Exception as error:  # a picture that was opened and not read yet fails as a file does
        raise RefbenchError(f"Expected a readable image as {where}, but it cannot be decoded ({error}).") from None


def decode_image(data: bytes, where: str = "<bytes>") -> Image:
    """Decode any still picture to (H, W, 3) uint8 sRGB.

    Raises:
        RefbenchError: empty, not an image, truncated, animated, or over ``MAX_PIXELS``.
    """
    picture = _open(data, where)
    try:
        picture.load()
        return np.ascontiguousarray(np.asarray(_to_rgb(picture, where)))
    except RefbenchError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, zlib.error ... on damaged files
        raise RefbenchError(
            f"Expected a complete image at {where}, but it cannot be decoded ({error}); it is truncated or damaged, "
            "write it again."
        ) from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, or a clear error when it is missing, a folder or unreadable."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise RefbenchError(f"Expected an image at {path}, but there is no such file; check the path.") from None
    except IsADirectoryError:
        raise RefbenchError(f"Expected an image at {path}, but it is a folder; name the file in it.") from None
    except OSError as error:
        raise RefbenchError(f"Expected a readable image at {path}, but {error.strerror}.") from None


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read a picture file as (H, W, 3) uint8 sRGB; errors as :func:`decode_image`."""
    return decode_image(read_bytes(path), str(path))


def decode_mask(data: bytes, where: str = "<bytes>") -> Mask:
    """Decode a mask: a picture with only black (keep) and white (put right) pixels.

    Values within 8 levels of black or white count as such, so that a mask saved as JPEG works.

    Raises:
        RefbenchError: as :func:`decode_image`, or the picture holds grey or colour.
    """
    rgb = decode_image(data, where)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]  # numpy's own reduction of so short an axis is slow
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    white = low >= 247
    if not np.all(white | (high <= 8)):
        share = float(np.mean(~(white | (high <= 8))))
        raise RefbenchError(
            f"Expected a binary mask (black and white only) at {where}, but {share:.1%} of its pixels are neither; "
            "threshold it first."
        )
    return np.ascontiguousarray(white)


def load_mask(path: str | os.PathLike[str]) -> Mask:
    """Read a mask file as (H, W) bool; errors as :func:`decode_mask`."""
    return decode_mask(read_bytes(path), str(path))


def check_mask(mask: Mask, size: tuple[int, int], where: str) -> None:
    """Refuse a mask that is empty, full, or not of the image's (height, width).

    Raises:
        RefbenchError: with the size or share that was found.
    """
    if mask.shape != size:
        raise RefbenchError(
            f"Expected a mask of {size[1]} x {size[0]} px (the image's size) at {where}, but it is "
            f"{mask.shape[1]} x {mask.shape[0]} px; make it from the same image."
        )
    if not mask.any():
        raise RefbenchError(
            f"Expected a mask that marks some pixels at {where}, but it is all black; paint the region white."
        )
    if mask.all():
        raise RefbenchError(
            f"Expected a mask that leaves some pixels alone at {where}, but it is all white; mark only the wrong "
            "detail, or leave the mask out to measure the full image."
        )


def check_same_size(image: Image, size: tuple[int, int], where: str, what: str) -> None:
    """Refuse an image whose (height, width) is not `size`; `what` names where the size comes from."""
    if image.shape[:2] != size:
        raise RefbenchError(
            f"Expected {size[1]} x {size[0]} px (the size of {what}) at {where}, but it is "
            f"{image.shape[1]} x {image.shape[0]} px; resize or crop it first."
        )


def encode_png(image: Image | Mask, compress_level: int = 3) -> bytes:
    """Encode an image (uint8 RGB) or a mask (bool, written as 1-bit) as PNG, byte-reproducible for one Pillow."""
    from PIL import Image as PILImage

    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def encode_webp(image: Image, quality: int | None, *, method: int = 6) -> bytes:
    """Encode as WebP at `quality` (0-100), or lossless with exact pixels when it is None.

    `method` 0 is fast, 6 small; it never changes lossless pixels.
    """
    from PIL import Image as PILImage

    buffer = io.BytesIO()
    if quality is None:
        effort = 100 if method == 6 else 10 * method
        PILImage.fromarray(image).save(buffer, "WEBP", lossless=True, quality=effort, method=method, exact=True)
    else:
        PILImage.fromarray(image).save(buffer, "WEBP", quality=quality, method=method)
    return buffer.getvalue()


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the whole new one.

    Raises:
        RefbenchError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
            name = handle.name
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise RefbenchError(
            f"Expected to write {path}, but {error.strerror or error}; choose another folder with --out or free "
            "some space."
        ) from None


def save_png(path: str | os.PathLike[str], image: Image | Mask) -> None:
    """Write a PNG atomically; errors as :func:`write_atomic`."""
    write_atomic(path, encode_png(image))


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize to (height, width) with Pillow's antialiased bicubic filter, the only one that scores use."""
    from PIL import Image as PILImage

    if image.shape[:2] == size:
        return image
    picture = PILImage.fromarray(image).resize((size[1], size[0]), PILImage.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture))


def mask_box(mask: Mask, margin: int = 0) -> tuple[int, int, int, int]:
    """The smallest box (x, y, width, height) in px around a non-empty mask, grown by `margin` inside the frame."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(int(rows[0]) - margin, 0), max(int(columns[0]) - margin, 0)
    bottom, right = min(int(rows[-1]) + 1 + margin, mask.shape[0]), min(int(columns[-1]) + 1 + margin, mask.shape[1])
    return left, top, right - left, bottom - top


def load_frames(path: str | os.PathLike[str], indices: Sequence[int]) -> list[Image]:
    """The frames of an animated picture at `indices` (0-based, any order), each (H, W, 3) uint8 sRGB.

    A still picture has the one frame 0. Only suite sources are read this way; users' inputs must be still.

    Raises:
        RefbenchError: the file is missing or broken, or a frame does not exist.
    """
    from PIL import Image as PILImage

    data = read_bytes(path)
    found: dict[int, Image] = {}
    try:
        with PILImage.open(io.BytesIO(data)) as picture:
            count = getattr(picture, "n_frames", 1)
            for index in sorted(set(indices)):
                if not 0 <= index < count:
                    raise RefbenchError(
                        f"Expected frame {index} in {path}, but it has {count} frames; check the index."
                    )
                picture.seek(index)
                found[index] = np.ascontiguousarray(np.asarray(_to_rgb(picture.copy(), str(path))))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise RefbenchError(f"Expected an animated image at {path}, but it cannot be decoded ({error}).") from None
    return [found[index] for index in indices]


def load_rgba(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """A picture with its transparency: (H, W, 4) uint8, straight alpha. For cut-outs among the suite's sources."""
    from PIL import Image as PILImage

    try:
        with PILImage.open(io.BytesIO(read_bytes(path))) as picture:
            return np.ascontiguousarray(np.asarray(picture.convert("RGBA")))
    except (OSError, SyntaxError, ValueError) as error:
        raise RefbenchError(
            f"Expected an image with transparency at {path}, but it cannot be decoded ({error})."
        ) from None
