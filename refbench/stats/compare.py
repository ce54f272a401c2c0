"""Two models on the same samples: paired differences, what they are worth, and what may be concluded.

A difference of two recoveries has the same denominators on both sides, so it is a plain sum of one contribution a
cluster. Its interval and its p value are of one procedure, the studentised bootstrap of
:mod:`refbench.stats.bootstrap`, and the words follow them: the interval excludes 0, p < 0.05 and "better" are one.

That is one comparison looked at alone. Beside it stands p after Holm's step-down correction, which holds the chance of
any false claim at 5 % within a family: all pairs of the comparison times all rows of one view (overall, category, task,
mode, metric). What holds after it is marked so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from refbench.errors import RefbenchError
from refbench.schema import AXES, MetricCard, Record
from refbench.stats.bootstrap import RESAMPLES, Estimates, Floats, clusters, estimate, generator, sums_by
from refbench.stats.gains import Bools, Gains, gains, sample_scores
from refbench.stats.recovery import Cell, said, unscored, whole_cells

if TYPE_CHECKING:
    import pandas as pd

PAIRED = "paired"
"""Name of the random numbers of paired differences: a comparison and the places draw the same."""
ALPHA = 0.05
TIE = 1.0
"""Two models tie on a sample if their scores are less than this many recovery points apart."""
POWER_Z = 0.8416
"""80 % quantile of the normal: the detectable difference is found in four of five repetitions."""
SCORES = (*AXES, "mean")
"""Columns of :func:`refbench.stats.gains.sample_scores`."""
View = Literal["overall", "category", "task", "mode", "metric"]
VIEWS: tuple[View, ...] = ("overall", "category", "task", "mode", "metric")


class Difference(Record):
    """Recovery of `a` minus recovery of `b` on one set of samples, in recovery points."""

    view: View
    name: str
    """Which category, task, mode or metric; "all" for the overall view."""
    measure: str
    """An axis, "mean", or "recovery" for a single metric."""
    value: float | None
    """None, with the reason, where its interval says nothing."""
    low: float | None
    high: float | None
    reason: str | None
    """Why there is no interval, or no value."""
    effect: float | None
    """Difference over the standard deviation of the clusters' contributions (paired Cohen's d)."""
    p: float | None
    """Below 0.05 just where the interval excludes 0; None where there is no interval."""
    p_holm: float | None
    """After Holm's correction over the family of this view."""
    detectable: float | None
    """Smallest true difference that this set of samples would show (5 % level, 80 % power)."""
    clusters: int
    better: Literal["a", "b", "undecided"]
    """Decided by interval and p, this comparison looked at alone."""
    holds: bool
    """Whether that still holds among all comparisons of the view: p_holm below 0.05."""


class Duel(Record):
    """How often `a` was better than, as good as, and worse than `b`, sample by sample."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def count(cls, apart: Floats) -> Duel:
        """From (S,) score differences `a` minus `b`; NaN, where a sample cannot be scored, does not count."""
        wins, losses = int((apart >= TIE).sum()), int((apart <= -TIE).sum())
        return cls(wins=wins, ties=int(np.isfinite(apart).sum()) - wins - losses, losses=losses)


class Apart(Record):
    """One sample on which the two differ: scores as of refbench.stats.gains."""

    sample: str
    a: float
    b: float
    difference: float


class Pair(Record):
    """One pair of models."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    duels: dict[str, Duel]
    """Axis or "mean" -> wins, ties and losses of `a`."""
    apart: tuple[Apart, ...]
    """Samples where they differ most, largest first."""
    words: str
    """What may be concluded."""

    def difference(self, view: View, name: str, measure: str) -> Difference:
        """One row by its place; KeyError if it is not scored."""
        for row in self.differences:
            if (row.view, row.name, row.measure) == (view, name, measure):
                return row
        raise KeyError((view, name, measure))


class Comparison(Record):
    """All pairs of two or more models on the same samples."""

    models: tuple[str, ...]
    scores: dict[str, dict[str, Cell]]
    """Model -> axis or "mean" -> recovery on all samples, as :func:`refbench.stats.recovery.summarise` gives it."""
    against_all: dict[str, Duel]
    """Model -> samples won, tied and lost against all others, by :attr:`by`."""
    pairs: tuple[Pair, ...]
    families: dict[str, int]
    """View -> number of tests that Holm's correction counts."""
    unscored: dict[str, str]
    by: str = "mean"
    """What samples are won by: the score, or the first axis that was measured where the score is withheld."""
    withheld: dict[str, str] = Field(default_factory=dict)
    """Axis or "mean" -> which scoring metrics were not measured, and why, so that it is not compared."""
    samples: int
    clusters: int
    seed: int
    resamples: int
    tie: float = TIE
    method: str = (
        "paired; interval and p: symmetric studentised bootstrap over source_id, stratified by category; "
        "p_holm: the same p, Holm-corrected within each view"
    )


def tables(
    runs: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    unavailable: Mapping[str, str] | None = None,
) -> dict[str, Gains]:
    """The gains of several runs on one plan, refused unless the same metrics were measured in all.

    Raises:
        RefbenchError: with the metrics that some runs lack.
    """
    samples = list(metas["sample"])
    found = {name: gains(scores, baselines, samples, cards, unavailable) for name, scores in runs.items()}
    everything = set().union(*(table.metrics for table in found.values())) if found else set()
    lacking = {name: sorted(everything - set(table.metrics)) for name, table in found.items()}
    if any(lacking.values()):
        listed = "; ".join(f"{name} lacks {', '.join(metrics)}" for name, metrics in lacking.items() if metrics)
        raise RefbenchError(
            f"Expected runs with the same metrics, but {listed}; run `refbench measure` on each with the same metrics."
        )
    return found


def compare(
    runs: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    most: int = 10,
    views: Sequence[View] = VIEWS,
    unavailable: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two or more runs, every pair of them.

    Args:
        runs: model name -> scores (as for :func:`refbench.stats.recovery.summarise`).
        baselines: scores of the baselines and the truth.
        metas: rows (sample, task, category, mode, source_id) of the plan that the runs share.
        cards: metric definitions.
        seed: of the resamples.
        resamples: of whole clusters, for every interval and p value.
        most: how many samples where a pair differs most are listed.
        views: which to compute; "overall" and "metric" always come together.
        unavailable: metric -> why it could not be measured in these runs.

    Raises:
        RefbenchError: fewer than two runs, other samples, other metrics or other metric cards.
    """
    if len(runs) < 2:
        raise RefbenchError(f"Expected at least two runs to compare, but {len(runs)} came; name another run folder.")
    found = tables(runs, baselines, metas, cards, unavailable)
    first = next(iter(found.values()))
    sets = [one for one in _sets(metas) if one[0] in views]
    pairs = list(itertools.combinations(found, 2))
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in pairs}
    for view, name, inside in sets:
        labels = _labels(view, name, first.measured(inside), cards)
        if labels:
            for pair in pairs:
                rows[pair] += _set(found[pair[0]], found[pair[1]], labels, inside, metas, seed, resamples)
    families = _decide([row for of_pair in rows.values() for row in of_pair])
    scores = {name: sample_scores(table) for name, table in found.items()}
    by = first.by
    mean = {name: of_model[:, SCORES.index(by)] for name, of_model in scores.items()}
    return Comparison(
        models=tuple(found),
        scores={name: whole_cells(one, metas, cards, seed=seed, resamples=resamples) for name, one in found.items()},
        against_all={
            name: Duel.count(np.concatenate([mean[name] - mean[other] for other in found if other != name]))
            for name in found
        },
        pairs=tuple(_pair(a, b, rows[a, b], scores[a], scores[b], first.samples, most, families, by) for a, b in pairs),
        by=by,
        families=families,
        unscored=unscored(first, cards, np.ones(len(metas), dtype=bool)),
        withheld=first.withheld,
        samples=len(metas),
        clusters=int(metas["source_id"].nunique()),
        seed=seed,
        resamples=resamples,
    )


def _sets(metas: pd.DataFrame) -> list[tuple[View, str, Bools]]:
    sets: list[tuple[View, str, Bools]] = [("overall", "all", np.ones(len(metas), dtype=bool))]
    for view in ("category", "task", "mode"):
        column = metas[view].astype(str).to_numpy(object)
        sets += [(view, name, np.asarray(column == name)) for name in dict.fromkeys(column)]
    return sets


def _labels(
    view: View, name: str, measured: Sequence[str], cards: Mapping[str, MetricCard]
) -> dict[str, tuple[View, str, str]]:
    """Measure or metric -> (view, name, measure) of its row: axes and score, and overall each scoring metric."""
    rows = {one: (view, name, one) for one in measured if one in (*AXES, "mean")}
    if view == "overall":
        scoring = [one for one in measured if one in cards and cards[one].scored and cards[one].axis in AXES]
        rows |= {one: ("metric", one, "recovery") for one in scoring}
    return rows


def _set(
    a: Gains,
    b: Gains,
    labels: Mapping[str, tuple[View, str, str]],
    inside: Bools,
    metas: pd.DataFrame,
    seed: int,
    resamples: int,
) -> list[dict[str, Any]]:
    sources, categories = (metas[key].astype(str).to_numpy(object)[inside] for key in ("source_id", "category"))
    codes, strata = clusters(list(sources), list(categories))
    (mine, could), (theirs, _) = a.parts(list(labels)), b.parts(list(labels))
    top, bottom = (sums_by(codes, len(strata), part[inside]) for part in (mine - theirs, could))
    weights = 100.0 * np.eye(len(labels))
    found = estimate(top, bottom, weights, strata, rng=generator(seed, PAIRED), resamples=resamples)
    return [_row(label, found, q) for q, label in enumerate(labels.values())]


def _row(label: tuple[View, str, str], found: Estimates, q: int) -> dict[str, Any]:
    value, se, quantile, clusters = (float(part[q]) for part in (found.value, found.se, found.quantile, found.clusters))
    cell = said(value, float(found.low[q]), float(found.high[q]), int(clusters))
    known = cell["low"] is not None
    row: dict[str, Any] = dict(zip(("view", "name", "measure"), label, strict=True))
    return (
        row
        | cell
        | {
            "effect": value / (se * np.sqrt(clusters)) if known and se > 0 else None,
            "p": float(found.p[q]) if known else None,
            "detectable": (quantile + POWER_Z) * se if known else None,
            "clusters": int(clusters),
        }
    )


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Holm 1979, Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p, kind="stable")
    adjusted, running = [0.0] * len(p), 0.0
    for i, at in enumerate(order):
        running = max(running, min((len(p) - i) * p[at], 1.0))
        adjusted[at] = running
    return adjusted


def _decide(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Write p_holm, better and holds into the rows; returns the family sizes."""
    families: dict[str, int] = {}
    for row in rows:
        clear = row["p"] is not None and row["p"] < ALPHA
        row |= {"better": "undecided", "p_holm": None, "holds": False}
        if clear:
            row["better"] = "a" if row["value"] > 0 else "b"
    for view in VIEWS:
        family = [row for row in rows if row["view"] == view and row["p"] is not None]
        families[view] = len(family)
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row |= {"p_holm": adjusted, "holds": adjusted < ALPHA}
    return families


def _pair(
    a: str,
    b: str,
    rows: list[dict[str, Any]],
    one: Floats,
    two: Floats,
    samples: Sequence[str],
    most: int,
    families: Mapping[str, int],
    by: str,
) -> Pair:
    differences = tuple(Difference.model_validate(row) for row in rows)
    duels = {measure: Duel.count((one - two)[:, i]) for i, measure in enumerate(SCORES)}
    one, two = one[:, SCORES.index(by)], two[:, SCORES.index(by)]
    gap = np.nan_to_num(one - two)
    largest = np.argsort(-np.abs(gap), kind="stable")[:most]
    listed = tuple(
        Apart(sample=samples[s], a=float(one[s]), b=float(two[s]), difference=float(gap[s]))
        for s in largest
        if gap[s] != 0
    )
    overall = sorted((row for row in differences if row.view == "overall"), key=lambda row: row.measure != "mean")
    told = [_words(a, b, row, families["overall"]) for row in overall]
    clear = [text for row, text in zip(overall, told, strict=True) if row.better != "undecided"]
    duel = duels[by]
    where = "" if by == "mean" else f" in {by.replace('_', ' ')}"
    count = (
        f"Sample by sample{where}, {a} scores higher on {duel.wins} and {b} on {duel.losses}; {duel.ties} are ties "
        f"(less than {TIE:g} point apart)."
    )
    words = "\n".join([*clear, *(text for text in told if text not in clear), count])
    return Pair(a=a, b=b, differences=differences, duels=duels, apart=listed, words=words)


def p_text(p: float | None) -> str:
    """A p value to read, on the right side of 0.05; a dash for none."""
    if p is None:
        return "–"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}" if round(p, 3) != ALPHA else f"{p:.4f}"


def _end(value: float) -> str:
    """An end of an interval with one decimal, or with as many as show on which side of 0 it is."""
    return f"{value:.1f}" if abs(value) >= 0.05 or value == 0.0 else f"{value:.1g}"


def _words(a: str, b: str, row: Difference, tests: int) -> str:
    """What one row of the overall view says: better just where the interval excludes 0, then the correction."""
    where = "On the whole" if row.measure == "mean" else f"In {row.measure.replace('_', ' ')}"
    if row.value is None or row.low is None or row.high is None or row.p is None:
        return f"{where}, nothing can be said of which is better ({row.reason})."
    if row.value == 0.0 and row.low == row.high == 0.0:
        return f"{where}, the two are equal on every source."
    sign = -1.0 if row.better == "b" else 1.0
    low, high = sorted((sign * row.low, sign * row.high))
    chance = f"95 % interval {_end(low)} to {_end(high)}; p {_equals(row.p)}"
    if row.better == "undecided":
        return (
            f"{where}, it is undecided which is better ({a} minus {b}: {row.value:.1f} points; {chance}). A true "
            f"difference of {row.detectable or 0.0:.1f} points would be found in four of five such suites."
        )
    first, second = (a, b) if row.better == "a" else (b, a)
    than = f" than {second}" if row.measure == "mean" else ""
    corrected = f"corrected over {tests} comparisons p {_equals(row.p_holm or 0.0)}"
    verdict = "" if row.holds else ": one such among so many may be chance"
    return f"{where}, {first} is better{than}, by {sign * row.value:.1f} points ({chance}; {corrected}{verdict})."


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"
