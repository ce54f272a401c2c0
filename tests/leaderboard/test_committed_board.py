"""The committed board is what its entries give."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.leaderboard.board import gather, stale
from refbench.leaderboard.entry import BOARD_BYTES

BOARD = Path(__file__).resolve().parents[2] / "leaderboard"


@pytest.mark.skipif(not (BOARD / "sheet").is_dir(), reason="the board has not been started in this checkout")
def test_committed_board_is_what_entries_give() -> None:
    assert stale(BOARD) == []


@pytest.mark.skipif(not (BOARD / "sheet").is_dir(), reason="the board has not been started in this checkout")
def test_committed_entries_are_verified_and_small() -> None:
    for row in gather(BOARD).rows:
        assert row.verdict is not None
        assert row.verdict.verdict == "verified"
        folder = BOARD / "entries" / row.entry.name
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= BOARD_BYTES
