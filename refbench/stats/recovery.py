"""Recovery scores: 0 is a trivial answer, 100 the ground truth, with clustered 95 % intervals.

Per metric and set of samples, recovery is a ratio of sums, gain over room, never a mean of
ratios, so that samples with a tiny gap cannot blow it up. An axis is the mean of the recoveries of its
scored metrics, the score the mean of the three axes. Which answer is trivial stands on the metric's
card; where a set's gap is too small to divide by, the metric is not scored there and listed with the
reason (:func:`refbench.stats.gains.too_small` states the rule).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from refbench.errors import RefbenchError
from refbench.schema import AXES, MetricCard, Record
from refbench.stats.bootstrap import MIN_CLUSTERS, RESAMPLES, Floats, clusters, estimate, generator, sums_by
from refbench.stats.gains import Bools, Gains, clipped, gains, too_small

if TYPE_CHECKING:
    import pandas as pd

Names = NDArray[np.object_]

NOT_SCORED = "not scored"
WIDEST = 100.0
"""A 95 % interval that holds 0 and is ± more than this, the way from the trivial answer to the truth, says nothing
about a recovery or a difference of two."""
METHOD = "symmetric studentised bootstrap over source_id, stratified by category"


class Cell(Record):
    """One number of a table with its 95 % interval, in recovery points (0 trivial, 100 truth)."""

    value: float | None
    """None where nothing can be scored, or its interval says nothing."""
    low: float | None
    """None where there are too few clusters for an interval, see :func:`said`."""
    high: float | None
    reason: str | None = None
    """Why a number is None."""

    @model_serializer(mode="wrap")
    def _without_empty_reason(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        return {key: value for key, value in data.items() if key != "reason" or value is not None}


def said(value: float, low: float, high: float, clusters: int) -> dict[str, Any]:
    """What may be said of a number in recovery points: value, low, high, and the reason for what is None.

    Args:
        low: lower end of its 95 % interval, NaN where the clusters are too few for one.
        clusters: how many have a part in it.
    """
    sources = f"{clusters} source{'' if clusters == 1 else 's'}"
    if not (np.isfinite(low) and np.isfinite(high)):
        reason = f"too few sources: {sources}, an interval needs {MIN_CLUSTERS}"
        return {"value": value, "low": None, "high": None, "reason": reason}
    half = (high - low) / 2
    if low <= 0.0 <= high and half > WIDEST:
        reason = f"says nothing: {sources}, the interval is ±{half:.0f} points, and the whole scale is {WIDEST:.0f}"
        return {"value": None, "low": None, "high": None, "reason": reason}
    return {"value": value, "low": low, "high": high, "reason": None}


class MetricCell(Cell):
    """A metric's recovery on the whole suite, and its own mean."""

    axis: str
    raw_mean: float | None
    """Mean of the metric's own values, failed samples counted with the draft's; None where infinite."""
    samples: int
    """Samples on which the metric is defined."""


class Summary(Record):
    """What a run is worth: axes, their mean, and the same by category, task and mode."""

    axes: dict[str, Cell]
    mean: Cell
    categories: dict[str, dict[str, Cell]]
    """Category -> axis or "mean" -> cell."""
    tasks: dict[str, dict[str, Cell]]
    modes: dict[str, dict[str, Cell]]
    others: dict[str, dict[str, dict[str, Cell]]] = Field(default_factory=dict)
    """The same by further columns of the metadata that were asked for: column -> name -> axis or "mean" -> cell."""
    metrics: dict[str, MetricCell]
    unscored: dict[str, str]
    """Metric -> why it enters no axis."""
    unscored_in: dict[str, dict[str, str]]
    """"category text", "task ...", "mode ..." -> metric -> why it is left out there only."""
    filled: dict[str, int]
    """Metric -> number of measured samples that lack it and took the worse of draft and trivial answer."""
    samples: int
    failed: int
    clusters: int
    seed: int
    resamples: int
    method: str = METHOD


def summarise(
    scores: pd.DataFrame,
    answers: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    views: Sequence[str] = ("category", "task", "mode"),
) -> Summary:
    """Recovery of one run with intervals.

    Args:
        scores: rows (sample, metric, region, axis, value, higher_is_better, card); failed samples have none.
        answers: the same with `answer` in draft, paste, stretch, target: the trivial answers and the truth.
        metas: rows (sample, task, category, mode, source_id) of the planned samples.
        cards: metric name -> card.
        seed: of the bootstrap; equal seeds give equal intervals.
        resamples: bootstrap resamples of whole clusters (source_id), all metrics together.
        views: columns of `metas` to break the numbers down by.

    Raises:
        RefbenchError: scores that do not belong to the plan or to these cards, twice the same row, NaN.
    """
    if not len(metas):
        raise RefbenchError(
            "Expected at least one planned sample to summarise, but there is none; choose a larger --limit."
        )
    table = gains(scores, answers, list(metas["sample"]), cards)
    sources, categories = (metas[name].astype(str).to_numpy(object) for name in ("source_id", "category"))
    one = _Sets(table, cards, sources, categories, seed, resamples)
    everything = np.ones(len(table.samples), dtype=bool)
    scored, unscored = one.scored(everything)
    cells, by_metric = one.cells(everything, scored, "all")
    groups: dict[str, dict[str, dict[str, Cell]]] = {}
    unscored_in: dict[str, dict[str, str]] = {}
    for kind in dict.fromkeys(("category", "task", "mode", *views)):
        column = metas[kind].astype(str).to_numpy(object)
        groups[kind] = {}
        for name in dict.fromkeys(column) if kind in views else ():
            inside = column == name
            here, why = one.scored(inside)
            groups[kind][name] = one.cells(inside, here, f"{kind} {name}")[0]
            only_here = {metric: reason for metric, reason in why.items() if metric not in unscored}
            if only_here:
                unscored_in[f"{kind} {name}"] = only_here
    filled = {name: int(table.filled[:, m].sum()) for m, name in enumerate(table.metrics) if table.filled[:, m].any()}
    return Summary(
        axes={axis: cells[axis] for axis in AXES},
        mean=cells["mean"],
        categories=groups["category"],
        tasks=groups["task"],
        modes=groups["mode"],
        others={kind: cells for kind, cells in groups.items() if kind not in ("category", "task", "mode")},
        metrics=by_metric,
        unscored=unscored,
        unscored_in=unscored_in,
        filled=filled,
        samples=len(table.samples),
        failed=int(table.failed.sum()),
        clusters=len(set(sources)),
        seed=seed,
        resamples=resamples,
    )


def whole_cells(
    table: Gains, metas: pd.DataFrame, cards: Mapping[str, MetricCard], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Cell]:
    """Axes and "mean" on all samples of one run, as :func:`summarise` gives them."""
    sources, categories = (metas[name].astype(str).to_numpy(object) for name in ("source_id", "category"))
    one = _Sets(table, cards, sources, categories, seed, resamples)
    everything = np.ones(len(table.samples), dtype=bool)
    return one.cells(everything, one.scored(everything)[0], "all")[0]


def scored_metrics(
    table: Gains, cards: Mapping[str, MetricCard], inside: Bools
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics that score a set of samples, and why the others do not.

    Args:
        inside: (S,) true for the samples of the set.
    """
    scored, why = [], dict(table.unmeasured)
    for m, name in enumerate(table.metrics):
        reason = None if cards[name].scored else cards[name].note or "its card says it is not scored"
        reason = reason or too_small(table.gap[inside, m], table.defined[inside, m], cards[name])
        if reason:
            why[name] = reason
        else:
            scored.append(name)
    return tuple(scored), why


def combinations(scored: Sequence[str], cards: Mapping[str, MetricCard]) -> tuple[tuple[str, ...], Floats]:
    """Coefficients that turn metric recoveries into axes and their mean.

    Returns:
        Names of the statistics (axes that have a scored metric, then "mean" if all three have) and
        their (Q, P) coefficients over `scored`, times 100.
    """
    names, rows = [], []
    for axis in AXES:
        mine = np.array([cards[name].axis == axis for name in scored], dtype=np.float64)
        if mine.any():
            names.append(str(axis))
            rows.append(100.0 * mine / mine.sum())
    if len(rows) == len(AXES):
        names.append("mean")
        rows.append(np.mean(rows, axis=0))
    return tuple(names), np.array(rows).reshape(len(rows), len(scored))


class _Sets:
    """Cells of any subset of the samples of one run."""

    def __init__(
        self,
        table: Gains,
        cards: Mapping[str, MetricCard],
        sources: Names,
        categories: Names,
        seed: int,
        resamples: int,
    ) -> None:
        self.table, self.cards, self.sources, self.categories = table, cards, sources, categories
        self.seed, self.resamples = seed, resamples

    def scored(self, inside: Bools) -> tuple[tuple[str, ...], dict[str, str]]:
        return scored_metrics(self.table, self.cards, inside)

    def cells(self, inside: Bools, scored: Sequence[str], name: str) -> tuple[dict[str, Cell], dict[str, MetricCell]]:
        table, columns = self.table, self.table.columns(scored)
        names, rows = combinations(scored, self.cards)
        codes, strata = clusters(list(self.sources[inside]), list(self.categories[inside]))
        tops = sums_by(codes, len(strata), table.gain[inside][:, columns])
        bottoms = sums_by(codes, len(strata), table.room[inside][:, columns])
        single = 100.0 * np.eye(len(scored)) if name == "all" else np.zeros((0, len(scored)))
        found = estimate(
            tops,
            bottoms,
            np.vstack([rows, single]),
            strata,
            rng=generator(self.seed, name),
            resamples=self.resamples,
        )
        parts = (found.value, found.low, found.high, found.clusters)
        numbers = [said(*row) for row in zip(*(column.tolist() for column in parts), strict=True)]
        nothing: dict[str, Any] = {"value": None, "low": None, "high": None, "reason": NOT_SCORED}
        cells = {key: Cell(**nothing) for key in (*AXES, "mean")}
        cells |= {key: Cell(**numbers[i]) for i, key in enumerate(names)}
        by_metric = {}
        for m, metric in enumerate(table.metrics if name == "all" else ()):
            raw = table.raw[table.defined[:, m], m]
            mean = float(raw.mean()) if len(raw) else float("nan")
            at = len(names) + list(scored).index(metric) if metric in scored else None
            by_metric[metric] = MetricCell(
                **(numbers[at] if at is not None else nothing),
                axis=self.cards[metric].axis,
                raw_mean=mean if np.isfinite(mean) else None,
                samples=len(raw),
            )
        return cells, by_metric


def per_sample(scores: pd.DataFrame, answers: pd.DataFrame, cards: Mapping[str, MetricCard]) -> pd.DataFrame:
    """Recovery of each measured sample by each metric, clipped to [-100, 100].

    Samples whose own gap is under the metric's floor (as for sets) have no row: there is nothing to
    divide by. Failed samples have none either.

    Returns:
        DataFrame[sample, metric, axis, recovery].
    """
    import pandas as pd

    table = gains(scores, answers, list(dict.fromkeys(scores["sample"])), cards)
    single = clipped(table, cards)
    rows = [
        (table.samples[s], table.metrics[m], cards[table.metrics[m]].axis, float(single[s, m]))
        for m, s in np.argwhere(np.isfinite(single.T))
    ]
    return pd.DataFrame(rows, columns=["sample", "metric", "axis", "recovery"])
