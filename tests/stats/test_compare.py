"""Paired comparison: p values against scipy, Holm against a worked example, and what the words claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from refbench.errors import RefbenchError
from refbench.stats.bootstrap import generator
from refbench.stats.compare import Comparison, compare, holm, sign_flip
from refbench.stats.coverage import MadeUp, made_up_suite
from refbench.stats.recovery import summarise


@pytest.fixture(scope="module")
def made() -> MadeUp:
    return made_up_suite(np.random.default_rng(0), clusters=40, recoveries=(0.5, 0.1, 0.1))


@pytest.fixture(scope="module")
def compared(made: MadeUp) -> Comparison:
    runs = dict(zip(("good", "poor", "also-poor"), made.runs, strict=True))
    return compare(runs, made.answers, made.metas, made.cards, resamples=500, permutations=2000)


def flipped_p(values: np.ndarray, strata: np.ndarray | None = None, seed: int = 0, permutations: int = 10_000) -> float:
    """p of a plain mean: one numerator a cluster, every denominator 1."""
    groups = np.zeros(len(values), dtype=np.int64) if strata is None else strata
    column = values[:, None]
    options = {"rng": generator(seed), "permutations": permutations}
    return float(sign_flip(column, np.ones_like(column), np.ones((1, 1)), groups, **options)[0])


def test_exact_sign_flips_equal_scipys_permutation_test() -> None:
    values = np.random.default_rng(1).normal(0.4, 1.0, size=10)
    found = flipped_p(values)
    other = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert found == pytest.approx(other.pvalue, abs=1e-12)


def test_drawn_sign_flips_come_near_the_exact_p_and_are_never_zero() -> None:
    values = np.random.default_rng(2).normal(0.3, 1.0, size=16)
    exact = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    found = flipped_p(values, permutations=20_000)
    # Monte Carlo error of a share p over 20,000 draws; four standard errors
    assert found == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue / 20_000))
    assert flipped_p(np.ones(30), permutations=1000) == pytest.approx(1 / 1001)


def test_p_values_look_at_what_the_interval_looks_at() -> None:
    """One ratio is surely +0.5 and another surely -0.3, over gaps of very different size: their sum is surely +0.2,
    while the clusters' plain contributions to it have either sign."""
    rng = np.random.default_rng(3)
    gaps = np.exp(rng.normal(0, 1.5, (14, 2)))
    gains = gaps * (np.array([0.5, -0.3]) + rng.normal(0, 0.03, (14, 2)))
    found = sign_flip(gains, gaps, np.ones((1, 2)), np.zeros(14, dtype=np.int64), rng=generator(0))[0]
    contributions = (gains / gaps.sum(0)).sum(1)
    plain = stats.permutation_test((contributions,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found < 0.01
    assert plain > 0.1


def test_p_values_of_equal_models_are_uniform() -> None:
    """Under the null a p value is below u in u of the cases; 400 cases, four standard errors."""
    rng = np.random.default_rng(4)
    strata = np.repeat([0, 1, 2], [8, 6, 4])
    scale = np.repeat([1.0, 5.0, 0.2], [8, 6, 4])
    found = np.array([flipped_p(scale * rng.laplace(size=18), strata, i, 300) for i in range(400)])
    for u in (0.05, 0.2, 0.5):
        assert (found <= u).mean() == pytest.approx(u, abs=4 * np.sqrt(u * (1 - u) / 400))


def test_holm_is_the_step_down_of_the_paper() -> None:
    # 0.01 * 4, 0.02 * 3 = 0.06, 0.04 * 2 = 0.08, 0.04 * 1 kept at 0.08 by monotony; order of input kept
    assert holm([0.04, 0.01, 0.04, 0.02]) == pytest.approx([0.08, 0.04, 0.08, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_the_difference_of_the_two_summaries(made: MadeUp, compared: Comparison) -> None:
    one, two = (summarise(run, made.answers, made.metas, made.cards, resamples=50) for run in made.runs[:2])
    pair = compared.pairs[0]
    assert pair.difference("overall", "all", "mean").value == pytest.approx(one.mean.value - two.mean.value)
    for axis, cell in one.axes.items():
        assert pair.difference("overall", "all", axis).value == pytest.approx(cell.value - two.axes[axis].value)
    for metric, cell in one.metrics.items():
        expected = cell.value - two.metrics[metric].value
        assert pair.difference("metric", metric, "recovery").value == pytest.approx(expected)
    text = pair.difference("category", "text", "mean").value
    assert text == pytest.approx(one.categories["text"]["mean"].value - two.categories["text"]["mean"].value)


def test_pairing_makes_differences_narrower_than_the_two_intervals(made: MadeUp, compared: Comparison) -> None:
    one, two = (summarise(run, made.answers, made.metas, made.cards, resamples=500) for run in made.runs[:2])
    pair = compared.pairs[0].difference("overall", "all", "mean")
    unpaired = np.hypot(one.mean.high - one.mean.low, two.mean.high - two.mean.low)
    assert pair.high - pair.low < unpaired


def test_a_clear_difference_is_claimed_and_an_absent_one_is_not(compared: Comparison) -> None:
    clear, _, none = compared.pairs
    assert (clear.a, clear.b) == ("good", "poor")
    assert clear.difference("overall", "all", "mean").better == "a"
    assert clear.words.startswith("On the whole, good is better than ")
    assert (none.a, none.b) == ("poor", "also-poor")
    assert none.difference("overall", "all", "mean").better == "undecided"
    assert "undecided" in none.words
    assert "would be found" in none.words


def test_turning_the_pair_round_turns_every_sign(made: MadeUp) -> None:
    a, b = made.runs[:2]
    options = {"resamples": 200, "permutations": 500}
    one = compare({"a": a, "b": b}, made.answers, made.metas, made.cards, **options).pairs[0]
    two = compare({"b": b, "a": a}, made.answers, made.metas, made.cards, **options).pairs[0]
    for forward, back in zip(one.differences, two.differences, strict=True):
        assert back.value == pytest.approx(-forward.value)
        assert back.p == forward.p
        assert back.high == pytest.approx(-forward.low)
    assert (one.duels["mean"].wins, one.duels["mean"].losses) == (two.duels["mean"].losses, two.duels["mean"].wins)
    assert one.apart[0].sample == two.apart[0].sample


def test_a_model_compared_with_itself_differs_nowhere(made: MadeUp) -> None:
    pair = compare({"a": made.runs[0], "b": made.runs[0]}, made.answers, made.metas, made.cards, resamples=100).pairs[0]
    assert all(row.value == 0 and row.p == 1.0 and row.better == "undecided" for row in pair.differences)
    assert pair.duels["mean"].ties == len(made.metas)
    assert pair.apart == ()
    assert "equal on every source" in pair.words


def test_holm_counts_every_pair_and_row_of_a_view(compared: Comparison) -> None:
    assert compared.families["overall"] == 3 * 4
    assert compared.families["metric"] == 3 * 7
    for pair in compared.pairs:
        for row in pair.differences:
            assert row.p_holm >= row.p


def test_the_samples_listed_differ_most(made: MadeUp, compared: Comparison) -> None:
    apart = compared.pairs[0].apart
    sizes = [abs(one.difference) for one in apart]
    assert sizes == sorted(sizes, reverse=True)
    assert len(apart) == 10
    assert apart[0].difference == pytest.approx(apart[0].a - apart[0].b)


def test_the_detectable_difference_is_found_in_four_of_five_repetitions() -> None:
    # The truth of the mean differs by the size that the median suite calls detectable; 40 repetitions, so a
    # share of 0.8 has a standard error of 0.06: accept 0.6 to 0.97.
    sizes = []
    for i in range(8):
        made = made_up_suite(np.random.default_rng([9, i]), clusters=40, skewed=False, recoveries=(0.4, 0.4))
        pair = compare(
            {"a": made.runs[0], "b": made.runs[1]},
            made.answers,
            made.metas,
            made.cards,
            resamples=200,
            permutations=100,
            views=("overall",),
        )
        sizes.append(pair.pairs[0].difference("overall", "all", "mean").detectable)
    size = float(np.median(sizes)) / 100.0
    shown = []
    for i in range(40):
        made = made_up_suite(np.random.default_rng([10, i]), clusters=40, skewed=False, recoveries=(0.4 + size, 0.4))
        pair = compare(
            {"a": made.runs[0], "b": made.runs[1]},
            made.answers,
            made.metas,
            made.cards,
            resamples=200,
            permutations=100,
            views=("overall",),
        )
        shown.append(pair.pairs[0].difference("overall", "all", "mean").low > 0)
    assert 0.6 <= np.mean(shown) <= 0.97


def test_runs_that_cannot_be_compared_are_refused(made: MadeUp) -> None:
    with pytest.raises(RefbenchError, match="at least two"):
        compare({"a": made.runs[0]}, made.answers, made.metas, made.cards)
    without = made.runs[1][made.runs[1]["metric"] != "c_low"]
    with pytest.raises(RefbenchError, match="b lacks c_low"):
        compare({"a": made.runs[0], "b": without}, made.answers, made.metas, made.cards)
    other = made.runs[1].assign(card="f" * 12)
    with pytest.raises(RefbenchError, match="same metric cards"):
        compare({"a": made.runs[0], "b": other}, made.answers, made.metas, made.cards)
