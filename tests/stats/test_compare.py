"""Paired comparison: differences against summaries, Holm against a worked example, and what the words claim."""

from __future__ import annotations

import re

import numpy as np
import pytest

from refbench.errors import RefbenchError
from refbench.stats.compare import Comparison, compare, holm
from refbench.stats.ranking import rank
from refbench.stats.recovery import summarise
from stats.made_up import MadeUp, made_up_suite


@pytest.fixture(scope="module")
def made() -> MadeUp:
    return made_up_suite(np.random.default_rng(1), clusters=40, recoveries=(0.5, 0.1, 0.1))


@pytest.fixture(scope="module")
def compared(made: MadeUp) -> Comparison:
    runs = dict(zip(("good", "poor", "also-poor"), made.runs, strict=True))
    return compare(runs, made.answers, made.metas, made.cards, resamples=500)


def test_holm_is_the_papers_step_down() -> None:
    # 0.01 * 4, 0.02 * 3 = 0.06, 0.04 * 2 = 0.08, 0.04 * 1 kept at 0.08 by monotony; order of input kept
    assert holm([0.04, 0.01, 0.04, 0.02]) == pytest.approx([0.08, 0.04, 0.08, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_difference_is_that_of_the_summaries(made: MadeUp, compared: Comparison) -> None:
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


def test_pairing_narrows_the_interval(made: MadeUp, compared: Comparison) -> None:
    one, two = (summarise(run, made.answers, made.metas, made.cards, resamples=500) for run in made.runs[:2])
    pair = compared.pairs[0].difference("overall", "all", "mean")
    unpaired = np.hypot(one.mean.high - one.mean.low, two.mean.high - two.mean.low)
    assert pair.high - pair.low < unpaired


def test_clear_difference_claimed_absent_one_not(compared: Comparison) -> None:
    clear, _, none = compared.pairs
    assert (clear.a, clear.b) == ("good", "poor")
    assert clear.difference("overall", "all", "mean").better == "a"
    assert clear.words.startswith("On the whole, good is better than ")
    assert (none.a, none.b) == ("poor", "also-poor")
    assert none.difference("overall", "all", "mean").better == "undecided"
    assert "undecided" in none.words
    assert "would be found" in none.words


def test_turning_pair_round_turns_every_sign(made: MadeUp) -> None:
    a, b = made.runs[:2]
    options = {"resamples": 200}
    one = compare({"a": a, "b": b}, made.answers, made.metas, made.cards, **options).pairs[0]
    two = compare({"b": b, "a": a}, made.answers, made.metas, made.cards, **options).pairs[0]
    for forward, back in zip(one.differences, two.differences, strict=True):
        assert back.value == pytest.approx(-forward.value)
        assert back.p == pytest.approx(forward.p)
        assert back.high == pytest.approx(-forward.low)
    assert (one.duels["mean"].wins, one.duels["mean"].losses) == (two.duels["mean"].losses, two.duels["mean"].wins)
    assert one.apart[0].sample == two.apart[0].sample


def test_model_compared_with_itself_differs_nowhere(made: MadeUp) -> None:
    pair = compare({"a": made.runs[0], "b": made.runs[0]}, made.answers, made.metas, made.cards, resamples=100).pairs[0]
    assert all(row.value == 0 and row.p == 1.0 and row.better == "undecided" for row in pair.differences)
    assert pair.duels["mean"].ties == len(made.metas)
    assert pair.apart == ()
    assert "equal on every source" in pair.words


def test_holm_counts_pairs_and_rows(compared: Comparison) -> None:
    assert compared.families["overall"] == 3 * 4
    assert compared.families["metric"] == 3 * 7
    for pair in compared.pairs:
        for row in pair.differences:
            assert row.p_holm >= row.p


def test_interval_p_and_words_say_same() -> None:
    """Over 84 made-up pairs, nine of them equally good: 0 outside the interval, p < 0.05 and the words are one."""
    seen = []
    for i in range(3):
        starts = (0.4, 0.4, 0.36, 0.36, 0.32, 0.32, 0.28, 0.2)
        made = made_up_suite(np.random.default_rng([11, i]), clusters=15, recoveries=starts)
        runs = dict(zip("abcdefgh", made.runs, strict=True))
        found = compare(runs, made.answers, made.metas, made.cards, resamples=100, seed=i, views=("overall",))
        for pair, row in ((one, row) for one in found.pairs for row in one.differences):
            if row.p is None:  # metrics of one category, which has three sources here
                assert row.better == "undecided"
                assert row.low is row.high is None
                continue
            clear = row.low > 0 or row.high < 0
            assert clear == (row.p < 0.05) == (row.better != "undecided")
            assert row.better in ("undecided", "a" if row.value > 0 else "b")
            assert row.p_holm >= row.p
            assert row.holds == (row.p_holm < 0.05)
            if row.view == "overall":
                where = "On the whole" if row.measure == "mean" else f"In {row.measure.replace('_', ' ')}"
                (line,) = (line for line in pair.words.splitlines() if line.startswith(where))
                assert clear == (" is better" in line and "undecided" not in line)
                assert not row.holds or "may be chance" not in line
                low, high = map(float, re.search(r"interval (\S+) to ([^;]+);", line).groups())
                assert clear == (low > 0 or high < 0)
                p = float(re.search(r"; p (?:= |< )([0-9.]+)", line).group(1))
                assert clear == (p < 0.05)
                seen.append(clear)
    assert 20 < sum(seen) < len(seen) - 20


def test_place_before_another_is_better_mean() -> None:
    """What the joint bootstrap of a pool claims, the interval of the pair claims too."""
    claims = 0
    for i in range(2):
        starts = (0.4, 0.35, 0.3, 0.25, 0.15)
        made = made_up_suite(np.random.default_rng([12, i]), clusters=15, recoveries=starts)
        runs = dict(zip("abcde", made.runs, strict=True))
        compared = compare(runs, made.answers, made.metas, made.cards, resamples=100, views=("overall",))
        standings = {
            one.model: one for one in rank(runs, made.answers, made.metas, made.cards, resamples=100).standings
        }
        for pair in compared.pairs:
            better = pair.difference("overall", "all", "mean").better
            assert pair.b not in standings[pair.a].better_than or better == "a"
            assert pair.a not in standings[pair.b].better_than or better == "b"
            claims += better != "undecided"
        for name, duel in compared.against_all.items():
            one = standings[name]
            assert (duel.wins, duel.ties, duel.losses) == (one.wins, one.ties, one.losses)
            assert compared.scores[name]["mean"].value == pytest.approx(one.score)
    assert 0 < claims < 20


def test_scores_shown_are_the_runs(made: MadeUp, compared: Comparison) -> None:
    one = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=500)
    assert compared.scores["good"] == {**one.axes, "mean": one.mean}


def test_few_sources_said_and_claim_nothing() -> None:
    made = made_up_suite(np.random.default_rng(3), clusters=15, recoveries=(0.5, 0.1))
    runs = dict(zip("ab", made.runs, strict=True))
    pair = compare(runs, made.answers, made.metas, made.cards, resamples=100).pairs[0]
    row = pair.difference("category", "text", "mean")
    assert row.clusters == 3
    assert (row.low, row.high, row.p, row.p_holm, row.effect, row.detectable) == (None,) * 6
    assert (row.better, row.holds) == ("undecided", False)
    assert row.reason == "too few sources: 3 sources, an interval needs 4"
    assert isinstance(row.value, float)


def test_the_samples_listed_differ_most(made: MadeUp, compared: Comparison) -> None:
    apart = compared.pairs[0].apart
    sizes = [abs(one.difference) for one in apart]
    assert sizes == sorted(sizes, reverse=True)
    assert len(apart) == 10
    assert apart[0].difference == pytest.approx(apart[0].a - apart[0].b)


def test_detectable_difference_is_found_mostly() -> None:
    # The truth of an axis differs by the size that the median suite calls detectable; 40 repetitions, so a
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
            views=("overall",),
        )
        sizes.append(pair.pairs[0].difference("overall", "all", "texture_fidelity").detectable)
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
            views=("overall",),
        )
        shown.append(pair.pairs[0].difference("overall", "all", "texture_fidelity").low > 0)
    assert 0.6 <= np.mean(shown) <= 0.97


def test_runs_that_cannot_be_compared_refused(made: MadeUp) -> None:
    with pytest.raises(RefbenchError, match="at least two"):
        compare({"a": made.runs[0]}, made.answers, made.metas, made.cards)
    without = made.runs[1][made.runs[1]["metric"] != "c_low"]
    with pytest.raises(RefbenchError, match="b lacks c_low"):
        compare({"a": made.runs[0], "b": without}, made.answers, made.metas, made.cards)
    other = made.runs[1].assign(card="f" * 12)
    with pytest.raises(RefbenchError, match="same metric cards"):
        compare({"a": made.runs[0], "b": other}, made.answers, made.metas, made.cards)
