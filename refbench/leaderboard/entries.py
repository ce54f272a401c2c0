"""The entries of a board as read from their folders, each checked as a stranger's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.leaderboard import entry as e
from refbench.leaderboard.baseline_sheet import BaselineSheet
from refbench.leaderboard.claims import read_scores
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.safety import list_folder
from refbench.leaderboard.textsafe import SLUG, printable
from refbench.leaderboard.verdict import Verdict
from refbench.results.comparable import Facts, refuse_incomparable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One entry of a board as read from its folder."""

    entry: e.Entry
    verdict: Verdict | None
    scores: pd.DataFrame
    folder: Path
    facts: Facts
    """What decides with which results it may be compared; no samples where its manifest cannot be read."""

    @property
    def name(self) -> str:
        """Of the entry."""
        return self.entry.name


def read_entry(folder: Path, samples: int) -> BoardEntry:
    """Read one entry of a board, checked as a stranger's.

    Raises:
        RefbenchError: the entry is broken or holds what has no place there.
    """
    import pandas as pd

    try:
        files = list_folder(folder, frozenset({e.VERDICT}))
        if e.ENTRY not in files or e.SCORES not in files:
            raise RefusedError("missing-file", f"Expected {e.ENTRY} and {e.SCORES}, but they are not there.")
        entry = e.parse_entry(files[e.ENTRY].read_bytes(), e.ENTRY)
        if entry.name != folder.name or not SLUG.fullmatch(entry.name):
            raise RefusedError("wrong-name", f"Expected the entry '{folder.name}', but it calls itself '{entry.name}'.")
        for name, path in files.items():
            if name != e.ENTRY and entry.files.get(name) != e.note_of(path):
                raise RefusedError(
                    "edited-file", f"Expected {name} as it was packed, but its content has another hash."
                )
        values = read_scores(files[e.SCORES], samples, entry.metric_cards)
    except RefusedError as error:
        raise RefbenchError(f"The entry at {folder} is broken ({error.name}): {error}") from None
    rows = [(sample, metric, value, entry.metric_cards[metric]) for (sample, metric), value in values.items()]
    scores = pd.DataFrame(rows, columns=["sample", "metric", "value", "card"])
    facts = Facts(entry.suite_hash, _samples(folder), entry.metric_cards)
    return BoardEntry(entry, _verdict(folder / e.VERDICT, entry), scores, folder, facts)


def _verdict(path: Path, entry: e.Entry) -> Verdict | None:
    """The board's verdict on an entry; one on other content (another seal) does not count."""
    if not path.is_file():
        return None
    try:
        verdict = e.parse_record(Verdict, path.read_bytes(), str(path), "broken-json", longest=2000)
    except RefusedError as error:
        raise RefbenchError(f"Expected a verdict at {path}, but {printable(error)}; verify the entry again.") from None
    return verdict if verdict.seal == entry.seal else None


def read_entries(board: Path, sheet: BaselineSheet) -> list[BoardEntry]:
    """All entries of a board, in the order of their names, refused together if they cannot share its tables.

    Raises:
        RefbenchError: with the list of what differs.
    """
    root = board / e.ENTRIES
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    entries = [read_entry(folder, len(sheet.metas)) for folder in folders]
    found = {one.name: one.facts for one in entries}
    refuse_incomparable(found, sheet.facts, "the board's baseline sheet", sheet.scoring)
    return entries


def _samples(folder: Path) -> tuple[str, ...]:
    """The samples an entry planned, from its manifest."""
    try:
        content = e.strict_json((folder / e.MANIFEST).read_bytes(), e.MANIFEST)
    except (OSError, RefusedError):
        return ()
    samples = content.get("samples") if isinstance(content, dict) else None
    return tuple(map(str, samples)) if isinstance(samples, list) else ()
