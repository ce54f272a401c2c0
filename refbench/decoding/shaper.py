"""Curves of ICC profiles for 16 bits a channel of colour, which Pillow does not hand to Little CMS."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

LEVELS = np.arange(65536) / 65535


def curves(profile: bytes) -> list[NDArray[np.float64]]:
    """Linear light in [0, 1] of the 65536 levels of red, green and blue (ICC.1:2022, 9.2.44 and 10.6, 10.18)."""
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {name: profile[start : start + size]
            for name, start, size in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])}  # fmt: skip
    return [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]


def _curve(tag: bytes) -> NDArray[np.float64]:
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        points: NDArray[np.uint16] = np.frombuffer(tag, ">u2", count, 12)
        if count < 2:
            return LEVELS ** (float(points[0]) / 256 if count else 1.0)
        return np.interp(LEVELS, np.linspace(0, 1, count), points / 65535)
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = (1, 3, 4, 5, 7)[kind]
    numbers = [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = numbers + [0.0] * (7 - count)
    if kind == 0:
        a = 1.0
    elif kind < 3:
        c, d, e, f = 0.0, -b / a, c, c
    bent = np.maximum(a * LEVELS + b, 0) ** g + e
    light: NDArray[np.float64] = np.clip(np.where(d <= LEVELS, bent, c * LEVELS + f), 0, 1)
    return light
