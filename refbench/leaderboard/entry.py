"""An entry: what a submission says about itself, which files belong to it, and the seal over both.

An entry is a folder::

    entry.json        model card, claims, cost, and the SHA-256 of every other file    (this module)
    manifest.json     the run's manifest                                              (schema.RunManifest)
    records.jsonl     what happened to each sample                                    (schema.SampleRecord)
    scores.parquet    every claimed score, a row a sample x metric
    thumbs/*.webp     a few small pictures for the board
    outputs/<task>/<id>.png   the refinements; not kept on the board, where their hashes stay in entry.json

The seal is a hash, not a signature: it shows that nothing was changed after packing, not who packed it.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.textsafe import LONGEST, SLUG, check_tree, printable, web_link
from refbench.runs.folder import first_fault
from refbench.schema import SCORE_VERSION, AdapterCard, Record, RunManifest, SampleRecord
from refbench.stats.recovery import Summary

ENTRY = "entry.json"
MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
SCORES = "scores.parquet"
VERDICT = "verdict.json"
ENTRIES = "entries"
"""The board's folder of entries."""
BOARD_BYTES = 300 * 1024
"""Largest size of an entry on the board, in bytes, outputs not counted."""
MAX_JSON = 2 * 1024 * 1024
MAX_INT = 2**63
"""No count, seed or size has more bits, and what has more is infinite to some readers."""

R = TypeVar("R", bound=Record)


class FileNote(Record):
    """One file of the entry."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Cost(Record):
    """What a refinement costs, as measured by the submitter's run."""

    seconds: float | None = Field(default=None, ge=0)
    """Median seconds for one sample."""
    hardware: str = ""
    """Processor, or GPU, in words."""
    vram_gb: float | None = Field(default=None, ge=0)
    price_usd: float | None = Field(default=None, ge=0)
    """Mean price of one sample."""


class Entry(Record):
    """Content of ``entry.json``."""

    format: Literal[1] = 1
    name: str = Field(pattern=f"^{SLUG.pattern}$")
    """Folder name on the board."""
    submitter: str
    """Person or group, as it shall stand on the board."""
    contact: str = ""
    notes: str = ""
    outputs_url: str | None = None
    """Where the outputs can be downloaded as one zip, for entries that travel without them."""
    created: str
    suite: str
    suite_version: str
    suite_hash: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    card: AdapterCard
    model: str
    """How the run named the model; a registered name can be run again by the verifier."""
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int
    device: str
    metric_cards: dict[str, str]
    cost: Cost
    claims: Summary
    files: dict[str, FileNote]
    seal: str = Field(default="", pattern=r"^(?:[0-9a-f]{64})?$")


def canonical(entry: Entry) -> bytes:
    """The bytes that the seal is taken over: sorted compact JSON of everything but the seal."""
    data = entry.model_dump(mode="json", exclude={"seal"})
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sealed(entry: Entry) -> Entry:
    """The entry with its seal."""
    return entry.model_copy(update={"seal": hashlib.sha256(canonical(entry)).hexdigest()})


def note_of(path: Path) -> FileNote:
    """Hash and size of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return FileNote(sha256=digest.hexdigest(), bytes=path.stat().st_size)


def strict_json(data: bytes, where: str) -> Any:
    """Parse JSON from a stranger: UTF-8, every number finite as 64 bits, no key twice, not too deep, not too large.

    Raises:
        RefusedError: "too-large", "not-utf8", "not-finite", "duplicate-key" or "broken-json".
    """

    def constant(name: str) -> Any:
        shown = printable(name, 20)
        raise RefusedError(
            "not-finite", f"Expected finite numbers in {where}, but {shown} stands there; measure again."
        )

    def real(digits: str) -> float:
        return value if math.isfinite(value := float(digits)) else constant(digits)

    def integer(digits: str) -> int:
        value = int(digits) if len(digits) <= 20 else MAX_INT
        return value if -MAX_INT <= value < MAX_INT else constant(digits)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in items:
            if key in found:
                raise RefusedError(
                    "duplicate-key", f"Expected each key once in {where}, but '{printable(key)}' is twice."
                )
            found[key] = item
        return found

    if len(data) > MAX_JSON:
        raise RefusedError("too-large", f"Expected at most {MAX_JSON} bytes in {where}, but there are {len(data)}.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(
            "not-utf8", f"Expected UTF-8 in {where}, but byte {error.start} is not; save it so."
        ) from None
    try:
        return json.loads(text, parse_constant=constant, parse_float=real, parse_int=integer, object_pairs_hook=pairs)
    except RecursionError:
        raise RefusedError("broken-json", f"Expected plain JSON in {where}, but it is nested without end.") from None
    except ValueError as error:
        raise RefusedError("broken-json", f"Expected JSON in {where}, but {printable(error)}; pack it again.") from None


def parse_record(kind: type[R], data: bytes, where: str, broken: str, longest: int = LONGEST) -> R:
    """A stranger's record of a known kind; nothing is converted, so that no text becomes a number.

    Args:
        kind: the record's class.
        data: its JSON.
        where: how messages call it.
        broken: name of the finding where fields are missing, unknown or of the wrong kind.
        longest: characters that a text of it may have.

    Raises:
        RefusedError: as :func:`strict_json` and :func:`refbench.leaderboard.textsafe.check_tree`, or `broken`.
    """
    check_tree(strict_json(data, where), where, longest)
    try:
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise RefusedError(
            broken, f"Expected the fields of a {kind.__name__} in {where}, but {printable(first_fault(error))}; pack "
            "the run again.",
        ) from None  # fmt: skip


def _refuse_other_score(content: Any, where: str) -> None:
    claims = content.get("claims") if isinstance(content, dict) else None
    version = claims.get("score_version", 1) if isinstance(claims, dict) else SCORE_VERSION
    if version != SCORE_VERSION:
        raise RefusedError(
            "other-score",
            f"Expected claims of score {SCORE_VERSION} in {where}, but they are of score {printable(version)}; run "
            "'refbench measure' on the run, which generates nothing anew, and pack it again.",
        )


def parse_entry(data: bytes, where: str) -> Entry:
    """Read and check ``entry.json``: its JSON, fields, texts and seal.

    Raises:
        RefusedError: naming the first thing that is wrong.
    """
    _refuse_other_score(strict_json(data, where), where)
    entry = parse_record(Entry, data, where, "broken-entry")
    if entry.outputs_url is not None and web_link(entry.outputs_url) is None:
        raise RefusedError("bad-link", f"Expected an https address as outputs_url in {where}; correct it.")
    if entry.seal != sealed(entry).seal:
        raise RefusedError(
            "broken-seal",
            f"Expected the seal of {where} to fit its content, but the content was changed after packing; "
            "pack the run again with 'refbench submit'.",
        )
    return entry


def write_entry(folder: Path, entry: Entry) -> None:
    """Write ``entry.json``, sealed."""
    from refbench.images import write_atomic

    text = json.dumps(sealed(entry).model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / ENTRY, (text + "\n").encode())


def cost_of(records: Mapping[str, SampleRecord], manifest: RunManifest) -> Cost:
    """What a run's own files say about its cost."""
    done = [record for record in records.values() if record.status == "ok"]
    known = [record.price_usd for record in done if record.price_usd is not None]
    gpus = manifest.hardware.get("gpus")
    hardware = gpus[0] if isinstance(gpus, list | tuple) and gpus else manifest.hardware.get("processor", "")
    return Cost(
        seconds=round(statistics.median(record.seconds for record in done), 3) if done else None,
        hardware=str(hardware)[:100],
        vram_gb=manifest.card.vram_gb,
        price_usd=round(statistics.mean(known), 5) if known else manifest.card.price_per_image_usd,
    )
