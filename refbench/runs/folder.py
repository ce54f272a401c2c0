"""The run folder: manifest, outputs, an append-only record, and what is refused when it does not fit.

Layout::

    manifest.json            what is run, on what, with what (schema.RunManifest)
    records.jsonl            one line a sample, appended and fsynced (schema.SampleRecord)
    outputs/<task>/<id>.png  the refinements
    responses/               every answer of a service that costs money, and what was spent
    scores.parquet           long form, one row a sample x metric x region
    answers.parquet          the same for the trivial answers and the target
    summary.json             axes, categories, metrics, with intervals

Every file but the record is written beside its place and renamed; the record is appended one whole
line at a time, so that a kill leaves at most one broken last line, which is cut off on the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.schema import RunManifest, SampleRecord

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
SCORES = "scores.parquet"
ANSWERS = "answers.parquet"
SUMMARY = "summary.json"
PARTS = ".parts"
RESPONSES = "responses"
LOCK = ".lock"


class RunFolder:
    """One run on disk. Safe for several threads of one process; :meth:`locked` keeps other processes out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._append_lock = threading.Lock()

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

    @property
    def parts(self) -> Path:
        """Folder of the measured chunks that are not merged yet."""
        return self.path / PARTS

    def output(self, task: str, sample: str) -> Path:
        """Where the refinement of a sample lies."""
        return self.path / "outputs" / task / f"{sample}.png"

    # ---- opening

    def exists(self) -> bool:
        """Whether there is a run here; a folder with other things in it is refused.

        Raises:
            RefbenchError: the path is a file, cannot be read, or holds something that is no run.
        """
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
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A run that must be there.

        Raises:
            RefbenchError: no such folder, or no manifest in it.
        """
        folder = cls(path)
        try:
            there = (folder.path / MANIFEST).is_file()
        except OSError as error:
            raise RefbenchError(f"Expected a readable run folder at {path}, but {error.strerror}.") from None
        if not there:
            raise RefbenchError(
                f"Expected a run folder (with {MANIFEST}) at {path}, but there is none; "
                "make one with 'refbench eval' or check the path."
            )
        return folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; another refbench at work on it is refused, a dead one is not in the way.

        Raises:
            RefbenchError: another process works on this run, or the folder cannot be written.
        """
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
            RefbenchError: it cannot be read, is no JSON, or lacks or has unknown fields.
        """
        path = self.path / MANIFEST
        try:
            return RunManifest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise RefbenchError(f"Expected a readable manifest at {path}, but {error.strerror}.") from None
        except ValidationError as error:
            raise RefbenchError(
                f"Expected a run manifest at {path}, but it is broken ({first_fault(error)}); restore the file, or "
                "start the run in another folder with --out."
            ) from None

    def clear(self) -> None:
        """Remove what an earlier run has left, but for its manifest, which the new one replaces, and paid answers.

        Raises:
            RefbenchError: something cannot be removed.
        """
        files = [self.path / name for name in (RECORDS, SCORES, ANSWERS, SUMMARY, "suite_scores.json", "judge.json")]
        try:
            for path in [*files, *self.path.glob("protocol-*.json")]:
                path.unlink(missing_ok=True)
            for path in (self.path / "outputs", self.parts):
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
        """Write the manifest atomically."""
        write_atomic(self.path / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())

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
        path = self.path / RECORDS
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RefbenchError(f"Expected a readable record at {path}, but {error.strerror}.") from None
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
                    f"Expected a sample record in line {number} of {path}, but it is broken ({first_fault(error)}); "
                    "remove that line and its sample is done again."
                ) from None
            if allowed is not None and record.id not in allowed:
                raise RefbenchError(
                    f"Expected a planned sample in line {number} of {path}, but '{record.id}' is not in the manifest; "
                    "remove that line."
                )
            records[record.id] = record
            good += len(line) + 1
        if repair and good < len(data):
            with path.open("r+b") as handle:
                handle.truncate(good)
                os.fsync(handle.fileno())
        return records

    def append_record(self, record: SampleRecord) -> None:
        """Append one line and wait until it is on disk.

        Raises:
            RefbenchError: the disk is full or the folder cannot be written; what was recorded before is kept.
        """
        path = self.path / RECORDS
        line = (record.model_dump_json() + "\n").encode()
        with self._append_lock:
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
