"""What users of the page sent and got, as files in one folder: bounded, and reached only by whoever knows the name."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from refbench.errors import RefbenchError
from refbench.images import check_mask, encode_png, load_mask, load_rgba, write_atomic
from refbench.plaintext import one_line

MOST_BYTES = 64_000_000
"""Of one upload. Its pixels are bounded by :data:`refbench.images.MAX_PIXELS`."""
KEPT_BYTES = 2_000_000_000
"""Of all folders together; what was used longest ago goes first."""
DECODING = threading.Semaphore(2)
"""How many uploads are decoded at a time: each needs some hundred MB at the most pixels that are allowed."""


class GoneError(RefbenchError):
    """Nothing has that name: it never had, or it was removed to make room."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture or mask that a user sent."""

    id: str
    """Not guessable; whoever has it may use it."""
    path: Path
    """The file as it came, under its own name in a folder of its own."""
    size: tuple[int, int]
    """Height and width in px, upright."""


def safe_name(name: str, otherwise: str) -> str:
    """The last part of a file's name without what a shell, a file system or a header might trip over."""
    last = one_line(name.replace("\\", "/").rpartition("/")[2], 100)
    kept = "".join(c if c.isalnum() or c in " ._-+()" else "_" for c in last).strip(" .")
    return kept or otherwise


class Store:
    """Folders below one root, by names that cannot be guessed.

    Args:
        root: an empty folder; removed by :meth:`close`.
        kept_bytes: see :data:`KEPT_BYTES`.
    """

    def __init__(self, root: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self.root, self.kept_bytes = root, kept_bytes
        self._uploads: dict[str, Upload] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self) -> tuple[str, Path]:
        """A new name and its empty folder."""
        name = secrets.token_urlsafe(16)
        path = self.root / name
        path.mkdir(mode=0o700)
        with self._lock:
            self._sizes[name] = 0
        return name, path

    def measure(self, name: str) -> None:
        """Count what a folder holds, and remove what was used longest ago where there is too much."""
        size = sum(file.stat().st_size for file in (self.root / name).iterdir())
        with self._lock:
            self._sizes[name] = size
            self._sizes.move_to_end(name)
            over = sum(self._sizes.values()) - self.kept_bytes
            gone = []
            for old, bytes_ in self._sizes.items():
                if over <= 0 or old == name:
                    break
                if bytes_:  # nothing is measured of a job that still runs
                    gone.append(old)
                    over -= bytes_
            for old in gone:
                del self._sizes[old]
                self._uploads.pop(old, None)
        for old in gone:
            shutil.rmtree(self.root / old, ignore_errors=True)

    def holds(self, name: str) -> bool:
        """Whether a folder is still there."""
        return name in self._sizes

    def put(self, data: bytes, name: str) -> Upload:
        """Keep a picture that a user sent.

        Raises:
            RefbenchError: no picture, damaged, or of too many pixels.
        """
        return self._put(data, safe_name(name, "picture"))

    def put_mask(self, data: bytes, draft: Upload, painted: int) -> Upload:
        """Keep a mask that the page painted.

        Args:
            data: a black and white picture; white is to be put right.
            draft: that it was painted on.
            painted: pixels that the page counts as painted, so that a mask with black and white exchanged is noticed.

        Raises:
            RefbenchError: not of the draft's size, grey, empty, full, or another number of white pixels.
        """
        mask = self._put(data, f"{draft.path.stem}-mask.png")
        try:
            marked = load_mask(mask.path)
            check_mask(marked, draft.size, "the mask")
            white = int(marked.sum())
            if white != painted:
                turned = " (black and white are exchanged)" if marked.size - white == painted else ""
                raise RefbenchError(
                    f"Expected a mask with {painted:,} white pixels, as many as were painted, but it has {white:,}"
                    f"{turned}; white is to be put right."
                )
        except RefbenchError as error:
            self._remove(mask.id)
            raise _without_place(error, mask.path) from None
        return mask

    def _put(self, data: bytes, name: str) -> Upload:
        if not data:
            raise RefbenchError(f"Expected a picture in {name}, but it is empty; choose another file.")
        found, folder = self.folder()
        path = folder / name
        try:
            write_atomic(path, data)
            with DECODING:
                height, width = load_rgba(path).shape[:2]
        except BaseException as error:
            self._remove(found)
            raise (_without_place(error, path) if isinstance(error, RefbenchError) else error) from None
        upload = Upload(found, path, (height, width))
        with self._lock:
            self._uploads[found] = upload
        self.measure(found)
        return upload

    def _remove(self, name: str) -> None:
        with self._lock:
            self._sizes.pop(name, None)
            self._uploads.pop(name, None)
        shutil.rmtree(self.root / name, ignore_errors=True)

    def upload(self, name: str) -> Upload:
        """What was kept under a name.

        Raises:
            GoneError: nothing is.
        """
        with self._lock:
            found = self._uploads.get(name)
            if found is None:
                raise GoneError("Expected a picture of this page, but it is gone; choose the file again.")
            self._sizes.move_to_end(name)
        return found

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def _without_place(error: RefbenchError, path: Path) -> RefbenchError:
    """The error, with the file's name where its path on this machine stood."""
    return RefbenchError(str(error).replace(str(path), path.name))


def shown(upload: Upload) -> bytes:
    """A picture as PNG, for browsers that do not read its format."""
    with DECODING:
        return encode_png(load_rgba(upload.path), compress_level=1)
