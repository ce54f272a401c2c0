"""One synthetic results for the whole room; it is made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.results.resultset import RunSet, open_results
from report.synthetic import CARDS, SyntheticSuite, make_runs


@pytest.fixture(scope="session")
def suite() -> SyntheticSuite:
    return SyntheticSuite()


@pytest.fixture(scope="session")
def small() -> SyntheticSuite:
    """Eight small samples, for tests that need a page or a run of their own."""
    return SyntheticSuite(per_task=1, size=(84, 112))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, suite: SyntheticSuite) -> list[Path]:
    return make_runs(tmp_path_factory.mktemp("runs"), suite, failures={"warp-blend": "logo-refine-001"})


@pytest.fixture(scope="session")
def results(folders: list[Path], suite: SyntheticSuite) -> RunSet:
    return open_results(folders, suite=suite, cards=CARDS, resamples=200)
