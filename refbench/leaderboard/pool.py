"""What may stand in one table: entries or runs over the same samples, by the same metric cards, or none at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.leaderboard import entry as e
from refbench.leaderboard.claims import read_scores
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.safety import list_folder
from refbench.leaderboard.sheet import Sheet, metas_of
from refbench.leaderboard.textsafe import SLUG, printable
from refbench.leaderboard.verdict import Verdict
from refbench.runs.aggregate import refuse_other_score, scoring
from refbench.runs.folder import RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import MetricCard
from refbench.stats.compare import Comparison, compare

if TYPE_CHECKING:
    import pandas as pd

    from refbench.tasks.suite import Suite


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One entry of a board as read from its folder."""

    entry: e.Entry
    verdict: Verdict | None
    scores: pd.DataFrame
    folder: Path


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
    return BoardEntry(entry, _verdict(folder / e.VERDICT, entry), scores, folder)


def _verdict(path: Path, entry: e.Entry) -> Verdict | None:
    """The board's verdict on an entry; one on other content (another seal) does not count."""
    if not path.is_file():
        return None
    try:
        verdict = e.parse_record(Verdict, path.read_bytes(), str(path), "broken-json", longest=2000)
    except RefusedError as error:
        raise RefbenchError(f"Expected a verdict at {path}, but {printable(error)}; verify the entry again.") from None
    return verdict if verdict.seal == entry.seal else None


def read_entries(board: Path, sheet: Sheet) -> list[BoardEntry]:
    """All entries of a board, in the order of their names, refused together if they cannot share its tables.

    Raises:
        RefbenchError: with the list of what differs.
    """
    root = board / e.ENTRIES
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    entries = [read_entry(folder, len(sheet.metas)) for folder in folders]
    faults = differences(
        {one.entry.name: (one.entry.suite_hash, one.entry.metric_cards, _samples(one)) for one in entries},
        (sheet.head.suite_hash, sheet.head.metric_cards, tuple(sheet.metas["sample"])),
    )
    refuse(faults, "the board's answer sheet")
    return entries


def _samples(one: BoardEntry) -> tuple[str, ...] | None:
    """The samples an entry planned, from its manifest."""
    try:
        content = e.strict_json((one.folder / e.MANIFEST).read_bytes(), e.MANIFEST)
    except (OSError, RefusedError):
        return None
    samples = content.get("samples") if isinstance(content, dict) else None
    return tuple(map(str, samples)) if isinstance(samples, list) else None


Facts = tuple[str, Mapping[str, str], tuple[str, ...] | None]
"""Suite hash, metric -> card hash, planned samples."""


def differences(found: Mapping[str, Facts], expected: Facts) -> list[str]:
    """Everything that keeps results from sharing a table, one sentence part each."""
    faults = []
    suite_hash, cards, samples = expected
    for name, (its_hash, its_cards, its_samples) in found.items():
        if its_hash != suite_hash:
            faults.append(f"{name} is on the suite {its_hash[:12]}, not {suite_hash[:12]}")
            continue
        mine, theirs = set(samples or ()), set(its_samples or ())
        if mine != theirs:
            faults.append(f"{name} lacks {len(mine - theirs)} samples and has {len(theirs - mine)} others")
        lacking, extra = sorted(set(cards) - set(its_cards)), sorted(set(its_cards) - set(cards))
        faults += [f"{name} lacks the metric {metric}" for metric in lacking]
        faults += [f"{name} has the further metric {metric}" for metric in extra]
        faults += [
            f"{name} measured {metric} by the card {its_cards[metric]}, not {cards[metric]}"
            for metric in sorted(set(cards) & set(its_cards))
            if cards[metric] != its_cards[metric]
        ]
    return faults


def refuse(faults: Sequence[str], against: str) -> None:
    """Raise if there is anything to list.

    Raises:
        RefbenchError: with the whole list (the first 20 of it).
    """
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise RefbenchError(
            f"Expected results over equal samples, suite and metric cards as {against}, but {shown}; "
            "evaluate or measure those again."
        )


@dataclass(frozen=True, slots=True)
class RunPool:
    """Runs that may be compared."""

    scores: dict[str, pd.DataFrame]
    """Display name -> scores."""
    answers: pd.DataFrame
    metas: pd.DataFrame
    cards: dict[str, MetricCard]
    lacking: dict[str, str]
    """Scoring metric that was not measured -> why."""
    suite: Suite


def read_runs(runs: Iterable[str | os.PathLike[str]], suite: str | os.PathLike[str] | None = None) -> RunPool:
    """Read measured runs, refused unless they share suite, plan and metric cards.

    Args:
        runs: run folders.
        suite: where their suite is, if not where the first manifest says.

    Raises:
        RefbenchError: no run there, not measured, or the list of what differs.
    """
    import pyarrow.parquet as pq

    from refbench.metrics.contract import card_hash
    from refbench.runs.api import metric_state

    folders = [RunFolder.open(run) for run in runs]
    if not folders:
        raise RefbenchError("Expected at least one run folder, but none came; name one.")
    manifests = [folder.read_manifest() for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if not manifest.metric_cards or not folder.scores.is_file() or not folder.answers.is_file():
            raise RefbenchError(
                f"Expected measured scores at {folder.path}, but there are none; run 'refbench measure {folder.path}'."
            )
        refuse_other_score(folder, manifest)
    first = manifests[0]
    names = _display_names(folders, [manifest.card.name for manifest in manifests])
    facts: dict[str, Facts] = {
        name: (manifest.suite_hash, manifest.metric_cards, manifest.samples)
        for name, manifest in zip(names, manifests, strict=True)
    }
    refuse(differences(facts, (first.suite_hash, first.metric_cards, first.samples)), names[0])
    whole = suite_of(first, folders[0].path, None if suite is None else os.fspath(suite))
    here, _ = metric_state(list(first.metric_cards))
    other = sorted(n for n, claimed in first.metric_cards.items() if n not in here or card_hash(here[n]) != claimed)
    if other:
        raise RefbenchError(
            f"Expected runs measured by this refbench's metric cards, but {', '.join(other)} "
            "differ or cannot run here; "
            "run 'refbench measure' on each run."
        )
    cards, lacking = scoring(first)
    metas = metas_of(whole)
    metas = metas[metas["sample"].isin(list(first.samples))].reset_index(drop=True)
    return RunPool(
        {name: pq.read_table(folder.scores).to_pandas() for name, folder in zip(names, folders, strict=True)},
        pq.read_table(folders[0].answers).to_pandas(),
        metas,
        cards,
        lacking,
        whole,
    )


def _display_names(folders: Sequence[RunFolder], cards: Sequence[str]) -> list[str]:
    """The cards' names where they differ, else the folders' names, else the folders' paths."""
    for names in (list(cards), [folder.path.name for folder in folders], [str(folder.path) for folder in folders]):
        if len(set(names)) == len(names):
            return [printable(name, 80) for name in names]
    raise RefbenchError("Expected different run folders, but one came twice; name each once.")


def compare_runs(
    runs: Sequence[str | os.PathLike[str]],
    *,
    suite: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    most: int = 10,
) -> Comparison:
    """Compare run folders pairwise, see :func:`refbench.stats.compare.compare`.

    Raises:
        RefbenchError: as :func:`read_runs`, or fewer than two runs.
    """
    if len(runs) < 2:
        raise RefbenchError(f"Expected at least two run folders to compare, but {len(runs)} came; name another.")
    pool = read_runs(runs, suite)
    return compare(
        pool.scores,
        pool.answers,
        pool.metas,
        pool.cards,
        seed=seed,
        resamples=resamples,
        most=most,
        unavailable=pool.lacking,
    )
