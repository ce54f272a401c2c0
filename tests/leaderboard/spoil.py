"""Ways to change an entry, as someone would who knows the format: hashes and seal can be made to fit again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from refbench.images import Image, encode_png, load_image
from refbench.leaderboard.entry import ENTRY, Entry, note_of, sealed
from refbench.runs.generate import pixels_sha256


def content(entry: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((entry / ENTRY).read_text())
    return found


def write(entry: Path, data: dict[str, Any]) -> None:
    (entry / ENTRY).write_text(json.dumps(data))


def reseal(entry: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, *, files: bool = True) -> None:
    """Change entry.json, note every file anew and seal again."""
    data = content(entry)
    change(data)
    if files:
        data["files"] = {
            path.relative_to(entry).as_posix(): note_of(path).model_dump()
            for path in sorted(entry.rglob("*"))
            if path.is_file() and path.name != ENTRY
        }
    data["seal"] = ""
    data["seal"] = sealed(Entry.model_validate(data)).seal
    write(entry, data)


def outputs(entry: Path) -> list[Path]:
    return sorted((entry / "outputs").rglob("*.png"))


def change_json(entry: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((entry / name).read_text())
    change(data)
    (entry / name).write_text(json.dumps(data))


def records(entry: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (entry / "records.jsonl").read_text().splitlines()]


def write_records(entry: Path, rows: list[dict[str, Any]]) -> None:
    (entry / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def scores(entry: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of scores.parquet."""
    table = pq.read_table(entry / "scores.parquet")
    rows = table.to_pylist()
    rows = change(rows) or rows
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), entry / "scores.parquet")


def paint(entry: Path, new: Callable[[str, Image], Image], *, known: bool = True) -> None:
    """Replace every output by `new(sample id, old)`; with `known` the records get the new pixels' hashes."""
    rows = {row["id"]: row for row in records(entry)}
    for path in outputs(entry):
        image = np.ascontiguousarray(new(path.stem, load_image(path)))
        path.write_bytes(encode_png(image))
        if known:
            rows[path.stem]["sha256"] = pixels_sha256(image)
    write_records(entry, list(rows.values()))


def rescore(entry: Path, suite: Any, metrics: tuple[str, ...]) -> None:
    """Claim what the outputs in the entry really score, as an attacker with the suite at hand would."""
    from refbench.metrics.measurer import Measurer

    measurer = Measurer(list(metrics))
    ids = [path.stem for path in outputs(entry)]
    found = measurer.measure([suite.truth(i) for i in ids], [load_image(path) for path in outputs(entry)])
    values = {(s.sample, s.metric): s.value for one in found for s in one}

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["value"] = values[row["sample"], row["metric"]]

    scores(entry, change)


def zipped(entry: Path, to: Path, extra: Callable[[zipfile.ZipFile], object] = lambda _: None) -> Path:
    """The entry as a zip, with more members if asked for."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(entry.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(entry).as_posix())
        extra(archive)
    return to


def put(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    """A change that sets one field."""

    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def drop_output(entry: Path) -> str:
    """Delete the first output and return its sample."""
    first = outputs(entry)[0]
    first.unlink()
    return first.stem
