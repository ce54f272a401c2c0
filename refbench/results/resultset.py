"""Results that may be compared, of run folders or of a board's entries, and the statistics that look at all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from refbench.errors import RefbenchError
from refbench.plaintext import printable
from refbench.results.comparable import Facts, refuse_incomparable
from refbench.results.run import RunResult, measured, meta_table
from refbench.runs.aggregate import scoring
from refbench.runs.suites import suite_of
from refbench.schema import SCORE_VERSION, MetricCard, SampleMeta
from refbench.stats.compare import VIEWS, Comparison, View, compare, tables
from refbench.stats.gains import Gains
from refbench.stats.ranking import Ranking, rank
from refbench.stats.recovery import Summary, summarise

if TYPE_CHECKING:
    import pandas as pd

    from refbench.tasks.suite import Suite


class Result(Protocol):
    """What one model came to."""

    @property
    def name(self) -> str:
        """Of its row or column."""

    @property
    def scores(self) -> pd.DataFrame:
        """Long form, at least sample, metric, value, card."""

    @property
    def facts(self) -> Facts:
        """What decides with which results it may be compared."""


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, repr=False)
class ResultSet(Generic[R]):
    """Results over the same samples by the same metric cards, see :mod:`refbench.results.comparable`."""

    models: tuple[R, ...]
    """What each model came to, in the order given, each of a name of its own."""
    baselines: pd.DataFrame
    """Scores of the baselines and the truth."""
    samples: pd.DataFrame
    """A row a planned sample: sample, task, category, mode, source_id, and more to break numbers down by."""
    cards: Mapping[str, MetricCard]
    lacking: Mapping[str, str]
    """Metric that none of them measured -> why."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the results, in order."""
        return tuple(one.name for one in self.models)

    @cached_property
    def shared(self) -> dict[str, MetricCard]:
        """The cards without those of metrics that some of the results lack."""
        every = set.intersection(*(set(one.facts.cards) for one in self.models))
        some = set.union(*(set(one.facts.cards) for one in self.models))
        return {name: card for name, card in self.cards.items() if name in every or name not in some}

    @cached_property
    def gains(self) -> dict[str, Gains]:
        """Name -> what each sample won and could win, by the shared metrics."""
        return tables(self._scores, self.baselines, self.samples, self.shared, self.lacking)

    @property
    def _scores(self) -> dict[str, pd.DataFrame]:
        return {one.name: one.scores for one in self.models}

    def compare(
        self, *, seed: int = 0, resamples: int = 2000, most: int = 10, views: Sequence[View] = VIEWS
    ) -> Comparison:
        """Every pair of results, see :func:`refbench.stats.compare.compare`."""
        return compare(
            self._scores, self.baselines, self.samples, self.shared, seed=seed, resamples=resamples, most=most,
            views=views, unavailable=self.lacking,
        )  # fmt: skip

    def rank(self) -> Ranking:
        """Places and ratings, see :func:`refbench.stats.ranking.rank`."""
        return rank(self._scores, self.baselines, self.samples, self.shared, unavailable=self.lacking)

    def summary(self, result: R, views: Sequence[str]) -> Summary:
        """The numbers of one result, broken down by columns of `samples`."""
        return summarise(result.scores, self.baselines, self.samples, self.cards, views=views, unavailable=self.lacking)


@dataclass(frozen=True, repr=False)
class RunSet(ResultSet[RunResult]):
    """Runs of one plan, with their suite: figures, tables and the viewer start from it."""

    suite: Suite
    metas: Mapping[str, SampleMeta]
    """Planned samples in order."""

    def run(self, name: str) -> RunResult:
        """The run of that name.

        Raises:
            RefbenchError: there is none.
        """
        for one in self.models:
            if one.name == name:
                return one
        raise RefbenchError(f"Expected one of the runs {', '.join(self.names)}, but '{name}' came; name one of these.")

    @property
    def by(self) -> str:
        """What runs and samples are ordered by: the score, or the first axis that was measured where there is none."""
        return self.models[0].gains.by

    @property
    def by_name(self) -> str:
        """:attr:`by` in words."""
        return "score" if self.by == "mean" else self.by.replace("_", " ")

    @property
    def measured(self) -> str:
        """What :attr:`by` is, in words with the score's version."""
        return f"score {self.score}" if self.by == "mean" else f"{self.by_name}, score {self.score}"

    @property
    def withheld(self) -> Mapping[str, str]:
        """Axis, "mean" or "pixel_fidelity" -> why no run has a number there."""
        return self.models[0].withheld

    @property
    def score(self) -> str:
        """Which score the numbers are of, in words."""
        return f"{SCORE_VERSION}" if self.suite.targets else f"{SCORE_VERSION} without targets"

    @cached_property
    def ranked(self) -> tuple[RunResult, ...]:
        """The runs by :attr:`by`, best first."""
        values = {one.name: one.numbers.cell(self.by).value for one in self.models}
        return tuple(sorted(self.models, key=lambda one: -(-1e9 if (v := values[one.name]) is None else v)))

    def sample_scores(self, axis: str | None = None) -> pd.DataFrame:
        """Sample id x run: the points of each sample on an axis (by default :attr:`by`), NaN where there are none."""
        import pandas as pd

        return pd.DataFrame({one.name: one.points[axis or self.by] for one in self.models}).reindex(list(self.metas))


def open_results(
    folders: Sequence[str | os.PathLike[str]],
    *,
    suite: str | os.PathLike[str] | Suite | None = None,
    cards: Mapping[str, MetricCard] | None = None,
    resamples: int = 2000,
) -> RunSet:
    """Read measured runs, refused unless they may be compared.

    Args:
        folders: run folders, at least one.
        suite: the suite of the runs or where it is; None takes the one that the first manifest names.
        cards: metric definitions; None takes those of this installation, and withholds what lacks a scoring metric.
        resamples: of the bootstrap behind the intervals of runs whose summary is missing or outdated.

    Raises:
        RefbenchError: no folder, not a run, not measured, or the list of what differs.
    """
    if not folders:
        raise RefbenchError("Expected at least one run folder, but none came; name one.")
    opened = [measured(path) for path in folders]
    manifests = [manifest for _, manifest in opened]
    names = distinct_names([manifest.card.name for manifest in manifests], [folder.path for folder, _ in opened])
    found = [scoring(manifest) if cards is None else (cards, manifest.unavailable) for manifest in manifests]
    known = {name: card for its_cards, _ in found for name, card in its_cards.items()}
    needed = {name for name, card in known.items() if card.scored}
    facts = {name: Facts.of(manifest) for name, manifest in zip(names, manifests, strict=True)}
    refuse_incomparable(facts, facts[names[0]], names[0], needed)
    if cards is None:
        for name in names:
            _refuse_other_cards(name, facts[name])
    whole = suite_of(manifests[0], opened[0][0].path, suite)
    runs = tuple(
        RunResult(folder, manifest, whole, name, *its, resamples)
        for name, (folder, manifest), its in zip(names, opened, found, strict=True)
    )
    lacking = {name: why for name, why in found[0][1].items() if all(name in its for _, its in found)}
    metas = runs[0].metas
    return RunSet(runs, _baselines(runs), meta_table(metas.values()), known, lacking, whole, metas)


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
        RefbenchError: as :func:`open_results`, or fewer than two runs.
    """
    if len(runs) < 2:
        raise RefbenchError(f"Expected at least two run folders to compare, but {len(runs)} came; name another.")
    return open_results(runs, suite=suite).compare(seed=seed, resamples=resamples, most=most)


def distinct_names(cards: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The cards' names; where two share one, the folder is added, and where they share that too, its whole path."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise RefbenchError("Expected different run folders, but one came twice; name each once.")
    names = [printable(card, 80) for card in cards]
    for more in ([path.name for path in paths], [str(path) for path in paths]):
        if len(set(names)) == len(names):
            break
        names = [
            card if cards.count(card) == 1 else f"{printable(card, 80)} ({printable(one)})"
            for card, one in zip(cards, more, strict=True)
        ]
    return names


def _baselines(runs: Sequence[RunResult]) -> pd.DataFrame:
    """The baselines of all runs, each metric's once: runs may have been measured with different metrics."""
    import pandas as pd

    found = pd.concat([run.baselines for run in runs], ignore_index=True)
    return found.drop_duplicates(["sample", "metric", "answer"], ignore_index=True)


def _refuse_other_cards(name: str, facts: Facts) -> None:
    """Refuse scores by cards that this installation defines otherwise: its definitions make the numbers."""
    from refbench.metrics.contract import card_hash
    from refbench.runs.api import metric_state

    here, _ = metric_state(list(facts.cards))
    other = sorted(metric for metric, card in here.items() if card_hash(card) != facts.cards[metric])
    if other:
        raise RefbenchError(
            f"Expected runs measured by this refbench's metric cards, but {', '.join(other)} of {name} differ; run "
            "'refbench measure' on each run."
        )
