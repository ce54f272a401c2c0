"""The board: entries and answer sheet in, rendered tables out. Nothing here measures or runs a model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.leaderboard import entry as e
from refbench.leaderboard.columns import COLUMNS, Column, Row
from refbench.leaderboard.pool import BoardEntry, differences, read_entries, refuse
from refbench.leaderboard.safety import opened
from refbench.leaderboard.sheet import FOLDER, Sheet, read_sheet, write_sheet
from refbench.leaderboard.submission import board_copy, submit
from refbench.leaderboard.verdict import Verdict
from refbench.leaderboard.verify import verify, write_verdict
from refbench.runs.folder import MANIFEST, RECORDS, RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import MetricCard
from refbench.stats.compare import tables
from refbench.stats.gains import Gains
from refbench.stats.ranking import places, rank
from refbench.stats.recovery import summarise

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

BREAKDOWNS = ("category", "task", "mode", "view", "difficulty")


@dataclass(frozen=True, slots=True)
class Board:
    """A board ready to be rendered: rows best first, and the columns that have anything to show."""

    sheet: Sheet
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    folders: Mapping[str, Path]
    """Entry name -> its folder, for thumbnails."""


def gather(board: str | os.PathLike[str], columns: Sequence[Column] = COLUMNS) -> Board:
    """Read a board's folder and compute everything its tables show.

    Raises:
        RefbenchError: no answer sheet, no entry, a broken entry, or entries that cannot share a table (listed).
    """
    root = Path(board)
    sheet = read_sheet(root)
    entries = read_entries(root, sheet)
    if not entries:
        raise RefbenchError(f"Expected entries under {root / e.ENTRIES}, but there are none; add one first.")
    cards = sheet.head.cards
    runs = {one.entry.name: one.scores for one in entries}
    ranking = rank(runs, sheet.answers, sheet.metas, cards)
    standing = {one.model: one for one in ranking.standings}
    leads = _leads(tables(runs, sheet.answers, sheet.metas, cards), sheet, cards, columns)
    by_name: dict[str, BoardEntry] = {one.entry.name: one for one in entries}
    rows = []
    for name in standing:
        one = by_name[name]
        summary = summarise(one.scores, sheet.answers, sheet.metas, cards, views=BREAKDOWNS)
        rows.append(Row(one.entry, one.verdict, summary, standing[name], {k: v[name] for k, v in leads.items()}))
    shown = tuple(c for c in columns if any(c.value(row) is not None for row in rows))
    return Board(sheet, tuple(rows), shown, {name: by_name[name].folder for name in standing})


def _leads(
    found: Mapping[str, Gains], sheet: Sheet, cards: Mapping[str, MetricCard], columns: Sequence[Column]
) -> dict[str, dict[str, bool]]:
    """For each recovery column, which models none is better than."""
    out = {}
    for one in columns:
        if one.scope is None:
            continue
        kind, name, measure = one.scope
        inside = np.ones(len(sheet.metas), dtype=bool)
        if kind:
            inside = np.asarray(sheet.metas[kind].astype(str).to_numpy(object) == name)
        place = places(found, sheet.metas, inside, measure) if inside.any() else None
        if place is not None:
            out[one.key] = dict(zip(found, place.leaders.tolist(), strict=True))
    return out


def build(board: str | os.PathLike[str]) -> list[Path]:
    """Render a board's README.md, index.html, board.csv, board.tex and board.json; returns what was written."""
    from refbench.leaderboard.render import render

    root = Path(board)
    written = []
    for name, data in render(gather(root)).items():
        write_atomic(root / name, data)
        written.append(root / name)
    return written


def stale(board: str | os.PathLike[str]) -> list[str]:
    """Names of the rendered files that are not what the entries give; empty for an up-to-date board."""
    from refbench.leaderboard.render import render

    root = Path(board)
    fresh = render(gather(root))
    return [name for name, data in fresh.items() if not (root / name).is_file() or (root / name).read_bytes() != data]


def add(
    board: str | os.PathLike[str],
    what: str | os.PathLike[str],
    *,
    submitter: str = "refbench",
    name: str | None = None,
    notes: str = "",
    outputs: str | os.PathLike[str] | None = None,
    suite: str | Suite | None = None,
    samples: int = 3,
    replace: bool = False,
    **options: Any,
) -> Verdict:
    """Verify an entry, or a run of one's own, and put it on the board with its verdict; does not render.

    The first one must be a run: the board's answer sheet is made from it.

    Args:
        board: the board's folder.
        what: an entry (folder or zip), or a run folder, which is packed first.
        submitter: for a run: who made it.
        name: for a run: name of the entry, by default made from the model's name.
        notes: for a run: one line for the board.
        outputs: for an entry that came without its outputs.
        suite: where the suite is, if not where the run says.
        samples: how many samples the model answers again.
        replace: put it in the place of an entry of the same name.
        options: passed to :func:`refbench.leaderboard.verify.verify`.

    Returns:
        The verdict; nothing is added unless it is "verified".

    Raises:
        RefbenchError: the run cannot be packed, the name is taken, or it cannot share the board's tables.
    """
    root, path = Path(board), Path(what)
    is_run = (path / MANIFEST).is_file() and (path / RECORDS).is_file() and not (path / e.ENTRY).is_file()
    with tempfile.TemporaryDirectory(prefix="refbench-add-") as place:
        if is_run and suite is None:
            suite = str(suite_of(RunFolder.open(path).read_manifest(), path).folder)
        packed = submit(path, place, submitter=submitter, name=name, notes=notes, suite=suite) if is_run else path
        # An entry that was merged lies on the board already: it stays where it is and gets its verdict.
        in_place = path.is_dir() and path.resolve().parent == (root / e.ENTRIES).resolve()
        options = {"on_board": True, **options} if in_place else options
        verdict = verify(packed, outputs=outputs, suite=suite, samples=samples, **options)
        if verdict.verdict != "verified":
            return verdict
        if not (root / FOLDER / "sheet.json").is_file():
            _start(root, path, is_run, suite)
        sheet = read_sheet(root)
        with _folder_of(packed) as folder:
            entry = e.parse_entry((folder / e.ENTRY).read_bytes(), e.ENTRY)
            facts = (entry.suite_hash, entry.metric_cards, tuple(sheet.metas["sample"]))
            head = (sheet.head.suite_hash, sheet.head.metric_cards, tuple(sheet.metas["sample"]))
            refuse(differences({entry.name: facts}, head), "the board")
            target = root / e.ENTRIES / entry.name
            if target.exists() and not in_place:
                if not replace:
                    raise RefbenchError(
                        f"Expected a new name, but the board has an entry '{entry.name}'; give --replace or --name."
                    )
                shutil.rmtree(target)
            if not in_place:
                board_copy(folder, target)
        write_verdict(verdict, target)
    return verdict


def _start(root: Path, run: Path, is_run: bool, suite: str | Suite | None) -> None:
    from refbench.runs.api import metric_state
    from refbench.runs.folder import RunFolder

    if not is_run:
        raise RefbenchError(
            f"Expected the first of a board to be a run folder, but {run} is an entry; add a run first."
        )
    manifest = RunFolder.open(run).read_manifest()
    whole = suite_of(manifest, run, suite)
    cards, _ = metric_state(list(manifest.metric_cards))
    write_sheet(root, run, whole, cards)


@contextmanager
def _folder_of(entry: Path) -> Iterator[Path]:
    """The entry as a folder; a zip is unpacked, checked as a stranger's, for as long as it is needed."""
    if entry.is_dir():
        yield entry
        return
    with opened(entry) as files:
        yield files[e.ENTRY].parent
