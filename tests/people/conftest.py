"""Synthetic runs, votes as a rater gives them, and an arena over them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report.synthetic import CARDS, SyntheticSuite, make_runs

from refbench.people.arena import Arena, Contest, open_contest
from refbench.people.votes import Vote, VoteFile
from refbench.results.resultset import RunSet, open_results

MODELS = ("identity", "sharpen", "warp-blend", "omnirefiner")


def sha(sample: str, model: int | str) -> str:
    return hashlib.sha256(f"{sample} {model}".encode()).hexdigest()


def vote(sample: str, left: int, right: int, verdict: str = "left", rater: str = "ann", **more: object) -> Vote:
    """On made-up outputs, whose hashes are :func:`sha`."""
    name = hashlib.sha256(repr((sample, left, right, verdict, rater, more)).encode()).hexdigest()[:16]
    facts = {
        "id": name, "rater": rater, "suite": "0" * 64, "sample": sample, "left": f"m{left}", "right": f"m{right}",
        "left_sha256": sha(sample, left), "right_sha256": sha(sample, right), "verdict": verdict, "seconds": 2.0,
    }  # fmt: skip
    return Vote.model_validate(facts | more)


@pytest.fixture(scope="session")
def suite() -> SyntheticSuite:
    return SyntheticSuite(per_task=2, size=(84, 112))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, suite: SyntheticSuite) -> list[Path]:
    return make_runs(tmp_path_factory.mktemp("runs"), suite, MODELS, failures={"sharpen": "logo-refine-001"})


@pytest.fixture(scope="session")
def results(folders: list[Path], suite: SyntheticSuite) -> RunSet:
    return open_results(folders, suite=suite, cards=CARDS, resamples=100)


@pytest.fixture(scope="session")
def contest(folders: list[Path], suite: SyntheticSuite) -> Contest:
    return open_contest(folders, suite)


@pytest.fixture
def seated(contest: Contest, tmp_path: Path) -> Iterator[Callable[..., Arena]]:
    """Opens arenas over one file of votes."""
    files: list[VoteFile] = []

    def seat(**options: object) -> Arena:
        for file in files:
            file.close()
        files.append(VoteFile(tmp_path / "votes.jsonl"))
        return Arena(contest, files[-1], **options)  # type: ignore[arg-type]

    yield seat
    for file in files:
        file.close()
