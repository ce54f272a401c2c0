"""Long-form scores to arrays: what each sample won and what it could win, by metric, by axis and in the score.

By metric, with the sign that makes better positive: gap = truth - trivial answer, gain = value - trivial answer.

- *No tiny gap decides.* Where the card has a `unit` (a typical gap), gain and gap of a sample are divided by its own
  gap or by the unit, whichever is larger, and the gain counts no less than -1. A metric of local consistency asks how
  far a result stays behind the truth, so that its gain is 1 - (truth - value) / that, and its gap 1.
- An axis of a sample is the mean of its scoring metrics' gains over the mean of their gaps, the latter at least
  :data:`LEAST`: where little was to win on the whole axis, little is won.
- The score of a sample is a weighted mean of texture fidelity and reference alignment, the lower of the two by 3/4,
  since a result must be right and be the reference's own thing; times local consistency where it is positive: what is
  put right counts as far as it sits in the picture, what is made worse counts in full. The untouched draft has 0.
- Of a set, each is the ratio of the samples' sums to what the truth itself would have: 0 = trivial, 100 = the truth.

What does not count as it was measured is decided here, once:

- a sample with no row at all *failed*: every metric takes the draft's value;
- a sample that was measured but lacks a metric that its truth has (say, no face was found in the output)
  takes the draft's value or the trivial answer's, whichever is worse, so that nothing missing raises a score;
- a value better than the truth's counts as the truth's: a pasted reference is nearer to the reference than the
  ground truth is, and that must not raise an alignment above 100;
- a sample whose truth is no better than its trivial answer (gap <= 0) has no room: nothing can be gained there, and
  what is lost counts from the truth. So no gain exceeds its room, and no set of samples scores above 100;
- a metric without any row in the run was not measured there and is left out, with that reason;
- on a suite without targets (:data:`NO_TARGETS`) the truth is unknown inside the mask, and a typical one is taken: the
  trivial answer's value and one `unit` more. Outside the mask the draft is the truth. What needs a target is not
  measured: texture and the score have no number there, and consistency is what lies outside;
- a metric that scores and could not be measured at all (what computes it is not installed) leaves its axis, and with it
  the mean, without a number, since fewer metrics would make another number under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refbench.errors import RefbenchError
from refbench.schema import AXES, PIXEL, MetricCard
from refbench.stats.bootstrap import Floats

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]

BASELINES = ("draft", "paste", "stretch", "blend", "target")
"""The baselines and the truth, measured like any run."""
MEASURES = (*AXES, "mean", PIXEL)
"""What a sample has a number for beside its metrics: the axes, the score ("mean"), and pixel fidelity beside it."""
PEGGED = "local_consistency"
"""The axis whose metrics count from the truth."""
LEAST = 0.5
"""Mean gap, in units, that an axis of a sample is divided by at least."""
LOWER = 0.75
"""Weight of the lower one of texture fidelity and reference alignment in the score."""
NO_TARGETS = "the suite has no targets"
"""Why a metric is unavailable on a suite without targets, see :func:`gains`."""
MIN_GAP_TOLERANCES = 10.0
"""A metric without a unit recovers a sample whose gap is at least this many times its own tolerance."""


@dataclass(frozen=True, slots=True)
class Gains:
    """S samples x M metrics of one run, ready for ratios of sums. Undefined entries are 0 and not `defined`."""

    samples: tuple[str, ...]
    metrics: tuple[str, ...]
    gain: Floats
    """(S, M) what was won; at most `room`. In units where the card has one, else in the metric's own values."""
    room: Floats
    """(S, M) what the truth wins, 0 where it is no better than the trivial answer."""
    defined: Bools
    """(S, M) where the baselines have the metric."""
    raw: Floats
    """(S, M) the metric's own value as counted, NaN where undefined."""
    failed: Bools
    """(S,) no row at all."""
    filled: Bools
    """(S, M) measured sample that lacks this metric."""
    unmeasured: dict[str, str]
    """Metric -> why it is not among `metrics`."""
    won: Floats
    """(S, 5) the same by :data:`MEASURES`, 1 = 100 points; 0 where a sample has no such number."""
    could: Floats
    """(S, 5) what the truth has; 0 where a sample has no such number."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Axis or "mean" -> which of its scoring metrics could not be measured, and why, so that it has no number."""

    @property
    def by(self) -> str:
        """What models are ordered by: the score ("mean"), or the first axis that was measured where there is none."""
        return next((one for one in ("mean", *AXES) if one not in self.withheld), "mean")

    def parts(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """What was won and what could be, (S, P) each, by these measures or metrics."""
        at = [MEASURES.index(n) if n in MEASURES else len(MEASURES) + self.metrics.index(n) for n in names]
        won, could = np.hstack([self.won, self.gain]), np.hstack([self.could, self.room])
        return won[:, at], could[:, at]

    def measured(self, inside: Bools) -> tuple[str, ...]:
        """The measures and metrics that have something to win on a set of samples (S,), in order."""
        won = [*(self.could[inside].sum(axis=0) > 0), *(self.room[inside].sum(axis=0) > 0)]
        return tuple(name for name, has in zip((*MEASURES, *self.metrics), won, strict=True) if has)


def effective(values: Any, card: MetricCard) -> Floats:
    """Values as recovery sees them: PSNR (dB) becomes root mean squared error, infinity becomes 0."""
    array = np.asarray(values, dtype=np.float64)
    return np.power(10.0, -array / 20.0) if card.recovery_of == "root_mse" else array


def rising(card: MetricCard) -> bool:
    """Whether the effective value is better when higher."""
    return card.higher_is_better and card.recovery_of == "value"


def _checked(frame: pd.DataFrame, what: str, cards: Mapping[str, MetricCard], keys: list[str]) -> pd.DataFrame:
    needed = [*keys, "value", "card"]
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise RefbenchError(
            f"Expected {what} with the columns {', '.join(needed)}, but {', '.join(lacking)} is not there."
        )
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        raise RefbenchError(
            f"Expected one row for each {' x '.join(keys)} in {what}, but {tuple(twice.iloc[0][keys])} is there twice; "
            "measure the run again."
        )
    frame = frame[frame["metric"].isin(list(cards))]
    numbers = frame["value"].to_numpy(np.float64)
    psnr = frame["metric"].map(lambda name: cards[name].recovery_of == "root_mse").to_numpy(bool)
    wrong = ~np.isfinite(numbers) & ~((numbers == np.inf) & psnr)
    if wrong.any():
        row = frame[wrong].iloc[0]
        raise RefbenchError(
            f"Expected finite values in {what}, but {row['metric']} of {row['sample']} is {row['value']}; "
            "measure it again."
        )
    return frame


def same_cards(scores: pd.DataFrame, baselines: pd.DataFrame) -> None:
    """Refuse scores whose metric cards differ from those of the baselines.

    Raises:
        RefbenchError: with the metrics that differ.
    """
    theirs = scores.groupby("metric")["card"].agg(lambda c: tuple(sorted(set(c)))).to_dict()
    ours = baselines.groupby("metric")["card"].agg(lambda c: tuple(sorted(set(c)))).to_dict()
    differ = sorted(name for name in theirs if name in ours and theirs[name] != ours[name])
    if differ:
        raise RefbenchError(
            f"Expected scores and baselines by the same metric cards, but {', '.join(differ)} differ; "
            "run `refbench measure` on the run again."
        )


def gains(
    scores: pd.DataFrame,
    baselines: pd.DataFrame,
    samples: Sequence[str],
    cards: Mapping[str, MetricCard],
    unavailable: Mapping[str, str] | None = None,
    *,
    measured: Sequence[str] = (),
) -> Gains:
    """Arrange one run's scores beside the baselines.

    Args:
        scores: rows (sample, metric, value, card) of one run; failed samples have none.
        baselines: rows (sample, metric, answer, value, card), answer in :data:`BASELINES`.
        samples: the plan; S ids in order.
        cards: definitions; metrics outside are ignored.
        unavailable: metric -> why it could not be measured in this run, as it stands after "the metric"; with
            :data:`NO_TARGETS` among them, the truth inside the mask is a typical one.
        measured: metrics by which every sample was measured, though no row may say so; none of the samples failed then.

    Raises:
        RefbenchError: rows of samples outside the plan, twice the same row, NaN, other metric cards.
    """
    scores = _checked(scores, "scores", cards, ["sample", "metric"])
    baselines = _checked(baselines, "baselines", cards, ["sample", "metric", "answer"])
    plan = list(samples)
    strange = sorted(set(scores["sample"]) - set(plan))
    if strange:
        raise RefbenchError(
            f"Expected scores of planned samples only, but {len(strange)} others came ({', '.join(strange[:3])}); "
            "they belong to another run."
        )
    same_cards(scores, baselines)
    known, present = set(baselines["metric"].unique()), set(scores["metric"].unique()) | set(measured)
    unmeasured = {name: "its truth was not measured on this suite" for name in cards if name not in known}
    if present:
        unmeasured |= {name: "not measured in this run" for name in cards if name in known - present}
    unmeasured |= {name: why for name, why in (unavailable or {}).items() if name in cards}
    names = tuple(name for name in cards if name not in unmeasured)
    kinds = {kind: _table(baselines[baselines["answer"] == kind], plan, names) for kind in BASELINES}
    value = _table(scores, plan, names)
    shape = (len(plan), len(names))
    answered = scores["sample"].unique() if not measured else plan
    failed = ~np.isin(np.array(plan, dtype=object), answered) if plan else np.zeros(0, dtype=bool)
    gain, room, raw = np.zeros(shape), np.zeros(shape), np.full(shape, np.nan)
    part, whole = np.zeros(shape), np.zeros(shape)
    defined, filled = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    typical = NO_TARGETS in (unavailable or {}).values()
    for m, name in enumerate(names):
        card = cards[name]
        sign = 1.0 if rising(card) else -1.0
        trivial, draft, truth = (effective(kinds[kind][:, m], card) for kind in (card.trivial, "draft", "target"))
        if typical and card.region != "outside":
            truth = trivial + sign * (card.unit or 0.0)
        own = effective(value[:, m], card)
        is_defined = np.isfinite(trivial) & np.isfinite(draft) & np.isfinite(truth)
        lacks = is_defined & ~failed & np.isnan(own)
        of_draft, gap = sign * (draft - trivial), sign * (truth - trivial)
        got = np.where(failed, of_draft, np.where(lacks, np.minimum(of_draft, 0.0), sign * (own - trivial)))
        won, could = _in_units(got, gap, card)
        gain[:, m], room[:, m] = np.where(is_defined, won, 0.0), np.where(is_defined, could, 0.0)
        # Without a unit a sample's own gap is the unit of its axis.
        own_gap = np.where(room[:, m] > 0, room[:, m], 1.0) if card.unit is None else 1.0
        part[:, m], whole[:, m] = np.clip(gain[:, m] / own_gap, -1.0, 1.0), room[:, m] / own_gap
        worse = np.where(of_draft <= 0, kinds["draft"][:, m], kinds[card.trivial][:, m])
        counted = np.where(failed, kinds["draft"][:, m], np.where(lacks, worse, value[:, m]))
        raw[:, m] = np.where(is_defined, counted, np.nan)
        defined[:, m], filled[:, m] = is_defined, lacks
    without = withheld(cards, unavailable or {})
    of_axes: dict[str, tuple[Floats, Floats]] = {
        axis: _axis(part, whole, defined, [m for m, name in enumerate(names) if _scores(cards[name], axis)])
        for axis in (*AXES, PIXEL)
    }
    for axis in (axis for axis in AXES if axis in without):
        of_axes[axis] = np.zeros(len(plan)), np.zeros(len(plan))
    of_axes["mean"] = _mean(of_axes) if not without else (np.zeros(len(plan)), np.zeros(len(plan)))
    won, could = (np.stack([of_axes[name][part] for name in MEASURES], axis=1) for part in (0, 1))
    return Gains(tuple(plan), names, gain, room, defined, raw, failed, filled, unmeasured, won, could, without)


def _scores(card: MetricCard, axis: str) -> bool:
    return card.axis == axis and card.scored


def _in_units(got: Floats, gap: Floats, card: MetricCard) -> tuple[Floats, Floats]:
    """Gain and room (S,) of a metric from value - trivial and truth - trivial."""
    capped = np.minimum(got - np.minimum(gap, 0.0), np.maximum(gap, 0.0))
    if card.unit is None:
        enough = gap >= max(MIN_GAP_TOLERANCES * card.tolerance, 1e-300)
        return np.where(enough, capped, 0.0), np.where(enough, gap, 0.0)
    size = np.maximum(gap, card.unit)
    if card.axis == PEGGED:
        return np.clip(1.0 - np.maximum(gap - got, 0.0) / size, -1.0, 1.0), np.ones_like(gap)
    return np.maximum(capped / size, -1.0), np.maximum(gap, 0.0) / size


def _axis(gain: Floats, room: Floats, defined: Bools, mine: list[int]) -> tuple[Floats, Floats]:
    """What a sample won on an axis and what its truth has (S,), of the metrics in columns `mine`."""
    count = np.maximum(defined[:, mine].sum(axis=1), 1)
    top, bottom = gain[:, mine].sum(axis=1) / count, room[:, mine].sum(axis=1) / count
    size = np.maximum(bottom, LEAST)
    has = bottom > 0
    return np.where(has, np.clip(top / size, -1.0, 1.0), 0.0), np.where(has, bottom / size, 0.0)


def _mean(of_axes: Mapping[str, tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The score (S,) and the truth's: texture and alignment (or the one that a sample has), by consistency."""
    first, second, sits = (of_axes[axis] for axis in AXES)
    right, could = _both(first[0], second[0], first[1], second[1]), _both(first[1], second[1], first[1], second[1])
    could = np.where(sits[1] > 0, could, 0.0)
    return np.where(could > 0, np.where(right > 0, right * np.maximum(sits[0], 0.0), right), 0.0), could


def _both(a: Floats, b: Floats, a_could: Floats, b_could: Floats) -> Floats:
    """Weighted mean (S,) of two axes, the lower one by :data:`LOWER`; the one that a sample has where it lacks one."""
    mean = LOWER * np.minimum(a, b) + (1.0 - LOWER) * np.maximum(a, b)
    out: Floats = np.where(a_could <= 0, b, np.where(b_could <= 0, a, mean))
    return out


def withheld(cards: Mapping[str, MetricCard], unavailable: Mapping[str, str]) -> dict[str, str]:
    """Axis or "mean" -> which of its scoring metrics could not be measured, and why, so that it has no number.

    Args:
        unavailable: metric -> why, as it stands after the metric's name.
    """
    lacking = {
        name: why
        for name, why in unavailable.items()
        if name in cards and cards[name].scored and cards[name].axis in AXES
    }
    found = {"mean": _told(lacking)}
    for axis in (*AXES, PIXEL):
        mine = {name: unavailable.get(name) for name, card in cards.items() if _scores(card, axis)}
        # An axis goes as far as it needs no target; pixel fidelity, beside the score, is withheld for want of one only.
        none = mine and set(mine.values()) == {NO_TARGETS}
        found[axis] = NO_TARGETS if none else _told({n: w for n, w in lacking.items() if n in mine and w != NO_TARGETS})
    return {axis: found[axis] for axis in (*AXES, "mean", PIXEL) if found.get(axis)}


def _told(lacking: Mapping[str, str]) -> str:
    """Metric -> why as one line, a suite without targets said once."""
    said = [NO_TARGETS] if NO_TARGETS in lacking.values() else []
    return "; ".join(said + [f"{name} {why}" for name, why in lacking.items() if why != NO_TARGETS])


def _table(frame: pd.DataFrame, samples: Sequence[str], metrics: Sequence[str]) -> Floats:
    """(S, M) values, NaN where there is no row."""
    out = np.full((len(samples), len(metrics)), np.nan)
    rows, columns = {s: i for i, s in enumerate(samples)}, {m: i for i, m in enumerate(metrics)}
    keep = frame[frame["sample"].isin(list(rows)) & frame["metric"].isin(list(columns))]
    at = (keep["sample"].map(rows).to_numpy(np.int64), keep["metric"].map(columns).to_numpy(np.int64))
    out[at] = keep["value"].to_numpy(np.float64)
    return out


def clipped(table: Gains, cards: Mapping[str, MetricCard]) -> Floats:
    """(S, M) recoveries of single samples by metric, in [-100, 100]; NaN where there is nothing to recover.

    In units where the metric's card has one: a sample whose own gap is small has a small number even for the truth.
    """
    out = np.full(table.gain.shape, np.nan)
    for m, name in enumerate(table.metrics):
        usable = table.defined[:, m] & (table.room[:, m] > 0)
        size = table.room[usable, m] if cards[name].unit is None else 1.0
        out[usable, m] = np.clip(100.0 * table.gain[usable, m] / size, -100.0, 100.0)
    return out


def sample_scores(table: Gains) -> Floats:
    """(S, 4) each sample's three axes and its score, in [-100, 100]; NaN where a sample has no such number."""
    scores = np.where(table.could > 0, 100.0 * table.won, np.nan)
    return scores[:, : len(AXES) + 1]
