"""What came: the parts of an entry, each compared with the others and with the suite before it is used."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from refbench.errors import RefbenchError
from refbench.images import Image, decode_image, resize
from refbench.leaderboard import entry as e
from refbench.leaderboard.leaks import leak_check
from refbench.leaderboard.png import check_png, decode_plain_webp
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.submission import thumbnail
from refbench.leaderboard.textsafe import printable
from refbench.leaderboard.verdict import Finding
from refbench.runs.folder import first_fault
from refbench.runs.generate import pixels_sha256
from refbench.schema import RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

COPIES = 0.03
"""Share of samples that may follow their target by chance; more is refused."""
TYPICAL = 0.7
"""Median correlation with the target's finest band, over the samples whose draft has lost it; more is refused."""
UNRELATED = 0.1
"""Share of samples that may show something else than their draft; more is refused."""


THUMB_LEVELS = 6.0
"""Grey levels by which a small picture may differ from its output on average at 16 x 16 px, where WebP loses next to
nothing even of noise."""


@dataclass(frozen=True, slots=True)
class Package:
    """An entry whose parts fit together; its images are not looked at yet."""

    entry: e.Entry
    files: Mapping[str, Path]
    manifest: RunManifest
    records: Mapping[str, SampleRecord]


def entry_of(files: Mapping[str, Path]) -> e.Entry:
    """Read ``entry.json`` after checking that the other parts are there.

    Raises:
        RefusedError: "missing-file", or as :func:`refbench.leaderboard.entry.parse_entry`.
    """
    for needed in (e.ENTRY, e.MANIFEST, e.RECORDS, e.SCORES):
        if needed not in files:
            raise RefusedError(
                "missing-file", f"Expected {needed} in the entry, but it is not there; pack the run again."
            )
    return e.parse_entry(files[e.ENTRY].read_bytes(), e.ENTRY)


def only_outputs(found: Mapping[str, Path], files: Mapping[str, Path]) -> dict[str, Path]:
    """The outputs that came in a package of their own.

    Raises:
        RefusedError: "unexpected-file" or "duplicate-file".
    """
    outputs = {name: path for name, path in found.items() if name.startswith("outputs/")}
    if not outputs or len(outputs) < len(found):
        raise RefusedError("unexpected-file", "Expected nothing but outputs/<task>/<id>.png in the outputs' package.")
    if any(name in files for name in outputs):
        raise RefusedError(
            "duplicate-file", "Expected the outputs once, but entry and outputs' package both have some."
        )
    return outputs


def suite_to_verify(suite: str | Suite | None, entry: e.Entry) -> Suite:
    """The suite to verify against, of the entry's hash.

    Raises:
        RefusedError: "other-suite".
    """
    from refbench.tasks.suite import load_suite

    if suite is None and entry.suite not in ("core", "mini"):
        raise RefusedError(
            "other-suite",
            f"Expected an entry on an embedded suite, but it is on '{printable(entry.suite, 60)}'; name the suite's "
            "folder with --suite.",
        )
    whole = load_suite(suite or entry.suite) if suite is None or isinstance(suite, str) else suite
    if (whole.hash, whole.name, str(whole.version)) != (entry.suite_hash, entry.suite, entry.suite_version):
        raise RefusedError(
            "other-suite",
            f"Expected the suite '{whole.name}' {whole.version} with hash {whole.hash[:12]}, but the entry is on "
            f"'{printable(entry.suite, 40)}' {printable(entry.suite_version, 20)} with hash {entry.suite_hash[:12]}; "
            "evaluate the model on this suite.",
        )
    return whole


def package_of(entry: e.Entry, files: Mapping[str, Path], suite: Suite) -> Package:
    """Compare files with their notes, and plan and records with the suite."""
    tasks = {meta.id: meta.task for meta in suite.metas}
    manifest = _manifest(files[e.MANIFEST].read_bytes(), entry)
    _check_plan(manifest.samples, suite)
    _check_files(entry, files, tasks)
    records = _records(files[e.RECORDS].read_bytes(), tasks)
    for sample, record in records.items():
        place = f"outputs/{tasks[sample]}/{sample}.png"
        if (record.status == "ok") != (place in files):
            raise RefusedError(
                "missing-sample" if record.status == "ok" else "extra-sample",
                f"Expected an output of {sample} exactly where its record says ok, but the record says "
                f"'{record.status}' and the file is {'there' if place in files else 'not there'}; pack the run again.",
            )
    _check_cost(entry, records, manifest)
    return Package(entry, files, manifest, records)


def _check_cost(entry: e.Entry, records: Mapping[str, SampleRecord], manifest: RunManifest) -> None:
    """Seconds, hardware and prices are the submitter's word, but one word in all of the entry's files."""
    try:
        found = e.cost_of(records, manifest)
    except ValidationError as error:
        raise RefusedError(
            "broken-records", f"Expected seconds and prices of 0 or more, but {first_fault(error)}."
        ) from None
    for name, claimed in entry.cost.model_dump().items():
        recorded = getattr(found, name)
        if claimed != recorded:
            raise RefusedError(
                "manifest-differs",
                f"Expected the cost that manifest and records give ({name} {printable(recorded, 40)}), but entry.json "
                f"has {printable(claimed, 40)}; pack the run again.",
            )


def _manifest(data: bytes, entry: e.Entry) -> RunManifest:
    manifest = e.parse_record(RunManifest, data, e.MANIFEST, "broken-manifest", longest=2000)
    pairs = {
        "suite": (manifest.suite, entry.suite),
        "suite version": (manifest.suite_version, entry.suite_version),
        "suite hash": (manifest.suite_hash, entry.suite_hash),
        "model card": (manifest.card, entry.card),
        "model": (manifest.model, entry.model),
        "seed": (manifest.seed, entry.seed),
        "device": (manifest.device, entry.device),
        "options": (manifest.arguments.get("options") or {}, entry.options),
        "metric cards": (manifest.metric_cards, entry.metric_cards),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            raise RefusedError(
                "manifest-differs",
                f"Expected the same {what} in manifest and entry, but they differ; pack the run again.",
            )
    return manifest


def _check_plan(samples: Sequence[str], suite: Suite) -> None:
    planned, known = Counter(samples), set(suite.ids)
    twice = next((sample for sample, times in planned.items() if times > 1), None)
    if twice is not None:
        raise RefusedError(
            "duplicate-sample", f"Expected each sample once, but '{printable(twice, 60)}' is planned twice."
        )
    missing, extra = [s for s in suite.ids if s not in planned], [s for s in planned if s not in known]
    if missing:
        raise RefusedError(
            "missing-sample",
            f"Expected all {len(suite.ids)} samples, but {len(missing)} are missing (first: {missing[0]}).",
        )
    if extra:
        raise RefusedError(
            "extra-sample",
            f"Expected the suite's samples only, but {len(extra)} others came ({printable(extra[0], 60)}).",
        )


def _check_files(entry: e.Entry, files: Mapping[str, Path], tasks: Mapping[str, str]) -> None:
    known = {f"outputs/{task}/{sample}.png" for sample, task in tasks.items()}
    for name in sorted(files.keys() - {e.ENTRY}):
        if name.startswith("outputs/") and name not in known:
            raise RefusedError(
                "extra-sample", f"Expected outputs of the suite's samples, but {printable(name)} is there."
            )
        if name not in entry.files:
            raise RefusedError(
                "unexpected-file", f"Expected the files that entry.json lists, but {name} is not listed."
            )
    for name, note in entry.files.items():
        if name not in files:
            kind = "missing-sample" if name.startswith("outputs/") else "missing-file"
            hint = "; name the outputs' folder or zip with --outputs" if kind == "missing-sample" else ""
            raise RefusedError(kind, f"Expected {printable(name)}, which entry.json lists, but it is not there{hint}.")
        if e.note_of(files[name]) != note:
            raise RefusedError(
                "edited-file",
                f"Expected {printable(name)} as it was packed, but its content has another hash; pack again.",
            )


def _records(data: bytes, tasks: Mapping[str, str]) -> dict[str, SampleRecord]:
    found: dict[str, SampleRecord] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        where = f"line {number} of {e.RECORDS}"
        record = e.parse_record(SampleRecord, line, where, "broken-records")
        if record.id in found:
            raise RefusedError("duplicate-sample", f"Expected one record a sample, but {record.id} has two.")
        if tasks.get(record.id) != record.task:
            raise RefusedError("extra-sample", f"Expected records of the suite's samples, but {where} names another.")
        found[record.id] = record
    lacking = [sample for sample in tasks if sample not in found]
    if lacking:
        raise RefusedError("missing-sample", f"Expected a record of each sample, but {lacking[0]} has none.")
    return {sample: found[sample] for sample in tasks}


def image_of(package: Package, suite: Suite, sample: str) -> Image:
    """Decode one output after looking at its bytes.

    Raises:
        RefusedError: as :func:`refbench.leaderboard.png.check_png`, or "edited-image".
    """
    record = package.records[sample]
    place = f"outputs/{record.task}/{sample}.png"
    data = package.files[place].read_bytes()
    draft = suite.sample(sample).draft
    check_png(data, (draft.shape[0], draft.shape[1]), place)
    try:
        image = decode_image(data, place)
    except RefbenchError as error:
        raise RefusedError("not-a-png", printable(error, 400)) from None
    if pixels_sha256(image) != record.sha256:
        raise RefusedError(
            "edited-image",
            f"Expected the pixels that the record of {sample} names, but they are others; pack the run again.",
        )
    return image


def look_at_outputs(package: Package, suite: Suite) -> list[str]:
    """Decode every output and refuse copies of the target and unrelated pictures; returns notes."""
    copies, unrelated, fine, unchanged, count = [], [], [], 0, 0
    for sample, record in package.records.items():
        if record.status != "ok":
            continue
        image, truth = image_of(package, suite, sample), suite.truth(sample)
        assert truth.draft is not None
        assert truth.mask is not None
        seen = leak_check(image, truth.target, truth.draft, truth.mask)
        count += 1
        unchanged += int(seen.unchanged)
        copies += [sample] if seen.copy else []
        unrelated += [sample] if seen.unrelated else []
        fine += [seen.fine] if seen.judged else []
    if len(copies) > COPIES * count:
        raise RefusedError(
            "target-copies",
            f"Expected answers made from draft and reference, but {len(copies)} of {count} follow the target where no "
            f"model could know it ({', '.join(copies[:3])}); see docs/submitting.md on how to challenge this.",
        )
    if fine and statistics.median(fine) > TYPICAL:
        raise RefusedError(
            "target-copies",
            "Expected answers made from draft and reference, but their finest detail follows "
            "the target's with a median "
            f"correlation of {statistics.median(fine):.2f} over {len(fine)} samples whose drafts have lost it; see "
            "docs/submitting.md on how to challenge this.",
        )
    if len(unrelated) > UNRELATED * count:
        raise RefusedError(
            "unrelated-images",
            f"Expected pictures of what the drafts show, but {len(unrelated)} of {count} show something else "
            f"({', '.join(unrelated[:3])}); look for swapped or foreign images.",
        )
    return [f"{unchanged} of {count} outputs are the draft itself."] if unchanged else []


def look_at_thumbs(package: Package, suite: Suite) -> list[Finding]:
    """A finding for each small picture that is not an output made small: the board shows them."""
    wrong = []
    for place in sorted(name for name in package.files if name.startswith("thumbs/")):
        sample = Path(place).stem
        record = package.records.get(sample)
        try:
            if record is None or record.status != "ok":
                raise ValueError("there is no output of that name")
            expected = thumbnail(image_of(package, suite, sample), suite.sample(sample).mask)
            shown = decode_plain_webp(package.files[place].read_bytes(), (expected.shape[0], expected.shape[1]))
            small = [resize(image, (16, 16)).astype(np.int16) for image in (shown, expected)]
            apart = float(np.abs(small[0] - small[1]).mean())
            if apart > THUMB_LEVELS:
                raise ValueError(f"it is {apart:.0f} grey levels away on average")
        except (RefbenchError, ValueError) as error:
            told = f"Expected the output made small at {place}, but {printable(error, 300)}; pack the run again."
            wrong.append(Finding(name="other-thumbnail", message=told))
    return wrong
