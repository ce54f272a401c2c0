"""Where the suite of a run is: the one place that finds it again and holds it to the hash that the run was made on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.plaintext import printable
from refbench.schema import RunManifest

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite


def recorded(suite: str) -> str:
    """A suite as a manifest records it: a folder by its absolute path, an embedded suite by its name."""
    folder = Path(suite)
    return str(folder.resolve()) if (folder / "suite.json").is_file() else suite


def suite_of(
    manifest: RunManifest, run: str | os.PathLike[str], suite: str | os.PathLike[str] | Suite | None = None
) -> Suite:
    """The suite of a run, whole.

    Args:
        manifest: of the run.
        run: its folder, for messages.
        suite: where the suite is or the suite itself; None looks where the manifest says, then among the embedded
            suites.

    Raises:
        RefbenchError: it is not there, or it is another one.
    """
    from refbench.tasks.suite import load_suite

    if suite is None:
        found = _as_recorded(manifest, run)
    else:
        found = load_suite(os.fspath(suite)) if isinstance(suite, str | os.PathLike) else suite
    if found.hash != manifest.suite_hash:
        raise RefbenchError(
            f"Expected the suite with hash {manifest.suite_hash[:12]} for the run at {run}, but '{found.name}' has "
            f"{found.hash[:12]}; name the right one with --suite, or evaluate the model again."
        )
    return found


def _as_recorded(manifest: RunManifest, run: str | os.PathLike[str]) -> Suite:
    from refbench.tasks.suite import data_folder, load_suite

    said = Path(str(manifest.arguments.get("suite", manifest.suite)))
    other = None
    for folder in (said, data_folder() / said, data_folder() / manifest.suite):
        if (folder / "suite.json").is_file():
            found = load_suite(folder)
            if found.hash == manifest.suite_hash:
                return found
            other = other or found
    if other is not None:
        return other
    raise RefbenchError(
        f"Expected the suite '{printable(manifest.suite)}' of the run at {run} at {printable(said, 300)}, but it is "
        "not there; name its folder with --suite."
    )
