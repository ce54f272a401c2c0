"""Scores of the trivial answers and of the target: computed once for a suite and its metric cards, for all models.

Recovery needs to know what a trivial answer and the truth score. That depends on the suite alone, so it is
kept in the cache folder (``answers.sqlite``) under suite hash, sample and card hash: a second model on the
same suite finds it there. A cache that is broken or cannot be written is made anew in memory; it never
decides a result.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from refbench.baselines import BASELINES, baseline_image
from refbench.schema import MetricCard, Score, Truth

if TYPE_CHECKING:
    from refbench.metrics.measurer import Measurer


class Need(NamedTuple):
    """One metric, by its card, of one answer."""

    answer: str
    metric: str
    card: str


class AnswerRow(NamedTuple):
    """A row of ``answers.parquet`` but for the task."""

    sample: str
    answer: str
    metric: str
    axis: str
    region: str
    value: float
    higher_is_better: bool
    card: str


def needed(cards: Mapping[str, MetricCard], hashes: Mapping[str, str]) -> tuple[Need, ...]:
    """What recovery asks for: the draft and the target by every metric, and each card's own trivial answer."""
    return tuple(
        Need(answer, name, hashes[name])
        for answer in BASELINES
        for name, card in cards.items()
        if answer in ("draft", "target", card.trivial)
    )


class AnswerStore:
    """The cache, as a table (suite, sample, answer, metric, card) -> value; NULL where the metric is undefined.

    Args:
        folder: the cache folder; None keeps everything in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self.note: str | None = None
        """What the user should be told about the cache, once."""
        self._path: Path | None = None
        self._db = self._opened(folder)

    def _opened(self, folder: Path | None) -> sqlite3.Connection:
        if folder is not None:
            path = folder / "answers.sqlite"
            for _ in range(2):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    found = self._prepared(sqlite3.connect(path, timeout=60.0, isolation_level=None))
                    self._path = path
                    return found
                except sqlite3.DatabaseError as error:
                    if "locked" in str(error) or not path.is_file() or not os.access(folder, os.W_OK):
                        self.note = f"The cache {path} cannot be used ({error}); this run keeps it in memory."
                        break
                    self.note = f"The cache {path} was broken ({error}) and is made again."
                    for leftover in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                        with contextlib.suppress(OSError):
                            leftover.unlink(missing_ok=True)
                except OSError as error:
                    self.note = f"The cache {folder} cannot be used ({error.strerror}); this run keeps it in memory."
                    break
        self._path = None
        return self._prepared(sqlite3.connect(":memory:", isolation_level=None))

    @staticmethod
    def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS answers (suite TEXT, sample TEXT, answer TEXT, metric TEXT, card TEXT,"
            " axis TEXT, region TEXT, value REAL, higher INTEGER,"
            " PRIMARY KEY (suite, sample, answer, metric, card)) WITHOUT ROWID"
        )
        return db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def forget(self, error: sqlite3.Error) -> None:
        """Go on in memory, with nothing known, after the file could not be read or written (a disk that is full).

        Raises:
            sqlite3.Error: the one given, where memory was all there was.
        """
        if self._path is None:
            raise error
        self.note = f"The cache {self._path} cannot be used any more ({error}); this run keeps it in memory."
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._db = self._opened(None)

    def missing(self, suite: str, samples: Sequence[str], needs: Iterable[Need]) -> dict[str, set[Need]]:
        """Sample -> what is not in the store yet; samples with everything are left out."""
        wanted = set(needs)
        out: dict[str, set[Need]] = {}
        for sample in samples:
            have = self._db.execute(
                "SELECT answer, metric, card FROM answers WHERE suite = ? AND sample = ?", (suite, sample)
            )
            left = wanted - {Need(*row) for row in have}
            if left:
                out[sample] = left
        return out

    def put(self, suite: str, needs: Iterable[tuple[str, Need]], rows: Iterable[AnswerRow]) -> None:
        """Store what was measured: every (sample, need) that was asked, with a row where the metric is defined."""
        found = {(row.sample, Need(row.answer, row.metric, row.card)): row for row in rows}
        values = []
        for sample, need in needs:
            row = found.get((sample, need))
            tail = (row.axis, row.region, row.value, int(row.higher_is_better)) if row else (None, None, None, None)
            values.append((suite, sample, *need, *tail))
        with contextlib.closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            cursor.execute("COMMIT")

    def rows(self, suite: str, sample: str, needs: Sequence[Need]) -> list[AnswerRow]:
        """The defined values of one sample, in the order of `needs`."""
        have = {
            Need(answer, metric, card): AnswerRow(sample, answer, metric, axis, region, value, bool(higher), card)
            for answer, metric, card, axis, region, value, higher in self._db.execute(
                "SELECT answer, metric, card, axis, region, value, higher FROM answers"
                " WHERE suite = ? AND sample = ? AND value IS NOT NULL",
                (suite, sample),
            )
        }
        return [have[need] for need in needs if need in have]


Measured: TypeAlias = tuple[list[tuple[str, Need]], list[AnswerRow]]
"""Every (sample, need) that was asked, and a row for each where the metric is defined; see :meth:`AnswerStore.put`."""


def measure_answers(
    truths: Sequence[Truth], left: Mapping[str, Set[Need]], measurer: Callable[[tuple[str, ...]], Measurer]
) -> list[Measured]:
    """Measure what is missing for these samples.

    Args:
        truths: the samples of one chunk; those not in `left` are skipped.
        left: from :meth:`AnswerStore.missing`.
        measurer: gives a measurer for some metric names.
    """
    found: list[Measured] = []
    for answer in BASELINES:
        groups: dict[tuple[Need, ...], list[Truth]] = {}
        for truth in truths:
            mine = tuple(sorted(need for need in left.get(truth.id, ()) if need.answer == answer))
            if mine:
                groups.setdefault(mine, []).append(truth)
        for needs, members in groups.items():
            lists = measurer(tuple(need.metric for need in needs)).measure(
                members, [baseline_image(truth, answer) for truth in members]
            )
            rows = [
                _row(score, truth, answer)
                for truth, scores in zip(members, lists, strict=True)
                for score in scores
                # Without a target the draft is the truth outside the mask only.
                if truth.has_target or answer != "target" or score.region == "outside"
            ]
            found.append(([(truth.id, need) for truth in members for need in needs], rows))
    return found


def _row(score: Score, truth: Truth, answer: str) -> AnswerRow:
    return AnswerRow(
        truth.id, answer, score.metric, score.axis, score.region, score.value, score.higher_is_better, score.card
    )
