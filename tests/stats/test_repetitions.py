"""Runs repeated with other seeds: the interval holds the spread between clusters and between repetitions."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.stats.bootstrap import Estimates, estimate


def mean_of(values: np.ndarray, seed: int = 0, resamples: int = 400) -> Estimates:
    """The mean over clusters and repetitions of (R, K) values."""
    numerators = values[..., None]
    strata = np.zeros(values.shape[-1], dtype=np.int64)
    rng = np.random.default_rng(seed)
    return estimate(numerators, np.ones_like(numerators), np.eye(1), strata, rng=rng, resamples=resamples)


def test_error_is_that_of_two_stage_bootstrap() -> None:
    values = np.random.default_rng(3).normal(size=(3, 12)) + np.arange(12)
    found = mean_of(values, resamples=60_000)
    between = values.mean(axis=0).var(ddof=1) / 12
    within = values.var(axis=0).sum() / 3 / 12**2
    assert found.value[0] == pytest.approx(values.mean())
    assert found.se[0] == pytest.approx(np.sqrt(between + within), rel=1e-12)
    # The resamples themselves: the plug-in variance between clusters, and the same within. 60,000 of them tell a
    # standard deviation to 0.3 %; four times that is allowed.
    assert found.draws[:, 0].std() == pytest.approx(np.sqrt(between * 11 / 12 + within), rel=0.012)


def test_repetitions_that_agree_change_nothing() -> None:
    once = np.random.default_rng(4).normal(size=15)
    one, three = mean_of(once), mean_of(np.stack([once] * 3))
    assert three.value == pytest.approx(one.value)
    assert three.se == pytest.approx(one.se)


def test_agreeing_clusters_keep_seed_spread() -> None:
    values = np.tile(np.array([[1.0], [2.0], [3.0]]), (1, 10))
    found = mean_of(values)
    assert found.value[0] == 2.0
    assert found.se[0] == pytest.approx(np.sqrt(10 * (2 / 3) / 3 / 10**2))
    assert found.low[0] < 2.0 < found.high[0]


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_interval_covers_as_promised(between: float, within: float) -> None:
    rng, held, count = np.random.default_rng(5), 0, 300
    for number in range(count):
        values = rng.normal(0, between, 20) + rng.normal(0, within, (3, 20))
        found = mean_of(values, number, 200)
        held += bool(found.low[0] <= 0 <= found.high[0])
    # 95 % of 300 with a standard error of 1.3 %; seeds make it wider, never narrower.
    assert held / count >= 0.95 - 2.5 * 0.013
