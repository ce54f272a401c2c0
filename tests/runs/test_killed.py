"""Killed anywhere and started again, a run ends with the same files, to the bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import NOISE, adapter_file, write_tiny

from refbench.runs.folder import RunFolder

DRIVER = """
import sys
from refbench.metrics import registry
from refbench.registry import Registry
keep = ("psnr", "ssim", "palette", "background_mse", "seam")
registry.METRICS = Registry("metric", {name: registry.METRICS[name] for name in keep})
from refbench.runs.api import evaluate
evaluate(sys.argv[1], sys.argv[2], out=sys.argv[3], batch_size=int(sys.argv[4]))
"""
"""A whole evaluation by five quick metrics."""


def start(place: Path, out: Path, batch_size: int = 1) -> subprocess.Popen[bytes]:
    cache = out.parent / f"cache-{out.name}"
    cache.mkdir(exist_ok=True)
    for found in (place / "cache-whole").glob("doctor-*.json"):  # the answers are measured anew, the doctor is not
        if found.parent != cache:
            shutil.copy(found, cache)
    environment = {**os.environ, "REFBENCH_CACHE": str(cache)}
    arguments = [str(place / "model.py"), str(place / "tiny"), str(out), str(batch_size)]
    return subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def content(out: Path) -> dict[str, object]:
    files: dict[str, object] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "records.jsonl", ".lock")
    }
    for record in RunFolder(out).read_records().values():
        files[record.id] = record.model_copy(update={"seconds": 0.0})
    return files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_tiny(folder / "tiny", 12)
    adapter_file(folder, "time.sleep(0.05)\n" + NOISE)
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, object]:
    finish(start(place, place / "whole"))
    return content(place / "whole")


def lines(out: Path) -> int:
    path = out / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "after the first measured chunk": lambda out: any((out / ".parts").glob("scores-*.parquet")),
    "before the summary": lambda out: (out / "answers.parquet").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_ends_with_equal_files(place: Path, whole: dict[str, object], moment: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(place, out)
    limit = time.monotonic() + 200
    while not MOMENTS[moment](out) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = set(RunFolder(out).read_records())
    finish(start(place, out))
    assert content(out) == whole
    assert lines(out) == 12, "no sample was asked twice, but the one in flight"
    assert kept <= set(RunFolder(out).read_records())


def test_repeated_kills_end_the_same(place: Path, whole: dict[str, object], tmp_path: Path) -> None:
    out = tmp_path / "run"
    for count in (0, 1, 6, 11):
        process = start(place, out)
        while (lines(out) < count or not (out / "manifest.json").exists()) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(place, out))
    assert content(out) == whole


def test_interrupt_leaves_no_child(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(place, out)
    while lines(out) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    records = RunFolder(out).read_records()
    assert 3 <= len(records) < 12
    assert {record.status for record in records.values()} == {"ok"}
    children = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(out) not in children
