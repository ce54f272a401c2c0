"""A run finds its suite again from anywhere, or says where it was and takes --suite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import manifest, write_tiny

from refbench.errors import RefbenchError
from refbench.runs.plan import RunOptions
from refbench.runs.suites import recorded, suite_of
from refbench.schema import RunManifest
from refbench.tasks.suite import load_suite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny", 4)


def of(folder: Path, said: str) -> RunManifest:
    suite = load_suite(folder)
    return manifest(suite=suite.name, suite_hash=suite.hash, samples=suite.ids, arguments={"suite": said})


def test_folder_is_recorded_absolute(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for said in ("./tiny", "tiny/", str(folder)):
        assert RunOptions("identity", said).arguments["suite"] == str(folder)
    assert recorded("core") == "core"


def test_it_is_found_from_another_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert suite_of(of(folder, str(folder)), "run").folder == folder


def test_moved_one_is_named_and_taken(folder: Path, tmp_path: Path) -> None:
    run = of(folder, str(folder))
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    with pytest.raises(RefbenchError, match=rf"'tiny' of the run at r at {folder}, but .* --suite"):
        suite_of(run, "r")
    assert suite_of(run, "r", str(moved)).hash == run.suite_hash
    assert suite_of(run, "r", load_suite(moved)).hash == run.suite_hash


def test_replaced_suite_is_refused_by_hash(folder: Path, tmp_path: Path) -> None:
    run = of(folder, str(folder))
    other = write_tiny(tmp_path / "other", 6)
    shutil.rmtree(folder)
    other.rename(folder)
    with pytest.raises(RefbenchError, match="Expected the suite with hash"):
        suite_of(run, "r")


def test_embedded_one_found_wherever_it_was(tmp_path: Path) -> None:
    mini = load_suite("mini")
    run = manifest(suite="mini", suite_hash=mini.hash, arguments={"suite": "/elsewhere/tasks/mini"})
    assert suite_of(run, "r").hash == mini.hash
