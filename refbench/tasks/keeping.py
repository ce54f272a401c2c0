"""Pieces of a long work, kept on disk as they are finished, so that a stopped one does not make them again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from refbench.errors import RefbenchError


class Kept:
    """Finished pieces by key, in one SQLite file that a kill leaves whole.

    Args:
        path: the file.
        recipe: what decides the pieces; those of another recipe are thrown away.

    Raises:
        RefbenchError: the file cannot be written.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        self.path = path
        try:
            self._open(recipe)
        except sqlite3.DatabaseError:  # damaged: it holds nothing that cannot be made again
            self.path.unlink(missing_ok=True)
            try:
                self._open(recipe)
            except sqlite3.Error as error:
                raise RefbenchError(
                    f"Expected to write {path}, but {error}; choose another folder with --out."
                ) from None

    def _open(self, recipe: str) -> None:
        self.base = sqlite3.connect(self.path, isolation_level=None)
        self.base.execute("PRAGMA synchronous = OFF")
        self.base.execute(
            "CREATE TABLE IF NOT EXISTS pieces (recipe TEXT, key TEXT, data BLOB, PRIMARY KEY (recipe, key))"
        )
        self.base.execute("DELETE FROM pieces WHERE recipe != ?", (recipe,))
        self.recipe = recipe

    def piece(self, key: str, make: Callable[[], bytes | None]) -> bytes | None:
        """The piece of this key, made where it is not there; None stands for one that is not wanted."""
        row = self.base.execute("SELECT data FROM pieces WHERE recipe = ? AND key = ?", (self.recipe, key)).fetchone()
        if row is not None:
            return None if row[0] is None else bytes(row[0])
        data = make()
        try:
            self.base.execute("INSERT INTO pieces VALUES (?, ?, ?)", (self.recipe, key, data))
        except sqlite3.Error as error:
            raise RefbenchError(
                f"Expected to write {self.path}, but {error}; free some space, what is finished is kept."
            ) from None
        return data

    def close(self, *, finished: bool) -> None:
        """Close the file, and delete it where the work is finished."""
        with contextlib.suppress(sqlite3.Error):
            self.base.close()
        if finished:
            self.path.unlink(missing_ok=True)
