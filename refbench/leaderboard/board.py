"""A board on disk: an entry or run is verified and put on it, and its files are rendered."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.leaderboard import entry as e
from refbench.leaderboard.baseline_sheet import FOLDER, read_sheet, write_sheet
from refbench.leaderboard.render import render
from refbench.leaderboard.safety import opened
from refbench.leaderboard.submission import board_copy, submit
from refbench.leaderboard.table import gather
from refbench.leaderboard.verdict import Verdict
from refbench.leaderboard.verify import verify, write_verdict
from refbench.results.comparable import Facts, refuse_incomparable
from refbench.runs.folder import MANIFEST, RECORDS, RunFolder
from refbench.runs.suites import suite_of

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite


def build(board: str | os.PathLike[str]) -> list[Path]:
    """Render a board's README.md, index.html, board.csv, board.tex and board.json; returns what was written."""
    root = Path(board)
    written = []
    for name, data in render(gather(root)).items():
        write_atomic(root / name, data)
        written.append(root / name)
    return written


def stale(board: str | os.PathLike[str]) -> list[str]:
    """Names of the rendered files that are not what the entries give; empty for an up-to-date board."""
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

    The first one must be a run: the board's baseline sheet is made from it.

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
        if is_run:
            suite = suite_of(RunFolder.open(path)[1], path, suite)
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
            facts = Facts(entry.suite_hash, sheet.facts.samples, entry.metric_cards)
            refuse_incomparable({entry.name: facts}, sheet.facts, "the board", sheet.scoring)
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

    if not is_run:
        raise RefbenchError(
            f"Expected the first of a board to be a run folder, but {run} is an entry; add a run first."
        )
    _, manifest = RunFolder.open(run)
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
