"""Do the 95 % intervals hold the truth in 95 % of cases? Made-up suites whose true recovery is known.

The made-up suites are as awkward as a real one may be: few clusters of unequal size, gaps between truth
and trivial answer that differ by orders of magnitude, models that are mostly good and sometimes fail
badly (values skewed to the left), recoveries that depend on the gap, and metrics that exist in one
category only. The truth of a metric is known in closed form; that of an axis and of the score, which are made sample by
sample, is what a suite of thousands of sources arrives at. So coverage can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from refbench.schema import CATEGORIES, Axis, Category, MetricCard, Record
from refbench.stats.gains import BASELINES

if TYPE_CHECKING:
    import pandas as pd

HUGE = 10_000
"""Sources of the suite whose axes and score count as the truth; they are right to a tenth of a point or so."""
_METRICS: tuple[tuple[str, Axis, bool, str, tuple[Category, ...] | None], ...] = (
    ("t_high", "texture_fidelity", True, "draft", None),
    ("t_low", "texture_fidelity", False, "draft", None),
    ("t_text", "texture_fidelity", False, "draft", ("text",)),
    ("a_high", "reference_alignment", True, "draft", None),
    ("a_face", "reference_alignment", True, "draft", ("face",)),
    ("c_low", "local_consistency", False, "paste", None),
    ("c_stretch", "local_consistency", False, "stretch", None),
)


@dataclass(frozen=True, slots=True)
class MadeUp:
    """One made-up suite with runs of one or more made-up models on it."""

    runs: tuple[pd.DataFrame, ...]
    """Scores, one frame a model."""
    answers: pd.DataFrame
    metas: pd.DataFrame
    cards: dict[str, MetricCard]
    truth: tuple[dict[str, float], ...]
    """For each model the true recovery of each metric."""


def made_up_cards() -> dict[str, MetricCard]:
    """The seven metric cards of the made-up suites: both directions, all trivial answers, two partial ones."""
    return {
        name: MetricCard(
            name=name,
            definition="made up",
            paper="none",
            axis=axis,
            region="inside",
            higher_is_better=higher,
            range=(None, None),
            colour="none",
            region_rule="none",
            backend="none",
            categories=only,
            trivial=trivial,  # type: ignore[arg-type]
        )
        for name, axis, higher, trivial, only in _METRICS
    }


def made_up_suite(
    rng: np.random.Generator,
    *,
    clusters: int = 20,
    skewed: bool = True,
    recoveries: tuple[float, ...] = (0.4,),
) -> MadeUp:
    """Draw a suite of `clusters` sources (a multiple of 5, the same number in each category).

    Args:
        clusters: sources; each has 1 to 4 samples.
        skewed: lognormal gaps (shape 0.8), exponential failures, recoveries that rise with the gap;
            otherwise nearly equal gaps and Gaussian recoveries.
        recoveries: true recovery (0 trivial, 1 truth) of each model in the category "text"; it falls by
            0.05 a category. Models share the samples' difficulty, so their differences are paired. Keep it at most
            0.5: what scores above the truth counts as the truth, and the stated truth knows nothing of that.
    """
    import pandas as pd

    cards = made_up_cards()
    size = rng.integers(1, 5, size=clusters)
    source = np.repeat(np.arange(clusters), size)
    count = len(source)
    category = np.array(CATEGORIES, dtype=object)[source % len(CATEGORIES)]
    order = np.argsort([CATEGORIES.index(c) for c in category], kind="stable")
    source, category = source[order], category[order]
    tasks = [f"{name}-refine" for name in category]
    ids = [f"{task}-{i:03d}" for i, task in enumerate(tasks)]
    metas = pd.DataFrame(
        {
            "sample": ids,
            "task": tasks,
            "category": category,
            "mode": "refine",
            "source_id": [f"source-{k}" for k in source],
        }
    )
    shape = 0.8 if skewed else 0.1
    slope = 0.1 if skewed else 0.0

    def noise(*dims: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return 1.0 - rng.exponential(size=dims) if skewed else rng.standard_normal(dims)

    hard = 0.12 * noise(clusters)[source]
    own = [0.12 * noise(clusters)[source] for _ in recoveries]
    answer_rows: list[pd.DataFrame] = []
    score_rows: list[list[pd.DataFrame]] = [[] for _ in recoveries]
    for name, card in cards.items():
        inside = np.isin(category, card.categories) if card.categories else np.ones(count, dtype=bool)
        common = rng.standard_normal(clusters)[source]
        log_gap = shape * (np.sqrt(0.5) * common + np.sqrt(0.5) * rng.standard_normal(count))
        gap = np.exp(log_gap)
        sign = 1.0 if card.higher_is_better else -1.0
        best = rng.uniform(1.0, 2.0, size=count)
        fields = {"sample": np.array(ids, dtype=object)[inside], "metric": name, "region": "inside", "axis": card.axis}
        fields |= {"higher_is_better": card.higher_is_better, "card": "0" * 12}
        for answer in BASELINES:
            trivial = answer == card.trivial
            value = best if answer == "target" else best - sign * gap * (1.0 if trivial else 0.5)
            answer_rows.append(pd.DataFrame({**fields, "answer": answer, "value": value[inside]}))
        for a, start in enumerate(recoveries):
            mean = start - 0.05 * np.array([CATEGORIES.index(c) for c in category])
            ratio = mean + hard + own[a] + 0.15 * noise(count) + slope * (log_gap - shape**2)
            score_rows[a].append(pd.DataFrame({**fields, "value": (best - sign * gap * (1.0 - ratio))[inside]}))
    return MadeUp(
        runs=tuple(pd.concat(rows, ignore_index=True) for rows in score_rows),
        answers=pd.concat(answer_rows, ignore_index=True),
        metas=metas,
        cards=cards,
        truth=tuple(_truth(start, cards) for start in recoveries),
    )


def _truth(start: float, cards: dict[str, MetricCard]) -> dict[str, float]:
    """Every category has the same expected gap, so a metric's truth is the mean of its categories'.

    The term that rises with the gap has expectation 0 under gap weighting: E[g ln g] = shape² E[g].
    """
    return {
        name: 100.0 * (start - 0.05 * float(np.mean([CATEGORIES.index(c) for c in card.categories or CATEGORIES])))
        for name, card in cards.items()
    }


@lru_cache(maxsize=16)
def arrives(start: float, skewed: bool) -> dict[str, dict[str, float]]:
    """Category or "all" -> axis or "mean" -> the points that a suite of :data:`HUGE` sources arrives at."""
    from refbench.stats.recovery import summarise

    made = made_up_suite(np.random.default_rng(HUGE), clusters=HUGE, skewed=skewed, recoveries=(start,))
    found = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=2, views=("category",))
    sets = {"all": {**found.axes, "mean": found.mean}, **found.categories}
    return {
        name: {one: cell.value for one, cell in cells.items() if cell.value is not None} for name, cells in sets.items()
    }


class Coverage(Record):
    """How intervals and claims did over many made-up suites."""

    suites: int
    clusters: int
    skewed: bool
    held: dict[str, float]
    """Axis, metric or "mean" -> share of suites whose 95 % interval holds the truth; "in a category" is that of the
    axes and means of single categories, which have a fifth of the clusters each."""
    unsaid: float
    """Share of the numbers of single categories that have no value, because the interval would say nothing."""
    difference: float
    """The same for the difference of two models' means (their samples are paired)."""
    false_claims: float
    """Share of suites in which, of two equally good models, one is called better in any axis or on the whole, after the
    correction over these four comparisons."""


def coverage(
    *, suites: int = 1000, clusters: int = 20, skewed: bool = True, resamples: int = 400, seed: int = 0
) -> Coverage:
    """Count over made-up suites how often the intervals hold the truth; about 0.2 s a suite.

    Args:
        suites: how many to make up; 1,000 give a standard error of 0.7 % on each share.
        clusters: source assets in each suite, a multiple of 5.
        skewed: skewed gaps and recoveries, or nearly Gaussian ones.
        resamples: of each bootstrap.
        seed: of the suites and the bootstraps.
    """
    from refbench.stats.compare import compare
    from refbench.stats.recovery import summarise

    held: dict[str, list[bool]] = {}
    paired: list[bool] = []
    values: list[bool] = []
    claims = 0
    whole = arrives(0.4, skewed)
    for i in range(suites):
        made = made_up_suite(np.random.default_rng([seed, i]), clusters=clusters, skewed=skewed, recoveries=(0.4, 0.4))
        plan = (made.answers, made.metas, made.cards)
        found = summarise(made.runs[0], *plan, seed=i, resamples=resamples, views=("category",))
        true = made.truth[0] | whole["all"]
        for name, cell in {**found.axes, **found.metrics, "mean": found.mean}.items():
            if cell.value is not None and cell.low is not None and cell.high is not None:
                held.setdefault(name, []).append(cell.low <= true[name] <= cell.high)
        two = compare(
            dict(zip("ab", made.runs, strict=True)),
            *plan,
            seed=i,
            resamples=resamples,
            views=("overall",),
        )
        rows = [row for row in two.pairs[0].differences if row.view == "overall"]
        for name in CATEGORIES:
            cells = {one: cell for one, cell in found.categories[name].items() if one in whole[name]}
            values.extend(cell.value is not None for cell in cells.values())
            inside = [
                cell.low <= whole[name][one] <= cell.high
                for one, cell in cells.items()
                if cell.low is not None and cell.high is not None
            ]
            held.setdefault("in a category", []).extend(inside)
        claims += any(row.holds for row in rows)
        mean = two.pairs[0].difference("overall", "all", "mean")
        if mean.low is not None and mean.high is not None:
            paired.append(mean.low <= 0.0 <= mean.high)
    return Coverage(
        suites=suites,
        clusters=clusters,
        skewed=skewed,
        held={name: float(np.mean(hits)) for name, hits in held.items() if hits},
        unsaid=1.0 - float(np.mean(values)),
        difference=float(np.mean(paired)),
        false_claims=claims / suites,
    )
