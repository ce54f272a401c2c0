"""The only place that decodes, converts colour, resizes and encodes pictures.

An image inside refbench is a C-contiguous ``uint8`` array of shape (H, W, 3), sRGB. A mask is a
``bool`` array of shape (H, W), true where the detail is to be put right. Decoding turns EXIF
orientation, converts an embedded ICC profile to sRGB, rounds 16 bits to 8, and composites alpha
over white, once and for all (:mod:`refbench.decoding`); nothing else in the package opens a picture.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench import decoding
from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL import Image as PILImage

Image: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
RGBA: TypeAlias = NDArray[np.uint8]
"""(H, W, 4) sRGB and alpha, 255 is opaque; colour is not multiplied by alpha."""

MAX_PIXELS = decoding.MAX_PIXELS

KEPT_EXACTLY = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Endings of what :func:`save_image` writes, each without loss."""
LOSSY_ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2"})
"""Endings of pictures that may have lost detail when they were saved."""
PICTURE_ENDINGS = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm"}) | LOSSY_ENDINGS
"""Endings of pictures that are read, in small letters."""


def decode_image(data: bytes, where: str = "<bytes>") -> Image:
    """Decode any still picture to (H, W, 3) uint8 sRGB, alpha over white.

    Raises:
        RefbenchError: empty, not an image, truncated, animated, or over ``MAX_PIXELS``.
    """
    return np.ascontiguousarray(decoding.decode(data, where).over_white())


def from_pillow(picture: PILImage.Image, where: str) -> Image:
    """A picture in memory, of any of Pillow's modes, as (H, W, 3) uint8 sRGB, turned where it is an opened file.

    Raises:
        RefbenchError: it cannot be read or has values outside its range.
    """
    return np.ascontiguousarray(_from_pillow(picture, where).over_white())


def mask_from_pillow(picture: PILImage.Image, where: str) -> Mask:
    """A mask in memory, of any of Pillow's modes; rules and errors as :func:`decode_mask`."""
    return _mask(_from_pillow(picture, where), where)


def _from_pillow(picture: PILImage.Image, where: str) -> decoding.Decoded:
    try:
        return decoding.decode_picture(picture, where)
    except RefbenchError:
        raise
    except Exception as error:  # a picture that was opened and not read yet fails as a file does
        raise RefbenchError(f"Expected a readable image as {where}, but it cannot be decoded ({error}).") from None


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

    Values within 8 levels of black or white count as such, so that a mask saved as JPEG works. An alpha channel must be
    opaque: whether transparent means keep or put right differs from program to program.

    Raises:
        RefbenchError: as :func:`decode_image`, or the picture has transparency, grey or colour.
    """
    return _mask(decoding.decode(data, where), where)


def _mask(decoded: decoding.Decoded, where: str) -> Mask:
    if decoded.alpha is not None:
        share = float(np.mean(decoded.alpha < np.iinfo(decoded.alpha.dtype).max))
        raise RefbenchError(
            f"Expected a mask without transparency at {where}, but {share:.1%} of its pixels are transparent, which "
            "may mean keep or put right; fill the background black, paint the region white and export it flattened, "
            "without an alpha channel."
        )
    rgb = decoded.colour
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
            "detail (a suite that is measured on full images has no masks)."
        )


def check_same_size(image: Image, size: tuple[int, int], where: str, what: str) -> None:
    """Refuse an image whose (height, width) is not `size`; `what` names where the size comes from."""
    if image.shape[:2] != size:
        raise RefbenchError(
            f"Expected {size[1]} x {size[0]} px (the size of {what}) at {where}, but it is "
            f"{image.shape[1]} x {image.shape[0]} px; resize or crop it first."
        )


def over_white(picture: RGBA) -> Image:
    """(H, W, 4) as seen on white paper, (H, W, 3)."""
    return decoding.Decoded(np.ascontiguousarray(picture[..., :3]), picture[..., 3]).over_white()


def with_alpha_of(original: RGBA, image: Image) -> Image | RGBA:
    """A refined image with the alpha of the picture that it was refined from.

    Args:
        original: (H, W, 4).
        image: (H, W, 3), made from ``over_white(original)``.

    Returns:
        `image` where the original is opaque throughout, else (H, W, 4) with the original's alpha: pixels that did not
        change are the original's, others look over white as in `image`, as nearly as their alpha allows.
    """
    alpha = original[..., 3]
    if alpha.all() and alpha.min() == 255:
        return image
    share = np.maximum(alpha, 1)[..., None] / np.float32(255)
    colour = np.clip(np.rint(255 - (255 - image) / share), 0, 255).astype(np.uint8)
    same = (over_white(original) == image).all(axis=2) | (alpha == 0)
    return np.dstack([np.where(same[..., None], original[..., :3], colour), alpha])


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
            f"Expected to write {path}, but {error.strerror or error}; choose another folder or free some space."
        ) from None


def save_png(path: str | os.PathLike[str], image: Image | Mask) -> None:
    """Write a PNG atomically; errors as :func:`write_atomic`."""
    write_atomic(path, encode_png(image))


def check_output(path: str | os.PathLike[str], option: str, size: tuple[int, int] | None = None) -> None:
    """Refuse, before any work, a file name that :func:`save_image` could not write; `size` is (height, width).

    Raises:
        RefbenchError: a folder, an ending that is not in :data:`KEPT_EXACTLY`, or a place that cannot be written.
    """
    path = Path(path)
    known = ", ".join(KEPT_EXACTLY)
    if path.is_dir():
        raise RefbenchError(
            f"Expected {option} to name a picture file, but {path} is a folder; name a .png file in it."
        )
    kind = KEPT_EXACTLY.get(path.suffix.lower())
    if kind is None:
        found = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise RefbenchError(
            f"Expected {option} to name a file that keeps every pixel ({known}), but {path} {found}; write "
            f"{path.with_suffix('.png') if path.name else 'a .png file'} and convert it afterwards."
        )
    if kind == "WEBP" and size is not None and max(size) > 16383:
        raise RefbenchError(
            f"Expected at most 16383 px a side in a WebP file at {path}, but it would have {size[1]} x {size[0]} px; "
            "write a .png file."
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK) or (path.exists() and not path.is_file()):
        raise RefbenchError(f"Expected to write {path}, but {above} cannot be written to; choose another folder.")


def save_image(path: str | os.PathLike[str], image: Image | RGBA) -> None:
    """Write (H, W, 3) or (H, W, 4) as PNG, WebP or TIFF, by the name's ending, without loss and atomically.

    Raises:
        RefbenchError: as :func:`check_output` and :func:`write_atomic`.
    """
    from PIL import Image as PILImage

    check_output(path, "the name", image.shape[:2])
    kind = KEPT_EXACTLY[Path(path).suffix.lower()]
    if kind == "WEBP":
        return write_atomic(path, encode_webp(image, None, method=4))
    if kind == "PNG":
        return write_atomic(path, encode_png(image))
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    write_atomic(path, buffer.getvalue())


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
    from PIL import ImageOps

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
                frame = picture.copy()
                found[index] = from_pillow(ImageOps.exif_transpose(frame) or frame, str(path))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise RefbenchError(f"Expected an animated image at {path}, but it cannot be decoded ({error}).") from None
    return [found[index] for index in indices]


def load_rgba(path: str | os.PathLike[str]) -> RGBA:
    """A still picture with its transparency: (H, W, 4) uint8 sRGB, straight alpha; errors as :func:`load_image`."""
    decoded = decoding.decode(read_bytes(path), str(path))
    alpha = decoded.alpha
    if alpha is None:
        alpha = np.full(decoded.colour.shape[:2], 255, np.uint8)
    elif alpha.dtype == np.uint16:
        alpha = ((alpha.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.dstack([decoded.colour, alpha])
