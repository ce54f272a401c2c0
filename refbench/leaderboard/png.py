"""Look at a stranger's PNG or WebP byte by byte before a decoder sees it."""

from __future__ import annotations

import struct
import zlib

from refbench.images import Image, decode_image
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.textsafe import printable


def check_png(data: bytes, size: tuple[int, int], where: str) -> None:
    """Refuse a PNG that is not a plain 8-bit RGB picture of the given (height, width), before it is decoded.

    Raises:
        RefusedError: "not-a-png", "wrong-size", "decompression-bomb" or "hidden-content".
    """
    shown = printable(where)
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 57:
        raise RefusedError("not-a-png", f"Expected a PNG at {shown}, but it is something else; pack the run again.")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if width * height > 100 * size[0] * size[1]:
        raise RefusedError(
            "decompression-bomb",
            f"Expected {size[1]} x {size[0]} px at {shown}, but the header declares {width} x "
            f"{height}; it was not decoded.",
        )
    if (height, width) != size:
        raise RefusedError(
            "wrong-size", f"Expected {size[1]} x {size[0]} px at {shown}, but it is {width} x {height} px."
        )
    if (depth, colour, interlaced) != (8, 2, 0):
        raise RefusedError(
            "not-a-png",
            f"Expected plain 8-bit RGB at {shown}, but depth, colour type and interlacing are {depth}, {colour} and "
            f"{interlaced}; pack the run with 'refbench submit', which writes such files.",
        )
    at, kinds = 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kinds.append(data[at + 4 : at + 8])
        at += 12 + length
    if (
        at != len(data)
        or kinds[-1:] != [b"IEND"]
        or set(kinds) - {b"IHDR", b"IDAT", b"IEND"}
        or kinds.count(b"IHDR") != 1
    ):
        raise RefusedError(
            "hidden-content",
            f"Expected a PNG of nothing but pixels at {shown}, but it has other chunks, or data behind its end; "
            "pack the run with 'refbench submit', which writes plain ones.",
        )
    if _inflated(data) > height * (1 + 3 * width):
        raise RefusedError(
            "decompression-bomb",
            f"Expected the pixels of {width} x {height} px at {shown}, but more data is packed in.",
        )


def decode_plain_webp(data: bytes, size: tuple[int, int]) -> Image:
    """A lossy WebP of nothing but pixels (one VP8 chunk), of this (height, width).

    Raises:
        ValueError: it is another file, or of another size; nothing was decoded.
        RefbenchError: it cannot be decoded.
    """
    whole = len(data) >= 30 and data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 " and data[23:26] == b"\x9d\x01\x2a"
    if not whole:
        raise ValueError("it is something else")
    riff, chunk = (int(struct.unpack("<I", data[at : at + 4])[0]) for at in (4, 16))
    if riff + 8 != len(data) or chunk + chunk % 2 + 20 != len(data):
        raise ValueError("it has other chunks, or data behind its end")
    width, height = (value & 0x3FFF for value in struct.unpack("<HH", data[26:30]))
    if (height, width) != size:
        raise ValueError(f"it is {width} x {height} px, not {size[1]} x {size[0]}")
    return decode_image(data, "the small picture")


def _inflated(data: bytes) -> int:
    """Bytes that come out of the picture's IDAT stream, counted up to one more than an 8-bit RGB picture has."""
    width, height = struct.unpack(">II", data[16:24])
    limit = height * (1 + 3 * width) + 1
    engine, at, count = zlib.decompressobj(), 8, 0
    try:
        while at + 12 <= len(data) and count < limit:
            (length,) = struct.unpack(">I", data[at : at + 4])
            if data[at + 4 : at + 8] == b"IDAT":
                count += len(engine.decompress(data[at + 8 : at + 8 + length], limit - count))
                count = limit if engine.unused_data else count  # something else is behind the pixels
            at += 12 + length
    except zlib.error:
        return 0  # damaged: the decoder tells it better
    return count
