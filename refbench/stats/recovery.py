"""Recovery scores: 0 is a trivial answer, 100 the ground truth, with clustered 95 % intervals.

How a sample's metrics become its axes and its score stands in :mod:`refbench.stats.gains`. Of a set of samples each is
a ratio of sums, what the model won over what the truth wins, never a mean of ratios, so that samples with little to win
cannot blow it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from refbench.errors import RefbenchError
from refbench.schema import AXES, PIXEL, SCORE_VERSION, MetricCard, Record
from refbench.stats.bootstrap import MIN_CLUSTERS, RESAMPLES, Floats, Ints, clusters, estimate, generator, sums_by
from refbench.stats.gains import MEASURES, NO_TARGETS, Bools, Gains, gains

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
    """What a run is worth: axes, score, and the same by category, task and mode."""

    score_version: int
    """:data:`refbench.schema.SCORE_VERSION` that the numbers are of."""
    axes: dict[str, Cell]
    mean: Cell
    """The score: a weighted mean of texture fidelity and reference alignment, times local consistency."""
    pixel_fidelity: Cell
    """Beside the score: every pixel at its place, as published tables have it."""
    categories: dict[str, dict[str, Cell]]
    """Category -> axis, "mean" or "pixel_fidelity" -> cell."""
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

    def cell(self, measure: str) -> Cell:
        """The number of an axis, of "mean" or of "pixel_fidelity", on all samples."""
        beside = {"mean": self.mean, PIXEL: self.pixel_fidelity}
        return beside[measure] if measure in beside else self.axes[measure]


def summarise(
    scores: pd.DataFrame | Sequence[pd.DataFrame],
    baselines: pd.DataFrame,
    metas: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    views: Sequence[str] = ("category", "task", "mode"),
    unavailable: Mapping[str, str] | None = None,
) -> Summary:
    """Recovery of one run with intervals.

    Args:
        scores: rows (sample, metric, region, axis, value, higher_is_better, card); failed samples have none. Of a run
            that was repeated with other seeds, the rows of each repetition.
        baselines: the same with `answer` in draft, paste, stretch, target: the baselines and the truth.
        metas: rows (sample, task, category, mode, source_id) of the planned samples.
        cards: metric name -> card.
        seed: of the bootstrap; equal seeds give equal intervals.
        resamples: bootstrap resamples of whole clusters (source_id), all metrics together.
        views: columns of `metas` to break the numbers down by.
        unavailable: metric -> why it could not be measured in this run; what lacks a scoring one has no number, see
            :func:`refbench.stats.gains.withheld`.

    Raises:
        RefbenchError: scores that do not belong to the plan or to these cards, twice the same row, NaN.
    """
    if not len(metas):
        raise RefbenchError(
            "Expected at least one planned sample to summarise, but there is none; choose a larger --limit."
        )
    runs = list(scores) if isinstance(scores, Sequence) else [scores]
    tables = [gains(run, baselines, list(metas["sample"]), cards, unavailable) for run in runs]
    table = tables[0]
    if any(other.metrics != table.metrics for other in tables):
        raise RefbenchError(
            "Expected the same metrics in each repetition, but they differ; run 'refbench measure' on each run again."
        )
    sources, categories = (metas[name].astype(str).to_numpy(object) for name in ("source_id", "category"))
    one = _Sets(tables, cards, sources, categories, seed, resamples)
    everything = np.ones(len(table.samples), dtype=bool)
    unscored = one.unscored(everything)
    cells, by_metric = one.cells(everything, "all")
    groups: dict[str, dict[str, dict[str, Cell]]] = {}
    unscored_in: dict[str, dict[str, str]] = {}
    for kind in dict.fromkeys(("category", "task", "mode", *views)):
        column = metas[kind].astype(str).to_numpy(object)
        groups[kind] = {}
        for name in dict.fromkeys(column) if kind in views else ():
            inside = column == name
            groups[kind][name] = one.cells(inside, f"{kind} {name}")[0]
            only_here = {metric: why for metric, why in one.unscored(inside).items() if metric not in unscored}
            if only_here:
                unscored_in[f"{kind} {name}"] = only_here
    lacking = {name: sum(int(t.filled[:, m].sum()) for t in tables) for m, name in enumerate(table.metrics)}
    filled = {name: count for name, count in lacking.items() if count}
    return Summary(
        score_version=SCORE_VERSION,
        axes={axis: cells[axis] for axis in AXES},
        mean=cells["mean"],
        pixel_fidelity=cells[PIXEL],
        categories=groups["category"],
        tasks=groups["task"],
        modes=groups["mode"],
        others={kind: cells for kind, cells in groups.items() if kind not in ("category", "task", "mode")},
        metrics=by_metric,
        unscored=unscored,
        unscored_in=unscored_in,
        filled=filled,
        samples=len(table.samples),
        failed=sum(int(t.failed.sum()) for t in tables),
        clusters=len(set(sources)),
        seed=seed,
        resamples=resamples,
    )


def whole_cells(
    table: Gains, metas: pd.DataFrame, cards: Mapping[str, MetricCard], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Cell]:
    """Axes and "mean" on all samples of one run, as :func:`summarise` gives them."""
    sources, categories = (metas[name].astype(str).to_numpy(object) for name in ("source_id", "category"))
    one = _Sets([table], cards, sources, categories, seed, resamples)
    cells = one.cells(np.ones(len(table.samples), dtype=bool), "all")[0]
    return {name: cells[name] for name in (*AXES, "mean")}


def unscored(table: Gains, cards: Mapping[str, MetricCard], inside: Bools) -> dict[str, str]:
    """Metric -> why it enters no axis on a set of samples.

    Args:
        inside: (S,) true for the samples of the set.
    """
    why = dict(table.unmeasured)
    has = table.measured(inside)
    for m, name in enumerate(table.metrics):
        if not cards[name].scored:
            why[name] = cards[name].note or "its card says it is not scored"
        elif not table.defined[inside, m].any():
            why[name] = "not defined on any sample here"
        elif name not in has:
            why[name] = f"the truth is nowhere better than the trivial answer ({cards[name].trivial})"
    return why


class _Sets:
    """Cells of any subset of the samples of one run, or of its repetitions."""

    def __init__(
        self,
        tables: Sequence[Gains],
        cards: Mapping[str, MetricCard],
        sources: Names,
        categories: Names,
        seed: int,
        resamples: int,
    ) -> None:
        self.tables, self.cards, self.sources, self.categories = tables, cards, sources, categories
        self.table = tables[0]
        self.seed, self.resamples = seed, resamples

    def unscored(self, inside: Bools) -> dict[str, str]:
        return unscored(self.table, self.cards, inside)

    def cells(self, inside: Bools, name: str) -> tuple[dict[str, Cell], dict[str, MetricCell]]:
        table = self.table
        names = [n for n in table.measured(inside) if name == "all" or n in MEASURES]
        codes, strata = clusters(list(self.sources[inside]), list(self.categories[inside]))
        won, could = self._sums(names, inside, codes, len(strata))
        found = estimate(
            won,
            could,
            100.0 * np.eye(len(names)),
            strata,
            rng=generator(self.seed, name),
            resamples=self.resamples,
        )
        parts = (found.value, found.low, found.high, found.clusters)
        numbers = [said(*row) for row in zip(*(column.tolist() for column in parts), strict=True)]
        of = dict(zip(names, numbers, strict=True))
        nothing: dict[str, Any] = {"value": None, "low": None, "high": None, "reason": NOT_SCORED}
        without = {key for key, why in table.withheld.items() if NO_TARGETS in why}
        cells = {
            key: Cell(**of.get(key, nothing | {"reason": NO_TARGETS} if key in without else nothing))
            for key in MEASURES
        }
        by_metric = {}
        for m, metric in enumerate(table.metrics if name == "all" else ()):
            raw = np.concatenate([one.raw[one.defined[:, m], m] for one in self.tables])
            mean = float(raw.mean()) if len(raw) else float("nan")
            by_metric[metric] = MetricCell(
                **of.get(metric, nothing),
                axis=self.cards[metric].axis,
                raw_mean=mean if np.isfinite(mean) else None,
                samples=int(table.defined[:, m].sum()),
            )
        return cells, by_metric

    def _sums(self, names: Sequence[str], inside: Bools, codes: Ints, count: int) -> tuple[Floats, Floats]:
        """What each cluster won and could win, (K, P), or (R, K, P) of repetitions."""
        parts = [[sums_by(codes, count, part[inside]) for part in one.parts(names)] for one in self.tables]
        won, could = ([part[which] for part in parts] for which in (0, 1))
        return (won[0], could[0]) if len(parts) == 1 else (np.stack(won), np.stack(could))
