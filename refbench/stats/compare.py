"""Two models on the same samples: paired differences, what they are worth, and what may be concluded.

A difference of two recoveries has the same denominators on both sides, so it is a plain sum of one
contribution a cluster. Its interval is the studentised bootstrap of :mod:`refbench.stats.bootstrap`;
its p value comes from a permutation: if the two models were interchangeable, each cluster's
contribution could as well have had the other sign (all 2^K sign patterns up to K = 13 clusters, else
10,000 drawn ones); the statistic is studentised within categories, as the interval is.

Holm's step-down correction holds the chance of any false claim at 5 % within a family: all pairs of the
comparison times all rows of one view (overall, category, task, mode, metric).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from refbench.errors import RefbenchError
from refbench.schema import AXES, MetricCard, Record
from refbench.stats.bootstrap import RESAMPLES, Floats, Ints, clustered_errors, clusters, estimate, generator, sums_by
from refbench.stats.gains import Bools, Gains, gains, sample_scores
from refbench.stats.recovery import combinations, scored_metrics

if TYPE_CHECKING:
    import pandas as pd

PERMUTATIONS = 10_000
EXACT_CLUSTERS = 13
ALPHA = 0.05
TIE = 1.0
"""Two answers to one sample tie if their scores are less than this many recovery points apart."""
POWER_Z = 0.8416
"""80 % quantile of the normal: the detectable difference is found in four of five repetitions."""
View = Literal["overall", "category", "task", "mode", "metric"]
VIEWS: tuple[View, ...] = ("overall", "category", "task", "mode", "metric")


class Difference(Record):
    """Recovery of `a` minus recovery of `b` on one set of samples, in recovery points."""

    view: View
    name: str
    """Which category, task, mode or metric; "all" for the overall view."""
    measure: str
    """An axis, "mean", or "recovery" for a single metric."""
    value: float
    low: float | None
    high: float | None
    effect: float | None
    """Difference over the standard deviation of the clusters' contributions (paired Cohen's d)."""
    p: float
    p_holm: float
    """After Holm's correction over the family of this view."""
    detectable: float | None
    """Smallest true difference that this set of samples would show (5 % level, 80 % power)."""
    clusters: int
    better: Literal["a", "b", "undecided"]


class Duel(Record):
    """How often `a` was better than, as good as, and worse than `b`, sample by sample."""

    wins: int
    ties: int
    losses: int

    @property
    def superiority(self) -> float:
        """Probability that `a` answers a random sample better than `b`, ties counted half."""
        return (self.wins + self.ties / 2) / max(self.wins + self.ties + self.losses, 1)


class Apart(Record):
    """One sample on which the two differ: scores are means of the axes' clipped recoveries."""

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
    pairs: tuple[Pair, ...]
    families: dict[str, int]
    """View -> number of tests that Holm's correction counts."""
    unscored: dict[str, str]
    withheld: dict[str, str] = Field(default_factory=dict)
    """Axis or "mean" -> which scoring metrics were not measured, and why, so that it is not compared."""
    samples: int
    clusters: int
    seed: int
    resamples: int
    permutations: int
    tie: float = TIE
    method: str = (
        "paired; intervals: symmetric studentised bootstrap over source_id, stratified by category; "
        "p: sign-flip permutation over source_id, Holm-corrected within each view"
    )


def tables(
    runs: Mapping[str, pd.DataFrame],
    answers: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    unavailable: Mapping[str, str] | None = None,
) -> dict[str, Gains]:
    """The gains of several runs on one plan, refused unless the same metrics were measured in all.

    Raises:
        RefbenchError: with the metrics that some runs lack.
    """
    samples = list(metas["sample"])
    found = {name: gains(scores, answers, samples, cards, unavailable) for name, scores in runs.items()}
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
    answers: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    most: int = 10,
    views: Sequence[View] = VIEWS,
    unavailable: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two or more runs, every pair of them.

    Args:
        runs: model name -> scores (as for :func:`refbench.stats.recovery.summarise`).
        answers: scores of the trivial answers and the truth.
        metas: rows (sample, task, category, mode, source_id) of the plan that the runs share.
        cards: metric definitions.
        seed: of resamples and permutations.
        most: how many samples where a pair differs most are listed.
        views: which to compute; "overall" and "metric" always come together.
        unavailable: metric -> why it could not be measured in these runs.

    Raises:
        RefbenchError: fewer than two runs, other samples, other metrics or other metric cards.
    """
    if len(runs) < 2:
        raise RefbenchError(f"Expected at least two runs to compare, but {len(runs)} came; name another run folder.")
    found = tables(runs, answers, metas, cards, unavailable)
    first = next(iter(found.values()))
    sets = [one for one in _sets(metas) if one[0] in views]
    pairs = list(itertools.combinations(found, 2))
    rows: dict[tuple[str, str], list[dict[str, object]]] = {pair: [] for pair in pairs}
    for view, name, inside in sets:
        scored, _ = scored_metrics(first, cards, inside)
        if scored:
            for pair in pairs:
                rows[pair] += _set(
                    found[pair[0]],
                    found[pair[1]],
                    view,
                    name,
                    inside,
                    scored,
                    cards,
                    metas,
                    seed,
                    resamples,
                    permutations,
                )
    families = _correct([row for of_pair in rows.values() for row in of_pair])
    scores = {name: sample_scores(table, cards) for name, table in found.items()}
    return Comparison(
        models=tuple(found),
        pairs=tuple(_pair(a, b, rows[a, b], scores[a], scores[b], first.samples, most) for a, b in pairs),
        families=families,
        unscored=scored_metrics(first, cards, np.ones(len(metas), dtype=bool))[1],
        withheld=first.withheld,
        samples=len(metas),
        clusters=int(metas["source_id"].nunique()),
        seed=seed,
        resamples=resamples,
        permutations=permutations,
    )


def _sets(metas: pd.DataFrame) -> list[tuple[View, str, Bools]]:
    sets: list[tuple[View, str, Bools]] = [("overall", "all", np.ones(len(metas), dtype=bool))]
    for view in ("category", "task", "mode"):
        column = metas[view].astype(str).to_numpy(object)
        sets += [(view, name, np.asarray(column == name)) for name in dict.fromkeys(column)]
    return sets


def _set(
    a: Gains,
    b: Gains,
    view: View,
    name: str,
    inside: Bools,
    scored: Sequence[str],
    cards: Mapping[str, MetricCard],
    metas: pd.DataFrame,
    seed: int,
    resamples: int,
    permutations: int,
) -> list[dict[str, object]]:
    columns = a.columns(scored)
    sources, categories = (metas[key].astype(str).to_numpy(object)[inside] for key in ("source_id", "category"))
    codes, strata = clusters(list(sources), list(categories))
    top = sums_by(codes, len(strata), (a.gain - b.gain)[inside][:, columns])
    bottom = sums_by(codes, len(strata), a.room[inside][:, columns])
    measures, weights = combinations(scored, cards, a.withheld)
    labels = [(view, name, measure) for measure in measures]
    if view == "overall":
        weights = np.vstack([weights, 100.0 * np.eye(len(scored))])
        labels += [("metric", metric, "recovery") for metric in scored]
    found = estimate(top, bottom, weights, strata, rng=generator(seed, view, name), resamples=resamples)
    flips = generator(seed, "flip", view, name)
    p = sign_flip(top, bottom, weights, strata, rng=flips, permutations=permutations)
    active = ((bottom != 0).astype(float) @ (weights != 0).T.astype(float) > 0).sum(0)
    rows = []
    for q, (its_view, its_name, measure) in enumerate(labels):
        se, quantile, k = float(found.se[q]), float(found.quantile[q]), int(active[q])
        known = bool(np.isfinite(quantile))
        rows.append(
            {
                "view": its_view,
                "name": its_name,
                "measure": measure,
                "value": float(found.value[q]),
                "low": float(found.low[q]) if known else None,
                "high": float(found.high[q]) if known else None,
                "effect": float(found.value[q] / (se * np.sqrt(k))) if known and se > 0 else None,
                "p": float(p[q]),
                "detectable": (quantile + POWER_Z) * se if known else None,
                "clusters": k,
            }
        )
    return rows


def sign_flip(
    numerators: Floats,
    denominators: Floats,
    combinations: Floats,
    strata: Ints,
    *,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Floats:
    """Two-sided p values of combinations of ratios being 0, by flipping the signs of whole clusters' numerators.

    The statistic is the combination over its clustered, stratified linearisation error (see
    :func:`refbench.stats.bootstrap.estimate`), both taken anew for each sign pattern; any statistic gives a valid
    permutation test, and this one looks at what the interval looks at. For one mean of equally weighted values it is
    the plain sign-flip test of their sum.

    Args:
        numerators: (K, P) differences of the two models' sums in each cluster.
        denominators: (K, P) as for both models.
        combinations: (Q, P) coefficients.
        strata: (K,) numbers 0..H-1.
        permutations: sign patterns to draw where K exceeds ``EXACT_CLUSTERS``; below, all 2^K are used.

    Returns:
        (Q,) share of sign patterns whose statistic is at least as far from 0, the observed one counted.
    """
    count = len(numerators)
    if count <= EXACT_CLUSTERS:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(permutations + 1, count))
        signs[0] = 1.0
    whole = denominators.sum(0)
    share, weight = numerators / whole, denominators / whole
    ratios = signs @ share
    ones = np.ones((1, count))
    p = np.ones(len(combinations))
    for q, row in enumerate(combinations):
        contribution = share @ row
        size = float(np.abs(contribution).sum())
        if size == 0.0:
            continue
        influence = signs * contribution - (ratios * row) @ weight.T
        t = np.abs(ratios @ row) / np.maximum(clustered_errors(ones, influence, strata), 1e-9 * size)
        p[q] = float((t >= t[0] * (1 - 1e-9)).mean())
    return p


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Holm 1979, Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p, kind="stable")
    adjusted, running = [0.0] * len(p), 0.0
    for i, at in enumerate(order):
        running = max(running, min((len(p) - i) * p[at], 1.0))
        adjusted[at] = running
    return adjusted


def _correct(rows: list[dict[str, object]]) -> dict[str, int]:
    """Write p_holm and better into the rows; returns the family sizes."""
    families: dict[str, int] = {}
    for view in VIEWS:
        family = [row for row in rows if row["view"] == view]
        families[view] = len(family)
        for row, adjusted in zip(family, holm([float(row["p"]) for row in family]), strict=True):  # type: ignore[arg-type]
            row["p_holm"] = adjusted
            row["better"] = "undecided" if adjusted >= ALPHA else "a" if float(row["value"]) > 0 else "b"  # type: ignore[arg-type]
    return families


def _pair(
    a: str, b: str, rows: list[dict[str, object]], one: Floats, two: Floats, samples: Sequence[str], most: int
) -> Pair:
    differences = tuple(Difference.model_validate(row) for row in rows)
    duels = {}
    for i, measure in enumerate((*AXES, "mean")):
        apart = (one - two)[:, i]
        apart = apart[np.isfinite(apart)]
        duels[measure] = Duel(
            wins=int((apart >= TIE).sum()), ties=int((np.abs(apart) < TIE).sum()), losses=int((apart <= -TIE).sum())
        )
    gap = np.nan_to_num(one[:, -1] - two[:, -1])
    largest = np.argsort(-np.abs(gap), kind="stable")[:most]
    listed = tuple(
        Apart(sample=samples[s], a=float(one[s, -1]), b=float(two[s, -1]), difference=float(gap[s]))
        for s in largest
        if gap[s] != 0
    )
    return Pair(a=a, b=b, differences=differences, duels=duels, apart=listed, words=_words(a, b, differences, duels))


def _words(a: str, b: str, rows: Sequence[Difference], duels: Mapping[str, Duel]) -> str:
    better, undecided = [], []
    overall = [row for row in rows if row.view == "overall"]
    for row in sorted(overall, key=lambda row: row.measure != "mean"):
        where = "On the whole" if row.measure == "mean" else f"In {row.measure.replace('_', ' ')}"
        chance = f"p = {row.p_holm:.2g}, Holm-corrected"
        if row.better != "undecided":
            sign = 1.0 if row.better == "a" else -1.0
            first, second = (a, b) if row.better == "a" else (b, a)
            than = f" than {second}" if row.measure == "mean" else ""
            ends = sorted(sign * end for end in (row.low, row.high) if end is not None)
            inside = f"95 % interval {ends[0]:.1f} to {ends[1]:.1f}; " if ends else ""
            better.append(f"{where}, {first} is better{than}, by {sign * row.value:.1f} points ({inside}{chance}).")
        elif row.value == 0.0 and row.low == row.high == 0.0:
            undecided.append(f"{where}, the two are equal on every source.")
        else:
            inside = f"; 95 % interval {row.low:.1f} to {row.high:.1f}" if row.low is not None else ""
            least = (
                f" A true difference of {row.detectable or 0.0:.1f} points would be found in four of five such suites."
            )
            undecided.append(
                f"{where}, it is undecided which is better ({a} minus {b}: {row.value:.1f} points{inside}; {chance})."
                + (least if row.detectable is not None else "")
            )
    duel = duels["mean"]
    count = (
        f"Sample by sample, {a} scores higher on {duel.wins} and {b} on {duel.losses}; {duel.ties} are ties (less than "
        f"{TIE:g} point apart)."
    )
    return "\n".join([*better, *undecided, *([count] if duel.wins + duel.ties + duel.losses else [])])
