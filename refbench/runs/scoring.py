"""Folders of pictures made elsewhere, scored on a suite: each is a run like any other, of the folder adapter."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refbench.errors import RefbenchError
from refbench.runs.api import Result, evaluate


def score_folders(
    folders: Sequence[str | os.PathLike[str]], suite: str | os.PathLike[str], out: Path, **options: Any
) -> list[Result]:
    """Evaluate folders of pictures, one after the other.

    Args:
        folders: each with pictures named by sample id, flat or a folder a task, in any format that is read.
        suite: a name, or a folder with suite.json.
        out: the run folder; of several, the folder that holds one for each.
        options: as of :func:`refbench.runs.api.evaluate`.

    Raises:
        RefbenchError: one is no folder or comes twice, or as `evaluate`.
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise RefbenchError(
                f"Expected a folder of pictures named by sample id at {path}, but there is none; check the path."
            )
    if len({path.resolve() for path in paths}) < len(paths):
        raise RefbenchError("Expected different folders, but one came twice; name each once.")
    runs = [out] if len(paths) == 1 else [out / name for name in _names(paths)]
    return [evaluate(path.resolve(), suite, out=run, **options) for path, run in zip(paths, runs, strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each folder: its own where they differ, else with as many of its parents' as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    every = (["-".join(one[-depth:]) for one in parts] for depth in range(1, max(map(len, parts)) + 1))
    names = next(names for names in every if len(set(names)) == len(names))
    return [re.sub(r"[^\w.+-]+", "-", name).strip("-.") or f"run-{at}" for at, name in enumerate(names, 1)]
