"""Rank ranges and Bradley-Terry ratings: closed forms for two models, recovery of known strengths, laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refbench.stats.bootstrap import generator, resample
from refbench.stats.ranking import rank
from refbench.stats.rating import bradley_terry
from stats.made_up import MadeUp, made_up_suite

RECOVERIES = (0.5, 0.2, 0.18, -0.2)


@pytest.fixture(scope="module")
def made() -> MadeUp:
    return made_up_suite(np.random.default_rng(1), clusters=40, recoveries=RECOVERIES)


def pool(made: MadeUp, *names: int):  # type: ignore[no-untyped-def]
    runs = {f"m{i}": made.runs[i] for i in names}
    return rank(runs, made.answers, made.metas, made.cards, resamples=500)


def test_indistinct_models_share_a_place(made: MadeUp) -> None:
    places = {one.model: (one.best_place, one.worst_place) for one in pool(made, 0, 1, 2, 3).standings}
    assert places == {"m0": (1, 1), "m1": (2, 3), "m2": (2, 3), "m3": (4, 4)}


def test_equal_runs_share_place_and_rating(made: MadeUp) -> None:
    found = rank({"a": made.runs[0], "b": made.runs[0]}, made.answers, made.metas, made.cards, resamples=200)
    assert [(s.best_place, s.worst_place) for s in found.standings] == [(1, 2), (1, 2)]
    assert [s.rating for s in found.standings] == pytest.approx([1000.0, 1000.0])
    assert found.tie_share == 1.0


def test_single_run_is_first_with_mean_rating(made: MadeUp) -> None:
    (one,) = pool(made, 1).standings
    assert (one.best_place, one.worst_place, one.rating) == (1, 1, 1000.0)


def test_ratings_average_a_thousand(made: MadeUp) -> None:
    large = {one.model: one.rating for one in pool(made, 0, 1, 2, 3).standings}
    small = {one.model: one.rating for one in pool(made, 1, 2, 3).standings}
    assert np.mean(list(large.values())) == pytest.approx(1000.0)
    assert np.mean(list(small.values())) == pytest.approx(1000.0)
    assert small["m1"] != pytest.approx(large["m1"], abs=1.0)


def test_order_of_runs_does_not_matter(made: MadeUp) -> None:
    one, two = pool(made, 0, 1, 2), pool(made, 2, 0, 1)
    assert [s.model for s in one.standings] == [s.model for s in two.standings]
    for a, b in zip(one.standings, two.standings, strict=True):
        assert a.rating == pytest.approx(b.rating, abs=1e-6)
        assert (a.best_place, a.worst_place) == (b.best_place, b.worst_place)


def test_rating_gap_is_log_odds_of_wins() -> None:
    # Davidson 1970: with two models the estimate of s_1 / s_2 is wins / losses exactly; half a win and half a
    # loss are the prior that the docstring states.
    counts = np.tile([[6.0, 1.0, 2.0]], (10, 1))
    ratings, low, high, ties = bradley_terry(
        counts, [(0, 1)], 2, resample(np.zeros(10, dtype=np.int64), 100, generator(0))
    )
    assert ratings[0] - ratings[1] == pytest.approx(400 * np.log10(60.5 / 20.5), abs=1e-6)
    assert ties == pytest.approx(1 / 9)
    assert (low[0], high[0]) == (pytest.approx(ratings[0]), pytest.approx(ratings[0]))  # all clusters are alike


def test_rating_error_is_that_of_log_odds() -> None:
    # Without ties the maximum likelihood log odds of n independent duels has variance 1/wins + 1/losses.
    wins, losses = 300, 200
    counts = np.zeros((500, 3))
    counts[:wins, 0], counts[wins:, 2] = 1.0, 1.0
    ratings, low, high, _ = bradley_terry(
        counts, [(0, 1)], 2, resample(np.zeros(500, dtype=np.int64), 1000, generator(0))
    )
    expected = 1.96 * (400 / np.log(10)) * np.sqrt(1 / wins + 1 / losses) / 2  # a centred rating is half the gap
    assert high[0] - ratings[0] == pytest.approx(expected, rel=0.08)  # bootstrap quantile and prior
    assert ratings[0] - low[0] == pytest.approx(expected, rel=0.08)


def test_known_strengths_are_found_again() -> None:
    rng = np.random.default_rng(1)
    strength, tie = np.array([1.0, 0.3, -0.2, -1.1]), -0.5
    pairs = list(itertools.combinations(range(4), 2))
    counts = np.zeros((4000, 3 * len(pairs)))
    for k, (i, j) in enumerate(pairs):
        weight = np.exp([strength[i], tie + (strength[i] + strength[j]) / 2, strength[j]])
        counts[:, 3 * k : 3 * k + 3] = rng.multinomial(1, weight / weight.sum(), size=4000)
    ratings, low, high, _ = bradley_terry(counts, pairs, 4, resample(np.zeros(4000, dtype=np.int64), 30, generator(0)))
    expected = 1000 + 400 / np.log(10) * (strength - strength.mean())
    assert ratings == pytest.approx(expected, abs=12)  # four standard errors of about 3 points
    assert (low < ratings).all()
    assert (ratings < high).all()


def test_unbeaten_model_has_a_finite_rating() -> None:
    counts = np.tile([[1.0, 0.0, 0.0]], (40, 1))
    ratings, *_ = bradley_terry(counts, [(0, 1)], 2, resample(np.zeros(40, dtype=np.int64), 50, generator(0)))
    assert np.isfinite(ratings).all()
    assert ratings[0] - ratings[1] == pytest.approx(400 * np.log10(40.5 / 0.5), abs=1e-6)


def test_failed_samples_never_raise_a_place(made: MadeUp) -> None:
    broken = made.runs[0][~made.runs[0]["sample"].isin(list(made.metas["sample"][::3]))]
    found = rank({"whole": made.runs[0], "broken": broken}, made.answers, made.metas, made.cards, resamples=300)
    whole, lost = found.standings
    assert (whole.model, lost.model) == ("whole", "broken")
    assert lost.score < whole.score
    assert lost.best_place >= whole.best_place


def test_equal_models_seldom_get_different_places() -> None:
    # The claims of a pool hold jointly in 95 % of suites: of 20 suites about 1 may fail, 5 would be four errors off.
    wrong = 0
    for i in range(20):
        made = made_up_suite(np.random.default_rng([5, i]), clusters=20, recoveries=(0.4, 0.4, 0.4))
        runs = {f"m{k}": run for k, run in enumerate(made.runs)}
        found = rank(runs, made.answers, made.metas, made.cards, resamples=150, seed=i)
        wrong += any(one.better_than for one in found.standings)
    assert wrong <= 5
