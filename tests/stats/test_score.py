"""Score 2: what no trivial answer may win, failed samples, units, and the real draft and truth of a suite."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.baselines import baseline_images
from refbench.metrics import Measurer
from refbench.metrics.registry import cards_of, score_metrics
from refbench.schema import AXES, PIXEL, SCORE_VERSION
from refbench.stats.gains import MEASURES, Gains, gains, sample_scores
from refbench.stats.recovery import Summary, summarise
from refbench.tasks.suite import load_suite
from tests.stats.test_recovery import answers, card, frame, metas

TEXTURE, ALIGNMENT, CONSISTENCY = AXES
CARDS = {
    "t": card("t", axis=TEXTURE, unit=0.5),
    "a": card("a", axis=ALIGNMENT, unit=0.5),
    "c": card("c", axis=CONSISTENCY, unit=1.0, trivial="paste", higher_is_better=False),
    "p": card("p", axis=PIXEL, unit=0.5),
}
DRAFT = {"t": 0.0, "a": 0.0, "c": 0.1, "p": 0.0}
PASTE = {"t": 0.9, "a": 1.2, "c": 1.0, "p": 0.3}
TRUTH = {"t": 1.0, "a": 1.0, "c": 0.0, "p": 1.0}
Rows = dict[str, dict[str, float]]


def flat(rows: Rows) -> dict[tuple[str, str], float]:
    return {(sample, metric): value for sample, values in rows.items() for metric, value in values.items()}


def kinds(rows: Rows, draft: Rows | None = None, truth: Rows | None = None) -> dict[str, dict[tuple[str, str], float]]:
    """The answers of these samples, DRAFT, PASTE and TRUTH but where a sample has its own."""
    own = [{sample: common | (given or {}).get(sample, {}) for sample in rows}
           for common, given in ((DRAFT, draft), (PASTE, None), (TRUTH, truth))]  # fmt: skip
    return {"draft": flat(own[0]), "paste": flat(own[1]), "blend": flat(own[1]), "target": flat(own[2])}


def table(rows: Rows, draft: Rows | None = None, truth: Rows | None = None) -> Gains:
    return gains(frame(flat(rows)), answers(**kinds(rows, draft, truth)), list(rows), CARDS)


def points(values: dict[str, float], draft: Rows | None = None, truth: Rows | None = None) -> dict[str, float]:
    """A single sample's axes and score; what is not named in `values` is the truth's."""
    (row,) = sample_scores(table({"s": TRUTH | values}, draft, truth))
    return dict(zip((*AXES, "mean"), row.tolist(), strict=True))


def summary(rows: Rows, given: dict[str, dict[tuple[str, str], float]]) -> Summary:
    return summarise(frame(flat(rows)), answers(**given), metas(list(given_samples(given))), CARDS, resamples=20)


def given_samples(given: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    return list(dict.fromkeys(sample for sample, _ in given["target"]))


def test_real_draft_is_0_real_target_100() -> None:
    """Measured on the embedded suite by the metrics that make the score."""
    suite = load_suite("mini").select(limit=3)
    measurer = Measurer(score_metrics(), threads=1)
    found: dict[str, dict[tuple[str, str], float]] = {}
    for sample in suite.ids:
        truth = suite.truth(sample)
        images = baseline_images(truth)
        scores = measurer.measure([truth] * len(images), list(images.values()))
        for kind, one in zip(images, scores, strict=True):
            found.setdefault(kind, {}).update({(sample, score.metric): score.value for score in one})
    plan, cards = metas(list(suite.ids)), cards_of(score_metrics())
    draft, paste, target = (
        summarise(frame(found[kind]), answers(**found), plan, cards, resamples=20)
        for kind in ("draft", "paste", "target")
    )
    assert draft.axes[TEXTURE].value == draft.axes[ALIGNMENT].value == draft.mean.value == 0.0
    assert [cell.value for cell in (*target.axes.values(), target.mean)] == [100.0] * 4
    assert paste.mean.value < 25.0
    assert paste.axes[CONSISTENCY].value < draft.axes[CONSISTENCY].value


def test_a_tiny_gap_moves_little() -> None:
    """A gap of 0.01 in units of 0.5: all of it, or as much lost, is 0.02 / 0.5 = 4 points of the sample's axis."""
    tiny = {"s": {"t": 0.01}}
    for value, expected in ((0.01, 4.0), (0.0, 0.0), (-0.01, -4.0)):
        assert points({"t": value}, truth=tiny)[TEXTURE] == pytest.approx(expected)
    # beside a sample with the whole gap: +-4 of 104
    for value, expected in ((0.01, 100.0), (-0.01, 100 * 0.96 / 1.04)):
        rows = {"s": TRUTH | {"t": value}, "whole": TRUTH}
        found = summary(rows, kinds(rows, truth=tiny))
        assert found.axes[TEXTURE].value == pytest.approx(expected)


def test_axis_with_little_to_win_says_little() -> None:
    """A gap of 0.1 is 0.2 units, below the least of a half: its truth has 40 points, and half of the way 20."""
    small = {"s": {"t": 0.1}}
    assert points({"t": 0.1}, truth=small)[TEXTURE] == pytest.approx(40.0)
    assert points({"t": 0.05}, truth=small)[TEXTURE] == pytest.approx(20.0)


def test_large_gap_is_its_own_unit() -> None:
    assert points({"t": 1.0}, truth={"s": {"t": 4.0}})[TEXTURE] == pytest.approx(25.0)


def test_gain_counts_not_below_minus_1() -> None:
    """One metric of two is 50 units worse, the other right: (-1 + 1) / 2, not (-50 + 1) / 2."""
    cards = CARDS | {"t2": card("t2", axis=TEXTURE, unit=0.5)}
    row = {"s": TRUTH | {"t": -50.0, "t2": 1.0}}
    given = kinds(row)
    for kind, value in (("draft", 0.0), ("paste", 0.0), ("blend", 0.0), ("target", 1.0)):
        given[kind]["s", "t2"] = value
    found = gains(frame(flat(row)), answers(**given), ["s"], cards)
    assert found.gain[0, found.metrics.index("t")] == -1.0
    assert found.won[0, 0] == pytest.approx(0.0)
    assert points({"t": -50.0})[TEXTURE] == -100.0
    assert points({"c": 50.0})[CONSISTENCY] == -100.0


def test_consistency_counts_from_the_truth() -> None:
    """In units of 1; the draft's own shortfall does not matter."""
    for value, expected in ((0.0, 100.0), (0.25, 75.0), (1.0, 0.0), (1.5, -50.0), (-3.0, 100.0)):
        assert points({"c": value})[CONSISTENCY] == pytest.approx(expected)


def test_no_trivial_answer_wins() -> None:
    """A paste is right and the reference's own, and sits nowhere: 0; the blend of it with the draft no better."""
    found = points(PASTE)
    assert (found[TEXTURE], found[ALIGNMENT], found[CONSISTENCY]) == pytest.approx((90.0, 100.0, 0.0))
    assert found["mean"] == 0.0
    assert points(DRAFT)["mean"] == 0.0
    assert points({"t": 0.45, "a": 0.6, "c": 1.0})["mean"] == 0.0


def test_beyond_the_truth_is_the_truth() -> None:
    assert points({"t": 7.0, "a": 7.0, "c": -7.0}) == dict.fromkeys((*AXES, "mean"), 100.0)


def test_score_takes_axis_sample_has() -> None:
    """The truth of `s` wins no alignment, so that texture alone is weighed; without either there is no score."""
    none = {"s": {"a": -0.5}}
    found = points({"t": 0.5, "a": 0.0}, truth=none)
    assert np.isnan(found[ALIGNMENT])
    assert found["mean"] == pytest.approx(50.0)
    assert np.isnan(points({}, truth={"s": {"a": -0.5, "t": 0.0}})["mean"])


def test_a_failed_sample_is_its_draft() -> None:
    rows = {"s": TRUTH | {"t": 0.7, "c": 0.2}, "lost": DRAFT}
    given = kinds(rows)
    failed, drafted = summary({"s": rows["s"]}, given), summary(rows, given)
    assert (failed.failed, drafted.failed) == (1, 0)
    assert (failed.axes, failed.mean, failed.pixel_fidelity) == (drafted.axes, drafted.mean, drafted.pixel_fidelity)


def test_pixel_fidelity_stands_beside_the_score() -> None:
    rows = {"s": TRUTH | {"p": -1.0}}
    found = summary(rows, kinds(rows))
    assert (found.mean.value, found.pixel_fidelity.value) == (100.0, -100.0)
    assert (*AXES, "mean", PIXEL) == MEASURES


def test_a_summary_says_its_score() -> None:
    rows = {"s": TRUTH}
    assert summary(rows, kinds(rows)).score_version == SCORE_VERSION == 2
