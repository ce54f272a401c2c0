"""The application with a tiny suite and an adapter that misbehaves as the draft's name says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import write_tiny

from refbench.app.server import App, offered

FAULTY = f"{Path(__file__).resolve().parents[1] / 'adapters' / 'faulty.py'}:Faulty"


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("suite") / "tiny", 6)


@pytest.fixture(scope="module")
def app(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    found = App(str(suite), offered([FAULTY]), tmp_path_factory.mktemp("app"), device="cpu")
    yield found
    found.close()
