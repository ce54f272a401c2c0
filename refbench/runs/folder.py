"""The run folder: manifest, outputs, a record that only grows, and what is refused when it does not fit.

Layout::

    manifest.json            what is run, on what, with what (schema.RunManifest)
    records.jsonl            one line a sample, appended and fsynced (schema.SampleRecord)
    outputs/<task>/<id>.png  the refinements
    responses/               every answer of a service that costs money, and what was spent
    scores.parquet           long form, one row a sample x metric x region
    answers.parquet          the same for the trivial answers and the target
    summary.json             axes, categories, metrics, with intervals

On this machine every file but the record is written beside its place and renamed; the record is appended one whole
line at a time, so that a kill leaves at most one broken last line, which is cut off on the next start. At an address
(:mod:`refbench.runs.storage`) nothing is appended, renamed or locked: records go into objects of a few lines each
(``records/``), put together at the end, and a note says who writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError

from refbench.errors import RefbenchError
from refbench.images import Image, decode_image
from refbench.runs.jsontext import as_json
from refbench.runs.lease import alone
from refbench.runs.storage import Local, Remote, joined, storage_at
from refbench.runs.tables import ChunkState, Kind, Stored, fill
from refbench.schema import RunManifest, SampleRecord

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
SCORES = "scores.parquet"
ANSWERS = "answers.parquet"
SUMMARY = "summary.json"
SEEDS = "seeds.json"
PARTS = ".parts"
RESPONSES = "responses"
LOCK = ".lock"
SEGMENTS = "records"
WRITER = "writer.json"
FLUSH_S = 2.0
"""Records at an address are put together for so many seconds, and not longer than :data:`FLUSH_LINES` lines."""
FLUSH_LINES = 64


class RunFolder:
    """One run. Safe for several threads of one process; :meth:`locked` keeps other processes out.

    Args:
        place: a path of this machine, or an address.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.storage: Local | Remote = storage_at(place)
        self._append_lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._segment, self._flushed = 0, 0.0

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str]]:
        return RunFolder, (self.place,)

    @property
    def place(self) -> str:
        """The path or address, as text."""
        return self.storage.where

    @property
    def path(self) -> Path:
        """The folder on this machine.

        Raises:
            RefbenchError: it is at an address.
        """
        if isinstance(self.storage, Remote):
            raise RefbenchError(
                f"Expected a run folder on this machine, but {self.place} is an address; copy it here first."
            )
        return self.storage.root

    @property
    def whole_place(self) -> str:
        """The absolute path, or the address."""
        return self.place if isinstance(self.storage, Remote) else str(self.path.resolve())

    def shared(self) -> RunFolder:
        """The same for workers that start elsewhere in the file system."""
        return RunFolder(self.whole_place)

    @property
    def told(self) -> Path | str:
        """The folder's path, or its address, as results name it."""
        return self.place if isinstance(self.storage, Remote) else self.path

    @property
    def scores(self) -> Path:
        """Path of ``scores.parquet``."""
        return self.path / SCORES

    @property
    def answers(self) -> Path:
        """Path of ``answers.parquet``."""
        return self.path / ANSWERS

    @property
    def summary(self) -> Path:
        """Path of ``summary.json``."""
        return self.path / SUMMARY

    def beside(self, name: str) -> RunFolder:
        """The run of another name in the same folder."""
        if isinstance(self.storage, Remote):
            return RunFolder(joined(self.place.rpartition("/")[0], name))
        return RunFolder(self.path.resolve().with_name(name))

    @property
    def name(self) -> str:
        """The last part of the path or address."""
        return self.place.rpartition("/")[2] if isinstance(self.storage, Remote) else self.path.name

    def output(self, task: str, sample: str) -> Path:
        """Where the refinement of a sample lies."""
        return self.path / "outputs" / task / f"{sample}.png"

    # ---- outputs and tables

    @staticmethod
    def output_name(task: str, sample: str) -> str:
        """The name of a refinement below the run folder."""
        return f"outputs/{task}/{sample}.png"

    def write_output(self, task: str, sample: str, png: bytes) -> None:
        """Write the refinement of a sample."""
        self.storage.once(self.output_name(task, sample), png)

    def read_output(self, record: SampleRecord) -> Image:
        """The refinement of a sample, decoded.

        Raises:
            RefbenchError: it is not there, or no picture.
        """
        name = self.output_name(record.task, record.id)
        data = self.storage.read(name)
        where = joined(self.place, name)
        if data is None:
            raise RefbenchError(
                f"Expected the output of '{record.id}' at {where}, but there is none; run 'refbench generate' with the "
                "same arguments to make it again."
            )
        return decode_image(data, where)

    def answered(self, records: Iterable[SampleRecord]) -> dict[str, bool]:
        """Sample -> whether its output is there, of those recorded as ok."""
        mine = [record for record in records if record.status == "ok"]
        there = self.storage.names("outputs") if mine else set()
        return {record.id: self.output_name(record.task, record.id) in there for record in mine}

    def table(self, name: str, kind: Kind) -> Stored:
        """A score table or a part of one; empty where it is not there; errors as :class:`Stored`."""
        return Stored(self.storage.opened(name), kind, joined(self.place, name))

    def holds(self, name: str, kind: Kind, states: Sequence[ChunkState]) -> bool:
        """Whether a score table holds just what is wanted; a missing or damaged one does not."""
        try:
            stored = self.table(name, kind)
        except RefbenchError:
            return False
        stored.close()
        return stored.states == tuple(states)

    def write_table(self, name: str, kind: Kind, chunks: Iterator[pa.Table], states: Sequence[ChunkState]) -> None:
        """Write a score table or a part of one, a chunk at a time."""

        def write(handle: BinaryIO) -> None:
            fill(handle, kind, chunks, states)

        self.storage.filled(name, write)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON object that refbench can make again; None where it is missing or broken."""
        try:
            value = json.loads(self.storage.read(name) or b"")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def write_json(self, name: str, value: Any) -> None:
        """Write plain values as JSON, whole or not at all."""
        self.storage.write(name, (as_json(value) + "\n").encode())

    def drop_parts(self) -> None:
        """Remove the measured chunks, which are merged."""
        if isinstance(self.storage, Local):
            shutil.rmtree(self.path / PARTS, ignore_errors=True)
        else:
            for name in self.storage.names(PARTS):
                self.storage.remove(name)

    # ---- opening

    def exists(self) -> bool:
        """Whether there is a run here; a folder with other things in it is refused.

        Raises:
            RefbenchError: the path is a file, cannot be read, or holds something that is no run.
        """
        if isinstance(self.storage, Remote):
            entries = {name.partition("/")[0] for name in self.storage.names()}
            if MANIFEST not in entries and entries - {WRITER}:
                raise RefbenchError(
                    f"Expected nothing or a run (with {MANIFEST}) at {self.place}, but other files are there; name "
                    "another address with --out."
                )
            return MANIFEST in entries
        try:
            entries = {entry.name for entry in os.scandir(self.path)}
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise RefbenchError(
                f"Expected a run folder at {self.path}, but that is a file or lies under one; "
                "name another folder with --out."
            ) from None
        except OSError as error:
            raise RefbenchError(f"Expected a readable run folder at {self.path}, but {error.strerror}.") from None
        if MANIFEST in entries:
            return True
        if entries - {LOCK} and not all(name.startswith(f".{MANIFEST}.") or name == LOCK for name in entries):
            raise RefbenchError(
                f"Expected an empty folder or a run (with {MANIFEST}) at {self.path}, but it holds other files; "
                "name another folder with --out."
            )
        return False

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> tuple[RunFolder, RunManifest]:
        """A run that must be there, and its manifest.

        Raises:
            RefbenchError: as :meth:`read_manifest`.
        """
        folder = cls(path)
        return folder, folder.read_manifest()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; another refbench at work on it is refused, a dead one is not in the way.

        Raises:
            RefbenchError: another process works on this run, or the folder cannot be written.
        """
        if isinstance(self.storage, Remote):
            with self._noted(self.storage):
                yield
            return
        from filelock import FileLock, Timeout

        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise RefbenchError(
                f"Expected to be alone at {self.path}, but another refbench process is working on this run; "
                "wait for it or name another folder with --out."
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RefbenchError(
                f"Expected to write to the run folder {self.path}, but {reason}; name another folder with --out."
            ) from None
        try:
            self._sweep()
            yield
        finally:
            lock.release()
            if not (self.path / MANIFEST).exists():
                with contextlib.suppress(OSError):  # nothing came of it: leave no empty folders behind
                    (self.path / LOCK).unlink(missing_ok=True)
                    for folder in made:
                        folder.rmdir()

    @contextlib.contextmanager
    def _noted(self, storage: Remote) -> Iterator[None]:
        with alone(storage, WRITER):
            storage.recovered()
            self._segment = max((int(Path(name).stem) for name in storage.names(SEGMENTS)), default=0)
            try:
                yield
            finally:
                self._flush()
                self._put_together(storage)

    def _put_together(self, storage: Remote) -> None:
        """Make one ``records.jsonl`` of what was written in parts."""
        parts = sorted(storage.names(SEGMENTS))
        if parts:
            storage.write(RECORDS, self._record_lines())
            for name in parts:
                storage.remove(name)

    def _sweep(self) -> None:
        """Remove files that a kill left half written beside their place."""
        keep = {LOCK, PARTS}
        for pattern in (".*", "outputs/*/.*", f"{RESPONSES}/.*", f"{PARTS}/.*"):
            for path in self.path.glob(pattern):
                if path.name not in keep and path.is_file():
                    path.unlink(missing_ok=True)

    # ---- manifest

    def read_manifest(self) -> RunManifest:
        """The manifest.

        Raises:
            RefbenchError: no such folder, no manifest in it, or it is no JSON, or lacks or has unknown fields.
        """
        data = self.storage.read(MANIFEST)
        if data is None:
            raise RefbenchError(
                f"Expected a run folder (with {MANIFEST}) at {self.place}, but there is none; "
                "make one with 'refbench eval' or check the path."
            )
        try:
            return RunManifest.model_validate_json(data)
        except ValidationError as error:
            where = joined(self.place, MANIFEST)
            raise RefbenchError(
                f"Expected a run manifest at {where}, but it is broken ({first_fault(error)}); restore the file, or "
                "start the run in another folder with --out."
            ) from None

    def clear(self) -> None:
        """Remove what an earlier run has left, but for its manifest, which the new one replaces, and paid answers.

        Raises:
            RefbenchError: something cannot be removed.
        """
        if isinstance(self.storage, Remote):
            for name in self.storage.names():
                if name not in (MANIFEST, WRITER) and not name.startswith(f"{RESPONSES}/"):
                    self.storage.remove(name)
            return
        files = [self.path / name for name in (RECORDS, SCORES, ANSWERS, SUMMARY, "suite_scores.json", "judge.json")]
        try:
            for path in [*files, *self.path.glob("protocol-*.json"), self.path / SEEDS]:
                path.unlink(missing_ok=True)
            for path in (self.path / "outputs", self.path / PARTS):
                if path.is_symlink():
                    path.unlink()
                elif path.exists():
                    shutil.rmtree(path)
        except OSError as error:
            raise RefbenchError(
                f"Expected to start anew at {self.path}, but {error.strerror} at {error.filename}; name another folder "
                "with --out."
            ) from None

    def write_manifest(self, manifest: RunManifest) -> None:
        """Write the manifest, whole or not at all."""
        self.storage.write(MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())

    # ---- records

    def read_records(self, planned: Iterable[str] | None = None, *, repair: bool = False) -> dict[str, SampleRecord]:
        """Sample id -> its latest record.

        A last line that a kill has cut short is ignored, and with `repair` cut off, so that its sample is done again.

        Args:
            planned: ids the record may name; None allows any.
            repair: whether this process is about to append.

        Raises:
            RefbenchError: any other line is broken, or names a sample that is not planned; says which line.
        """
        where = joined(self.place, RECORDS)
        data = self._record_lines()
        allowed = None if planned is None else set(planned)
        records: dict[str, SampleRecord] = {}
        lines = data.split(b"\n")
        good = 0
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = SampleRecord.model_validate_json(line)
            except ValidationError as error:
                if number == len(lines) - 1 and lines[-1] == b"":
                    break
                raise RefbenchError(
                    f"Expected a sample record in line {number} of {where}, but it is broken ({first_fault(error)}); "
                    "remove that line and its sample is done again."
                ) from None
            if allowed is not None and record.id not in allowed:
                raise RefbenchError(
                    f"Expected a planned sample in line {number} of {where}, but '{record.id}' is not in the manifest; "
                    "remove that line."
                )
            records[record.id] = record
            good += len(line) + 1
        if repair and good < len(data) and isinstance(self.storage, Local):
            with (self.path / RECORDS).open("r+b") as handle:
                handle.truncate(good)
                os.fsync(handle.fileno())
        return records

    def _record_lines(self) -> bytes:
        """All that was recorded; of what was written in parts, whole lines alone."""
        whole = self.storage.read(RECORDS) or b""
        if isinstance(self.storage, Local):
            return whole
        parts = (self.storage.read(name) or b"" for name in sorted(self.storage.names(SEGMENTS)))
        return whole + b"".join(part[: part.rfind(b"\n") + 1] for part in parts) + b"".join(self._waiting)

    def _flush(self) -> None:
        """Write what waits as an object of its own."""
        if self._waiting:
            self._segment += 1
            self.storage.once(f"{SEGMENTS}/{self._segment:08d}.jsonl", b"".join(self._waiting))
            self._waiting.clear()
            self._flushed = time.monotonic()

    def append_record(self, record: SampleRecord) -> None:
        """Append one line and wait until it is on disk; at an address, within some seconds.

        Raises:
            RefbenchError: the disk is full or the folder cannot be written; what was recorded before is kept.
        """
        line = (record.model_dump_json() + "\n").encode()
        with self._append_lock:
            if isinstance(self.storage, Remote):
                self._waiting.append(line)
                if len(self._waiting) >= FLUSH_LINES or time.monotonic() - self._flushed >= FLUSH_S:
                    self._flush()
                return
            path = self.path / RECORDS
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                try:
                    size = os.fstat(handle).st_size
                    written = os.write(handle, line)
                    if written != len(line):
                        os.ftruncate(handle, size)
                        raise OSError(28, "No space left on device")
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise RefbenchError(
                    f"Expected to append to {path}, but {error.strerror}; free some space and run the same command "
                    "again, what is recorded is kept."
                ) from None


def first_fault(error: ValidationError) -> str:
    """The first thing wrong with a record, in a few words."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])
