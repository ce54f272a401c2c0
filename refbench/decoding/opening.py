"""Open a picture file of a known kind and of a bounded size, or say in one sentence why not."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused from their header, before decoding (300 MB as RGB)."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""What is decoded, where this Pillow can; the rest of what Pillow knows (EPS runs a program) stays closed."""

COMMON = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")
"""First bytes of what Pillow opens without its further plugins, which are slow to import."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_picture(data: bytes, where: str) -> ImageFile | None:
    """Open a still picture of at most :data:`MAX_PIXELS` without decoding; None for a TIFF that Pillow cannot read."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise RefbenchError(f"Expected an image at {where}, but the file is empty (0 bytes); write it again.")
    (Image.preinit if data.startswith(COMMON) else Image.init)()
    try:
        picture = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except UnidentifiedImageError:
        if data.startswith(TIFF_STARTS):
            return None
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
            f"Expected an image at {where}, but its header is broken ({one_line(error)}); it is truncated or damaged, "
            "write it again."
        ) from None
    check_size(picture.width, picture.height, where)
    if frames > 1:
        raise RefbenchError(
            f"Expected one still image at {where}, but it is animated or has several pages ({frames} frames); "
            "save the frame you mean as PNG."
        )
    return picture


def check_size(width: int, height: int, where: str) -> None:
    """Refuse more than :data:`MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise RefbenchError(
            f"Expected at most {MAX_PIXELS // 10**6} megapixels at {where}, but it is {width} x {height} px; scale it "
            "down or cut out the part to be refined."
        )


def one_line(error: Exception) -> str:
    """What a decoder says of a file, for the middle of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__
