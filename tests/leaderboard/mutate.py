"""Seeded mutations of an honest entry in every member and every archive kind, each with when it may still pass.

`mutant(rng, base, place)` copies the entry and spoils the copy. It may pass verification only where it claims what the
honest entry claims: :attr:`Mutant.harmless` looks at that with other means than the verifier's.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from PIL import Image

from refbench.images import encode_png, load_image
from refbench.runs.generate import pixels_sha256

from .spoil import records, reseal, write_records, zipped

NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "-0.0", "1" + "0" * 400, str(2**64), "-7", "1e-320",
)  # fmt: skip
TEXTS = ("NaN", "inf", "1e999", "12", "", "\0", "\ud800", "\u202e", "<script>", "x" * 3000, "../../x", "f" * 64)
TREES = ("[" * 40 + "]" * 40, "[" * 30_000 + "]" * 30_000, '{"a": 1, "a": 2}', '{"": {}}', '[1, "a", null]')
HOSTILE = (*NUMBERS, *map(json.dumps, TEXTS), *TREES, "true", "null", "[]", "{}")
FREE = re.compile(
    r"(entry|manifest) (name|submitter|contact|notes|outputs_url|created|card .*|model|options|seed|device|run|"
    r"arguments.*|isolation|versions.*|git_.*|hardware .*|unavailable.*|doctor.*)|record (seconds|error|extra.*)"
)
"""Fields that are the submitter's own word, which no recomputing can confirm."""
Place = tuple[str | int, ...]


@dataclass
class Mutant:
    """A spoilt copy: what to verify and how, and whether it claims no other thing than the honest entry."""

    kind: str
    told: str
    path: Path
    harmless: Callable[[], bool] = lambda: False
    options: dict[str, Any] = field(default_factory=dict)


def leaves(value: Any, place: Place = ()) -> list[Place]:
    """Places of all values of a JSON tree, containers too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [one for key, item in inner for one in leaves(item, (*place, key))]


def put_raw(value: Any, place: Place, raw: str) -> str:
    """The tree as JSON text with `raw` in one place, whatever it is."""
    mark = "@@here@@"
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = mark
    return json.dumps(value).replace(json.dumps(mark), raw)


def spoil_bytes(data: bytes, rng: Generator) -> bytes:
    """Some bytes flipped, cut, doubled, zeroed or put in."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, size = int(rng.integers(0, max(len(out), 1))), int(rng.integers(1, 40))
        how = int(rng.integers(0, 6))
        if how == 0 and out:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            del out[at:]
        elif how == 2:
            del out[at : at + size]
        elif how == 3:
            out[at:at] = rng.bytes(size)
        elif how == 4:
            out[at : at + size] = bytes(len(out[at : at + size]))
        else:
            out[at:at] = out[max(at - size, 0) : at]
    return bytes(out)


def some(rng: Generator, what: Any) -> Any:
    return what[int(rng.integers(0, len(what)))]


# ---- members


def member_bytes(rng: Generator, base: Path, entry: Path) -> Mutant:
    """Bytes of any member, its note in entry.json made to fit or not."""
    path = some(rng, sorted(p for p in entry.rglob("*") if p.is_file()))
    before = path.read_bytes()
    path.write_bytes(spoil_bytes(before, rng))
    fitting = bool(rng.random() < 0.7) and path.name != "entry.json"
    if fitting:
        reseal(entry)
    name = path.relative_to(entry).as_posix()

    def same() -> bool:
        return path.read_bytes() == before or says_same(base, entry, name)

    return Mutant(f"bytes of {name.split('/')[0]}", name, entry, same)


def says_same(base: Path, entry: Path, name: str) -> bool:
    """Whether a member says the same in other bytes."""
    one, two = (folder / name for folder in (base, entry))
    with contextlib.suppress(Exception):
        if name.endswith((".png", ".webp")):
            pictures = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (one, two)]
            return bool(np.abs(pictures[0] - pictures[1]).mean() <= (0 if name.endswith("png") else 12))
        if name.endswith(".parquet"):
            return bool(pq.read_table(one).equals(pq.read_table(two)))
        if name.endswith(".jsonl"):
            rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in (one, two)]
            return claimed(rows[0], "record") == claimed(rows[1], "record")
        trees = [[json.loads(path.read_text())] for path in (one, two)]
        return claimed(trees[0], name.removesuffix(".json")) == claimed(trees[1], name.removesuffix(".json"))
    return False


def claimed(trees: list[Any], kind: str) -> dict[Place, Any]:
    """Every value that can be checked, by its place."""
    found = {}
    for number, tree in enumerate(trees):
        for place in leaves(tree):
            value = tree
            for key in place:
                value = value[key]
            own = place[0] == "seal" or FREE.fullmatch(f"{kind} {' '.join(map(str, place))}")
            if not isinstance(value, dict | list) and not own:
                found[(number, *place)] = value
    return found


def json_value(rng: Generator, base: Path, entry: Path) -> Mutant:
    """A hostile or another value in one place of a JSON member, all hashes and the seal made to fit where they can."""
    name = some(rng, ("entry.json", "manifest.json", "records.jsonl"))
    path = entry / name
    lines = path.read_text().splitlines() if name == "records.jsonl" else [path.read_text()]
    number = int(rng.integers(0, len(lines)))
    tree = json.loads(lines[number])
    place = some(rng, leaves(tree))
    value = tree
    for key in place:
        value = value[key]
    nudged = isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5
    raw = json.dumps(value * 1.01 + 1 if isinstance(value, float) else value + 1) if nudged else some(rng, HOSTILE)
    lines[number] = put_raw(tree, place, raw)
    path.write_text("".join(line + "\n" for line in lines))
    with contextlib.suppress(Exception):  # what cannot be read cannot be sealed either
        reseal(entry)
    told = f"{name} {' '.join(map(str, place))} = {raw[:40]}"
    return Mutant(f"value in {name}", told, entry, lambda: says_same(base, entry, name))


def json_shape(rng: Generator, base: Path, entry: Path) -> Mutant:
    """A key gone, unknown, or twice; a line gone, twice or empty."""
    name = some(rng, ("entry.json", "manifest.json", "records.jsonl"))
    path = entry / name
    lines = path.read_text().splitlines() if name == "records.jsonl" else [path.read_text()]
    number, how = int(rng.integers(0, len(lines))), int(rng.integers(0, 5))
    tree = json.loads(lines[number])
    key = some(rng, list(tree))
    if how == 0:
        del tree[key]
    elif how == 1:
        tree["verified"] = True
    text = json.dumps(tree)
    if how == 2:
        text = "{" + f"{json.dumps(key)}: {json.dumps(tree[key])}, " + text[1:]
    lines[number] = text
    if how == 3 and len(lines) > 1:
        del lines[number]
    elif how == 4:
        lines.insert(number, some(rng, ["", text, "[]", "null"]))
    path.write_text("".join(line + "\n" for line in lines))
    with contextlib.suppress(Exception):
        reseal(entry)
    return Mutant(f"shape of {name}", f"{name} {how} {key}", entry, lambda: says_same(base, entry, name))


def score_table(rng: Generator, base: Path, entry: Path) -> Mutant:
    """Rows and columns of scores.parquet changed, hashes made to fit."""
    path = entry / "scores.parquet"
    table = pq.read_table(path)
    rows, how = table.to_pylist(), int(rng.integers(0, 7))
    row = some(rng, rows)
    schema: pa.Schema | None = table.schema
    if how == 0:
        row["value"] = row["value"] + some(rng, [0.01, -1.0, 1e300, float("nan"), float("inf"), -float("inf")])
    elif how == 1:
        name = some(rng, ["sample", "task", "metric", "axis", "region", "card"])
        row[name] = some(rng, [None, "", "psnr", "x" * 5000, "\x1b[2J", "texture_fidelity", row[name] + "x"])
    elif how == 2:
        row["higher_is_better"] = some(rng, [None, not row["higher_is_better"]])
    elif how == 3:
        rows.remove(row)
    elif how == 4:
        rows.append(dict(row))
    elif how == 5:
        one = some(rng, rows)
        one["value"], row["value"] = row["value"] + 0.5, one["value"]
    else:
        schema = None
        rows = (
            [{**r, "more": 1} for r in rows]
            if rng.random() < 0.5
            else [{k: str(v) for k, v in r.items()} for r in rows]
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    reseal(entry)
    return Mutant("scores.parquet", f"scores {how}", entry)


def pixels(rng: Generator, base: Path, entry: Path) -> Mutant:
    """A region of an output repainted, its record and all hashes made to fit."""
    path = some(rng, sorted((entry / "outputs").rglob("*.png")))
    image = load_image(path).copy()
    y, x = (int(rng.integers(0, side // 2)) for side in image.shape[:2])
    part = image[y : y + 30, x : x + 30]
    part[:] = some(rng, [255 - part, np.roll(part, 7, 0), part // 2, rng.integers(0, 256, part.shape)])
    path.write_bytes(encode_png(image))
    rows = records(entry)
    for row in rows:
        if row["id"] == path.stem and rng.random() < 0.8:
            row["sha256"] = pixels_sha256(image)
    write_records(entry, rows)
    reseal(entry)
    same = np.array_equal(image, load_image(base / path.relative_to(entry)))
    return Mutant("pixels of an output", path.name, entry, lambda: same)


def thumb(rng: Generator, base: Path, entry: Path) -> Mutant:
    """Another picture, or no picture, as the small one that the board shows."""
    path = some(rng, sorted((entry / "thumbs").iterdir()))
    picture = Image.fromarray(rng.integers(0, 256, (112, 112, 3)).astype(np.uint8))
    buffer, how = io.BytesIO(), int(rng.integers(0, 5))
    if how == 0:
        Image.open(path).rotate(90).save(buffer, "WEBP", quality=60)
    elif how == 1:
        picture.resize((4000, 4000)).save(buffer, "WEBP", quality=1)
    elif how == 2:
        Image.open(path).save(buffer, "WEBP", quality=60, exif=b"Exif\0\0hidden")
    elif how == 3:
        picture.save(buffer, "PNG")
    else:
        Image.open(path).save(buffer, "WEBP", lossless=True)
    path.write_bytes(buffer.getvalue())
    reseal(entry)
    return Mutant("thumbs", f"thumb {how}", entry)


def files(rng: Generator, base: Path, entry: Path) -> Mutant:
    """A member gone, empty, double, moved, or one more."""
    path, how = some(rng, sorted(p for p in entry.rglob("*") if p.is_file())), int(rng.integers(0, 6))
    if how == 0:
        path.unlink()
    elif how == 1:
        path.write_bytes(b"")
    elif how == 2:
        path.rename(path.with_name("moved" + path.suffix))
    elif how == 3:
        shutil.copy(path, path.with_name("more" + path.suffix))
    elif how == 4:
        more = entry / some(rng, ["x.py", "thumbs/a.pkl", "outputs/deep/er/x.png", ".hidden", "SCORES.parquet"])
        more.parent.mkdir(parents=True, exist_ok=True)
        more.write_bytes(b"x")
    else:
        path.unlink()
        path.symlink_to(some(rng, ["/etc/passwd", "entry.json", "/nowhere"]))
    if rng.random() < 0.5 and (entry / "entry.json").is_file():
        with contextlib.suppress(Exception):
            reseal(entry)
    return Mutant("files", f"{path.name} {how}", entry)


# ---- archives

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def packed(entry: Path, to: Path, method: int, *, zip64: bool = False) -> Path:
    with zipfile.ZipFile(to, "w", method) as archive:
        for path in sorted(p for p in entry.rglob("*") if p.is_file()):
            with archive.open(path.relative_to(entry).as_posix(), "w", force_zip64=zip64) as member:
                member.write(path.read_bytes())
    return to


def holds_same(base: Path, archive: Path) -> bool:
    """Whether every member of a zip can be read and is the honest entry's."""
    with contextlib.suppress(Exception), zipfile.ZipFile(archive) as found:
        names = [name for name in found.namelist() if not name.endswith("/")]
        inside = {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()}
        return len(names) == len(inside) and {name: found.read(name) for name in names} == inside
    return False


def archive(rng: Generator, base: Path, entry: Path) -> Mutant:
    """Bytes of a zip in any compression, or of its headers."""
    method = some(rng, METHODS)
    path = packed(entry, entry.with_suffix(".zip"), method, zip64=bool(rng.random() < 0.3))
    data = path.read_bytes()
    how = int(rng.integers(0, 3))
    if how == 0:
        data = spoil_bytes(data, rng)
    elif how == 1:  # inside some member's compressed bytes
        with zipfile.ZipFile(path) as found:
            member = some(rng, found.infolist())
        start = member.header_offset + 30 + len(member.filename)
        stop = start + max(member.compress_size, 2)
        data = (
            data[:start] + spoil_bytes(data[start:stop], rng)[: stop - start].ljust(stop - start, b"\0") + data[stop:]
        )
    path.write_bytes(data)
    return Mutant(f"zip {method}", f"bytes {how}", path, lambda: holds_same(base, path))


HEADERS = (
    (b"PK\x01\x02", (6, 8, 10, 28, 30), (16, 20, 24, 38, 42)),
    (b"PK\x03\x04", (4, 6, 8, 26, 28), (14, 18, 22)),
    (b"PK\x05\x06", (4, 8, 10, 20), (12, 16)),
)
"""Of directory entry, local header and end record: the magic, and where their fields of 16 and of 32 bits are."""


def header(rng: Generator, base: Path, entry: Path) -> Mutant:
    """One field of a zip's central directory, or local header, set to something else."""
    path = packed(entry, entry.with_suffix(".zip"), some(rng, METHODS))
    data = bytearray(path.read_bytes())
    magic, shorts, longs = some(rng, HEADERS)
    fields = [(offset, "H") for offset in shorts] + [(offset, "I") for offset in longs]
    places = [found.start() for found in re.finditer(re.escape(magic), bytes(data))]
    at, (offset, code) = some(rng, places), some(rng, fields)
    value = some(rng, [0, 1, 2, 0x41, 99, 0x7FFF, 0xFFFF] + ([0xFFFFFFFF, 0x7FFFFFFF, 10**6] if code == "I" else []))
    if at + offset + 4 <= len(data):
        struct.pack_into(f"<{code}", data, at + offset, value)
    path.write_bytes(bytes(data))
    return Mutant("zip headers", f"{magic!r} +{offset} = {value}", path, lambda: holds_same(base, path))


def overlapping(rng: Generator, base: Path, entry: Path) -> Mutant:
    """Two members of the directory that share bytes: the second's local header lies inside the first's data."""
    path = packed(entry, entry.with_suffix(".zip"), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    places = [found.start() for found in re.finditer(b"PK\x01\x02", bytes(data))]
    at = some(rng, places[:-1])
    (size,) = struct.unpack_from("<I", data, at + 20)
    struct.pack_into("<II", data, at + 20, size + 200, size + 200)
    path.write_bytes(bytes(data))
    return Mutant("zip overlapping", str(at), path)


def other_archive(rng: Generator, base: Path, entry: Path) -> Mutant:
    """A tar in any compression, an empty or tiny file, noise, a zip in a zip."""
    path = entry.with_suffix(".zip")
    how = some(rng, ["w", "w:gz", "w:bz2", "w:xz", "empty", "noise", "end", "nested", "double"])
    if how.startswith("w"):
        with tarfile.open(path, how) as found:
            found.add(entry, arcname=".")
    elif how == "nested":
        inner = zipped(entry, entry.with_name("inner.zip"))
        with zipfile.ZipFile(path, "w") as found:
            found.write(inner, "entry.zip")
    elif how == "double":
        zipped(entry, path, lambda z: z.writestr("./entry.json", b"{}"))
    else:
        path.write_bytes({"empty": b"", "noise": rng.bytes(5000), "end": b"PK\x05\x06" + bytes(18)}[how])
    return Mutant("other archives", how, path)


def apart(rng: Generator, base: Path, entry: Path) -> Mutant:
    """The outputs in a damaged package of their own."""
    whole = entry.with_name("outputs")
    shutil.copytree(entry / "outputs", whole / "outputs")
    shutil.rmtree(entry / "outputs")
    path = packed(whole, entry.with_name("outputs.zip"), some(rng, METHODS))
    path.write_bytes(spoil_bytes(path.read_bytes(), rng))

    def same() -> bool:
        return holds_same(whole, path)

    return Mutant("outputs apart", "bytes", entry, same, {"outputs": path})


KINDS: tuple[tuple[Callable[[Generator, Path, Path], Mutant], int], ...] = (
    (member_bytes, 4), (json_value, 6), (json_shape, 2), (score_table, 2), (pixels, 1), (thumb, 1), (files, 1),
    (archive, 4), (header, 3), (overlapping, 1), (other_archive, 1), (apart, 1),
)  # fmt: skip
"""What spoils an entry, and how often among 27."""


def mutant(rng: Generator, base: Path, place: Path, number: int) -> Mutant:
    """A spoilt copy of the entry `base` in the empty folder `place`; the kinds come in turn, by their shares."""
    turns = [make for make, share in KINDS for _ in range(share)]
    entry = Path(shutil.copytree(base, place / base.name))
    return turns[number % len(turns)](rng, base, entry)
