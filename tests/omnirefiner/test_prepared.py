"""Prepared data: the same bytes by any number of processes, what is finished is kept, another recipe is never read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from refbench.errors import RefbenchError
from refbench.omnirefiner.training import prepared as room
from refbench.omnirefiner.training.prepared import CODE, SHARD, prepare, recipe_hash, recipe_of
from tests.omnirefiner.counting import Counting


def hashes(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_workers_do_not_change_the_bytes(tmp_path: Path) -> None:
    one = prepare(Counting(), tmp_path / "one", 2 * SHARD, workers=1)
    two = prepare(Counting(), tmp_path / "two", 2 * SHARD - 1, workers=2)
    assert len(one) == len(two) == 2 * SHARD
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert len(set(hashes(tmp_path / "one").values())) == 2
    other = prepare(Counting(), tmp_path / "one", SHARD, seed=1)
    assert other.folder != one.folder


def test_values_come_back_as_kept(tmp_path: Path) -> None:
    made = prepare(Counting(), tmp_path, SHARD)
    picture, mask, share = made.rows(torch.arange(SHARD))
    assert picture.shape == (SHARD, 3, 4, 4)
    assert torch.equal(mask, (share[:, :1] > 0.5).float())
    # 8 bits over [-1, 1], and over [0, 1]
    assert (picture[:, :2] - (2 * share - 1)).abs().max() <= 2 / 255 + 1e-6
    again = made.draw(5, torch.Generator().manual_seed(3))
    assert all(map(torch.equal, again, made.draw(5, torch.Generator().manual_seed(3))))


def test_preparation_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare(Counting(), tmp_path / "whole", 3 * SHARD)
    part = prepare(Counting(), tmp_path / "part", SHARD)
    first = part.folder / "shard-00000.safetensors"
    stamp = first.stat().st_mtime_ns
    (part.folder / "shard-00001.safetensors").write_bytes(first.read_bytes()[:100])  # torn by something else
    done: list[int] = []
    prepare(Counting(), tmp_path / "part", 3 * SHARD, progress=lambda what, now, total: done.append(now))
    assert done == [SHARD, 2 * SHARD, 3 * SHARD]
    assert first.stat().st_mtime_ns == stamp
    assert hashes(whole.folder) == hashes(part.folder)
    monkeypatch.setattr(room, "in_processes", None)  # what is complete starts no process
    assert len(prepare(Counting(), tmp_path / "part", 3 * SHARD)) == 3 * SHARD


def test_what_another_process_makes_is_awaited(tmp_path: Path) -> None:
    made = prepare(Counting(), tmp_path, SHARD)
    other = FileLock(made.folder / ".lock")  # as a process has it that is making more
    other.acquire()
    assert len(prepare(Counting(), tmp_path, SHARD)) == SHARD  # what is complete waits for nobody
    told: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        told.append(what)
        if "waiting" in what:
            other.release()

    assert len(prepare(Counting(), tmp_path, 2 * SHARD, progress=progress)) == 2 * SHARD
    assert [("waiting" in what) for what in told] == [False, True, False]


def test_another_recipe_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(Counting(4), tmp_path, 1)
    assert prepare(Counting(5), tmp_path, 1).folder != first.folder
    before = recipe_hash(recipe_of(Counting(), 0))
    monkeypatch.setattr(room, "CODE", CODE[:-1])
    assert recipe_hash(recipe_of(Counting(), 0)) != before


def test_recipe_covers_all_code_that_draws() -> None:
    code = "import refbench.omnirefiner.retouch.scenes, refbench.registration.placement, sys\n"
    code += (
        "print(*(n[9:] for n, m in sys.modules.items() if n.startswith('refbench.') and not hasattr(m, '__path__')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    aside = {
        "errors", "csvtext", "schema", "trivial", "registry", "omnirefiner.config", "omnirefiner.training.loop",
        "omnirefiner.training.lora", "omnirefiner.training.progress", "omnirefiner.training.state",
        "tasks.working", "tasks.writing", "tasks.suite", "tasks.sources", "tasks.cards",
    }  # fmt: skip
    assert set(found) - aside <= set(CODE)


class Unopened(Counting):
    """Whose sources are not there."""

    def open(self) -> object:
        raise RefbenchError("Expected the sources in nowhere, but there are none; fetch them.")


def test_missing_sources_are_told_once_and_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "in_processes", lambda *_: pytest.fail("no process is started"))
    with pytest.raises(RefbenchError, match="Expected the sources in nowhere"):
        prepare(Unopened(), tmp_path, SHARD)


def test_senseless_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="--samples"):
        prepare(Counting(), tmp_path, 0)
    with pytest.raises(RefbenchError, match="--workers"):
        prepare(Counting(), tmp_path, 1, workers=0)
