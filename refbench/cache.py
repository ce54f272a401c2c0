"""What can be made again and is kept to save time: where it lies, and the one way to write it.

Nothing that lies here decides a result. Where it cannot be written (a home that is read-only, a disk that is full) the
work goes on without, and only costs time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """The user's cache folder as other tools take it (``XDG_CACHE_HOME`` or ``~/.cache``)."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))  # noqa: PTH111 - raises nothing


def cache_folder() -> Path:
    """refbench's own: ``REFBENCH_CACHE``, or the one in the user's cache folder of this system."""
    given = os.environ.get("REFBENCH_CACHE")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("refbench", appauthor=False))


def keep(path: Path, data: bytes) -> bool:
    """Write a file of the cache, whole or not at all; whether it is there now.

    There is no fsync: a file that a crash loses is made again, and whoever reads one takes a torn one for none.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as handle:
            beside = Path(handle.name)
            handle.write(data)
        beside.replace(path)
    except OSError:
        if beside is not None:
            try:
                beside.unlink(missing_ok=True)
            except OSError:
                return False
        return False
    return True
