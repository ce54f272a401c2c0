"""Shared by all tests: no network, one thread, a cache of the test session's own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start import this checkout, wherever they start.
_ROOT = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (_ROOT, os.environ.get("PYTHONPATH")) if part)
# A shell that starts the tests in the background makes them, and all they start, ignore SIGINT; some tests send it.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests, and the tests out of the user's cache."""
    before = os.environ.get("REFBENCH_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["REFBENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["REFBENCH_CACHE"]
    else:
        os.environ["REFBENCH_CACHE"] = before
