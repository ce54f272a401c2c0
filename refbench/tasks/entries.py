"""Where own pictures come from: folders matched by name, a table of paths, a dataset; each gives entries to import."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from refbench.errors import RefbenchError, in_words, missing_package, unknown_name
from refbench.images import PICTURE_ENDINGS
from refbench.plaintext import one_line
from refbench.tasks.importing import FACTS, PICTURES, Entry, Gap

if TYPE_CHECKING:
    import datasets

ENDS = {
    "draft": r"[-_ ](draft|input)$",
    "reference": r"[-_ ](reference|ref)$",
    "mask": r"[-_ ]mask$",
    "target": r"[-_ ](target|gt)$",
}
"""What a file's name may end in beside the name of its sample: 001_mask.png is the mask of 001."""


@dataclass(frozen=True)
class Found:
    """Samples as they were found, before a picture is looked at."""

    entries: Sequence[Entry]
    targets: bool
    """Whether there are targets."""
    gaps: tuple[Gap, ...] = ()
    """What belongs to no sample."""


def from_folders(folder: Path) -> Found:
    """Samples of ``drafts/ references/ masks/ [targets/] [boxes.csv] [prompts.csv]``, matched by the files' names.

    ``boxes.csv`` has the columns id, x, y, width, height (of the detail in the reference, px); ``prompts.csv`` has id,
    prompt, and any other of :data:`refbench.tasks.importing.FACTS`.

    Raises:
        RefbenchError: no such folders, or a broken CSV file.
    """
    if not folder.is_dir():
        raise RefbenchError(f"Expected a folder of pictures at {folder}, but there is none; check the path.")
    there = {what: _pictures_in(folder, what) for what in PICTURES}
    below = _folders_below(folder)
    if not there["draft"] or not there["reference"]:
        lacking = in_words([f"{what}s/" for what in ("draft", "reference") if not there[what]], "and")
        raise RefbenchError(
            f"Expected drafts/, references/ and masks/ with pictures in {folder}, but there is nothing in {lacking}; "
            + (f"move up what is in {in_words([gap.sample for gap in below], 'and')}, " if below else "")
            + "name the folders so, or use 'refbench import table'."
        )
    _spell_alike(there)
    facts: dict[str, dict[str, Any]] = {}
    for name, columns in (("boxes.csv", ("x", "y", "width", "height")), ("prompts.csv", ())):
        if (folder / name).is_file():
            for row in rows_of(folder / name):
                if not row.get("id") or any(column not in row for column in columns):
                    raise RefbenchError(
                        f"Expected the columns {', '.join(('id', *columns))} in {folder / name}, but there are "
                        f"{', '.join(row)}; name them so in its first line."
                    )
                mine = facts.setdefault(Path(str(row["id"])).stem, {})
                mine |= {what: row[what] for what in FACTS if row.get(what) and what != "id"}
                if columns:
                    mine["reference_box"] = ",".join(str(row[column]) for column in columns)
    names = sorted(set().union(*there.values()))
    entries, gaps = [], below
    for name in names:
        mine = {what: there[what].get(name, []) for what in PICTURES}
        twice = [f"{what}: {in_words([path.name for path in paths], 'and')}" for what, paths in mine.items()
                 if len(paths) > 1]  # fmt: skip
        if twice:
            gaps.append(Gap(name, "twice", f"{'; '.join(twice)}; remove one"))
            continue
        entries.append({"id": name, **{what: p[0] for what, p in mine.items() if p}, **facts.pop(name, {})})
    gaps += [Gap(name, "missing", "it is in a CSV file, but has no picture") for name in facts if name not in names]
    return Found(entries, bool(there["target"]), tuple(gaps))


def _pictures_in(folder: Path, what: str) -> dict[str, list[Path]]:
    """Sample -> its pictures in ``drafts/`` (or ``draft/``), whatever the case; other files are not looked at."""
    found: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if place.is_dir() and place.name.lower() in (what, f"{what}s"):
            for path in sorted(place.iterdir()):
                if path.suffix.lower() in PICTURE_ENDINGS and not path.name.startswith("."):
                    found.setdefault(re.sub(ENDS[what], "", path.stem, flags=re.IGNORECASE), []).append(path)
    return found


def _folders_below(folder: Path) -> list[Gap]:
    """Folders below ``drafts/`` and the like that hold pictures, which are not looked at."""
    kinds = {name for what in PICTURES for name in (what, f"{what}s")}
    found = []
    for place in sorted(folder.iterdir()):
        for inner in sorted(place.iterdir()) if place.is_dir() and place.name.lower() in kinds else ():
            if inner.is_dir() and not inner.name.startswith("."):
                count = sum(path.suffix.lower() in PICTURE_ENDINGS for path in inner.iterdir())
                if count:
                    words = f"pictures in a folder of their own ({count}); move them up into {place.name}/"
                    found.append(Gap(f"{place.name}/{inner.name}", "folder", words))
    return found


def _spell_alike(there: Mapping[str, dict[str, list[Path]]]) -> None:
    """Give partners whose names differ in case alone the draft's spelling (the first kind's that has one)."""
    spelled: dict[str, set[str]] = {}
    for found in there.values():
        for name in found:
            spelled.setdefault(name.casefold(), set()).add(name)
    for names in spelled.values():
        mine = [(found, [name for name in found if name in names]) for found in there.values()]
        if len(names) > 1 and all(len(one) < 2 for _, one in mine):  # else they are different samples
            chosen = next(one[0] for _, one in mine if one)
            for found, one in mine:
                if one and one[0] != chosen:
                    found[chosen] = found.pop(one[0])


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a table in CSV, JSON lines, JSON or Parquet; texts of CSV stay texts.

    Raises:
        RefbenchError: there is no such file, it has another ending, or a line is broken.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            import csv

            with path.open(encoding="utf-8-sig", newline="") as handle:
                return [dict(row) for row in csv.DictReader(handle)]
        if kind == ".parquet":
            import pyarrow.parquet as pq

            return cast(list[dict[str, Any]], pq.read_table(path).to_pylist())
        text = path.read_text("utf-8-sig")
        if kind == ".json":
            rows = json.loads(text)
        elif kind in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            raise RefbenchError(
                f"Expected a table in .csv, .jsonl, .json or .parquet, but {path} is none; save it as one of them."
            )
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it holds no list of objects")
        return rows
    except RefbenchError:
        raise
    except OSError as error:
        raise RefbenchError(f"Expected a readable table at {path}, but {error.strerror or error}.") from None
    except Exception as error:  # csv.Error, ValueError, pyarrow's
        raise RefbenchError(f"Expected a table at {path}, but it cannot be read ({one_line(error)}).") from None


def mapping(text: str | None) -> dict[str, str]:
    """Field -> column of "draft=condition_image_path,mask=mask_path".

    Raises:
        RefbenchError: no such field, or a part without "=".
    """
    found = {}
    for part in (one.strip() for one in (text or "").split(",") if one.strip()):
        name, equals, column = (one.strip() for one in part.partition("="))
        if not equals or not column:
            raise RefbenchError(f"Expected --map FIELD=COLUMN,..., but '{part}' came; write e.g. draft=input_path.")
        if name not in (*PICTURES, *FACTS):
            raise unknown_name("field", name, (*PICTURES, *FACTS))
        found[name] = column
    return found


def columns_of(columns: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Field -> column: as given, else the column of the field's own name.

    Raises:
        RefbenchError: a column that is not there, or none for draft, reference or mask.
    """
    for name, column in given.items():
        if column not in columns:
            raise RefbenchError(
                f"Expected the column '{column}' (for {name}) in {where}, but there are {in_words(columns, 'and')}; "
                "correct --map."
            )
    found = {name: name for name in (*PICTURES, *FACTS) if name in columns} | dict(given)
    lacking = [name for name in ("draft", "reference", "mask") if name not in found]
    if "mask_box" in found:
        lacking = [name for name in lacking if name != "mask"]
    if lacking:
        raise RefbenchError(
            f"Expected columns for draft, reference and mask in {where}, but none is named for {in_words(lacking)}; "
            f"its columns are {in_words(columns, 'and')}: say --map {lacking[0]}=COLUMN."
        )
    return found


def _entry(row: Mapping[str, Any], columns: Mapping[str, str], root: Path) -> dict[str, Any]:
    entry = {name: row.get(column) for name, column in columns.items()}
    for what in PICTURES:
        if isinstance(entry.get(what), str):
            entry[what] = root / str(entry[what]) if entry[what] else None
    return {name: value for name, value in entry.items() if value is not None and value != ""}


def from_table(path: Path, given: Mapping[str, str], root: Path | None = None) -> Found:
    """Samples of a table with a column of paths for each picture.

    Args:
        path: of the table.
        given: field -> column, see :func:`mapping`.
        root: what the paths are relative to; by default the table's folder.

    Raises:
        RefbenchError: a broken table, or columns that are not there.
    """
    rows = rows_of(path)
    if not rows:
        raise RefbenchError(f"Expected rows in the table {path}, but it has none.")
    columns = columns_of(list(dict.fromkeys(name for row in rows for name in row)), given, str(path))
    entries = [_entry(row, columns, root if root is not None else path.parent) for row in rows]
    if "id" not in columns:
        stems = [Path(entry["draft"]).stem if isinstance(entry.get("draft"), Path) else "" for entry in entries]
        if "" not in stems and len(set(stems)) == len(stems):
            entries = [{"id": stem, **entry} for stem, entry in zip(stems, entries, strict=True)]
    return Found(entries, "target" in columns)


class _Rows(Sequence[Entry]):
    """Rows of a dataset as entries, read when they are asked for."""

    def __init__(self, rows: datasets.Dataset, columns: Mapping[str, str], root: Path) -> None:
        self.rows, self.columns, self.root = rows, columns, root

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Entry:  # type: ignore[override]
        return _entry(self.rows[at], self.columns, self.root)


def from_dataset(name: str, given: Mapping[str, str], *, split: str = "train", config: str | None = None) -> Found:
    """Samples of a dataset of the hub or of a folder, through the `datasets` library.

    Args:
        name: its id, or a folder, also one of `save_to_disk` (of a single split, `split` does not matter).
        given: field -> column, see :func:`mapping`.
        split: which part, e.g. "test" or "train[:100]".
        config: which configuration, where it has several.

    Raises:
        RefbenchError: it cannot be loaded, or columns are not there.
    """
    try:
        from datasets import DatasetDict, Image, disable_progress_bars, load_dataset, load_from_disk
    except ImportError as error:
        raise missing_package(error, "for 'refbench import dataset'") or error from None
    disable_progress_bars()
    try:
        if any((Path(name) / mark).is_file() for mark in ("state.json", "dataset_dict.json")):  # of save_to_disk
            saved = load_from_disk(name)
            rows = saved[split] if isinstance(saved, DatasetDict) else saved
        else:
            rows = load_dataset(name, config, split=split)
    except Exception as error:  # of many kinds: no network, no such split, broken files
        raise RefbenchError(
            f"Expected a dataset '{name}' with the split '{split}', but it cannot be loaded "
            f"({type(error).__name__}: {one_line(error, 200)})."
        ) from None
    columns = columns_of(list(rows.column_names), given, f"the dataset '{name}'")
    for column in {columns[what] for what in PICTURES if what in columns}:
        if isinstance(rows.features[column], Image):
            rows = rows.cast_column(column, Image(decode=False))
    return Found(_Rows(rows, columns, Path(name)), "target" in columns)
