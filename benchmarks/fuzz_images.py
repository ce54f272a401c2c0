"""Decode thousands of generated pictures, whole and damaged, and compare each value with its definition.

    python benchmarks/fuzz_images.py [--count 2000] [--seed 0]

Every picture is drawn from all combinations of container, colour model, depth, alpha, transparent key, ICC profile,
EXIF, interlacing and damage, written by hand, tifffile, OpenCV or Pillow. What it must show is computed here in
floating point from its samples (IEC 61966-2-1, ICC.1, CIE 15), by none of the code that decodes. Three rules hold:
nothing but a RefbenchError is raised and no picture takes longer than ten seconds; a whole picture, or one whose damage
lies in its metadata, has every value within one level (in lossy containers, of what Pillow reads); a damaged PNG, which
has check sums, is refused or right. Prints counts and the first pictures that break a rule; exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import itertools
import struct
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from refbench.errors import RefbenchError
from refbench.images import decode_image, decode_mask

Floats = NDArray[np.float64]

# sRGB's primaries and Display P3's, adapted to D50 (IEC 61966-2-1; ICC's registry), columns are red, green and blue.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
D50 = np.array([0.9642, 1.0, 0.8249])
PROFILES = {"p3": (P3, 2.2), "linear": (SRGB, 1.0), "swapped": (SRGB[:, [1, 2, 0]], 1.8), "grey": (None, 2.2),
            "grey-linear": (None, 1.0)}  # fmt: skip
"""Name -> primaries (None of grey) and gamma."""
TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip
"""Orientation -> how an upright picture is stored."""
DAMAGES = ("none",) * 6 + ("metadata",) * 2 + ("truncated", "flipped", "length", "inserted")
CHANNELS = {"grey": 1, "rgb": 3, "cmyk": 4, "lab": 3, "palette": 1}


@dataclass(frozen=True)
class Drawn:
    """A generated picture."""

    data: bytes
    wanted: Floats
    """(H, W, 3) in [0, 255]: what the whole picture shows over white."""
    opaque: bool
    facts: dict[str, Any]
    twin: bytes | None = None
    """The same picture with 16 bits a channel."""


def encode_srgb(linear: Floats) -> Floats:
    """IEC 61966-2-1, [0, 1] to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def shown(model: str, values: Floats, profile: str) -> Floats:
    """sRGB in [0, 1] of samples in [0, 1] (Lab: L*/100, (a* + 128)/255, (b* + 128)/255)."""
    if model == "lab":
        height = (100 * values[..., 0] + 16) / 116
        f = np.stack(
            [height + (255 * values[..., 1] - 128) / 500, height, height - (255 * values[..., 2] - 128) / 200], -1
        )
        xyz = D50 * np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2)
        return encode_srgb(xyz @ np.linalg.inv(SRGB).T)
    if model == "cmyk":
        return (1 - values[..., :3]) * (1 - values[..., 3:])
    primaries, gamma = PROFILES.get(profile, (None, None))
    if gamma is None or (primaries is None and model == "rgb"):  # no profile, a broken one, or one of another model
        return np.broadcast_to(values, (*values.shape[:2], 3))
    if primaries is None:
        return np.broadcast_to(encode_srgb(values**gamma), (*values.shape[:2], 3))
    return encode_srgb(np.broadcast_to(values, (*values.shape[:2], 3)) ** gamma @ (np.linalg.inv(SRGB) @ primaries).T)


def over_white(colour: Floats, share: Floats) -> Floats:
    """[0, 1] over white, in [0, 255]."""
    return 255 * (np.clip(colour, 0, 1) * share[..., None] + 1 - share[..., None])


def icc(name: str, rng: np.random.Generator) -> bytes | None:
    """An ICC v2 display profile, rubbish for "broken", 1.5 MB with a private tag for a name that ends in "+"."""
    if name in ("none", "broken"):
        return rng.bytes(200) if name == "broken" else None
    primaries, gamma = PROFILES[name.rstrip("+")]

    def s15(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"fuzz\0" + b"\0" * 79, b"cprt": b"text\0\0\0\0none",
            b"wtpt": b"XYZ \0\0\0\0" + s15(*D50)}  # fmt: skip
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        tags |= {bytes([c]) + b"XYZ": b"XYZ \0\0\0\0" + s15(*primaries[:, i]) for i, c in enumerate(b"rgb")}
        tags |= {bytes([c]) + b"TRC": curve for c in b"rgb"}
    if name.endswith("+"):
        tags[b"priv"] = b"data\0\0\0\0\0\0\0\1" + rng.bytes(1_500_000)
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I", start + len(body)) + b"lcms\2\x10\0\0mntr" + (b"GRAY" if primaries is None else b"RGB ")
    header += b"XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + s15(*D50)
    return header.ljust(128, b"\0") + table + body


def exif(orientation: int) -> bytes:
    """A TIFF structure with nothing but the orientation."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: NDArray[np.uint16], depth: int, colour: int, interlaced: bool, before: bytes) -> bytes:
    """A PNG by hand of (H, W, C) samples; `before` are chunks that stand before the pixels."""
    height, width = samples.shape[:2]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, right in passes if interlaced else [(0, 0, 1, 1)]:
        part = samples[top::down, left::right]
        for row in part if part.size else []:
            if depth == 16:
                rows += b"\0" + row.astype(">u2").tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
                rows += b"\0" + np.packbits(bits).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def draw(seed: int, number: int) -> Drawn:
    """The picture `number` of a seed."""
    rng = np.random.default_rng([seed, number])

    def choose(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    kind = choose("png", "png", "png", "tiff", "tiff", "webp", "jpeg", "gif", "bmp", "ppm", "jpeg2000", "avif")
    damage = choose(*DAMAGES)
    model = {
        "png": choose("grey", "rgb", "palette"), "tiff": choose("grey", "rgb", "cmyk", "lab"),
        "jpeg": choose("grey", "rgb", "cmyk"), "gif": "palette", "ppm": choose("grey", "rgb"),
        "jpeg2000": choose("grey", "rgb"),
    }.get(kind, "rgb")  # fmt: skip
    depth = {
        "png": {"grey": choose(1, 2, 4, 8, 16), "rgb": choose(8, 16), "palette": choose(1, 2, 4, 8)}.get(model),
        "tiff": choose(8, 16), "ppm": choose(8, 16), "jpeg2000": choose(8, 16),
    }.get(kind, 8)  # fmt: skip
    clear = "none"
    if kind == "png":
        clear = choose("none", "alpha", "key") if model != "palette" else choose("none", "table")
        depth = max(depth, 8) if clear == "alpha" else depth
    elif kind in ("webp", "avif") or (kind == "tiff" and model in ("grey", "rgb")):
        clear = choose("none", "alpha", *(["associated"] if kind == "tiff" else []))
    elif kind == "gif":
        clear = choose("none", "key")
    profile = "none"
    if kind in ("png", "tiff", "webp", "jpeg", "avif"):
        profile = choose(
            "none", "none", "p3", "linear", "swapped", "broken", *(["grey", "grey-linear"] * (model == "grey"))
        )
        profile += "+" * (profile in PROFILES and kind in ("png", "tiff") and rng.random() < 0.1)
    orientation = choose(1, *range(1, 9)) if kind in ("png", "tiff", "webp", "jpeg") else 1
    height, width = (int(n) for n in rng.integers(1, 20, 2))
    top = 2**depth - 1
    facts = {"number": number, "kind": kind, "model": model, "depth": depth, "clear": clear, "profile": profile,
             "orientation": orientation, "damage": damage, "size": (height, width)}  # fmt: skip

    flat = kind in ("jpeg", "avif", "jpeg2000")  # lossy, or too small for OpenJPEG's resolutions: flat blocks
    if flat:
        height, width = 16 * max(2, height // 4), 16 * max(2, width // 4)
        facts["size"] = (height, width)
    values = rng.integers(0, top + 1, (height, width, CHANNELS[model])).astype(np.uint16)
    if flat:
        values = np.kron(values[::16, ::16], np.ones((16, 16, 1), np.uint16))
    alpha = rng.choice(np.array([0, top // 5, top // 2, top, top], np.uint16), (height, width))
    if rng.random() < 0.3:
        alpha[:] = top
    if flat:
        alpha = np.kron(alpha[::16, ::16], np.ones((16, 16), np.uint16))
    palette = rng.integers(0, 256, (top + 1, 3)).astype(np.uint8)
    table = rng.integers(0, 256, top + 1).astype(np.uint8)
    key = values[0, 0].copy()
    share = np.ones((height, width))
    if clear in ("alpha", "associated"):
        share = alpha / top
    elif clear == "table":
        share = table[values[..., 0]] / 255
    elif clear == "key":
        share = 1.0 - (values == key).all(axis=2)
    if clear == "associated":
        values = np.minimum(values, alpha[..., None])
    plain = palette[values[..., 0]] / 255 if model == "palette" else values / top
    if clear == "associated":
        plain = values / np.maximum(alpha, 1)[..., None]
    if model == "lab" and depth == 16:  # 16-bit steps of a* and b* are 1/256
        plain = np.stack([plain[..., 0], *((values[..., i].astype(float)) / 256 / 255 for i in (1, 2))], axis=-1)
    wanted = over_white(shown("rgb" if model == "palette" else model, plain, profile.rstrip("+")), share)

    turned = 1 if damage == "metadata" and kind != "tiff" else orientation
    turn = TURNS[turned]
    values, alpha = np.ascontiguousarray(turn(values)), np.ascontiguousarray(turn(alpha))
    stored = np.dstack([values, alpha]) if clear in ("alpha", "associated") else values
    shot = exif(orientation)
    if damage == "metadata" and orientation > 1:
        shot = rng.bytes(len(shot))
    elif damage == "metadata":
        shot = choose(b"", b"MM", shot[:9], rng.bytes(30), b"Exif\0\0" + rng.bytes(8))
    described, twin = icc(profile, rng), None
    if kind == "png":
        data, twin = draw_png(rng, stored, depth, model, clear, palette, table, key, described, shot, damage)
    elif kind == "tiff":
        data = draw_tiff(rng, stored, depth, model, clear, described, orientation, facts)
    else:
        data = draw_other(kind, stored, depth, model, clear, palette, key, described, shot, facts)
    if kind in ("jpeg", "avif"):
        read = np.atleast_3d(np.asarray(Image.open(io.BytesIO(data)))).astype(int)
        assert np.abs(read - stored[..., : read.shape[2]]).max() <= 8
        back = TURNS[{6: 8, 8: 6}.get(turned, turned)](read) / 255
        colour, share = back[..., : CHANNELS[model]], back[..., CHANNELS[model] :].prod(axis=2)
        wanted = over_white(shown(model, colour, profile.rstrip("+")), share)
    if damage == "truncated":
        data = data[: int(rng.integers(1, len(data)))]
    elif damage == "flipped":
        broken = bytearray(data)
        for at in rng.integers(0, len(broken), int(rng.integers(1, 6))):
            broken[at] ^= 1 << int(rng.integers(8))
        data = bytes(broken)
    elif damage == "length":
        at = int(rng.integers(0, max(len(data) - 4, 1)))
        data = (
            data[:at] + struct.pack(">I", choose(0, 1, 2**31 - 1, 2**32 - 1, int(rng.integers(2**32)))) + data[at + 4 :]
        )
    elif damage == "inserted":
        at = int(rng.integers(0, len(data)))
        data = data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]
    return Drawn(data, wanted, bool((share == 1).all()), facts, twin)


def draw_png(
    rng: np.random.Generator, stored: NDArray[np.uint16], depth: int, model: str, clear: str,
    palette: NDArray[np.uint8], table: NDArray[np.uint8], key: NDArray[np.uint16], described: bytes | None, shot: bytes,
    damage: str,
) -> tuple[bytes, bytes | None]:  # fmt: skip
    """The file, and with 8 bits of grey or colour its 16-bit twin."""
    interlaced = bool(rng.integers(2))
    colour = {"grey": 0, "rgb": 2, "palette": 3}[model] + (4 if clear == "alpha" else 0)
    start = b"" if described is None else chunk(b"iCCP", b"fuzz\0\0" + zlib.compress(described, 1))
    end = chunk(b"eXIf", shot)
    if damage == "metadata":
        text = [
            chunk(b"tEXt", rng.bytes(30)), chunk(b"zTXt", b"a\0\x05" + rng.bytes(9)), chunk(b"pHYs", b"\0"),
            chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2_000_000)), chunk(b"gAMA", b""),
            chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"y" * 2_000_000)), chunk(b"sRGB", b""),
            struct.pack(">I", 5) + b"tEXtab\0cd\0\0\0\0", chunk(b"cHRM", b"abc"),
        ]  # fmt: skip
        end += b"".join(text[i] for i in rng.integers(len(text), size=2))

    def file(deep: bool) -> bytes:
        scale = 257 if deep else 1
        between = b""
        if model == "palette":
            between = chunk(b"PLTE", palette.tobytes()) + (chunk(b"tRNS", table.tobytes()) if clear == "table" else b"")
        elif clear == "key":
            between = chunk(b"tRNS", (key * scale).astype(">u2").tobytes())
        return png(stored * np.uint16(scale), 16 if deep else depth, colour, interlaced, start + between + end)

    return file(False), file(True) if depth == 8 and model != "palette" else None


def draw_tiff(
    rng: np.random.Generator, stored: NDArray[np.uint16], depth: int, model: str, clear: str, described: bytes | None,
    orientation: int, facts: dict[str, Any],
) -> bytes:  # fmt: skip
    """A TIFF of random byte order, layout and compression."""
    inverted = model == "grey" and clear == "none" and bool(rng.integers(2))
    photometric = {
        "grey": "miniswhite" if inverted else "minisblack",
        "rgb": "rgb",
        "cmyk": "separated",
        "lab": "cielab",
    }
    array = (2**depth - 1 - stored if inverted else stored).astype(np.uint8 if depth == 8 else np.uint16)
    if model == "lab":  # a* and b* are signed
        array[..., 1:] ^= array.dtype.type(1 << (depth - 1))
    separate = array.shape[2] > 1 and bool(rng.integers(2))
    layout = [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}][int(rng.integers(3))]
    packing = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}][int(rng.integers(3))]
    order = "<>"[int(rng.integers(2))]
    facts |= {"separate": separate, "order": order, "inverted": inverted, **layout, **packing}
    if array.shape[2] == 1:
        array = array[..., 0]
    elif separate:
        array = np.ascontiguousarray(np.moveaxis(array, 2, 0))
    extra = {"alpha": ["unassalpha"], "associated": ["assocalpha"]}.get(clear)
    tags = [(274, 3, 1, orientation, True)] + ([(34675, 7, len(described), described, True)] if described else [])
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, array, photometric=photometric[model], extrasamples=extra, extratags=tags, byteorder=order,
        planarconfig="separate" if separate else "contig" if array.ndim == 3 else None, metadata=None,
        **layout, **packing,
    )  # fmt: skip
    return buffer.getvalue()


def draw_other(
    kind: str, stored: NDArray[np.uint16], depth: int, model: str, clear: str, palette: NDArray[np.uint8],
    key: NDArray[np.uint16], described: bytes | None, shot: bytes, facts: dict[str, Any],
) -> bytes:  # fmt: skip
    """WebP, JPEG, GIF, BMP, PPM, JPEG 2000 and AVIF."""
    if kind == "ppm":
        head = f"P{5 if model == 'grey' else 6}\n{stored.shape[1]} {stored.shape[0]}\n{2**depth - 1}\n".encode()
        return head + stored.astype(">u2" if depth == 16 else np.uint8).tobytes()
    small = stored.astype(np.uint8)
    if kind == "jpeg2000" and depth == 16:
        done, data = cv2.imencode(".jp2", stored[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
        assert done
        return data.tobytes()
    picture = Image.fromarray(small[..., 0]) if small.shape[2] == 1 else Image.fromarray(small)
    if model == "cmyk":
        picture = Image.fromarray(small, "CMYK")
    if model == "palette":
        picture = Image.frombytes("P", picture.size, small.tobytes())
        picture.putpalette(palette.tobytes())
    known: dict[str, Any] = {"icc_profile": described} if described else {}
    options: dict[str, Any] = {
        "webp": {"lossless": True, "exact": True, "exif": shot, **known},
        "jpeg": {"quality": 100, "subsampling": 0, "exif": b"Exif\0\0" + shot, **known},
        "avif": {"quality": 100, "subsampling": "4:4:4", **known},
        "gif": {"transparency": int(key[0])} if clear == "key" else {}, "jpeg2000": {"irreversible": False},
    }.get(kind, {})  # fmt: skip
    buffer = io.BytesIO()
    picture.save(buffer, {"jpeg2000": "JPEG2000"}.get(kind, kind.upper()), **options)
    return buffer.getvalue()


def verdict(drawn: Drawn) -> tuple[str, str]:
    """("right" or "refused" or "decoded" or "WRONG ...", detail) of one picture."""
    facts = drawn.facts
    started = time.perf_counter()
    try:
        found = decode_image(drawn.data, "fuzz")
    except RefbenchError as error:
        if facts["damage"] in ("none", "metadata"):
            return "WRONG: a whole picture is refused", str(error)
        sentence = str(error).startswith("Expected") and "\n" not in str(error)
        return ("refused", "") if sentence else ("WRONG: not one sentence", str(error))
    except BaseException as error:
        return "WRONG: another error", repr(error)
    if time.perf_counter() - started > 10:
        return "WRONG: slow", f"{time.perf_counter() - started:.1f} s"
    if found.ndim != 3 or found.shape[2] != 3 or found.dtype != np.uint8:
        return "WRONG: shape", str(found.shape)
    if facts["damage"] not in ("none", "metadata"):
        # An orientation that was lost with a damaged EXIF is no fault.
        turns = (turn(drawn.wanted) for turn in TURNS.values())
        same = any(w.shape == found.shape and np.abs(found - np.rint(w)).max() <= 1 for w in turns)
        return ("right", "") if same else ("WRONG: a damaged PNG" if facts["kind"] == "png" else "decoded", "")
    if found.shape != drawn.wanted.shape:
        return "WRONG: size", f"{found.shape}, expected {drawn.wanted.shape}"
    off = np.abs(found - np.rint(drawn.wanted))
    if off.max() > 1:
        at = np.unravel_index(int(off.argmax()), off.shape)[:2]
        return "WRONG: a value", f"{found[at]}, expected {drawn.wanted[at].round(2)} ({np.mean(off > 1):.0%} off)"
    if drawn.twin is not None and not np.array_equal(decode_image(drawn.twin, "twin"), found):
        return "WRONG: 8 and 16 bits differ", ""
    try:
        decode_mask(drawn.data)
        refused = False
    except RefbenchError as error:
        refused = "without transparency" in str(error)
    if refused == drawn.opaque:
        return "WRONG: a mask's transparency", f"opaque: {drawn.opaque}"
    return "right", ""


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=20, help="How many broken rules to print.")
    given = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    broken = []
    for number in range(given.count):
        faulthandler.dump_traceback_later(60, exit=True)
        drawn = draw(given.seed, number)
        result, detail = verdict(drawn)
        counts[drawn.facts["damage"], result] += 1
        if result.startswith("WRONG"):
            broken.append((result, detail, drawn.facts))
    faulthandler.cancel_dump_traceback_later()
    for damage, group in itertools.groupby(sorted(counts.items()), lambda item: item[0][0]):
        print(f"{damage:10}", ", ".join(f"{result}: {count}" for (_, result), count in group))
    for result, detail, facts in broken[: given.show]:
        print(result, "|", detail, "|", facts)
    print(f"{given.count} pictures, {len(broken)} break a rule")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
