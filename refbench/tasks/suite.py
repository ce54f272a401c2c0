"""Load suites: named, versioned, content-hashed lists of samples, read one at a time.

On disk a suite is a folder with ``suite.json`` and, for each task, Parquet files whose rows hold target,
reference and mask as pictures and the draft as a lossless patch of the mask's box (see
:mod:`refbench.tasks.writing`); where nobody knows the target it is null and the draft is stored whole. Decoded pixels
are the truth by definition. Row groups hold a few samples, so that one sample is read without its neighbours and memory
does not grow with the suite.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench import images
from refbench.errors import RefbenchError, in_words, unknown_name
from refbench.images import Image, Mask
from refbench.schema import Box, Sample, SampleMeta, Truth

if TYPE_CHECKING:
    import pyarrow.parquet

META_COLUMNS = tuple(SampleMeta.model_fields)
_ALL_META = set(META_COLUMNS)
_READING = threading.Lock()  # one Parquet handle must not be read by two threads at once

VERIFY_BYTES = 64_000_000
"""Suites up to this size are checked against their recorded file hashes when loaded; larger ones by size."""


def data_folder() -> Path:
    """The folder of the embedded suites: ``tasks/`` of the checkout, or the package's data in an installed wheel."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "_data" / "tasks", here.parent / "tasks"):
        if (folder / "core").is_dir():
            return folder
    return here.parent / "tasks"


def digest(*parts: Image | Mask | str | bytes | None) -> str:
    """SHA-256 of arrays (dtype, shape, pixels) and texts, each with its length, in order."""
    state = hashlib.sha256()
    for part in parts:
        if part is None:
            data, head = b"", "none"
        elif isinstance(part, str):
            data, head = part.encode(), "text"
        elif isinstance(part, bytes):
            data, head = part, "bytes"
        else:
            # Pillow hands out booleans whose true byte is 255; equal masks must hash equally
            flat = np.not_equal(part.view(np.uint8), 0) if part.dtype == bool else part
            data, head = np.ascontiguousarray(flat).tobytes(), f"{part.dtype.str}{part.shape}"
        state.update(f"{head}:{len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()


def sample_digest(
    meta: SampleMeta,
    prompt: str,
    reference_box: Box | None,
    draft: Image,
    target: Image | None,
    reference: Image,
    mask: Mask,
) -> str:
    """The content hash of a sample: its decoded pixels, prompt, box and metadata; another one without a target."""
    facts = json.dumps(
        {"meta": meta.model_dump(), "prompt": prompt, "box": list(reference_box) if reference_box else None},
        sort_keys=True, ensure_ascii=False,
    )  # fmt: skip
    return digest(draft, target, reference, mask, facts)


def suite_digest(entries: Iterable[tuple[str, str]]) -> str:
    """The content hash of a suite: its samples' ids and content hashes, in order."""
    return digest(*(f"{name} {value}" for name, value in entries))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample lies: file, row group, row in the group."""

    file: Path
    group: int
    row: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Row:
    meta: SampleMeta
    prompt: str
    reference_box: Box | None
    draft: Image
    target: Image | None
    reference: Image
    mask: Mask


@dataclass
class Suite:
    """A suite, or a selection of one; iterating decodes one sample at a time.

    The `hash` is that of the whole suite, also in a selection: results of equal hashes are comparable.
    """

    name: str
    version: str
    hash: str
    """Hex SHA-256 over every sample's pixels, prompt, boxes and metadata."""
    ids: tuple[str, ...]
    folder: Path
    targets: bool
    """Whether it has targets; without them texture and score are not measured, and alignment counts typical gaps."""
    _places: dict[str, Place] = field(repr=False)
    _facts: dict[str, SampleMeta] = field(repr=False)
    _open: dict[Path, pyarrow.parquet.ParquetFile] = field(default_factory=dict, repr=False)
    _last: tuple[str, _Row] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and the last picture, so that a suite can be sent to another process."""
        return {**self.__dict__, "_open": {}, "_last": None}

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(name) for name in self.ids)

    @property
    def every(self) -> frozenset[str]:
        """Ids of the whole suite, also in a selection."""
        return frozenset(self._places)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have samples here, in the suite's order."""
        return tuple(dict.fromkeys(self._facts[name].task for name in self.ids))

    @cached_property
    def metas(self) -> tuple[SampleMeta, ...]:
        """The samples' metadata, in order; no picture is decoded for it."""
        return tuple(self._facts[name] for name in self.ids)

    def _row(self, name: str) -> _Row:
        last = self._last
        if last is not None and last[0] == name:
            return last[1]
        if name not in self._places:
            raise unknown_name("sample", name, self._places)
        place = self._places[name]
        row = _decode(_read_row(self._open, place), self._facts[name], f"{place.file}, sample {name}")
        self._last = (name, row)
        return row

    def sample(self, name: str) -> Sample:
        """One sample by id: what a model sees, and the metadata; never the target.

        Raises:
            RefbenchError: the id is unknown, or its data is broken.
        """
        row = self._row(name)
        return Sample(name, row.draft, row.reference, row.mask, row.prompt, row.reference_box, row.meta)

    def target(self, sample: Sample | str) -> Image:
        """The right picture of a sample or id, for those who measure.

        Raises:
            RefbenchError: the suite has no targets (:attr:`targets`).
        """
        found = self._row(sample if isinstance(sample, str) else sample.id).target
        if found is None:
            raise RefbenchError(
                f"Expected a suite with targets, but '{self.name}' has none; import it with them, or take another."
            )
        return found

    def truth(self, name: str) -> Truth:
        """All that measuring needs of one sample; `key` is its content hash."""
        row = self._row(name)
        box = json.dumps(row.reference_box)
        key = digest(row.target, row.draft, row.reference, row.mask, box, row.meta.text, row.meta.category)
        return Truth(
            name,
            row.draft if row.target is None else row.target,
            row.draft,
            row.reference,
            row.mask,
            row.reference_box,
            row.meta.text,
            row.meta.category,
            key,
            row.target is not None,
        )

    def select(
        self, tasks: Iterable[str] | None = None, limit: int | None = None, ids: Iterable[str] | None = None
    ) -> Suite:
        """A part of the suite, with the same hash.

        Args:
            tasks: keep these tasks only.
            limit: keep at most so many samples, taken in turn from each task.
            ids: keep these samples only.

        Raises:
            RefbenchError: an unknown task or id, or a limit below 1.
        """
        names = list(self.ids)
        if tasks is not None:
            wanted = list(tasks)
            for task in wanted:
                if task not in self.tasks:
                    raise unknown_name("task", task, self.tasks)
            names = [name for name in names if self._facts[name].task in wanted]
        if ids is not None:
            chosen = list(ids)
            for name in chosen:
                if name not in self._places or name not in self.ids:
                    raise unknown_name("sample", name, self.ids)
            keep = set(chosen)
            names = [name for name in names if name in keep]
        if limit is not None:
            if limit < 1:
                raise RefbenchError(f"Expected a limit of 1 or more samples, got {limit}; leave it out to take all.")
            by_task: dict[str, list[str]] = {}
            for name in names:
                by_task.setdefault(self._facts[name].task, []).append(name)
            depth = max((len(group) for group in by_task.values()), default=0)
            turns = [group[turn] for turn in range(depth) for group in by_task.values() if turn < len(group)]
            names = turns[:limit]
        return replace(self, ids=tuple(names), _open={}, _last=None)

    def verify(self) -> None:
        """Decode everything and compare with the suite's hash.

        Raises:
            RefbenchError: a sample differs from what the hash was made of.
        """
        for name in self._places:
            row = self._row(name)
            found = sample_digest(
                row.meta, row.prompt, row.reference_box, row.draft, row.target, row.reference, row.mask
            )
            if found != self._places[name].sha256:
                raise RefbenchError(
                    f"Expected sample {name} of suite '{self.name}' to have hash {self._places[name].sha256[:12]}, "
                    f"but its data hashes to {found[:12]}; the files were changed, fetch or build the suite again."
                )


def _read_row(opened: dict[Path, pyarrow.parquet.ParquetFile], place: Place) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        with _READING:
            if place.file not in opened:
                if len(opened) >= 16:
                    opened.pop(next(iter(opened))).close()
                opened[place.file] = pq.ParquetFile(place.file)
            table = opened[place.file].read_row_group(place.group)
            row: dict[str, Any] = table.slice(place.row, 1).to_pylist()[0]
    except (OSError, pyarrow.ArrowException, IndexError) as error:
        raise RefbenchError(
            f"Expected a readable Parquet file at {place.file}, but {error}; the suite is damaged, "
            "fetch or build it again."
        ) from None
    return row


def _decode(row: dict[str, Any], meta: SampleMeta, where: str) -> _Row:
    target = None if row["target"] is None else images.decode_image(row["target"]["bytes"], f"{where}, target")
    reference = images.decode_image(row["reference"]["bytes"], f"{where}, reference")
    mask = images.decode_mask(row["mask"]["bytes"], f"{where}, mask")
    patch = images.decode_image(row["draft_patch"]["bytes"], f"{where}, draft patch")
    draft = patch if target is None else lay_patch(target, mask, patch, tuple(row["draft_box"]), where)
    images.check_mask(mask, (draft.shape[0], draft.shape[1]), f"{where}, mask")
    box = tuple(row["reference_box"]) if row["reference_box"] else None
    return _Row(meta, row["prompt"], box, draft, target, reference, mask)


def lay_patch(target: Image, mask: Mask, patch: Image, box: tuple[int, ...], where: str = "sample") -> Image:
    """The draft: the target with the patch's pixels wherever the mask is white.

    Args:
        patch: (height, width, 3) of `box`, which is (x, y, width, height) in px of the target.

    Raises:
        RefbenchError: patch, box and target do not fit together.
    """
    x, y, width, height = box
    if patch.shape[:2] != (height, width) or y + height > target.shape[0] or x + width > target.shape[1]:
        raise RefbenchError(
            f"Expected a draft patch of {width} x {height} px inside the target at {where}, but it is "
            f"{patch.shape[1]} x {patch.shape[0]} px; the suite is damaged, fetch or build it again."
        )
    draft = target.copy()
    inside = mask[y : y + height, x : x + width]
    draft[y : y + height, x : x + width][inside] = patch[inside]
    return draft


def embedded_suites() -> list[str]:
    """Names of the suites that come with refbench."""
    return sorted(entry.parent.name for entry in data_folder().glob("*/suite.json"))


def _suite_folder(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if (path / "suite.json").is_file():
        return path
    if str(name_or_path) in embedded_suites():
        return data_folder() / str(name_or_path)
    if path.exists():
        raise RefbenchError(
            f"Expected a suite folder at {path}, but it has no suite.json; name a folder made by refbench."
        )
    if any(mark in str(name_or_path) for mark in "/\\") or str(name_or_path).startswith((".", "~")):
        raise RefbenchError(
            f"Expected a suite folder at {name_or_path}, but nothing is there; check the path, or give one of "
            f"{in_words(embedded_suites())}."
        )
    raise unknown_name("suite", str(name_or_path), embedded_suites(), otherwise="a folder with suite.json")


def load_suite(name_or_path: str | Path = "core") -> Suite:
    """Open a suite by name ("core", "mini") or folder.

    Raises:
        RefbenchError: the suite is unknown, its suite.json is broken, or its data is missing or was changed.
    """
    folder = _suite_folder(name_or_path)
    where = folder / "suite.json"
    try:
        header = json.loads(where.read_text("utf-8"))
        tasks = [(str(task["name"]), [str(name) for name in task["samples"]]) for task in header["tasks"]]
        name, version, recorded = str(header["name"]), str(header["version"]), str(header["hash"])
        base = folder.parent / str(header["of"]) if "of" in header else folder
        files = (
            None
            if "of" in header
            else {str(k): (int(v["bytes"]), str(v["sha256"])) for k, v in header["files"].items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefbenchError(
            f"Expected a suite description (name, version, hash, tasks) in {where}, but it cannot be read "
            f"({type(error).__name__}: {error}); fetch or build the suite again."
        ) from None
    if files is None:
        whole = load_suite(base)
        places, facts = whole._places, whole._facts
    else:
        _check_files(folder, files)
        places, facts = _index(
            [folder / name for name in files], sum(size for size, _ in files.values()) <= VERIFY_BYTES
        )
    order = [sample for _, samples in tasks for sample in samples]
    for task, samples in tasks:
        for sample in samples:
            if sample not in places or facts[sample].task != task:
                raise RefbenchError(
                    f"Expected sample '{sample}' in task '{task}' of suite '{name}', but the data in {base} has none; "
                    "suite.json and data do not belong together, fetch or build the suite again."
                )
    found = suite_digest((sample, places[sample].sha256) for sample in order)
    if found != recorded:
        raise RefbenchError(
            f"Expected suite '{name}' to have hash {recorded[:12]}, but its samples hash to {found[:12]}; "
            "suite.json and data do not belong together, fetch or build the suite again."
        )
    kept = {sample: places[sample] for sample in order}
    known = {sample: facts[sample] for sample in order}
    return Suite(name, version, recorded, tuple(order), folder, header.get("targets", True), kept, known)


def _check_files(folder: Path, files: dict[str, tuple[int, str]]) -> None:
    small = sum(size for size, _ in files.values()) <= VERIFY_BYTES
    for name, (size, sha256) in files.items():
        path = folder / name
        if not path.is_file():
            raise RefbenchError(
                f"Expected the suite's data at {path}, but there is no such file; fetch or build the suite again."
            )
        if path.stat().st_size != size or (small and hashlib.sha256(path.read_bytes()).hexdigest() != sha256):
            raise RefbenchError(
                f"Expected {path} as suite.json records it, but its content differs; the suite was changed or is "
                "damaged, fetch or build it again."
            )


def _index(files: list[Path], validate: bool) -> tuple[dict[str, Place], dict[str, SampleMeta]]:
    """Where every sample lies, and its metadata, from the small columns alone."""
    import pyarrow
    import pyarrow.parquet as pq
    from pydantic import ValidationError

    places: dict[str, Place] = {}
    facts: dict[str, SampleMeta] = {}
    for path in files:
        try:
            with pq.ParquetFile(path) as handle:
                rows = handle.read(columns=[*META_COLUMNS, "sha256"]).to_pylist()
                sizes = [handle.metadata.row_group(group).num_rows for group in range(handle.num_row_groups)]
                spots = [(group, number) for group, size in enumerate(sizes) for number in range(size)]
                for (group, number), row in zip(spots, rows, strict=True):
                    sha256 = row.pop("sha256")
                    name = row["id"]
                    if name in places:
                        raise RefbenchError(
                            f"Expected each sample once, but '{name}' is in {path} and {places[name].file}."
                        )
                    facts[name] = SampleMeta(**row) if validate else _compact(row)
                    places[name] = Place(path, group, number, sha256)
        except (OSError, pyarrow.ArrowException, KeyError, ValidationError) as error:
            raise RefbenchError(
                f"Expected a suite's Parquet file at {path}, but it cannot be read ({type(error).__name__}); "
                "the suite is damaged, fetch or build it again."
            ) from None
    return places, facts


def _compact(row: dict[str, Any]) -> SampleMeta:
    """Metadata of one of many samples: equal texts (task, licence, ...) and the set of fields are held once for all."""
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = sys.intern(value)
    return SampleMeta.model_construct(_ALL_META, **row)
