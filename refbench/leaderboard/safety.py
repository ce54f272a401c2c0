"""Open an entry from a stranger: a folder or a zip, with nothing in it followed, executed or unpacked beyond limits.

What may be in an entry is a short list; everything else is refused by name. Sizes are limited before
anything is read, links are never followed, and archives are unpacked by counting what really comes out.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.textsafe import printable

MAX_FILE = 32 * 1024 * 1024
MAX_TOTAL = 1024 * 1024 * 1024
MAX_FILES = 20_000
MAX_RATIO = 100.0
"""A zip member that grows more than this is a bomb; PNGs and parquet hardly shrink at all."""
MAX_DIRECTORY = 8 * 1024 * 1024
ENCRYPTED = 0x1 | 0x40 | 0x2000
"""A member's flags: encrypted, strongly, or its directory entry masked."""
SAMPLE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""Names of tasks and samples as an entry's files may bear them."""
_ALLOWED = re.compile(
    r"entry\.json|manifest\.json|scores\.parquet|records\.jsonl"
    rf"|outputs/{SAMPLE.pattern}/{SAMPLE.pattern}\.png|thumbs/{SAMPLE.pattern}\.webp"
)
_CODE = {
    ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".py", ".pyc", ".pyd", ".so", ".dll",
    ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js", ".html", ".svg", ".ipynb", ".jar", ".rb",
}  # fmt: skip


def check_name(name: str) -> None:
    """Refuse a member's name (POSIX separators) that is not one of an entry's files.

    Raises:
        RefusedError: "absolute-path", "path-traversal", "control-character", "code" or "unexpected-file".
    """
    shown = printable(name)
    if any(not c.isprintable() for c in name):
        raise RefusedError(
            "control-character", f"Expected printable file names, but '{shown}' is not; rename the file."
        )
    if name.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", name):
        raise RefusedError(
            "absolute-path", f"Expected names inside the entry, but '{shown}' is absolute; pack it again."
        )
    if "\\" in name or ".." in PurePosixPath(name).parts or "//" in name or "." in name.split("/"):
        raise RefusedError(
            "path-traversal", f"Expected names inside the entry, but '{shown}' leads out of it; pack it again."
        )
    if PurePosixPath(name).suffix.lower() in _CODE:
        raise RefusedError(
            "code", f"Expected no pickles, scripts, pages or notebooks in an entry, but '{shown}' is there; remove it."
        )
    if not _ALLOWED.fullmatch(name):
        raise RefusedError(
            "unexpected-file",
            f"Expected only the files that 'refbench submit' writes, but '{shown}' is there; remove it.",
        )


def _unique(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise RefusedError("duplicate-file", f"Expected each file once, but '{printable(name)}' is there twice.")
        seen[key] = name


def _limits(names: list[str], sizes: list[int]) -> None:
    if len(names) > MAX_FILES:
        raise RefusedError("too-many-files", f"Expected at most {MAX_FILES} files, but there are {len(names)}.")
    for name, size in zip(names, sizes, strict=True):
        if size > MAX_FILE:
            raise RefusedError(
                "too-large",
                f"Expected files of at most {MAX_FILE // 2**20} MiB, but '{printable(name)}' declares {size} bytes.",
            )
    if sum(sizes) > MAX_TOTAL:
        raise RefusedError(
            "too-large", f"Expected at most {MAX_TOTAL // 2**20} MiB in all, but the files declare {sum(sizes)} bytes."
        )


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [(os.fsencode(root), "")]
    count = 0
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as found:
            for one in found:
                count += 1
                if count > 2 * MAX_FILES:
                    raise RefusedError("too-many-files", f"Expected at most {MAX_FILES} files, but there are more.")
                try:
                    name = prefix + one.name.decode("utf-8")
                except UnicodeDecodeError:
                    raise RefusedError(
                        "not-utf8", f"Expected file names in UTF-8, but {printable(one.name)} is not; rename it."
                    ) from None
                status = one.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise RefusedError(
                        "symbolic-link",
                        f"Expected plain files, but '{printable(name)}' is a symbolic link; copy the file.",
                    )
                if stat.S_ISDIR(status.st_mode):
                    if name.count("/") > 2:
                        raise RefusedError(
                            "unexpected-file",
                            f"Expected an entry's folders, but '{printable(name)}' is there; remove it.",
                        )
                    waiting.append((one.path, name + "/"))
                elif stat.S_ISREG(status.st_mode):
                    yield name, status
                else:
                    raise RefusedError(
                        "special-file", f"Expected plain files, but '{printable(name)}' is a device, pipe or socket."
                    )


def list_folder(root: Path, also: frozenset[str] = frozenset()) -> dict[str, Path]:
    """The files of an entry's folder: name -> path, every one allowed and none a link.

    Args:
        also: further names at the root that are not an error and not listed (the board's own files).

    Raises:
        RefusedError: naming the first file that has no place in an entry.
    """
    if root.is_symlink():
        raise RefusedError("symbolic-link", f"Expected a folder at {root}, but it is a symbolic link; name the folder.")
    found = [(name, status) for name, status in _walk(root) if name not in also]
    names = sorted(name for name, _ in found)
    for name in names:
        check_name(name)
    _unique(names)
    _limits([name for name, _ in found], [status.st_size for _, status in found])
    return {name: root / name for name in names}


def _directory_size(path: Path) -> int:
    """Size of a zip's central directory from its end record, so that a huge one is never loaded."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        handle.seek(max(size - 65_557, 0))
        tail = handle.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + 22 > len(tail):
            raise RefusedError(
                "broken-archive", f"Expected a zip archive at {path.name}, but it has no directory; pack it again."
            )
        listed = int(struct.unpack("<I", tail[at + 12 : at + 16])[0])
        locator = tail[max(at - 20, 0) : at]
        if listed == 0xFFFFFFFF and locator.startswith(b"PK\x06\x07"):  # zip64 keeps it in a record of its own
            handle.seek(min(struct.unpack("<Q", locator[8:16])[0], size))
            record = handle.read(48)
            listed = struct.unpack("<Q", record[40:48])[0] if len(record) == 48 else listed
    return listed


def _check_apart(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members whose bytes overlap: a few bytes that many members share are how the worst bombs are made."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = [member.header_offset for member in ordered[1:]] + [archive.start_dir]
    for member, end in zip(ordered, ends, strict=False):
        if member.header_offset + 30 + len(member.orig_filename.encode()) + member.compress_size > end:
            raise RefusedError(
                "broken-archive",
                f"Expected members one after another, but '{printable(member.filename)}' overlaps what follows it; "
                "pack it again.",
            )


def _unpack(path: Path, to: Path) -> dict[str, Path]:
    if path.stat().st_size > MAX_TOTAL:
        raise RefusedError(
            "too-large", f"Expected an archive of at most {MAX_TOTAL // 2**20} MiB, but {path.name} is larger."
        )
    if _directory_size(path) > MAX_DIRECTORY:
        raise RefusedError(
            "too-many-files", f"Expected at most {MAX_FILES} files in {path.name}, but it lists far more."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            for member in members:
                # `orig_filename` still has what zipfile cuts off, such as a NUL byte and all behind it
                check_name(member.orig_filename)
                mode = member.external_attr >> 16
                if stat.S_ISLNK(mode):
                    raise RefusedError(
                        "symbolic-link", f"Expected plain files, but '{printable(member.filename)}' is a symbolic link."
                    )
                if member.flag_bits & ENCRYPTED:
                    raise RefusedError(
                        "encrypted",
                        f"Expected open files, but '{printable(member.filename)}' is encrypted; pack it again.",
                    )
                if member.file_size > MAX_RATIO * max(member.compress_size, 1) + 4096:
                    raise RefusedError(
                        "zip-bomb",
                        f"Expected files that do not grow {MAX_RATIO:g} times when unpacked, but "
                        f"'{printable(member.filename)}' goes from {member.compress_size} to {member.file_size} bytes.",
                    )
            names = [member.filename for member in members]
            _unique(names)
            _limits(names, [member.file_size for member in members])
            _check_apart(archive, members)
            return {member.filename: _member(archive, member, to) for member in members}
    except RefusedError:
        raise
    except Exception as error:  # zipfile's own errors, and zlib's, lzma's, bz2's and struct's of damaged members
        raise RefusedError(
            "broken-archive",
            f"Expected a readable zip archive at {path.name}, but {printable(str(error) or type(error).__name__)}; "
            "pack it again.",
        ) from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> Path:
    where = to / member.filename
    where.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(member) as source, where.open("xb") as sink:
        while piece := source.read(1 << 16):
            written += len(piece)
            if written > member.file_size:
                raise RefusedError(
                    "zip-bomb",
                    f"Expected {member.file_size} bytes in '{printable(member.filename)}', but more came out.",
                )
            sink.write(piece)
    return where


@contextmanager
def opened(path: Path, also: frozenset[str] = frozenset()) -> Iterator[dict[str, Path]]:
    """The files of an entry, from a folder or a zip (unpacked to a temporary folder): name -> path.

    Raises:
        RefusedError: naming what is wrong with the package; nothing outside a temporary folder was written.
    """
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:
        is_folder = is_file = False
    if is_folder:
        yield list_folder(path, also)
    elif is_file:
        with tempfile.TemporaryDirectory(prefix="refbench-entry-") as folder:
            yield _unpack(path, Path(folder))
    else:
        raise RefusedError("no-entry", f"Expected an entry (folder or zip) at {printable(path)}, but there is none.")
