"""One synthetic study for the whole room; it is made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.report.study import Study, open_study
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
def study(folders: list[Path], suite: SyntheticSuite) -> Study:
    return open_study(folders, suite=suite, cards=CARDS, resamples=200)
