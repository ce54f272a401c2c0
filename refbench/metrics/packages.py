"""Model files that lie in other packages' data: found without importing them, and checked before first use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from refbench.errors import UnavailableError


def package_file(package: str, *parts: str) -> Path | None:
    """Path of a data file of an installed package, or None; the package is not imported."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder).joinpath(*parts)
        if path.is_file():
            return path
    return None


@lru_cache(maxsize=16)
def checked_file(package: str, parts: tuple[str, ...], sha256: str, how: str) -> Path:
    """The file, once its SHA-256 is as the card says.

    Args:
        how: the command that installs it.

    Raises:
        UnavailableError: it is missing, or another file; the sentence ends with the command.
    """
    path = package_file(package, *parts)
    if path is None:
        raise UnavailableError(
            f"Expected {'/'.join(parts)} of the package {package}, but it is not installed: run `{how}`."
        )
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise UnavailableError(
            f"Expected SHA-256 {sha256[:12]}... at {path}, but it is {digest.hexdigest()[:12]}...: run `{how}`."
        )
    return path


def missing_files(package: str, files: Mapping[tuple[str, ...], str], how: str) -> str | None:
    """None where the package has all these files, with these SHA-256, else what is wrong and the command that mends it.

    Args:
        files: parts of the path inside the package -> SHA-256.
        how: the command that installs the package.
    """
    for parts, sha256 in files.items():
        if package_file(package, *parts) is None:
            return f"needs the model files of {package.replace('_', '-')}, which is not installed: run `{how}`"
        try:
            checked_file(package, parts, sha256, how)
        except UnavailableError:
            return f"needs other model files than those of the installed {package.replace('_', '-')}: run `{how}`"
    return None
