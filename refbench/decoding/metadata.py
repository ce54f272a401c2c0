"""What a PNG carries beside its pixels: the little that decoding needs is kept, damage in the rest is no matter."""

from __future__ import annotations

import zlib

from refbench.decoding.opening import check_size
from refbench.errors import RefbenchError

MAX_PROFILE = 64 * 2**20
"""Bytes of an unpacked ICC profile; the largest in use, of printing presses, are under 10 MB."""

PIXEL_CHUNKS = {b"tRNS", b"acTL", b"fcTL", b"fdAT"}
"""Chunks of lower case that pixels depend on."""
TURN_CHUNKS = {
    b"eXIf": b"",
    b"iTXt": b"XML:com.adobe.xmp\0",
    b"zTXt": b"Raw profile type exif\0",
    b"tEXt": b"Raw profile type exif\0",
}
"""Chunks that may hold the orientation, by what they begin with."""
OTHER_CHUNKS = {
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"cICP",
    b"mDCV",
    b"cLLI",
    b"sBIT",
    b"bKGD",
    b"hIST",
    b"sPLT",
    b"pHYs",
    b"tIME",
}
"""Known chunks that are not used."""


def without_metadata(data: bytes, where: str) -> tuple[bytes, bytes | None]:
    """A PNG of what its pixels, colours and orientation depend on, and its ICC profile.

    Damage or size of the rest (comments, workflows, resolution ...) is no reason to refuse the pixels.

    Raises:
        RefbenchError: it is too large or cut off, or a chunk that pixels or colours may depend on does not fit its
            check sum.
    """
    check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"), where)
    kept, profile, at, name = [data[:8]], None, 8, b""
    while name != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        name, content, end = data[at + 4 : at + 8], data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data) or not name.isalpha():
            raise _damaged(where, f"the chunk at byte {at} is cut off or none")
        whole = zlib.crc32(name + content) == int.from_bytes(data[end - 4 : end], "big")
        pixels = name[:1].isupper() or name in PIXEL_CHUNKS
        if not whole and name not in TURN_CHUNKS and name not in OTHER_CHUNKS:  # a damaged name may have been any
            raise _damaged(where, f"its {name.decode()} chunk does not fit its check sum")
        if pixels or (whole and name in TURN_CHUNKS and content.startswith(TURN_CHUNKS[name])):
            kept.append(data[at:end])
        elif name == b"iCCP":
            profile = _unpacked(content.partition(b"\0")[2][1:], where)
        at = end
    return b"".join(kept), profile


def _damaged(where: str, found: str) -> RefbenchError:
    return RefbenchError(
        f"Expected a complete PNG at {where}, but {found}; it is truncated or damaged, write it again."
    )


def _unpacked(packed: bytes, where: str) -> bytes | None:
    engine = zlib.decompressobj()
    try:
        profile = engine.decompress(packed, MAX_PROFILE)
    except zlib.error:
        return None
    if engine.unconsumed_tail:
        raise RefbenchError(
            f"Expected a colour profile of at most {MAX_PROFILE >> 20} MB at {where}, but the picture's is larger; "
            "convert the picture to sRGB."
        )
    return profile
