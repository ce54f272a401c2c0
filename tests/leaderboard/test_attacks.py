"""Dishonest and broken entries: each is refused or found to differ, under its own name, and does no harm.

Attackers are given every advantage but the outputs of a good model: they know the format, make hashes and
seal fit again, and have the suite's targets. docs/reference/findings.md lists the names.
"""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from .conftest import METRICS, World
from .spoil import (
    change_json,
    content,
    drop_output,
    outputs,
    paint,
    put,
    records,
    rescore,
    reseal,
    scores,
    write_records,
    zipped,
)

Change = Callable[[Path, World], object]

ALONE: dict[str, dict[str, tuple[str, str]]] = {
    "archive": {
        "a file that declares fewer bytes than it has": ("refused", "broken-archive"),
        "a file that declares 10 GB": ("refused", "too-large"),
        "cut off": ("refused", "broken-archive"),
    },
    "text": {
        "an address inside the verifier's network as outputs_url": ("refused", "bad-link"),
        "a terminal sequence in a record's error": ("refused", "control-character"),
    },
    "model": {
        "reads the suite's targets from disk": ("refused", "reads-hidden-files"),
        "reads the targets and hides the error": ("refused", "reads-hidden-files"),
        "reads the submitted outputs": ("refused", "reads-hidden-files"),
        "answers something else than was submitted": ("differs", "regeneration-differs"),
        "outputs touched up by hand": ("differs", "regeneration-differs"),
    },
}
"""Attacks with a test of their own, so that reports/verification.md has them as well."""


def table() -> str:
    """Every attack and what it gets, in Markdown; reports/verification.md holds it, and a test compares."""
    listed: list[tuple[str, str, str, str]] = []
    for group, cases in (("scores", SCORES), ("images", IMAGES)):
        listed += [(group, name, kind, finding) for name, (kind, finding, _) in cases.items()]
    listed += [("targets as outputs, scores true", name, "refused", "target-copies") for name in COPIES]
    listed += [("archive", name, "refused", finding) for name, (finding, _) in ARCHIVES.items()]
    listed += [("archive", name, *got) for name, got in ALONE["archive"].items()]
    listed += [("file", name, "refused", finding) for name, (finding, _) in FILES.items()]
    listed += [("text in a card", name, "refused", finding) for name, (finding, _) in TEXTS.items()]
    listed += [("text", name, *got) for name, got in ALONE["text"].items()]
    listed += [("model run again", name, *got) for name, got in ALONE["model"].items()]
    lines = [f"| {where} | {name} | {kind} | `{finding}` |" for where, name, kind, finding in listed]
    return "\n".join(["| where | attack | verdict | finding |", "|---|---|---|---|", *lines])


def told(verdict: Any, kind: str, name: str) -> None:
    """The verdict is of this kind and one of its findings has this name, told in printable text."""
    assert verdict.verdict == kind, verdict
    assert name in [finding.name for finding in verdict.findings], verdict.findings
    assert verdict.exit_code == {"differs": 1, "refused": 2}[kind]
    comment = verdict.comment()
    assert "\x1b" not in comment
    assert "<script" not in comment
    assert len(comment) < 60_000


# ---- scores and claims


def better_scores(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["metric"] == "psnr":
            row["value"] += 3.0


def one_tolerance(rows: list[dict[str, Any]]) -> None:
    """Twice the smallest tolerance there is."""
    next(row for row in rows if row["metric"] == "gmsd")["value"] += 1e-3


def value_of(which: float) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        next(row for row in rows if row["metric"] == "gmsd")["value"] = which

    return change


SCORES: dict[str, tuple[str, str, Change]] = {
    "edited scores, hashes left": ("refused", "edited-file", lambda e, w: scores(e, better_scores)),
    "edited scores": ("differs", "scores-differ", lambda e, w: (scores(e, better_scores), reseal(e))),
    "one score edited a little": ("differs", "scores-differ", lambda e, w: (scores(e, one_tolerance), reseal(e))),
    "edited claims, seal left": (
        "refused",
        "broken-seal",
        lambda e, w: change_json(e, "entry.json", put("claims", "mean", "value", to=99.0)),
    ),
    "edited claims": (
        "differs",
        "claims-differ",
        lambda e, w: reseal(e, put("claims", "mean", "value", to=99.0)),
    ),
    "narrower intervals": (
        "differs",
        "claims-differ",
        lambda e, w: reseal(
            e, put("claims", "axes", "texture_fidelity", "low", to=content(e)["claims"]["mean"]["value"])
        ),
    ),
    "failures kept quiet": ("differs", "claims-differ", lambda e, w: reseal(e, put("claims", "samples", to=800))),
    "NaN among the scores": ("refused", "not-finite", lambda e, w: (scores(e, value_of(float("nan"))), reseal(e))),
    "infinity among the scores": ("refused", "not-finite", lambda e, w: (scores(e, value_of(float("inf"))), reseal(e))),
    "a score twice": (
        "refused",
        "duplicate-score",
        lambda e, w: (scores(e, lambda rows: [*rows, dict(rows[0])]), reseal(e)),
    ),
    "scores of a bad metric left out": (
        "differs",
        "scores-differ",
        lambda e, w: (scores(e, lambda rows: [row for row in rows if row["metric"] != "contextual"]), reseal(e)),
    ),
    "a bad sample's scores left out": (
        "differs",
        "scores-differ",
        lambda e, w: (scores(e, lambda rows: [row for row in rows if row["sample"] != rows[0]["sample"]]), reseal(e)),
    ),
    "a metric left out everywhere": (
        "refused",
        "missing-metric",
        lambda e, w: (
            change_json(e, "manifest.json", lambda m: m["metric_cards"].pop("contextual")),
            reseal(e, lambda d: d["metric_cards"].pop("contextual")),
        ),
    ),
    "another card hash": (
        "refused",
        "other-card",
        lambda e, w: (
            change_json(e, "manifest.json", put("metric_cards", "gmsd", to="0" * 12)),
            reseal(e, put("metric_cards", "gmsd", to="0" * 12)),
        ),
    ),
    "another card hash in the rows": (
        "refused",
        "other-card",
        lambda e, w: (scores(e, lambda rows: [{**row, "card": "0" * 12} for row in rows]), reseal(e)),
    ),
    "claims of another score": (
        "refused",
        "other-score",
        lambda e, w: reseal(e, put("claims", "score_version", to=1)),
    ),
    "another suite hash": (
        "refused",
        "other-suite",
        lambda e, w: (
            change_json(e, "manifest.json", put("suite_hash", to="ab" * 32)),
            reseal(e, put("suite_hash", to="ab" * 32)),
        ),
    ),
    "manifest of another model": (
        "refused",
        "manifest-differs",
        lambda e, w: (change_json(e, "manifest.json", put("seed", to=7)), reseal(e)),
    ),
    "NaN in entry.json": (
        "refused",
        "not-finite",
        lambda e, w: (e / "entry.json").write_text(
            (e / "entry.json").read_text().replace('"seed": 0', '"seed": NaN', 1)
        ),
    ),
    "a key twice": (
        "refused",
        "duplicate-key",
        lambda e, w: (e / "entry.json").write_text('{"name": "a", ' + (e / "entry.json").read_text().lstrip()[1:]),
    ),
    "JSON without end": (
        "refused",
        "broken-json",
        lambda e, w: (e / "entry.json").write_text("[" * 100_000 + "]" * 100_000),
    ),
    "a huge entry.json": (
        "refused",
        "too-large",
        lambda e, w: (e / "entry.json").write_text('{"notes": "' + "x" * 3_000_000 + '"}'),
    ),
    "unknown fields": ("refused", "broken-entry", lambda e, w: change_json(e, "entry.json", put("verified", to=True))),
    "a broken table": (
        "refused",
        "broken-scores",
        lambda e, w: ((e / "scores.parquet").write_bytes(b"PAR1" * 9), reseal(e)),
    ),
    "a broken manifest": (
        "refused",
        "broken-manifest",
        lambda e, w: (change_json(e, "manifest.json", lambda m: m.pop("suite")), reseal(e)),
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_edited_scores_and_claims_are_found(name: str, entry: Path, world: World, check: Any) -> None:
    kind, finding, change = SCORES[name]
    change(entry, world)
    told(check(entry), kind, finding)


# ---- images and samples


def swap(entry: Path, known: bool) -> None:
    """Exchange the outputs of the first and last sample of a task, and with `known` their records."""
    first, last = (path for path in (outputs(entry)[0], outputs(entry)[3]))
    one, two = first.read_bytes(), last.read_bytes()
    first.write_bytes(two)
    last.write_bytes(one)
    if known:
        rows = {row["id"]: row for row in records(entry)}
        rows[first.stem]["sha256"], rows[last.stem]["sha256"] = rows[last.stem]["sha256"], rows[first.stem]["sha256"]
        write_records(entry, list(rows.values()))


def other_picture(sample: str, old: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(len(sample))
    tile = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return np.repeat(np.repeat(tile, 16, 0), 16, 1)


def without_first_record(entry: Path) -> None:
    sample = drop_output(entry)
    write_records(entry, [row for row in records(entry) if row["id"] != sample])


def plan(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda e: change_json(e, "manifest.json", lambda m: m.update(samples=change(m["samples"])))


def png_with(chunk: bytes, data: bytes) -> Callable[[bytes], bytes]:
    packed = struct.pack(">I", len(data)) + chunk + data + struct.pack(">I", zlib.crc32(chunk + data))
    return lambda png: png[:33] + packed + png[33:]


def oversized_idat(png: bytes) -> bytes:
    """The same header over a stream that unpacks to 64 MB."""
    stream = zlib.compress(b"\0" * 64_000_000, 9)
    idat = struct.pack(">I", len(stream)) + b"IDAT" + stream + struct.pack(">I", zlib.crc32(b"IDAT" + stream))
    return png[:33] + idat + png[-12:]


def with_size(width: int, height: int) -> Callable[[bytes], bytes]:
    def change(png: bytes) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return png[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + png[33:]

    return change


def first_png(change: Callable[[bytes], bytes]) -> Change:
    def apply(entry: Path, world: World) -> None:
        path = outputs(entry)[0]
        path.write_bytes(change(path.read_bytes()))
        reseal(entry)

    return apply


def as_jpeg(png: bytes) -> bytes:
    buffer = io.BytesIO()
    PILImage.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def in_mode(mode: str) -> Callable[[bytes], bytes]:
    def change(png: bytes) -> bytes:
        buffer = io.BytesIO()
        PILImage.open(io.BytesIO(png)).convert(mode).save(buffer, "PNG")
        return buffer.getvalue()

    return change


IMAGES: dict[str, tuple[str, str, Change]] = {
    "edited images, hashes left": (
        "refused",
        "edited-file",
        lambda e, w: paint(e, lambda s, image: image // 2, known=False),
    ),
    "edited images, records left": (
        "refused",
        "edited-image",
        lambda e, w: (paint(e, lambda s, image: image // 2, known=False), reseal(e)),
    ),
    "edited images, everything made to fit": (
        "differs",
        "scores-differ",
        lambda e, w: (paint(e, lambda s, image: image // 2 + 30), reseal(e)),
    ),
    "swapped ids, records left": ("refused", "edited-image", lambda e, w: (swap(e, False), reseal(e))),
    "swapped ids": ("differs", "scores-differ", lambda e, w: (swap(e, True), reseal(e))),
    "images of another suite, same size": (
        "refused",
        "unrelated-images",
        lambda e, w: (paint(e, other_picture), reseal(e)),
    ),
    "images of another size": (
        "refused",
        "wrong-size",
        lambda e, w: (paint(e, lambda s, image: image[:64, :64]), reseal(e)),
    ),
    "the draft returned with a claim": (
        "differs",
        "scores-differ",
        lambda e, w: (paint(e, lambda s, image: w.suite.sample(s).draft), reseal(e)),
    ),
    "a sample's image missing": ("refused", "missing-sample", lambda e, w: drop_output(e)),
    "a sample's image missing, unlisted": ("refused", "missing-sample", lambda e, w: (drop_output(e), reseal(e))),
    "a sample without a record": ("refused", "missing-sample", lambda e, w: (without_first_record(e), reseal(e))),
    "a sample out of the plan": (
        "refused",
        "missing-sample",
        lambda e, w: (plan(lambda samples: samples[1:])(e), reseal(e)),
    ),
    "a sample twice in the plan": (
        "refused",
        "duplicate-sample",
        lambda e, w: (plan(lambda samples: [samples[1], *samples[1:]])(e), reseal(e)),
    ),
    "a sample recorded twice": (
        "refused",
        "duplicate-sample",
        lambda e, w: (write_records(e, [*records(e), records(e)[0]]), reseal(e)),
    ),
    "a further sample": (
        "refused",
        "extra-sample",
        lambda e, w: (
            (e / "outputs" / "logo-refine" / "logo-refine-999.png").write_bytes(outputs(e)[0].read_bytes()),
            reseal(e),
        ),
    ),
    "a further sample in the plan": (
        "refused",
        "extra-sample",
        lambda e, w: (plan(lambda samples: [*samples, "logo-refine-999"])(e), reseal(e)),
    ),
    "a bad sample called failed while its image is there": (
        "refused",
        "extra-sample",
        lambda e, w: (
            write_records(e, [{**row, "status": "failed", "sha256": None} for row in records(e)]),
            reseal(e),
        ),
    ),
    "a decompression bomb of 30,000 x 30,000 px": (
        "refused",
        "decompression-bomb",
        first_png(with_size(30_000, 30_000)),
    ),
    "a decompression bomb behind a right header": ("refused", "decompression-bomb", first_png(oversized_idat)),
    "a compressed text chunk": (
        "refused",
        "hidden-content",
        first_png(png_with(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 9_000_000))),
    ),
    "data behind the picture": ("refused", "hidden-content", first_png(lambda png: png + b"MZ" * 100)),
    "a JPEG called PNG": ("refused", "not-a-png", first_png(as_jpeg)),
    "a palette PNG": ("refused", "not-a-png", first_png(in_mode("P"))),
    "a PNG with alpha": ("refused", "not-a-png", first_png(in_mode("RGBA"))),
    "a truncated PNG": ("refused", "hidden-content", first_png(lambda png: png[: len(png) // 2])),
    "an empty PNG": ("refused", "not-a-png", first_png(lambda png: b"")),
}


@pytest.mark.parametrize("name", IMAGES)
def test_edited_images_and_sample_lists_found(name: str, entry: Path, world: World, check: Any) -> None:
    kind, finding, change = IMAGES[name]
    change(entry, world)
    told(check(entry), kind, finding)


# ---- answers that no model could give


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.asarray(PILImage.open(buffer).convert("RGB"))


def near(kind: str, target: np.ndarray, draft: np.ndarray, number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    if kind == "exact":
        return target
    if kind == "one level off":
        return np.clip(target.astype(int) + rng.integers(-1, 2, target.shape), 0, 255).astype(np.uint8)
    if kind == "blended with the draft":
        return np.rint(0.8 * target + 0.2 * draft).astype(np.uint8)
    if kind == "half target, half draft":
        return np.rint(0.5 * target + 0.5 * draft).astype(np.uint8)
    if kind == "noise of four levels":
        return np.clip(np.rint(target + rng.normal(0, 4, target.shape)), 0, 255).astype(np.uint8)
    if kind == "recompressed hard":
        return jpeg(target, 80)
    if kind == "recompressed":
        return jpeg(target, 97)
    if kind == "brightened":
        return np.clip(np.rint(target * 1.05 + 3), 0, 255).astype(np.uint8)
    assert kind == "most of the mask"
    out = target.copy()
    out[40:48, 40:48] = draft[40:48, 40:48]
    return out


COPIES = (
    "exact",
    "one level off",
    "blended with the draft",
    "recompressed",
    "brightened",
    "most of the mask",
    "half target, half draft",
    "noise of four levels",
    "recompressed hard",
)


@pytest.mark.parametrize("kind", COPIES)
def test_near_copies_of_targets_are_refused(kind: str, entry: Path, world: World, check: Any) -> None:
    numbers = {sample: number for number, sample in enumerate(world.suite.ids)}
    paint(entry, lambda s, _: near(kind, world.suite.target(s), world.suite.sample(s).draft, numbers[s]))
    rescore(entry, world.suite, METRICS)
    reseal(entry)
    told(check(entry), "refused", "target-copies")


# ---- files and archives


def add(archive: zipfile.ZipFile, name: str, data: bytes = b"x", mode: int = 0o644 | stat.S_IFREG) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


ARCHIVES: dict[str, tuple[str, Callable[[zipfile.ZipFile], object]]] = {
    "path traversal": ("path-traversal", lambda z: add(z, "outputs/../../../precious.txt")),
    "path traversal at the start": ("path-traversal", lambda z: add(z, "../precious.txt")),
    "path traversal with backslashes": ("path-traversal", lambda z: add(z, "outputs\\..\\..\\precious.txt")),
    "an absolute path": ("absolute-path", lambda z: add(z, "/tmp/refbench-attack.txt")),
    "a Windows path": ("absolute-path", lambda z: add(z, "C:/windows/x.png")),
    "a home path": ("absolute-path", lambda z: add(z, "~/.bashrc")),
    "a symbolic link": (
        "symbolic-link",
        lambda z: add(z, "thumbs/link.webp", b"/etc/passwd", 0o777 | stat.S_IFLNK),
    ),
    "a zip bomb": ("zip-bomb", lambda z: add(z, "thumbs/bomb.webp", b"\0" * 30_000_000)),
    "a pickle": ("code", lambda z: add(z, "weights.pkl")),
    "a control character in a name": ("control-character", lambda z: add(z, "thumbs/\x1b[31mred.webp")),
    "the same file twice": ("duplicate-file", lambda z: add(z, "scores.parquet")),
    "a nested archive": ("unexpected-file", lambda z: add(z, "more.zip")),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives_are_refused(name: str, entry: Path, tmp_path: Path, check: Any) -> None:
    finding, extra = ARCHIVES[name]
    told(check(zipped(entry, tmp_path / "entry.zip", extra)), "refused", finding)
    assert not Path("/tmp/refbench-attack.txt").exists()


def patched_sizes(path: Path, name: str, declared: int) -> None:
    """Declare another unpacked size for a member, in both of its headers."""
    data = bytearray(path.read_bytes())
    at = 0
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = 0
        while (at := data.find(magic, at)) >= 0:
            start = at + (30 if magic == b"PK\x03\x04" else 46)
            if data[start : start + len(name)] == name.encode():
                data[at + offset : at + offset + 4] = struct.pack("<I", declared)
            at += 4
    path.write_bytes(bytes(data))


def test_archive_lying_about_sizes_is_refused(entry: Path, tmp_path: Path, check: Any) -> None:
    path = zipped(entry, tmp_path / "entry.zip", lambda z: add(z, "thumbs/bomb.webp", b"\0" * 30_000_000))
    patched_sizes(path, "thumbs/bomb.webp", 100)
    told(check(path), *ALONE["archive"]["a file that declares fewer bytes than it has"])


def test_declared_ten_gigabytes_are_refused_unread(entry: Path, tmp_path: Path, check: Any) -> None:
    path = tmp_path / "entry.zip"
    with zipfile.ZipFile(path, "w") as archive:
        add(archive, "entry.json", (entry / "entry.json").read_bytes())
        info = zipfile.ZipInfo("scores.parquet")
        archive.writestr(info, b"x" * 100_000)
        archive.infolist()[-1].file_size = 10 * 2**30
        archive.infolist()[-1].compress_size = 10 * 2**30
    told(check(path), *ALONE["archive"]["a file that declares 10 GB"])


def test_a_truncated_archive_is_refused(entry: Path, tmp_path: Path, check: Any) -> None:
    path = zipped(entry, tmp_path / "entry.zip")
    path.write_bytes(path.read_bytes()[:-4000])
    told(check(path), *ALONE["archive"]["cut off"])


def link(entry: Path) -> None:
    (entry / "records.jsonl").unlink()
    (entry / "records.jsonl").symlink_to("/etc/hostname")


def linked_folder(entry: Path) -> None:
    (entry / "thumbs" / "more").symlink_to("/etc")


def sparse(entry: Path) -> None:
    with (entry / "scores.parquet").open("r+b") as handle:
        handle.truncate(10 * 2**30)


def pipe(entry: Path) -> None:
    os.mkfifo(entry / "thumbs" / "pipe.webp")


def sock(entry: Path) -> None:
    os.chdir(entry / "thumbs")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s.webp")


def named(name: bytes) -> Callable[[Path], None]:
    return lambda e: Path(os.fsdecode(os.fsencode(e / "thumbs") + b"/" + name)).write_bytes(b"x")


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a symbolic link": ("symbolic-link", link),
    "a linked folder": ("symbolic-link", linked_folder),
    "a file that declares 10 GB": ("too-large", sparse),
    "a pipe": ("special-file", pipe),
    "a socket": ("special-file", sock),
    "a name that is not UTF-8": ("not-utf8", named(b"\xff\xfe.webp")),
    "a name with a terminal sequence": ("control-character", named(b"\x1b]0;owned\x07.webp")),
    "a name that turns its direction": ("control-character", named("\u202egnp.webp".encode())),
    "a pickle": ("code", lambda e: (e / "model.pkl").write_bytes(b"cos\nsystem\n")),
    "a torch file": ("code", lambda e: (e / "weights.pt").write_bytes(b"x")),
    "a script": ("code", lambda e: (e / "setup.py").write_text("raise SystemExit")),
    "a shell script": ("code", lambda e: (e / "outputs" / "run.sh").write_text("rm -rf /")),
    "a notebook": ("code", lambda e: (e / "demo.ipynb").write_text("{}")),
    "a page": ("code", lambda e: (e / "index.html").write_text("<script>alert(1)</script>")),
    "a drawing with a script": ("code", lambda e: (e / "thumbs" / "x.svg").write_text("<svg onload='alert(1)'/>")),
    "a workflow": ("unexpected-file", lambda e: (e / ".github").write_text("x")),
    "its own verdict": ("unexpected-file", lambda e: (e / "verdict.json").write_text('{"verdict": "verified"}')),
    "no entry.json": ("missing-file", lambda e: (e / "entry.json").unlink()),
    "an entry.json that is not UTF-8": ("not-utf8", lambda e: (e / "entry.json").write_bytes(b'{"name": "\xff"}')),
    "an unlisted file": (
        "unexpected-file",
        lambda e: (e / "thumbs" / "more.webp").write_bytes(b"x"),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files_are_refused(name: str, entry: Path, check: Any) -> None:
    finding, change = FILES[name]
    change(entry)
    told(check(entry), "refused", finding)


# ---- texts

TEXTS: dict[str, tuple[str, str]] = {
    "a terminal sequence": ("control-character", "good\x1b]0;owned\x07"),
    "a line end": ("control-character", "good\n| fake | row |"),
    "a NUL": ("control-character", "good\x00bad"),
    "turned direction": ("control-character", "\u202edoog"),
    "a script": ("markup", "<script>alert(1)</script>"),
    "an image with a handler": ("markup", "<img src=x onerror=alert(1)>"),
    "a closing tag": ("markup", "</td></table>"),
    "a script link": ("markup", "[click](javascript:alert(1))"),
    "a page of text": ("text-too-long", "x" * 5000),
}


@pytest.mark.parametrize(
    "field", [("card", "name"), ("card", "summary"), ("submitter",), ("notes",), ("cost", "hardware")]
)
@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_act_are_refused(name: str, field: tuple[str, ...], entry: Path, check: Any) -> None:
    finding, text = TEXTS[name]
    reseal(entry, put(*field, to=text))
    told(check(entry), "refused", finding)


def test_script_as_outputs_address_is_refused(entry: Path, check: Any) -> None:
    reseal(entry, put("outputs_url", to="http://169.254.169.254/latest"))
    told(check(entry), *ALONE["text"]["an address inside the verifier's network as outputs_url"])


def test_terminal_sequence_in_record_is_refused(entry: Path, check: Any) -> None:
    write_records(entry, [{**row, "error": "\x1b[2J"} for row in records(entry)])
    reseal(entry)
    told(check(entry), *ALONE["text"]["a terminal sequence in a record's error"])


# ---- models that are run again

PEEK = """
import glob, os
from pathlib import Path
import numpy as np
from refbench.schema import AdapterCard

class Model:
    card = AdapterCard(name="peek", summary="Looks for the targets.")
    def __init__(self, *, device="cpu"):
        pass
    def refine(self, inputs):
        Path({folder!r}, "logo-refine", "data.parquet").read_bytes()
        return inputs.draft
"""
SILENT = PEEK.replace(
    '        Path({folder!r}, "logo-refine", "data.parquet").read_bytes()\n',
    """        try:
            Path({folder!r}, "logo-refine", "data.parquet").read_bytes()
        except OSError:
            pass
""",
)
OTHER = """
import numpy as np
from refbench.schema import AdapterCard

class Model:
    card = AdapterCard(name="other", summary="Answers something else.")
    def __init__(self, *, device="cpu"):
        pass
    def refine(self, inputs):
        out = inputs.draft.copy()
        out[inputs.mask] = 255 - out[inputs.mask]
        return out
"""


@pytest.mark.parametrize(
    ("code", "name"),
    [(PEEK, "reads the suite's targets from disk"), (SILENT, "reads the targets and hides the error")],
)
def test_model_reading_targets_is_caught(
    code: str, name: str, entry: Path, world: World, tmp_path: Path, check: Any
) -> None:
    model = tmp_path / "peek.py"
    model.write_text(code.format(folder=world.spec))
    verdict = check(entry, samples=1, adapter=str(model))
    told(verdict, *ALONE["model"][name])


def test_model_reading_outputs_is_caught(entry: Path, tmp_path: Path, check: Any) -> None:
    model = tmp_path / "peek.py"
    code = PEEK.replace('Path({folder!r}, "logo-refine", "data.parquet")', 'Path({folder!r}, "entry.json")')
    model.write_text(code.format(folder=str(entry)))
    told(check(entry, samples=1, adapter=str(model)), *ALONE["model"]["reads the submitted outputs"])


def test_model_that_answers_something_else_differs(entry: Path, tmp_path: Path, check: Any) -> None:
    model = tmp_path / "other.py"
    model.write_text(OTHER)
    verdict = check(entry, samples=2, adapter=str(model))
    told(verdict, *ALONE["model"]["answers something else than was submitted"])


def test_outputs_of_another_seed_differ(entry: Path, world: World, check: Any) -> None:
    def touched_up(sample: str, image: np.ndarray) -> np.ndarray:
        mask = world.suite.sample(sample).mask
        out = image.copy()
        out[mask] = np.clip(out[mask].astype(int) + 9, 0, 255).astype(np.uint8)
        return out

    paint(entry, touched_up)
    reseal(entry)
    verdict = check(entry, samples=1)
    told(verdict, *ALONE["model"]["outputs touched up by hand"])


def test_table_of_attacks_is_the_docs() -> None:
    text = (Path(__file__).resolve().parents[2] / "reports" / "verification.md").read_text()
    held = text.partition("<!-- attacks -->\n")[2].partition("\n<!-- /attacks -->")[0]
    assert held == table(), f"reports/verification.md needs this table:\n{table()}"
