"""Where a weight file lies on this machine, and whether it is the right one.

Looked at in this order: the folder ``REFBENCH_WEIGHTS`` (as ``<folder>/<name>/<file>`` or ``<folder>/<file>``), the
cache of the source (Hugging Face's, torch's, an installed package), refbench's own cache. Reading a hash of a gigabyte
takes seconds, so a file's hash is kept beside its size and time of change and taken again when these differ.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from refbench import cache
from refbench.errors import RefbenchError, UnavailableError
from refbench.weights.catalogue import Hub, Own, Package, Url, Weights, entry

OFFLINE = "HF_HUB_OFFLINE"
"""The one switch: set to 1, nothing is fetched."""
FOLDER = "REFBENCH_WEIGHTS"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of checking an entry."""

    name: str
    status: Literal["ok", "unpublished", "wrong", "truncated", "missing"]
    """`unpublished`: there, whole, and like the first time, but no published hash says that it is the right file."""
    path: Path | None = None
    sha256: str | None = None
    """Of a single file, 64 hex digits."""
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether the file can be used."""
        return self.status in ("ok", "unpublished")


def offline() -> bool:
    """Whether the environment forbids the network."""
    return os.environ.get(OFFLINE, "").strip().lower() in ("1", "on", "yes", "true")


# ---- places


def own_folder() -> Path:
    """refbench's own folder of weights: the user's ``REFBENCH_WEIGHTS``, or one in refbench's cache."""
    given = os.environ.get(FOLDER)
    return Path(given) if given else cache_folder()


def cache_folder() -> Path:
    """``weights`` in refbench's cache."""
    return cache.cache_folder() / "weights"


def torch_checkpoints() -> Path:
    """Torch's cache of downloaded weights, found without importing torch."""
    home = os.environ.get("TORCH_HOME")
    if not home:
        return cache.user_cache() / "torch" / "hub" / "checkpoints"
    return Path(home).expanduser() / "hub" / "checkpoints"


def hub_cache() -> Path:
    """Hugging Face's cache of repositories, found without importing huggingface_hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else cache.user_cache() / "huggingface") / "hub"


def locate(name: str) -> Path | None:
    """Where the file lies here, or None: the file itself, or the folder of an entry with several files.

    Its content is not read; :func:`require` does that.

    Raises:
        RefbenchError: an unknown name.
    """
    weights = entry(name)
    for folder in _own_folders(name):
        found = _in_own(weights, folder)
        if found is not None:
            return found
    source = weights.source
    if isinstance(source, Hub):
        return _in_hub(source)
    if isinstance(source, Url) and source.torch_hub:
        return _file(torch_checkpoints() / source.file)
    if isinstance(source, Package):
        return _in_package(source)
    if isinstance(source, Own):
        given = os.environ.get(source.variable)
        return _file(Path(given).expanduser()) if given else None
    return None


def _own_folders(name: str) -> list[Path]:
    given = [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else []
    return [sub for folder in (*given, cache_folder()) for sub in (folder / name, folder)]


def _in_own(weights: Weights, folder: Path) -> Path | None:
    source = weights.source
    if isinstance(source, Own):
        return None
    if isinstance(source, Hub):
        if len(source.files) == 1 and not _is_pattern(source.files[0]):
            return _file(folder / source.files[0].rsplit("/", 1)[-1])
        return folder if folder.name == weights.name and whole(folder, source.files) else None
    if isinstance(source, Url) and source.members:
        return folder if all((folder / member).exists() for member in source.members) else None
    return _file(folder / source.file)


def _in_hub(source: Hub) -> Path | None:
    home = hub_cache() / f"models--{source.repo.replace('/', '--')}"
    commit = source.revision
    with contextlib.suppress(OSError):
        commit = (home / "refs" / source.revision).read_text(encoding="utf-8").strip()
    folder = home / "snapshots" / commit
    if len(source.files) == 1 and not _is_pattern(source.files[0]):
        return _file(folder / source.files[0])
    return folder if whole(folder, source.files) else None


def _in_package(source: Package) -> Path | None:
    if source.module is None:
        return None
    try:
        spec = find_spec(source.module)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        found = _file(Path(folder) / source.path)
        if found is not None:
            return found
    return None


def whole(folder: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a folder has a file for each pattern, and every shard that an index in it names."""
    if not folder.is_dir():
        return False
    have = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not all(fnmatch.filter(have, pattern) for pattern in patterns):
        return False
    for name in fnmatch.filter(have, "*.index.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            shards = set(json.loads((folder / name).read_bytes()).get("weight_map", {}).values())
            if not all((folder / name).parent.joinpath(shard).is_file() for shard in shards):
                return False
    return True


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


# ---- checks


def fetch_command(name: str) -> str:
    """What a user types to get the file."""
    return f"refbench weights fetch {name}"


def missing(*names: str) -> str | None:
    """None where all the files are here, else what is missing and the command, as :meth:`Metric.missing` wants it.

    Nothing is read: a wrong file is found by :func:`require` when it is used.
    """
    lacking = [name for name in names if locate(name) is None]
    if not lacking:
        return None
    first = entry(lacking[0])
    if isinstance(first.source, Own):
        return f"needs {first.source.hint}: run `export {first.source.variable}=FILE`"
    return f"needs the weights {', '.join(lacking)}: run `{fetch_command(' '.join(lacking))}`"


def require(name: str) -> Path:
    """The file (or folder), checked.

    Raises:
        RefbenchError: an unknown name, or a file that is not the one that the catalogue names.
        UnavailableError: it is not here; the sentence ends with the command that fetches it.
    """
    verdict = verify(name)
    if verdict.status == "missing":
        raise UnavailableError(f"The weights '{name}' are not here: it {missing(name)}.")
    if not verdict.good:
        raise RefbenchError(
            f"Expected the weights '{name}' at {verdict.path}, but {verdict.why}; delete that file and run "
            f"`{fetch_command(name)}`."
        )
    assert verdict.path is not None
    return verdict.path


def verify(name: str, *, fresh: bool = False) -> Verdict:
    """Check an entry: is it here, whole, and the file that the catalogue names?

    Args:
        name: of the catalogue.
        fresh: read the files again even where nothing about them has changed since the last check.
    """
    weights = entry(name)
    path = locate(name)
    if path is None:
        return Verdict(name, "missing", why=missing(name) or "")
    if path.is_dir():
        verdicts = [
            _check(weights, path, file, *((weights.size, weights.sha256) if named else (None, None)), fresh)
            for file in content(weights, path)
            for named in [weights.of == file.relative_to(path).as_posix()]
        ]
        worst = next((found for found in verdicts if not found.good), None)
        if worst is not None:
            return worst
        status: Literal["ok", "unpublished"] = (
            "ok" if verdicts and all(v.status == "ok" for v in verdicts) else "unpublished"
        )
        return Verdict(name, status, path)
    return _check(weights, path, path, weights.size, weights.sha256, fresh)


def content(weights: Weights, path: Path) -> list[Path]:
    """The files of an entry that lies at `path`, sorted; what else is in a folder does not concern it."""
    if path.is_file():
        return [path]
    source = weights.source
    wanted: tuple[str, ...] = ("*",)
    if isinstance(source, Hub):
        wanted = source.files
    elif isinstance(source, Url) and source.members:
        wanted = tuple(pattern for member in source.members for pattern in (member, f"{member}/*"))
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(f for f in files if any(fnmatch.fnmatchcase(f.relative_to(path).as_posix(), w) for w in wanted))


def first_key(name: str, path: Path, file: Path) -> str:
    """The name under which the hash of a first download is kept."""
    return f"{name}/{file.name if file == path else file.relative_to(path).as_posix()}"


def _check(weights: Weights, root: Path, path: Path, size: int | None, sha256: str | None, fresh: bool) -> Verdict:
    name = weights.name
    have = path.stat().st_size
    cut = _cut_short(path, have)
    if cut is None and size is not None and have != size:
        cut = f"it has {have} bytes instead of {size}"
    if cut is not None:
        return Verdict(name, "truncated", path, why=f"{cut}: the file is cut off or damaged")
    found = digest(path, fresh=fresh)
    published = sha256 or hub_hash(path)
    if published is not None:
        if not found.startswith(published):
            why = f"its SHA-256 is {found[:12]}... instead of {published[:12]}..."
            return Verdict(name, "wrong", path, found, why)
        return Verdict(name, "ok", path, found)
    first = _memory().get("first", {}).get(first_key(name, root, path))
    if isinstance(first, str) and first != found:
        why = f"its SHA-256 is {found[:12]}... instead of {first[:12]}..., what it was when it was fetched"
        return Verdict(name, "wrong", path, found, why)
    return Verdict(name, "unpublished", path, found, "no published hash is known; it is whole")


def hub_hash(path: Path) -> str | None:
    """The SHA-256 that the Hugging Face hub gives for a file in its cache (the name of the blob), if it gives one."""
    if not path.is_symlink():
        return None
    blob = path.readlink().name
    return blob if len(blob) == 64 and all(digit in "0123456789abcdef" for digit in blob) else None


def digest(path: Path, *, fresh: bool = False) -> str:
    """SHA-256 of a file, 64 hex digits; read once for each size and time of change.

    Raises:
        RefbenchError: the file cannot be read.
    """
    real = path.resolve()
    try:
        stat = real.stat()
        known = _memory().get("read", {}).get(str(real))
        if not fresh and isinstance(known, list) and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(known[2])
        made = hashlib.sha256()
        with real.open("rb") as handle:
            while block := handle.read(1 << 22):
                made.update(block)
    except OSError as error:
        raise RefbenchError(f"Expected to read the weights at {path}, but {error.strerror or error}.") from None
    remember("read", str(real), [stat.st_size, stat.st_mtime_ns, made.hexdigest()])
    return made.hexdigest()


def known_sha256(name: str) -> str | None:
    """The hash that stands on a card: of the file that lies here, else the published one (None where there is none)."""
    path = locate(name)
    if path is not None and path.is_dir() and entry(name).of is not None:
        path = path / str(entry(name).of)
    if path is not None and path.is_file():
        return hub_hash(path) or digest(path)
    published = entry(name).sha256
    return published if published is not None and len(published) == 64 else None


def _cut_short(path: Path, size: int) -> str | None:
    """What the file's own form says about its length: safetensors, torch's zip; None where nothing is wrong."""
    if size == 0:
        return "it is empty"
    try:
        with path.open("rb") as handle:
            head = handle.read(8)
            if path.suffix == ".safetensors":
                (length,) = struct.unpack("<Q", head) if len(head) == 8 else (0,)
                if not 2 <= length <= size - 8:
                    return "its header is not that of a safetensors file"
                header = json.loads(handle.read(length))
                ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
                wanted = 8 + length + max(ends, default=0)
                return None if wanted == size else f"it has {size} bytes instead of {wanted}"
            if head[:4] == b"PK\x03\x04":
                handle.seek(max(size - 65557, 0))
                return None if b"PK\x05\x06" in handle.read() else "its end is missing"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "its header cannot be read"
    return None


# ---- what is remembered between checks


def _memory() -> dict[str, Any]:
    """{"read": {path: [size, time, sha256]}, "first": {"name/file": sha256}}; empty where there is none."""
    try:
        found = json.loads((cache_folder() / "hashes.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(kind: Literal["read", "first"], key: str, value: Any) -> None:
    """Keep a hash; a cache that cannot be written only costs time."""
    memory = _memory()
    memory.setdefault(kind, {})[key] = value
    cache.keep(cache_folder() / "hashes.json", json.dumps(memory, indent=1).encode())
