"""Places and ratings of models on the same samples.

*Places* are ranges: from the joint bootstrap of all pairwise differences comes one critical value q, the
95 % quantile of the largest |t*| over all pairs, so that all claims "i is better than j" hold together
with 95 % confidence (Mogstad, Romano, Shaikh, Wilhelm 2024, "Inference for ranks", Review of Economic
Studies 91). The draws are those of :mod:`refbench.stats.compare`, and what is claimed here is claimed there
where the pair is looked at alone. A model's best place is 1 + the number of models that are better than it
in this sense, its worst place is the number of models it is not better than; it shares a place with those
in between.

*Ratings* (:mod:`refbench.stats.rating`) depend on who takes part, so they are computed for each set
anew and never filtered from a larger one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.schema import MetricCard, Record
from refbench.stats.bootstrap import (
    LEVEL,
    MOST,
    RESAMPLES,
    Estimates,
    Floats,
    clusters,
    estimate,
    generator,
    resample,
    sums_by,
)
from refbench.stats.compare import PAIRED, SCORES, TIE, tables
from refbench.stats.gains import Bools, Gains, sample_scores
from refbench.stats.rating import bradley_terry
from refbench.stats.recovery import unscored

if TYPE_CHECKING:
    import pandas as pd


class Standing(Record):
    """Where one model stands among the others, by the score."""

    model: str
    score: float
    best_place: int
    worst_place: int
    better_than: tuple[str, ...]
    """Models it is better than, all such claims holding together with 95 % confidence."""
    rating: float
    """Bradley-Terry rating on the Elo scale, mean 1000."""
    rating_low: float | None
    rating_high: float | None
    wins: int
    ties: int
    losses: int
    against: dict[str, tuple[int, int, int]]
    """Other model -> samples won, tied and lost against it; all that a rating is made of."""


class Ranking(Record):
    """All standings, best score first."""

    standings: tuple[Standing, ...]
    quantile: float | None
    """Critical value of the joint bootstrap over all pairs."""
    tie_share: float
    samples: int
    seed: int
    resamples: int


def rank(
    runs: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    unavailable: Mapping[str, str] | None = None,
) -> Ranking:
    """Rank ranges and Bradley-Terry ratings of all runs, which share one plan, by the score.

    Where no score is measured (a suite without targets) by the first axis that is.

    Args:
        unavailable: metric -> why it could not be measured in these runs.

    Raises:
        RefbenchError: no run, other samples or metrics, or an axis that nothing scores.
    """
    if not runs:
        raise RefbenchError("Expected at least one run to rank, but none came; name a run folder.")
    found = tables(runs, baselines, metas, cards, unavailable)
    names = list(found)
    everything = np.ones(len(metas), dtype=bool)
    by = found[names[0]].by
    place = places(found, metas, everything, by, seed=seed, resamples=resamples)
    if place is None:
        why = unscored(found[names[0]], cards, everything)
        raise RefbenchError(
            "Expected every axis to have a scored metric, but one has none; "
            f"not scored: {', '.join(sorted(why)) or 'nothing'}; measure more samples or metrics."
        )
    pairs = list(itertools.combinations(range(len(names)), 2))
    codes, strata = clusters(list(metas["source_id"].astype(str)), list(metas["category"].astype(str)))
    scores = np.stack([sample_scores(found[name])[:, SCORES.index(by)] for name in names])
    counts = duels(scores, pairs)
    per_cluster = sums_by(codes, len(strata), counts)
    draws = resample(np.zeros_like(strata), min(resamples, 1000), generator(seed, "ratings"))
    ratings, low, high, tie_share = bradley_terry(per_cluster, pairs, len(names), draws)
    better, value = place.better, place.value
    standings = []
    for i in sorted(range(len(names)), key=lambda k: (-value[k], names[k])):
        against = _against(counts.sum(0), pairs, names, i)
        standings.append(
            Standing(
                model=names[i],
                score=float(value[i]),
                best_place=1 + int(better[:, i].sum()),
                worst_place=len(names) - int(better[i].sum()),
                better_than=tuple(names[j] for j in np.flatnonzero(better[i])),
                rating=float(ratings[i]),
                rating_low=float(low[i]) if np.isfinite(low[i]) else None,
                rating_high=float(high[i]) if np.isfinite(high[i]) else None,
                wins=sum(one[0] for one in against.values()),
                ties=sum(one[1] for one in against.values()),
                losses=sum(one[2] for one in against.values()),
                against=against,
            )
        )
    return Ranking(
        standings=tuple(standings),
        quantile=place.quantile if np.isfinite(place.quantile) else None,
        tie_share=tie_share,
        samples=len(metas),
        seed=seed,
        resamples=resamples,
    )


@dataclass(frozen=True, slots=True)
class Places:
    """Who is better than whom by one measure on one set of samples."""

    value: Floats
    """(N,) recoveries."""
    better: Bools
    """(N, N) true where the row's model is better than the column's; all claims together hold with 95 % confidence."""
    quantile: float
    """Critical value of the joint bootstrap; NaN for a single model."""

    @property
    def leaders(self) -> Bools:
        """(N,) true for the models that none is better than."""
        return np.asarray(~self.better.any(axis=0))


def places(
    found: Mapping[str, Gains],
    metas: pd.DataFrame,
    inside: Bools,
    measure: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Places | None:
    """Compare N models on a set of samples by one axis or the mean; None where it is not scored there.

    Args:
        found: model -> gains on one plan, see :func:`refbench.stats.compare.tables`.
        metas: rows (sample, category, source_id) of the plan, in the gains' order.
        inside: (S,) true for the samples of the set.
        measure: an axis, or "mean".
    """
    names = list(found)
    first = found[names[0]]
    if measure not in first.measured(inside):
        return None
    sources, categories = (metas[key].astype(str).to_numpy(object)[inside] for key in ("source_id", "category"))
    codes, strata = clusters(list(sources), list(categories))
    tops = [sums_by(codes, len(strata), found[name].parts([measure])[0][inside]) for name in names]
    bottom = sums_by(codes, len(strata), first.parts([measure])[1][inside])
    pairs = list(itertools.combinations(range(len(names)), 2))
    single = 100.0 * np.eye(len(names))
    rows = np.vstack([single, *(single[i] - single[j] for i, j in pairs)])
    joint = estimate(
        np.hstack(tops),
        np.tile(bottom, (1, len(names))),
        rows,
        strata,
        rng=generator(seed, PAIRED),
        resamples=resamples,
    )
    better, quantile = _better(joint, pairs, len(names))
    return Places(joint.value[: len(names)], better, quantile)


def _better(joint: Estimates, pairs: Sequence[tuple[int, int]], count: int) -> tuple[Bools, float]:
    """(N, N) true where row is better than column, and the critical value; pairs follow N single scores in `joint`."""
    better = np.zeros((count, count), dtype=bool)
    if not pairs:
        return better, float("nan")
    value, se = joint.value[count:], joint.se[count:]
    moved = np.abs(joint.draws[:, count:] - value)
    errors = joint.draws_se[:, count:]
    spread = se > 1e-12
    usable = np.isfinite(moved).all(1) & np.isfinite(errors).all(1)
    t = np.divide(moved, errors, out=np.where(moved > 1e-9, np.inf, 0.0), where=errors > 1e-9 * se)
    largest = np.where(spread, t, 0.0)[usable].max(1) if usable.any() else np.array([np.nan])
    q = float(np.quantile(largest, LEVEL, method="higher"))
    single = joint.quantile[count:]
    if not np.isfinite(single).any():
        return better, float("nan")
    limit = MOST * float(np.nanmax(single))
    q = min(q, limit) if np.isfinite(q) else limit
    for k, (i, j) in enumerate(pairs):
        if abs(value[k]) > max(q, single[k]) * se[k]:  # never where the pair has no interval: NaN is not exceeded
            better[(i, j) if value[k] > 0 else (j, i)] = True
    return better, q


def duels(scores: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Per-sample outcomes of every pair: (S, 3 * pairs) zeros and ones, in the order win, tie, loss.

    Args:
        scores: (N, S) scores of N models; NaN means that the sample cannot be scored.
    """
    out = np.zeros((scores.shape[1], 3 * len(pairs)))
    for k, (i, j) in enumerate(pairs):
        apart = scores[i] - scores[j]
        out[:, 3 * k] = apart >= TIE
        out[:, 3 * k + 1] = np.abs(apart) < TIE
        out[:, 3 * k + 2] = apart <= -TIE
    return out


def _against(
    total: Floats, pairs: Sequence[tuple[int, int]], names: Sequence[str], model: int
) -> dict[str, tuple[int, int, int]]:
    found = {}
    for k, (i, j) in enumerate(pairs):
        win, tie, loss = (int(count) for count in total[3 * k : 3 * k + 3])
        if model == i:
            found[names[j]] = (win, tie, loss)
        elif model == j:
            found[names[i]] = (loss, tie, win)
    return found
