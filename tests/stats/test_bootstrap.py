"""The bootstrap engine against closed forms and scipy, and its own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refbench.stats.bootstrap import MIN_CLUSTERS, clusters, estimate, generator, resample, sums_by


def mean_of(values: np.ndarray, seed: int = 0, resamples: int = 4000):  # type: ignore[no-untyped-def]
    """The mean of K numbers as a ratio of sums: each is its own cluster, every denominator 1."""
    column = values[:, None]
    zero = np.zeros(len(values), dtype=np.int64)
    return estimate(
        column, np.ones_like(column), np.ones((1, 1)), zero, rng=generator(seed, "test"), resamples=resamples
    )


def test_standard_error_of_mean_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = mean_of(values)
    assert found.value[0] == pytest.approx(values.mean())
    assert found.se[0] == pytest.approx(stats.sem(values))  # sd / sqrt(K), not divided by sqrt(B) again


def test_interval_of_gaussian_mean_is_students() -> None:
    # For normal data the studentised bootstrap estimates Student's quantile; averaged over 40 data sets its
    # Monte Carlo and data noise is about 1 %, the tolerance 4 %.
    rng = np.random.default_rng(1)
    found = [mean_of(rng.normal(size=25), seed=i, resamples=1000).quantile[0] for i in range(40)]
    assert np.mean(found) == pytest.approx(stats.t.ppf(0.975, 24), rel=0.04)


def test_interval_agrees_with_scipys_bootstrap() -> None:
    # With 400 values all intervals converge; scipy's BCa with the same number of resamples differs by noise only.
    values = np.random.default_rng(2).exponential(size=400)
    found = mean_of(values)
    other = stats.bootstrap((values,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)).confidence_interval
    assert found.high[0] - found.low[0] == pytest.approx(other.high - other.low, rel=0.06)
    assert found.low[0] == pytest.approx(other.low, abs=0.02)


def test_error_of_ratio_is_delta_methods() -> None:
    rng = np.random.default_rng(3)
    top, bottom = rng.normal(2.0, 1.0, size=50), rng.uniform(1.0, 3.0, size=50)
    zero = np.zeros(50, dtype=np.int64)
    found = estimate(top[:, None], bottom[:, None], np.ones((1, 1)), zero, rng=generator(0), resamples=200)
    ratio = top.sum() / bottom.sum()
    # Cochran 1977, Sampling Techniques, eq. 6.13: var(R) = sum((y - R x)^2) / (n (n - 1) mean(x)^2)
    expected = np.sqrt(((top - ratio * bottom) ** 2).sum() / (50 * 49)) / bottom.mean()
    assert found.value[0] == pytest.approx(ratio)
    assert found.se[0] == pytest.approx(expected)


def test_samples_of_one_source_count_as_one() -> None:
    values = np.random.default_rng(4).normal(size=12)
    names = [f"s{i}" for i in range(12)]
    alone, strata = clusters(names, ["text"] * 12)
    four_times, strata4 = clusters([name for name in names for _ in range(4)], ["text"] * 48)
    one = estimate(
        sums_by(alone, 12, values[:, None]),
        np.ones((12, 1)),
        np.ones((1, 1)),
        strata,
        rng=generator(5),
    )
    many = estimate(
        sums_by(four_times, 12, np.repeat(values, 4)[:, None]),
        np.full((12, 1), 4.0),
        np.ones((1, 1)),
        strata4,
        rng=generator(5),
    )
    assert many.low[0] == pytest.approx(one.low[0])
    assert many.high[0] == pytest.approx(one.high[0])


def test_strata_take_spread_between_categories_out() -> None:
    # Two categories far apart, nearly constant inside: a suite of the same make-up would score nearly the same.
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(0, 0.01, 20), rng.normal(1, 0.01, 20)])[:, None]
    strata = np.repeat([0, 1], 20)
    ones = np.ones((40, 1))
    apart = estimate(values, ones, np.ones((1, 1)), strata, rng=generator(0), resamples=500)
    mixed = estimate(values, ones, np.ones((1, 1)), 0 * strata, rng=generator(0), resamples=500)
    assert apart.se[0] == pytest.approx(np.sqrt(2 * values[:20].var(ddof=1) / 20) / 2, rel=0.5)
    assert mixed.se[0] > 10 * apart.se[0]


def test_small_strata_are_merged_sizes_kept() -> None:
    sources = [f"a{i}" for i in range(6)] + [f"b{i}" for i in range(5)] + ["c0", "d0", "ab"]
    categories = ["text"] * 6 + ["logo"] * 5 + ["face", "object", "text"]
    codes, strata = clusters([*sources, "ab"], [*categories, "logo"])
    assert len(codes) == 15
    assert len(strata) == 14
    sizes = np.bincount(strata)
    assert sizes.min() >= 4
    weights = resample(strata, 50, generator(0))
    for h, size in enumerate(sizes):
        assert (weights[:, strata == h].sum(1) == size).all()


def test_no_spread_no_width_single_no_interval() -> None:
    constant = mean_of(np.full(9, 0.7))
    assert constant.low[0] == constant.high[0] == pytest.approx(0.7)
    single = mean_of(np.array([0.7]))
    assert np.isnan(single.low[0])
    assert np.isnan(single.high[0])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_than_four_clusters_have_no_interval(count: int) -> None:
    found = mean_of(np.arange(count, dtype=float))
    assert found.clusters[0] == count
    for number in (found.low[0], found.high[0], found.p[0]):
        assert np.isfinite(number) == (count >= MIN_CLUSTERS == 4)
    assert found.value[0] == pytest.approx((count - 1) / 2)


def test_p_of_gaussian_mean_is_students() -> None:
    # As for the interval: averaged over 40 data sets; at p of about 0.02 a quantile 4 % off moves p by a fifth.
    rng = np.random.default_rng(1)
    samples = [rng.normal(0.5, 1.0, size=25) for _ in range(40)]
    found = [mean_of(values, seed=i, resamples=1000).p[0] for i, values in enumerate(samples)]
    students = stats.ttest_1samp(np.array(samples), 0.0, axis=1).pvalue
    assert np.mean(np.log(found)) == pytest.approx(np.mean(np.log(students)), abs=0.25)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 5), min_size=4, max_size=25), st.integers(0, 2**16), st.sampled_from([100, 250]))
def test_low_p_is_interval_without_0(values: list[int], seed: int, resamples: int) -> None:
    """Ties, constants and odd ones among equals too: small whole numbers have many."""
    found = mean_of(np.array(values, dtype=float), seed=seed, resamples=resamples)
    without = found.low[0] > 0 or found.high[0] < 0
    # an interval that ends at 0 itself has a p of 0.05, up to rounding
    assert (found.p[0] < 0.05) == without or found.p[0] == pytest.approx(0.05, abs=1e-9)


def test_equal_models_seldom_have_small_p() -> None:
    """Under the null p is below u in at most u of the cases, at 0.05 in just that; 400 cases, four standard errors."""
    rng = np.random.default_rng(4)
    strata = np.repeat([0, 1, 2], [10, 8, 7])
    scale = np.repeat([1.0, 5.0, 0.2], [10, 8, 7])
    found = []
    for i in range(400):
        column = (scale * rng.laplace(size=25))[:, None]
        one = estimate(column, np.ones_like(column), np.ones((1, 1)), strata, rng=generator(i), resamples=200)
        found.append(one.p[0])
    share = {u: np.mean(np.array(found) < u) for u in (0.005, 0.05, 0.2, 0.5)}
    for u, below in share.items():
        assert below <= u + 4 * np.sqrt(u * (1 - u) / 400)
    assert share[0.05] == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 400))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=5, max_size=30), st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_and_scale_with_values(values: list[float], shift: float, scale: float) -> None:
    one = mean_of(np.array(values), resamples=200)
    two = mean_of(scale * np.array(values) + shift, resamples=200)
    size = scale * (1 + np.abs(values).max()) + abs(shift)
    assert two.value[0] == pytest.approx(scale * one.value[0] + shift, abs=1e-9 * size)
    if np.ptp(values) > 1e-3:
        assert two.low[0] == pytest.approx(scale * one.low[0] + shift, abs=1e-6 * size)


def test_differences_use_the_same_resamples() -> None:
    rng = np.random.default_rng(6)
    one = rng.normal(size=(20, 1))
    both = np.hstack([one, one + 0.25])
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    found = estimate(both, np.ones((20, 2)), rows, np.zeros(20, dtype=np.int64), rng=generator(0), resamples=300)
    assert found.draws[:, 2] == pytest.approx(np.full(300, 0.25))
    assert (found.low[2], found.high[2]) == (pytest.approx(0.25), pytest.approx(0.25))


def test_odd_cluster_does_not_blow_up_intervals() -> None:
    # Resamples without the odd one have no spread, so |t*| is huge or infinite in a third of them.
    values = np.full(20, 1.0) + 1e-8 * np.arange(20)
    values[7] = 0.0
    found = mean_of(values)
    assert found.high[0] - found.low[0] <= 2 * 2 * stats.t.ppf(0.975, 19) * stats.sem(values) * 1.001
    assert found.quantile[0] >= stats.t.ppf(0.975, 19)
