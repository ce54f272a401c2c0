"""How often two verdicts agree, and how alike two orders are: what a metric is worth beside people.

*Pairwise accuracy* is the share of pairs, of those that are no tie for people, in which a measure prefers the same
side; a measure that cannot tell them apart is half right. Intervals resample whole samples
(:func:`refbench.stats.bootstrap.estimate`), since votes on one sample are not independent. Where every sample agrees,
or none, such a resampling has no spread, and the interval is the exact binomial one over the samples (Clopper and
Pearson 1934, Biometrika 26).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refbench.schema import Record
from refbench.stats.bootstrap import LEVEL, MIN_CLUSTERS, RESAMPLES, Floats, estimate, generator, sums_by

LEAST_MODELS = 3
"""Two models have no order to speak of."""


class Rate(Record):
    """A share of pairs, 0 to 1, with its 95 % interval."""

    value: float | None
    """None where there is no pair."""
    low: float | None
    """None with fewer than four samples, or where a measure tells no pair apart."""
    high: float | None
    pairs: int
    samples: int


def rate(right: Sequence[float], samples: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES) -> Rate:
    """The mean of verdicts, with an interval clustered by sample.

    Args:
        right: one a pair: 1 where it agrees, 0 where it does not, 0.5 where it cannot tell; NaN is left out.
        samples: the sample of each pair.
        seed: of the resamples.
        resamples: their number.
    """
    values = np.asarray(right, dtype=np.float64)
    there = np.flatnonzero(np.isfinite(values)).tolist()
    if not len(there):
        return Rate(value=None, low=None, high=None, pairs=0, samples=0)
    names = {name: k for k, name in enumerate(sorted({samples[i] for i in there}))}
    codes = np.array([names[samples[i]] for i in there], dtype=np.int64)
    count, mean = len(names), float(values[there].mean())
    low: float | None = None
    high: float | None = None
    if mean in (0.0, 1.0):
        bound = (0.5 - LEVEL / 2) ** (1 / count)
        low, high = (bound, 1.0) if mean == 1.0 else (0.0, 1.0 - bound)
    elif count >= MIN_CLUSTERS and (values[there] != 0.5).any():
        sums = sums_by(codes, count, np.stack([values[there], np.ones(len(there))], axis=1))
        found = estimate(
            sums[:, :1], sums[:, 1:], np.ones((1, 1)), np.zeros(count, dtype=np.int64),
            rng=generator(seed, "agreement"), resamples=resamples,
        )  # fmt: skip
        low, high = max(float(found.low[0]), 0.0), min(float(found.high[0]), 1.0)
    return Rate(value=mean, low=low, high=high, pairs=len(there), samples=count)


def preference(a: Floats, b: Floats) -> Floats:
    """1 where the first of two results has more, 0 where it has less, 0.5 where they are equal; NaN where unknown."""
    known = ~(np.isnan(a) | np.isnan(b))
    return np.where(known, np.where(a == b, 0.5, (a > b).astype(np.float64)), np.nan)


def kendall(first: Floats, second: Floats) -> float | None:
    """Kendall's tau-b of two orders of the same models, -1 to 1; None with fewer than three, or where one is flat."""
    from scipy.stats import kendalltau

    there = np.isfinite(first) & np.isfinite(second)
    a, b = first[there], second[there]
    if len(a) < LEAST_MODELS or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(kendalltau(a, b).statistic)
