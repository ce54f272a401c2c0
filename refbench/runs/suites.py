"""Where the suite of a run is: the one place that finds it again and holds it to the hash that the run was made on.

A suite at an address (s3://, hf://, ...) is copied once into the cache folder, and whenever its suite.json has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.cache import cache_folder
from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.plaintext import printable
from refbench.runs.storage import Remote, is_address, joined
from refbench.schema import RunManifest

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

HEADER = "suite.json"


@dataclass(frozen=True, slots=True)
class SuiteAt:
    """A suite for a worker that may be on another machine: where it is, and its hash."""

    place: str
    hash: str

    def opened(self) -> Suite:
        """The suite, whole.

        Raises:
            RefbenchError: it is not there, or is another one.
        """
        found = open_suite(self.place)
        if found.hash != self.hash:
            raise RefbenchError(
                f"Expected the suite with hash {self.hash[:12]} at {self.place} on every machine, but here it has "
                f"{found.hash[:12]}; put the same one there, or name an address that all machines reach."
            )
        return found


def open_suite(place: str | os.PathLike[str]) -> Suite:
    """Open a suite by name, folder or address.

    Raises:
        RefbenchError: as :func:`refbench.tasks.suite.load_suite`, or the address cannot be read.
    """
    from refbench.tasks.suite import load_suite

    return load_suite(_copied(os.fspath(place)) if is_address(place) else os.fspath(place))


def _copied(address: str) -> Path:
    """The folder of the cache that holds what is at an address, fetched where it lacks something."""
    address = address.rstrip("/")
    target = cache_folder() / "suites" / hashlib.sha256(address.rpartition("/")[0].encode()).hexdigest()[:16]
    name = address.rpartition("/")[2]
    header = _described(address)
    described = json.loads(header)
    if "of" in described:
        _copied(joined(address.rpartition("/")[0], str(described["of"])))
    storage = Remote(address)
    for file, facts in described.get("files", {}).items():
        path = target / name / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            data = storage.read(file)
            if data is None or hashlib.sha256(data).hexdigest() != facts["sha256"]:
                raise RefbenchError(
                    f"Expected {joined(address, file)} as {HEADER} records it, but it is "
                    f"{'not there' if data is None else 'another file'}; upload the suite's folder again."
                )
            write_atomic(path, data)
    write_atomic(target / name / HEADER, header)
    return target / name


def _described(address: str) -> bytes:
    header = Remote(address).read(HEADER)
    try:
        if header is None:
            raise ValueError("there is none")
        files = json.loads(header).get("files", {})
        if not all(isinstance(facts, dict) and "sha256" in facts for facts in files.values()):
            raise ValueError("it lists no hashes")
    except (ValueError, AttributeError) as error:
        raise RefbenchError(
            f"Expected a suite folder at {address} with a {HEADER}, but {error}; check the address."
        ) from None
    return header


def recorded(suite: str) -> str:
    """A suite as a manifest records it: a folder by its absolute path, an address or an embedded suite as it is."""
    if is_address(suite):
        return suite.rstrip("/")
    folder = Path(suite)
    return str(folder.resolve()) if (folder / HEADER).is_file() else suite


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
    if suite is None:
        found = _as_recorded(manifest, run)
    else:
        found = open_suite(suite) if isinstance(suite, str | os.PathLike) else suite
    if found.hash != manifest.suite_hash:
        raise RefbenchError(
            f"Expected the suite with hash {manifest.suite_hash[:12]} for the run at {run}, but '{found.name}' has "
            f"{found.hash[:12]}; name the right one with --suite, or evaluate the model again."
        )
    return found


def _as_recorded(manifest: RunManifest, run: str | os.PathLike[str]) -> Suite:
    from refbench.tasks.suite import data_folder, load_suite

    recorded_at = str(manifest.arguments.get("suite", manifest.suite))
    if is_address(recorded_at):
        return open_suite(recorded_at)
    said = Path(recorded_at)
    other = None
    for folder in (said, data_folder() / said, data_folder() / manifest.suite):
        if (folder / HEADER).is_file():
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
