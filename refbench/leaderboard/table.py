"""A board as numbers: entries and baseline sheet in, rows best first out. Nothing here measures or runs a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refbench.errors import RefbenchError
from refbench.leaderboard import entry as e
from refbench.leaderboard.baseline_sheet import BaselineSheet, read_sheet
from refbench.leaderboard.columns import COLUMNS, Column, Row
from refbench.leaderboard.entries import BoardEntry, read_entries
from refbench.results.resultset import ResultSet
from refbench.stats.ranking import places

BREAKDOWNS = ("category", "task", "mode", "view", "difficulty")


@dataclass(frozen=True, slots=True)
class Board:
    """A board ready to be rendered: rows best first, and the columns that have anything to show."""

    sheet: BaselineSheet
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    folders: Mapping[str, Path]
    """Entry name -> its folder, for thumbnails."""


def gather(board: str | os.PathLike[str], columns: Sequence[Column] = COLUMNS) -> Board:
    """Read a board's folder and compute everything its tables show.

    Raises:
        RefbenchError: no baseline sheet, no entry, a broken entry, or entries that cannot share a table (listed).
    """
    root = Path(board)
    sheet = read_sheet(root)
    entries = read_entries(root, sheet)
    if not entries:
        raise RefbenchError(f"Expected entries under {root / e.ENTRIES}, but there are none; add one first.")
    results = ResultSet(tuple(entries), sheet.baselines, sheet.metas, sheet.head.cards, sheet.head.lacking)
    standing = {one.model: one for one in results.rank().standings}
    leads = _leads(results, columns)
    by_name: dict[str, BoardEntry] = {one.name: one for one in entries}
    rows = []
    for name in standing:
        one = by_name[name]
        summary = results.summary(one, BREAKDOWNS)
        rows.append(Row(one.entry, one.verdict, summary, standing[name], {k: v[name] for k, v in leads.items()}))
    shown = tuple(c for c in columns if any(c.value(row) is not None for row in rows))
    return Board(sheet, tuple(rows), shown, {name: by_name[name].folder for name in standing})


def _leads(results: ResultSet[BoardEntry], columns: Sequence[Column]) -> dict[str, dict[str, bool]]:
    """For each recovery column, which models none is better than."""
    out = {}
    for one in columns:
        if one.scope is None:
            continue
        kind, name, measure = one.scope
        inside = np.ones(len(results.samples), dtype=bool)
        if kind:
            inside = np.asarray(results.samples[kind].astype(str).to_numpy(object) == name)
        place = places(results.gains, results.samples, inside, measure) if inside.any() else None
        if place is not None:
            out[one.key] = dict(zip(results.names, place.leaders.tolist(), strict=True))
    return out
