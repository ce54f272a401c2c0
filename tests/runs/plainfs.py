"""A file system for the tests that can write whole files, read and list, and refuses all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class PlainFileSystem(LocalFileSystem):
    """``plain:///path``: as an object store is; neither append, nor rename, nor copy, nor change in place, nor lock."""

    protocol = "plain"
    log: list[tuple[str, str]] = []  # noqa: RUF012 - of the whole process, as instances are shared

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:  # type: ignore[override]
        if mode not in ("rb", "wb"):
            raise NotImplementedError(f"mode {mode}")
        self.log.append((mode, path))
        return super().open(path, mode, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self.log.append(("wb", path))
        Path(self._strip_protocol(path)).write_bytes(value)

    def _refuse(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("an object store cannot do that")

    mv = mv_file = rename = move = cp_file = copy = touch = append = link = chmod = _refuse  # type: ignore[assignment]


def register() -> None:
    """Make the protocol known to fsspec."""
    fsspec.register_implementation("plain", PlainFileSystem, clobber=True)
