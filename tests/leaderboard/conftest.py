"""One honest run and entry over the tiny suite, made once; each test gets a copy to spoil."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from refbench.tasks.suite import Suite, load_suite

METRICS = ("psnr", "gmsd", "squeeze_pooled", "contextual", "background_ssim", "seam")
"""A metric for each axis and trivial answer, all cheap."""


@dataclass(frozen=True)
class World:
    """What the tests share; read only."""

    suite: Suite
    spec: str
    run: Path
    entry: Path
    archive: Path


def few_metrics(patch: pytest.MonkeyPatch) -> None:
    """Let the tests' few metrics make the score."""
    scored = [name for name in METRICS if name not in ("psnr", "gmsd")]
    patch.setattr("refbench.metrics.registry.score_metrics", lambda: scored)


def make_run(folder: Path, model: str, spec: str) -> Path:
    """Generate and measure a run with the tests' few metrics."""
    from refbench.runs.api import generate_only, score

    run, _ = generate_only(model, spec, out=folder)
    score(run, metrics=METRICS)
    return run


def make_world(root: Path) -> World:
    """Suite, run, entry and archive in the folder `root`."""
    from tiny import write_tiny

    from refbench.leaderboard.submission import submit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refbench.runs.health.doctor_result", lambda *_: {})
        few_metrics(patch)
        spec = str(write_tiny(root / "tiny"))
        run = make_run(root / "run", "sharpen", spec)
        entry = submit(run, root / "entries", submitter="The testers", archive=True)
    return World(load_suite(spec), spec, run, entry, root / "entries" / "sharpen-outputs.zip")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def entry(world: World, tmp_path: Path) -> Path:
    """A copy of the honest entry."""
    return Path(shutil.copytree(world.entry, tmp_path / "sharpen"))


@pytest.fixture
def check(world: World) -> Callable[..., object]:
    """Verify an entry against the tiny suite without regenerating anything, unless asked."""
    from refbench.leaderboard.verify import verify

    def run(entry: Path, **options: object) -> object:
        given = {"suite": world.spec, "metrics": METRICS, "samples": 0, **options}
        return verify(entry, **given)  # type: ignore[arg-type]

    return run


@pytest.fixture(autouse=True)
def _nothing_escapes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test runs beside a folder of someone else's files, which must be as they were afterwards."""
    home = tmp_path_factory.mktemp("home")
    (home / "precious.txt").write_text("mine")
    here = home / "work" / "deep"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    few_metrics(monkeypatch)
    yield
    assert (home / "precious.txt").read_text() == "mine"
    left = [path for path in home.rglob("*") if path.is_file() and path.name != "precious.txt"]
    assert left == []
    assert not any(path.is_symlink() for path in home.rglob("*"))
    assert os.access(home, os.W_OK)


@pytest.fixture(scope="session")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of three models."""
    from refbench.leaderboard.board import add, build

    root = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refbench.runs.health.doctor_result", lambda *_: {})
        few_metrics(patch)
        for model in ("sharpen", "identity", "reference-paste"):
            run = world.run if model == "sharpen" else make_run(root / "runs" / model, model, world.spec)
            verdict = add(root / "board", run, submitter="tests", samples=0, metrics=METRICS)
            assert verdict.verdict == "verified", verdict
    build(root / "board")
    return root / "board"
