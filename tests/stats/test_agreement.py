"""Shares of pairs with their intervals, and orders."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.stats.agreement import kendall, preference, rate


def test_interval_over_single_pairs_is_about_binomial_one() -> None:
    right = [1.0] * 70 + [0.0] * 30
    found = rate(right, [f"s{k}" for k in range(100)])
    assert (found.value, found.pairs, found.samples) == (0.7, 100, 100)
    assert found.low == pytest.approx(0.7 - 1.98 * np.sqrt(0.21 / 99), abs=0.02)
    assert found.high == pytest.approx(0.7 + 1.98 * np.sqrt(0.21 / 99), abs=0.02)


def test_agreeing_pairs_count_as_one() -> None:
    right = [1.0] * 70 + [0.0] * 30
    single = rate(right, [f"s{k}" for k in range(100)])
    tenfold = rate(right, [f"s{k // 10}" for k in range(100)])
    assert tenfold.value == single.value
    assert tenfold.high is not None
    assert single.high is not None
    assert tenfold.high - 0.7 > 2 * (single.high - 0.7)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_agree_interval_is_clopper_and_pearsons(value: float) -> None:
    from scipy.stats import binomtest

    found = rate([value] * 20, [f"s{k // 2}" for k in range(20)])
    expected = binomtest(10 if value else 0, 10).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_nothing_to_say_says_nothing() -> None:
    none = rate([np.nan], ["a"])
    assert (none.value, none.low, none.pairs) == (None, None, 0)
    silent = rate([0.5] * 8, list("abcdefgh"))
    assert (silent.value, silent.low) == (0.5, None)
    few = rate([1.0, 0.0, 1.0], list("abc"))
    assert few.low is None


def test_preference_halves_equals_and_leaves_out_unknowns() -> None:
    a, b = np.array([2.0, 1.0, 3.0, np.nan, np.inf]), np.array([1.0, 2.0, 3.0, 1.0, np.inf])
    assert np.array_equal(preference(a, b), [1.0, 0.0, 0.5, np.nan, 0.5], equal_nan=True)


def test_kendalls_tau_is_counted_by_hand() -> None:
    # of 6 pairs 5 are in order and 1 is not
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    # tau-b with one tie in the second: (5 - 0) / sqrt(6 * 5)
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 3])) == pytest.approx(5 / np.sqrt(30))
    assert kendall(np.array([1.0, 2, np.nan]), np.array([1.0, 2, 3])) is None
    assert kendall(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
