"""Long-form scores to arrays: how far each sample got (gain) and how far it could get (room), by metric.

A recovery is ``100 * sum(gain) / sum(room)``: gain = value - trivial, room = gap = truth - trivial, with the
sign that makes better positive. What does not count as it was measured is decided here, once:

- a sample with no row at all *failed*: every metric takes the draft's value;
- a sample that was measured but lacks a metric that its truth has (say, no face was found in the output)
  takes the draft's value or the trivial answer's, whichever is worse, so that nothing missing raises a score;
- a value better than the truth's counts as the truth's: a pasted reference is nearer to the reference than the
  ground truth is, and that must not raise an alignment above 100;
- a sample whose truth is no better than its trivial answer (gap <= 0) has no room: nothing can be gained there, and
  what is lost counts from the truth. So no gain exceeds its room, and no set of samples scores above 100;
- a metric without any row in the run was not measured there and is left out, with that reason;
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
from refbench.schema import AXES, MetricCard
from refbench.stats.bootstrap import Floats

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]

ANSWERS = ("draft", "paste", "stretch", "target")
"""The trivial answers and the truth, measured like any run."""
MIN_AGREEMENT = 0.5
"""A set is scored by a metric only if its gaps agree: |sum of gaps| / sum of |gaps| at least this."""
MIN_GAP_TOLERANCES = 10.0
"""... and only if the mean gap is at least this many times the metric's own tolerance."""


@dataclass(frozen=True, slots=True)
class Gains:
    """S samples x M metrics of one run, ready for ratios of sums. Undefined entries are 0 and not `defined`."""

    samples: tuple[str, ...]
    metrics: tuple[str, ...]
    gain: Floats
    """(S, M) value - trivial, better is positive; at most `room`."""
    gap: Floats
    """(S, M) truth - trivial, better is positive."""
    defined: Bools
    """(S, M) where the answers have the metric."""
    raw: Floats
    """(S, M) the metric's own value as counted, NaN where undefined."""
    failed: Bools
    """(S,) no row at all."""
    filled: Bools
    """(S, M) measured sample that lacks this metric."""
    unmeasured: dict[str, str]
    """Metric -> why it is not among `metrics`."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Axis or "mean" -> which of its scoring metrics could not be measured, and why, so that it has no number."""

    @property
    def room(self) -> Floats:
        """(S, M) what the gains are divided by: the gap, 0 where the truth is no better than the trivial answer."""
        return np.maximum(self.gap, 0.0)

    def columns(self, metrics: Sequence[str]) -> list[int]:
        """Positions of these metrics."""
        return [self.metrics.index(name) for name in metrics]


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


def same_cards(scores: pd.DataFrame, answers: pd.DataFrame) -> None:
    """Refuse scores whose metric cards differ from those of the answers.

    Raises:
        RefbenchError: with the metrics that differ.
    """
    theirs = scores.groupby("metric")["card"].agg(lambda c: tuple(sorted(set(c)))).to_dict()
    ours = answers.groupby("metric")["card"].agg(lambda c: tuple(sorted(set(c)))).to_dict()
    differ = sorted(name for name in theirs if name in ours and theirs[name] != ours[name])
    if differ:
        raise RefbenchError(
            f"Expected scores and answers by the same metric cards, but {', '.join(differ)} differ; "
            "run `refbench measure` on the run again."
        )


def gains(
    scores: pd.DataFrame,
    answers: pd.DataFrame,
    samples: Sequence[str],
    cards: Mapping[str, MetricCard],
    unavailable: Mapping[str, str] | None = None,
) -> Gains:
    """Arrange one run's scores beside the answers.

    Args:
        scores: rows (sample, metric, value, card) of one run; failed samples have none.
        answers: rows (sample, metric, answer, value, card), answer in draft, paste, stretch, target.
        samples: the plan; S ids in order.
        cards: definitions; metrics outside are ignored.
        unavailable: metric -> why it could not be measured in this run, as it stands after "the metric".

    Raises:
        RefbenchError: rows of samples outside the plan, twice the same row, NaN, other metric cards.
    """
    scores = _checked(scores, "scores", cards, ["sample", "metric"])
    answers = _checked(answers, "answers", cards, ["sample", "metric", "answer"])
    plan = list(samples)
    strange = sorted(set(scores["sample"]) - set(plan))
    if strange:
        raise RefbenchError(
            f"Expected scores of planned samples only, but {len(strange)} others came ({', '.join(strange[:3])}); "
            "they belong to another run."
        )
    same_cards(scores, answers)
    known, present = set(answers["metric"].unique()), set(scores["metric"].unique())
    unmeasured = {name: "its truth was not measured on this suite" for name in cards if name not in known}
    if present:
        unmeasured |= {name: "not measured in this run" for name in cards if name in known - present}
    unmeasured |= {name: why for name, why in (unavailable or {}).items() if name in cards}
    names = tuple(name for name in cards if name not in unmeasured)
    kinds = {
        kind: _table(answers[answers["answer"] == kind], plan, names)
        for kind in ("draft", "paste", "stretch", "target")
    }
    value = _table(scores, plan, names)
    shape = (len(plan), len(names))
    failed = ~np.isin(np.array(plan, dtype=object), scores["sample"].unique()) if plan else np.zeros(0, dtype=bool)
    gain, gap, raw = np.zeros(shape), np.zeros(shape), np.full(shape, np.nan)
    defined, filled = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for m, name in enumerate(names):
        card = cards[name]
        sign = 1.0 if rising(card) else -1.0
        trivial, draft, truth = (effective(kinds[kind][:, m], card) for kind in (card.trivial, "draft", "target"))
        own = effective(value[:, m], card)
        is_defined = np.isfinite(trivial) & np.isfinite(draft) & np.isfinite(truth)
        lacks = is_defined & ~failed & np.isnan(own)
        of_draft = sign * (draft - trivial)
        got = np.where(failed, of_draft, np.where(lacks, np.minimum(of_draft, 0.0), sign * (own - trivial)))
        gap[:, m] = np.where(is_defined, sign * (truth - trivial), 0.0)
        gain[:, m] = np.where(is_defined, np.minimum(got - np.minimum(gap[:, m], 0.0), np.maximum(gap[:, m], 0.0)), 0.0)
        worse = np.where(of_draft <= 0, kinds["draft"][:, m], kinds[card.trivial][:, m])
        counted = np.where(failed, kinds["draft"][:, m], np.where(lacks, worse, value[:, m]))
        raw[:, m] = np.where(is_defined, counted, np.nan)
        defined[:, m], filled[:, m] = is_defined, lacks
    return Gains(
        tuple(plan), names, gain, gap, defined, raw, failed, filled, unmeasured, withheld(cards, unavailable or {})
    )


def withheld(cards: Mapping[str, MetricCard], unavailable: Mapping[str, str]) -> dict[str, str]:
    """Axis or "mean" -> which of its scoring metrics could not be measured, and why, so that it has no number.

    Args:
        unavailable: metric -> why, as it stands after the metric's name.
    """
    lacking = {name: why for name, why in unavailable.items() if name in cards and cards[name].scored}
    found = {"mean": "; ".join(f"{name} {why}" for name, why in lacking.items())}
    for axis in AXES:
        found[axis] = "; ".join(f"{name} {why}" for name, why in lacking.items() if cards[name].axis == axis)
    return {axis: found[axis] for axis in (*AXES, "mean") if found[axis]}


def _table(frame: pd.DataFrame, samples: Sequence[str], metrics: Sequence[str]) -> Floats:
    """(S, M) values, NaN where there is no row."""
    out = np.full((len(samples), len(metrics)), np.nan)
    rows, columns = {s: i for i, s in enumerate(samples)}, {m: i for i, m in enumerate(metrics)}
    keep = frame[frame["sample"].isin(list(rows)) & frame["metric"].isin(list(columns))]
    at = (keep["sample"].map(rows).to_numpy(np.int64), keep["metric"].map(columns).to_numpy(np.int64))
    out[at] = keep["value"].to_numpy(np.float64)
    return out


def too_small(gap: Floats, defined: Bools, card: MetricCard) -> str | None:
    """Why a set of samples cannot be scored by a metric, or None if it can.

    Args:
        gap: (n,) gaps of the set's samples, better is positive.
        defined: (n,) where the metric is defined.
    """
    gaps = gap[defined]
    if not len(gaps):
        return "not defined on any sample here"
    floor = MIN_GAP_TOLERANCES * card.tolerance
    mean = float(gaps.mean())
    if mean < floor:
        return (
            f"the truth is on average only {mean:.3g} better than the trivial answer ({card.trivial}) over "
            f"{len(gaps)} samples, under the floor of {floor:.3g}"
        )
    agreement = float(gaps.sum() / np.abs(gaps).sum())
    if agreement < MIN_AGREEMENT:
        return (
            f"the gaps between truth and trivial answer ({card.trivial}) cancel out over {len(gaps)} samples: "
            f"agreement {agreement:.2f}, under {MIN_AGREEMENT}"
        )
    return None


def clipped(table: Gains, cards: Mapping[str, MetricCard]) -> Floats:
    """(S, M) recoveries of single samples, clipped to [-100, 100]; NaN where the sample's gap is too small."""
    out = np.full(table.gain.shape, np.nan)
    for m, name in enumerate(table.metrics):
        # A card without tolerance has no floor, but a truth that is no better than the trivial answer scores nothing.
        floor = MIN_GAP_TOLERANCES * cards[name].tolerance
        usable = table.defined[:, m] & (table.gap[:, m] >= floor) & (table.gap[:, m] > 0)
        out[usable, m] = np.clip(100.0 * table.gain[usable, m] / table.gap[usable, m], -100.0, 100.0)
    return out


def sample_scores(table: Gains, cards: Mapping[str, MetricCard]) -> Floats:
    """(S, 4) each sample's three axes and their mean, from the clipped recoveries of its scored metrics.

    NaN where a sample has nothing to score on an axis, or the axis is withheld; the mean is over the axes it has, and
    withheld with any of them.
    """
    single = clipped(table, cards)
    parts = []
    for axis in AXES:
        mine = [m for m, name in enumerate(table.metrics) if cards[name].axis == axis and cards[name].scored]
        parts.append(_nan_mean(single[:, [] if axis in table.withheld else mine]))
    axes = np.stack(parts, axis=1)
    mean = _nan_mean(axes[:, :0] if table.withheld else axes)
    return np.concatenate([axes, mean[:, None]], axis=1)


def _nan_mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    count = known.sum(1)
    total = np.where(known, values, 0.0).sum(1)
    mean: Floats = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
