"""What votes say: ratings of the models, and how far score, axes, metrics and other raters agree with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refbench.errors import RefbenchError, unknown_name
from refbench.people.findings import Agreement, Apart, Measure, Rater, Standing
from refbench.people.votes import Vote
from refbench.results.resultset import RunSet
from refbench.stats.agreement import Rate, kendall, preference, rate
from refbench.stats.bootstrap import RESAMPLES, Floats, generator, resample
from refbench.stats.gains import MEASURES, effective, rising
from refbench.stats.rating import bradley_terry

PRIOR = 0.05
"""Wins, ties and losses that each pair of models starts with: enough that one that never lost has a rating; more would
pull models together that met seldom (``benchmarks/raters.py`` has the coverage)."""
OUTCOMES = {"left": 0, "right": 2}
"""Verdict -> what it is for the left one: won, lost; any other is a tie."""


@dataclass(frozen=True)
class _Look:
    """A vote by the models' numbers."""

    vote: Vote
    left: int
    right: int

    @property
    def sample(self) -> str:
        return self.vote.sample

    @property
    def decided(self) -> bool:
        return self.vote.winner is not None


def agreement(
    votes: Sequence[Vote],
    results: RunSet,
    *,
    rater: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    most: int = 24,
) -> Agreement:
    """Hold votes against measured runs.

    Args:
        votes: of any raters, on any results; those on other suites or outputs are left out and counted.
        results: the runs that the votes are about.
        rater: whose votes make standings and measures; None takes all people, or all models where no person voted.
        seed: of the resamples.
        resamples: behind the intervals.
        most: pairs listed in which score and votes differ.

    Raises:
        RefbenchError: no such rater, no vote, or none about these runs.
    """
    if not votes:
        raise RefbenchError("Expected votes, but each was taken back; ask again with 'refbench arena'.")
    looks = [look for vote in votes if (look := _look(vote, results)) is not None]
    if not looks:
        raise RefbenchError(
            f"Expected votes on outputs of these runs, but all {len(votes)} are on other suites or outputs; name the "
            "runs that 'refbench arena' was started with."
        )
    names = sorted({look.vote.rater for look in looks}, key=lambda name: (name.startswith("model:"), name))
    people = [name for name in names if not name.startswith("model:")]
    if rater is not None and rater not in names:
        raise unknown_name("rater", rater, names)
    counted = [rater] if rater is not None else people or names
    firsts = [look for look in looks if look.vote.rater in counted and not look.vote.repeat]
    if not firsts:
        raise RefbenchError(f"Expected votes of {', '.join(counted)} that are no repetitions, but there are none.")

    def rated(rows: Iterable[tuple[str, float]]) -> Rate:
        found = list(rows)
        return rate([right for _, right in found], [name for name, _ in found], seed=seed, resamples=resamples)

    values = _values(results)
    standings, tie_share, rating = _standings(firsts, results, seed, resamples)
    return Agreement(
        suite=results.suite.hash,
        votes=len(firsts),
        samples=len({look.sample for look in firsts}),
        raters=tuple(_rater(name, looks, values[results.by], rated) for name in names),
        counted=tuple(counted),
        left_out=len(votes) - len(looks),
        standings=standings,
        tie_share=tie_share,
        itself=rated(pair for name in counted for pair in _with_itself(looks, name)),
        one_another=rated(_with_others(looks, counted, counted)),
        judges=rated(_with_others(looks, [name for name in names if name not in people], people)),
        measures=tuple(_measure(name, values[name], firsts, results, rating, rated) for name in values),
        apart=_apart(firsts, values[results.by], results, most),
    )


def _look(vote: Vote, results: RunSet) -> _Look | None:
    if vote.suite != results.suite.hash or vote.sample not in results.metas:
        return None
    sides = [
        _model(vote.sample, sha, name, results)
        for sha, name in ((vote.left_sha256, vote.left), (vote.right_sha256, vote.right))
    ]
    left, right = sides
    return None if left is None or right is None or left == right else _Look(vote, left, right)


def _model(sample: str, sha: str, name: str, results: RunSet) -> int | None:
    """Which run has this output; of several, that of the name."""
    held = [
        k
        for k, run in enumerate(results.models)
        if (record := run.records.get(sample)) is not None and record.status == "ok" and record.sha256 == sha
    ]
    return next((k for k in held if results.names[k] == name), held[0] if held else None)


def _values(results: RunSet) -> dict[str, tuple[str, dict[str, Floats], Floats]]:
    """Measure or metric -> (kind, sample -> (N,) value by model with more the better, (N,) of all samples)."""
    found: dict[str, tuple[str, dict[str, Floats], Floats]] = {}
    tables = [results.gains[name] for name in results.names]
    samples = list(results.metas)

    def add(name: str, kind: str, columns: list[Floats], whole: list[float]) -> None:
        table = np.stack(columns, axis=1)
        if np.isfinite(table).any():
            found[name] = kind, dict(zip(samples, table, strict=True)), np.array(whole)

    for measure in MEASURES:
        if measure in results.withheld:
            continue
        at = MEASURES.index(measure)
        cells = [run.numbers.cell(measure).value for run in results.models]
        columns = [np.where(table.could[:, at] > 0, 100.0 * table.won[:, at], np.nan) for table in tables]
        add(measure, "measure", columns, [np.nan if cell is None else cell for cell in cells])
    for metric in tables[0].metrics:
        if any(metric not in table.metrics for table in tables):
            continue
        card = results.cards[metric]
        sign = 1.0 if rising(card) else -1.0
        columns = [sign * effective(table.raw[:, table.metrics.index(metric)], card) for table in tables]
        with np.errstate(all="ignore"):
            add(metric, "metric", columns, [float(np.mean(column[np.isfinite(column)])) for column in columns])
    return found


Values = tuple[str, dict[str, Floats], Floats]
Rated = Callable[[Iterable[tuple[str, float]]], Rate]


def _right(looks: Iterable[_Look], values: Values) -> list[tuple[str, float]]:
    """(sample, 1, 0.5 or 0) of the votes that are no tie: whether the values prefer what the vote prefers."""
    rows = []
    for look in looks:
        if look.decided:
            row = values[1][look.sample]
            chosen, other = (look.left, look.right) if look.vote.verdict == "left" else (look.right, look.left)
            rows.append((look.sample, float(preference(row[chosen : chosen + 1], row[other : other + 1])[0])))
    return rows


def ratings(
    looks: Sequence[tuple[str, int, int, str]], count: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Floats, Floats, Floats, float]:
    """Bradley-Terry ratings with ties of N models; results as :func:`refbench.stats.rating.bradley_terry`.

    Args:
        looks: (sample, model on the left, on the right, verdict) of each vote.
        count: N.
        seed: of the resamples, which are over whole samples.
        resamples: their number.
    """
    pairs = list(itertools.combinations(range(count), 2))
    number = {pair: k for k, pair in enumerate(pairs)}
    clusters = {sample: k for k, sample in enumerate(sorted({sample for sample, *_ in looks}))}
    counts = np.zeros((len(clusters), 3 * len(pairs)))
    for sample, left, right, verdict in looks:
        outcome = OUTCOMES.get(verdict, 1)
        low, high = sorted((left, right))
        counts[clusters[sample], 3 * number[low, high] + (outcome if left < right else 2 - outcome)] += 1
    weights = resample(np.zeros(len(clusters), dtype=np.int64), resamples, generator(seed, "agreement", "ratings"))
    return bradley_terry(counts, pairs, count, weights, prior=PRIOR)


def _standings(
    looks: Sequence[_Look], results: RunSet, seed: int, resamples: int
) -> tuple[tuple[Standing, ...], float, Floats]:
    count = len(results.names)
    told = [(look.sample, look.left, look.right, look.vote.verdict) for look in looks]
    values, low_ends, high_ends, ties = ratings(told, count, seed=seed, resamples=resamples)
    tally = np.zeros((count, 3), dtype=np.int64)
    for _, left, right, verdict in told:
        outcome = OUTCOMES.get(verdict, 1)
        tally[left, outcome] += 1
        tally[right, 2 - outcome] += 1
    places = {one.model: one for one in results.rank().standings}
    rows = []
    for k, name in enumerate(results.names):
        ends = [None if np.isnan(end[k]) else float(end[k]) for end in (low_ends, high_ends)]
        place = places.get(name)
        rows.append(
            Standing(
                model=name,
                rating=float(values[k]),
                low=ends[0],
                high=ends[1],
                wins=int(tally[k, 0]),
                ties=int(tally[k, 1]),
                losses=int(tally[k, 2]),
                score=place.score if place else None,
                best_place=place.best_place if place else None,
                worst_place=place.worst_place if place else None,
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.rating)), ties, values


def _measure(
    name: str, values: Values, looks: Sequence[_Look], results: RunSet, rating: Floats, rated: Rated
) -> Measure:
    def by(part: str) -> dict[str, Rate]:
        groups: dict[str, list[_Look]] = {}
        for look in looks:
            groups.setdefault(getattr(results.metas[look.sample], part), []).append(look)
        return {group: rated(_right(groups[group], values)) for group in sorted(groups)}

    return Measure(
        name=name, kind=values[0], overall=rated(_right(looks, values)), tau=kendall(rating, values[2]),
        tasks=by("task"), modes=by("mode"),
    )  # fmt: skip


def _rater(name: str, looks: Sequence[_Look], score: Values, rated: Rated) -> Rater:
    mine = [look for look in looks if look.vote.rater == name and not look.vote.repeat]
    of = [look.vote for look in mine]
    return Rater(
        name=name,
        votes=len(of),
        ties=float(np.mean([vote.winner is None for vote in of])) if of else 0.0,
        bad=float(np.mean([vote.verdict == "bad" for vote in of])) if of else 0.0,
        seconds=float(np.median([vote.seconds for vote in of])) if of else 0.0,
        itself=rated(_with_itself(looks, name)),
        others=rated(_with_others(looks, [name], sorted({look.vote.rater for look in looks} - {name}))),
        score=rated(_right(mine, score)),
    )


def _with_itself(looks: Sequence[_Look], name: str) -> list[tuple[str, float]]:
    """(sample, same side preferred) of the pairs that a rater had twice and did not call a tie."""
    mine = [look.vote for look in looks if look.vote.rater == name]
    first = {vote.pair: vote.winner for vote in reversed(mine) if not vote.repeat}
    again = [vote for vote in mine if vote.repeat and vote.winner is not None and first.get(vote.pair) is not None]
    return [(vote.sample, float(vote.winner == first[vote.pair])) for vote in again]


def _with_others(looks: Sequence[_Look], these: Sequence[str], those: Sequence[str]) -> list[tuple[str, float]]:
    """(sample, same side preferred) of the pairs that one of `these` and another of `those` both decided."""
    groups: dict[Any, dict[str, str]] = {}
    for look in looks:
        if look.vote.winner is not None and not look.vote.repeat:
            groups.setdefault(look.vote.pair, {}).setdefault(look.vote.rater, look.vote.winner)
    rows = []
    for (sample, _), said in groups.items():
        couples = {frozenset((a, b)) for a in these for b in those if a != b and a in said and b in said}
        rows += [(sample, float(len({said[one] for one in couple}) == 1)) for couple in couples]
    return sorted(rows)


def _apart(looks: Sequence[_Look], score: Values, results: RunSet, most: int) -> tuple[Apart, ...]:
    votes: dict[tuple[str, int, int], list[int]] = {}
    for look in looks:
        if look.decided:
            low, high = sorted((look.left, look.right))
            for_low = (look.vote.verdict == "left") == (look.left == low)
            votes.setdefault((look.sample, low, high), [0, 0])[0 if for_low else 1] += 1
    found = []
    for (sample, low, high), (one, two) in votes.items():
        better, worse = (low, high) if one > two else (high, low)
        points = score[1][sample]
        if one != two and points[better] < points[worse]:
            found.append(
                Apart(
                    sample=sample,
                    better=results.names[better],
                    worse=results.names[worse],
                    votes_better=max(one, two),
                    votes_worse=min(one, two),
                    points_better=float(points[better]),
                    points_worse=float(points[worse]),
                )
            )
    return tuple(sorted(found, key=lambda one: (one.points_better - one.points_worse, one.sample))[:most])
