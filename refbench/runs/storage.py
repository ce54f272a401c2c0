"""Where a run folder lies: on this machine's file system, or at an address that fsspec opens (s3, gs, hf, memory, ...).

At an address nothing is asked of the file system but to write a whole object, to read it and to list: no lock, no
append, no rename. A file that is written anew (a manifest, a table) is first written beside its place under a name that
holds its hash, so that a kill leaves the old content or one that the next start completes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from refbench.errors import RefbenchError, missing_package
from refbench.images import write_atomic

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address such as s3://bucket/run, and not a path of this machine."""
    return "://" in os.fspath(place)


def joined(place: str | os.PathLike[str], name: str) -> str:
    """What is named `name` below a path or an address."""
    text = os.fspath(place)
    return f"{text.rstrip('/')}/{name}" if is_address(text) else str(Path(text) / name)


class Local:
    """Files by name ("outputs/text-refine/a.png") in a folder of this machine; they are renamed into their places."""

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def read(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RefbenchError(f"Expected a readable file at {self.root / name}, but {error.strerror}.") from None

    def opened(self, name: str) -> BinaryIO | None:
        """The file for reading at any place in it, or None."""
        path = self.root / name
        return path.open("rb") if path.exists() else None

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file, whole or not at all."""
        write_atomic(self.root / name, data)

    once = write

    def filled(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """As `write`, from a function that writes into an open file."""
        path = self.root / name
        beside = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as handle:
                write(handle)
                handle.flush()
                os.fsync(handle.fileno())
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise RefbenchError(
                f"Expected to write {path}, but {error.strerror or error}; free some space and run the same command "
                "again, what is measured is kept."
            ) from None

    def names(self, below: str = "") -> set[str]:
        """Names of all files below a folder, without those whose own name begins with a dot."""
        found = set()
        for folder, _, files in os.walk(self.root / below):
            inner = os.path.relpath(folder, self.root)
            found |= {os.path.normpath(f"{inner}/{file}") for file in files if not file.startswith(".")}
        return {name.replace(os.sep, "/") for name in found}

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        (self.root / name).unlink(missing_ok=True)


class Remote:
    """What fsspec opens: whole objects, written, read and listed."""

    def __init__(self, address: str) -> None:
        self.where = address.rstrip("/")
        with self._told("open", ""):
            from fsspec.core import url_to_fs

            found = url_to_fs(self.where, use_listings_cache=False)
        self.fs: AbstractFileSystem = found[0]
        self.root: str = found[1].rstrip("/")

    @contextlib.contextmanager
    def _told(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except RefbenchError:
            raise
        except Exception as error:
            lacking = missing_package(error, f"for {self.where.partition('://')[0]}:// addresses")
            said = " ".join((str(error) or type(error).__name__).split())[:300]
            raise lacking or RefbenchError(
                f"Expected to {what} {self.where}{'/' if name else ''}{name}, but {said}; check the address, what "
                "gives access to it, and that its fsspec package is installed."
            ) from None

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes | None:
        """As :class:`Local`."""
        with self._told("read", name):
            try:
                return cast(bytes, self.fs.cat_file(self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def opened(self, name: str) -> BinaryIO | None:
        """As :class:`Local`."""
        data = self.read(name)
        return None if data is None else io.BytesIO(data)

    def once(self, name: str, data: bytes) -> None:
        """Write a file that counts only when something written later says so (an output and its record)."""
        with self._told("write", name):
            path = self._at(name)
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(path, data)

    def write(self, name: str, data: bytes) -> None:
        """As :class:`Local`."""
        folder, _, own = name.rpartition("/")
        beside = f"{folder}/" * bool(folder) + f".{own}.{hashlib.sha256(data).hexdigest()[:16]}"
        self.once(beside, data)
        self.once(name, data)
        self.remove(beside)

    def recovered(self) -> None:
        """Complete what a kill has left between the two writes of :meth:`write`, and drop what it has torn."""
        for name in self._found("", hidden=True):
            folder, _, own = name.rpartition("/")
            parts = own.rpartition(".")
            if own.startswith(".") and len(parts[2]) == 16 and len(parts[0]) > 1:
                data = self.read(name)
                if data is not None and hashlib.sha256(data).hexdigest()[:16] == parts[2]:
                    self.once(f"{folder}/" * bool(folder) + parts[0][1:], data)
                self.remove(name)

    def filled(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """As :class:`Local`."""
        with tempfile.SpooledTemporaryFile(max_size=2**24) as handle:
            write(cast(BinaryIO, handle))
            handle.seek(0)
            self.write(name, handle.read())

    def _found(self, below: str, hidden: bool = False) -> set[str]:
        with self._told("list", below):
            self.fs.invalidate_cache()
            try:
                paths: list[Any] = self.fs.find(self._at(below))
            except FileNotFoundError:
                return set()
        cut = len(self.fs._strip_protocol(self.root).rstrip("/")) + 1
        names = {str(path)[cut:] for path in paths}
        return {name for name in names if name and (hidden or not name.rpartition("/")[2].startswith("."))}

    def names(self, below: str = "") -> set[str]:
        """As :class:`Local`."""
        return self._found(below)

    def remove(self, name: str) -> None:
        """As :class:`Local`."""
        with self._told("remove", name), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._at(name))


def storage_at(place: str | os.PathLike[str]) -> Local | Remote:
    """What lies at a path or an address.

    Raises:
        RefbenchError: the address has a scheme that fsspec does not know, or whose package is not installed.
    """
    return Remote(os.fspath(place)) if is_address(place) else Local(Path(place))
