"""Recovery: closed forms on hand-made scores, the rules about failed, missing and unscorable, and speed."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.errors import RefbenchError
from refbench.schema import AXES, PIXEL, MetricCard
from refbench.stats.gains import MEASURES, NO_TARGETS, clipped, gains, sample_scores, withheld
from refbench.stats.recovery import Summary, summarise
from stats.made_up import made_up_cards, made_up_suite


def card(name: str, **fields: object) -> MetricCard:
    base = made_up_cards()["t_high"].model_copy(update={"name": name, **fields})
    return MetricCard.model_validate(base.model_dump())


def frame(values: dict[tuple[str, str], float], **extra: str) -> pd.DataFrame:
    rows = [
        {"sample": s, "metric": m, "region": "inside", "axis": "-", "value": v, "higher_is_better": True, "card": "c"}
        | extra
        for (s, m), v in values.items()
    ]
    columns = ["sample", "metric", "region", "axis", "value", "higher_is_better", "card", *extra]
    return pd.DataFrame(rows, columns=columns)


def answers(**kinds: dict[tuple[str, str], float]) -> pd.DataFrame:
    return pd.concat([frame(values, answer=kind) for kind, values in kinds.items()], ignore_index=True)


def metas(samples: list[str], category: str = "text", sources: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample": samples,
            "task": f"{category}-refine",
            "category": category,
            "mode": "refine",
            "source_id": sources or samples,
        }
    )


def test_recovery_is_a_ratio_of_sums() -> None:
    cards = {"m": card("m")}
    truth = {("a", "m"): 1.0, ("b", "m"): 1.0}
    draft = {("a", "m"): 0.0, ("b", "m"): 0.9}
    run = frame({("a", "m"): 0.5, ("b", "m"): 0.8})
    found = summarise(run, answers(draft=draft, target=truth), metas(["a", "b"]), cards)
    # (0.5 + -0.1) / (1.0 + 0.1); the mean of ratios would be (50 - 100) / 2 = -25
    assert found.metrics["m"].value == pytest.approx(100 * 0.4 / 1.1)
    assert found.metrics["m"].raw_mean == pytest.approx(0.65)


def test_baseline_scores_zero_and_truth_hundred() -> None:
    made = made_up_suite(np.random.default_rng(1))
    truth = made.answers[made.answers["answer"] == "target"].drop(columns="answer")
    best = summarise(truth, made.answers, made.metas, made.cards, resamples=50)
    assert best.mean.value == pytest.approx(100.0)
    assert (best.mean.low, best.mean.high) == (pytest.approx(100.0), pytest.approx(100.0))
    for kind in ("draft", "paste", "stretch"):
        run = made.answers[made.answers["answer"] == kind].drop(columns="answer")
        found = summarise(run, made.answers, made.metas, made.cards, resamples=50)
        for name, cell in found.metrics.items():
            if made.cards[name].trivial == kind:
                assert cell.value == pytest.approx(0.0, abs=1e-9)


def test_nothing_scores_above_the_truth() -> None:
    cards = {"m": card("m", axis="reference_alignment")}
    samples = ["a", "b", "c"]
    truth = {("a", "m"): 0.6, ("b", "m"): 0.5, ("c", "m"): 0.3}
    draft = {("a", "m"): 0.2, ("b", "m"): 0.3, ("c", "m"): 0.4}  # in c the draft happens to be nearer than the truth
    pasted = summarise(
        frame({(s, "m"): 1.0 for s in samples}), answers(draft=draft, target=truth), metas(samples), cards
    )
    # gains 0.4, 0.2 and 0 over room 0.4, 0.2 and 0; without the rule it would be 100 * 2.1 / 0.6 = 350
    assert pasted.metrics["m"].value == pytest.approx(100.0)
    same = summarise(frame(draft), answers(draft=draft, target=truth), metas(samples), cards)
    assert same.metrics["m"].value == pytest.approx(0.0)
    exact = summarise(frame(truth), answers(draft=draft, target=truth), metas(samples), cards)
    assert exact.metrics["m"].value == pytest.approx(100.0)


def test_no_set_exceeds_what_its_samples_may() -> None:
    """The best of all answers on samples of which some have a truth that is worse than the draft."""
    rng = np.random.default_rng(0)
    cards = {f"m{i}": card(f"m{i}", axis=axis) for i, axis in enumerate(AXES)}
    plan = pd.concat([metas([f"{c}{i}" for i in range(12)], c) for c in ("text", "face")], ignore_index=True)
    grid = [(s, m) for s in plan["sample"] for m in cards]
    draft, truth = dict.fromkeys(grid, 0.0), {key: float(rng.normal(0.5, 0.4)) for key in grid}
    assert min(truth.values()) < 0
    given_answers = answers(draft=draft, paste=draft, stretch=draft, target=truth)
    for value, expected in ((9.0, 100.0), (0.0, 0.0)):
        found = summarise(frame(dict.fromkeys(grid, value)), given_answers, plan, cards, resamples=20)
        views = (found.axes, found.tasks["text-refine"], *found.categories.values(), *found.modes.values())
        for cells in (*views, {"mean": found.mean}):
            numbers = [cell.value for name, cell in cells.items() if name != PIXEL]
            assert numbers == pytest.approx([expected] * len(numbers))
    exact = summarise(frame(truth), given_answers, plan, cards, resamples=20)
    assert exact.mean.value == exact.categories["face"]["mean"].value == pytest.approx(100.0)
    run = frame({key: float(rng.normal(0.5, 0.6)) for key in grid})
    mixed = summarise(run, given_answers, plan, cards, resamples=20)
    for axis in AXES:
        parts = [cells[axis].value for cells in mixed.categories.values()]
        assert all(part is None or part <= 100.0 for part in (*parts, mixed.axes[axis].value))


def test_psnr_enters_as_root_mean_square() -> None:
    cards = {"psnr": card("psnr", recovery_of="root_mse")}
    samples = ["a", "b"]
    truth = {(s, "psnr"): math.inf for s in samples}
    draft = {(s, "psnr"): 20.0 for s in samples}  # root MSE 0.1
    run = frame({("a", "psnr"): 40.0, ("b", "psnr"): math.inf})  # root MSE 0.01 and 0
    found = summarise(run, answers(draft=draft, target=truth), metas(samples), cards)
    assert found.metrics["psnr"].value == pytest.approx(100 * (0.09 + 0.1) / 0.2)
    assert found.metrics["psnr"].raw_mean is None
    assert "Infinity" not in found.model_dump_json()


def test_direction_does_not_change_recovery() -> None:
    up, down = {"m": card("m")}, {"m": card("m", higher_is_better=False)}
    values = {("a", "m"): 0.3, ("b", "m"): 0.8}
    draft, truth = {("a", "m"): 0.1, ("b", "m"): 0.2}, {("a", "m"): 1.0, ("b", "m"): 0.9}

    def mirrored(values: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        return {key: -value for key, value in values.items()}

    one = summarise(frame(values), answers(draft=draft, target=truth), metas(["a", "b"]), up)
    two = summarise(
        frame(mirrored(values)), answers(draft=mirrored(draft), target=mirrored(truth)), metas(["a", "b"]), down
    )
    assert one.mean == two.mean
    assert one.metrics["m"].value == pytest.approx(two.metrics["m"].value)


def test_failed_sample_takes_the_drafts_values() -> None:
    cards = {"m": card("m"), "seam": card("seam", axis="local_consistency", trivial="paste", higher_is_better=False)}
    samples = ["a", "b"]
    truth = {(s, m): v for s in samples for m, v in (("m", 1.0), ("seam", 0.0))}
    draft = {(s, m): v for s in samples for m, v in (("m", 0.0), ("seam", 0.1))}
    paste = {(s, m): v for s in samples for m, v in (("m", 0.5), ("seam", 1.0))}
    run = frame({("a", "m"): 0.6, ("a", "seam"): 0.5})
    found = summarise(run, answers(draft=draft, paste=paste, target=truth), metas(samples), cards)
    assert (found.samples, found.failed) == (2, 1)
    assert found.metrics["m"].value == pytest.approx(30.0)  # 60 and the draft's 0
    assert found.metrics["seam"].value == pytest.approx(70.0)  # 50 and the draft's 90
    assert found.metrics["seam"].raw_mean == pytest.approx(0.3)


def test_missing_metric_never_raises_the_score() -> None:
    cards = {"m": card("m"), "seam": card("seam", axis="local_consistency", trivial="paste", higher_is_better=False)}
    truth = {("a", "m"): 1.0, ("b", "m"): 1.0, ("a", "seam"): 0.0, ("b", "seam"): 0.0}
    draft = {("a", "m"): 0.0, ("b", "m"): 0.0, ("a", "seam"): 0.1, ("b", "seam"): 0.1}
    paste = {("a", "m"): 0.5, ("b", "m"): 0.5, ("a", "seam"): 1.0, ("b", "seam"): 1.0}
    run = frame({("a", "m"): 0.6, ("a", "seam"): 0.5, ("b", "m"): 0.2})  # b has no seam
    found = summarise(run, answers(draft=draft, paste=paste, target=truth), metas(["a", "b"]), cards)
    assert found.metrics["seam"].value == pytest.approx(25.0)  # not the draft's 90 for b, but 0
    assert found.filled == {"seam": 1}
    assert found.failed == 0


def test_what_enters_no_axis_says_why() -> None:
    cards = {name: card(name) for name in ("flat", "good")}
    cards["off"] = card("off", scored=False, note="answers a shift the wrong way")
    samples = ["a", "b", "c", "d"]
    draft = {(s, m): 0.0 for s in samples for m in cards}
    gap = {"flat": [5e-5] * 4, "good": [1.0] * 4, "off": [1.0] * 4}
    truth = {(s, m): gap[m][i] for i, s in enumerate(samples) for m in cards}
    run = frame({(s, m): 0.5 for s in samples for m in cards})
    found = summarise(run, answers(draft=draft, target=truth), metas(samples), cards)
    assert set(found.unscored) == {"flat", "off"}
    assert "nowhere better" in found.unscored["flat"]
    assert found.unscored["off"] == "answers a shift the wrong way"
    assert found.metrics["good"].value == pytest.approx(50.0)
    assert found.axes["reference_alignment"].value is None
    assert found.mean.value is None  # never of fewer than three axes


def three(**units: float) -> dict[str, MetricCard]:
    """One metric an axis, each with a unit of 1 unless told otherwise."""
    zero = {"texture_fidelity": "draft", "reference_alignment": "draft", "local_consistency": "paste"}
    return {a[0]: card(a[0], axis=a, trivial=zero[a], unit=units.get(a[0], 1.0)) for a in AXES}


def one_sample(value: dict[str, float], cards: dict[str, MetricCard], truth: float = 1.0) -> dict[str, float]:
    """Points of a sample whose trivial answers have 0 and whose truth has `truth`, in every metric."""
    given = {(("a"), m): v for m, v in value.items()}
    zero, best = dict.fromkeys(given, 0.0), dict.fromkeys(given, truth)
    table = gains(frame(given), answers(draft=zero, paste=zero, stretch=zero, target=best), ["a"], cards)
    return dict(zip((*AXES, "mean"), sample_scores(table)[0].tolist(), strict=True))


def test_score_weighs_lower_axis_and_consistency() -> None:
    # texture 40, alignment 80: 3/4 x 40 + 1/4 x 80 = 50; times a consistency of 60 %
    found = one_sample({"t": 0.4, "r": 0.8, "l": 0.6}, three())
    assert found == pytest.approx(dict(zip((*AXES, "mean"), (40.0, 80.0, 60.0, 30.0), strict=True)))


def test_what_made_worse_counts_in_full() -> None:
    assert one_sample({"t": -0.4, "r": -0.8, "l": 0.6}, three())["mean"] == pytest.approx(-0.75 * 80 - 0.25 * 40)
    assert one_sample({"t": 0.4, "r": 0.8, "l": -0.6}, three())["mean"] == 0.0  # nothing that does not sit earns


def test_loss_counts_at_most_a_unit() -> None:
    assert one_sample({"t": -7.0, "r": -9.0, "l": 1.0}, three())["mean"] == -100.0


def test_a_tiny_gap_decides_nothing() -> None:
    """A truth that is a hundredth of a unit better: gaining or losing it moves the axis by 2 points (floor 1/2)."""
    for value, expected in ((0.01, 2.0), (0.0, 0.0), (-0.01, -2.0)):
        found = one_sample({"t": value, "r": value, "l": 0.01}, three(), truth=0.01)
        assert found["texture_fidelity"] == pytest.approx(expected)


def test_draft_has_0_and_truth_100() -> None:
    rng = np.random.default_rng(5)
    cards, samples = three(t=0.4, r=0.7, l=0.2), [f"s{i}" for i in range(30)]
    grid = [(s, m) for s in samples for m in cards]
    draft, truth = ({key: float(rng.normal(at, 0.3)) for key in grid} for at in (0.0, 0.6))
    paste = {key: float(rng.normal(-0.5, 0.3)) for key in grid}
    given_answers = answers(draft=draft, paste=paste, stretch=paste, target=truth)
    found = [summarise(frame(one), given_answers, metas(samples), cards, resamples=20) for one in (draft, truth)]
    assert [one.mean.value for one in found] == pytest.approx([0.0, 100.0])
    for axis in AXES[:2]:
        assert [one.axes[axis].value for one in found] == pytest.approx([0.0, 100.0])
    assert found[1].axes["local_consistency"].value == pytest.approx(100.0)


def test_axis_lacking_metric_has_no_score() -> None:
    """Its other metrics keep their numbers, the other axes theirs; the axis and the mean have none in any view."""
    made = made_up_suite(np.random.default_rng(2))
    rest = [frame[frame["metric"] != "a_face"] for frame in (made.runs[0], made.answers)]
    whole = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=50)
    found = summarise(*rest, made.metas, made.cards, resamples=50, unavailable={"a_face": "needs dlib: run `x`"})
    reasons = withheld(made.cards, {"a_face": "needs dlib: run `x`"})
    assert reasons == dict.fromkeys(("reference_alignment", "mean"), "a_face needs dlib: run `x`")
    assert found.unscored["a_face"] == "needs dlib: run `x`"
    for cells in ({**found.axes, "mean": found.mean}, *found.categories.values(), *found.tasks.values()):
        lacking = {name for name, cell in cells.items() if cell.value is None} - {PIXEL}
        assert lacking == {"reference_alignment", "mean"}
    assert found.axes["texture_fidelity"] == whole.axes["texture_fidelity"]


def test_what_is_undefined_everywhere_withholds_nothing() -> None:
    """A suite without faces lacks no metric of faces: only what could not be measured leaves an axis unscored."""
    made = made_up_suite(np.random.default_rng(2))
    rest = [frame[frame["metric"] != "a_face"] for frame in (made.runs[0], made.answers)]
    found = summarise(*rest, made.metas, made.cards, resamples=50)
    assert found.mean.value is not None


def test_metric_beside_score_withholds_nothing() -> None:
    made = made_up_suite(np.random.default_rng(2))
    cards = made.cards | {"beside": card("beside", scored=False, note="beside the score")}
    found = summarise(
        made.runs[0], made.answers, made.metas, cards, resamples=50, unavailable={"beside": "needs weights"}
    )
    assert found.mean.value is not None
    assert withheld(cards, {"beside": "needs weights"}) == {}


def test_without_targets_the_score_is_withheld() -> None:
    """A card's unit is what a typical truth wins; the background's truth is known; what needs a target has none."""
    cards = three(t=1.0, r=0.4, l=1.0)
    outside = card("b", axis="local_consistency", region="outside", trivial="stretch", unit=0.5)
    cards |= {"b": outside, "e": card("e", axis="reference_alignment", scored=False, unit=None)}
    lacking = dict.fromkeys(("t", "l"), NO_TARGETS)
    draft = {("a", "r"): 0.1, ("a", "b"): 1.0, ("a", "e"): 0.2}
    run = frame({("a", "r"): 0.3, ("a", "b"): 0.8, ("a", "e"): 0.7})
    known = answers(draft=draft, stretch={("a", "b"): 0.6}, target={("a", "b"): 1.0})
    found = summarise(run, known, metas(["a"]), cards, resamples=20, unavailable=lacking)
    assert found.axes["reference_alignment"].value == pytest.approx(100 * (0.3 - 0.1) / 0.4)
    assert found.axes["local_consistency"].value == pytest.approx(100 * (1 - 0.2 / 0.5))
    assert (found.axes["texture_fidelity"].value, found.mean.value, found.pixel_fidelity.value) == (None, None, None)
    assert (found.metrics["e"].raw_mean, found.metrics["e"].value) == (0.7, None)
    assert withheld(cards, lacking) == {"texture_fidelity": NO_TARGETS, "mean": NO_TARGETS}
    both = withheld(cards, {**lacking, "b": "needs x"})
    assert both["local_consistency"] == "b needs x"


def test_withheld_axis_leaves_no_sample_mean() -> None:
    made = made_up_suite(np.random.default_rng(2))
    ids = list(made.metas["sample"])
    table = gains(made.runs[0], made.answers, ids, made.cards, {"a_face": "needs dlib"})
    found = sample_scores(table)
    assert np.isnan(found[:, [1, 3]]).all()
    assert np.isfinite(found[:, 0]).any()


def test_partial_metric_counts_where_defined() -> None:
    made = made_up_suite(np.random.default_rng(2))
    found = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=50)
    face = int((made.metas["category"] == "face").sum())
    assert found.metrics["a_face"].samples == face
    assert found.metrics["t_high"].samples == len(made.metas)
    assert "a_face" in found.unscored_in["category text"]
    assert "category face" not in found.unscored_in or "a_face" not in found.unscored_in["category face"]


def test_set_is_sum_of_its_samples() -> None:
    made = made_up_suite(np.random.default_rng(3))
    found = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=50)
    table = gains(made.runs[0], made.answers, list(made.metas["sample"]), made.cards)
    for name, cell in {**found.axes, "mean": found.mean}.items():
        at = MEASURES.index(name)
        assert cell.value == pytest.approx(100.0 * table.won[:, at].sum() / table.could[:, at].sum())


def test_intervals_depend_on_seed_not_order() -> None:
    made = made_up_suite(np.random.default_rng(4))
    one = summarise(made.runs[0], made.answers, made.metas, made.cards, seed=7, resamples=200)
    shuffled = made.runs[0].sample(frac=1.0, random_state=0)
    two = summarise(shuffled, made.answers, made.metas, made.cards, seed=7, resamples=200)
    other = summarise(made.runs[0], made.answers, made.metas, made.cards, seed=8, resamples=200)
    assert one == two
    assert one.mean.value == other.mean.value
    assert one.mean.low != other.mean.low


def test_one_source_has_no_interval() -> None:
    cards = {"m": card("m")}
    samples = ["a", "b", "c"]
    draft, truth = {(s, "m"): 0.0 for s in samples}, {(s, "m"): 1.0 for s in samples}
    run = frame({("a", "m"): 0.1, ("b", "m"): 0.2, ("c", "m"): 0.9})
    found = summarise(run, answers(draft=draft, target=truth), metas(samples, sources=["s"] * 3), cards)
    assert found.metrics["m"].value == pytest.approx(40.0)
    assert found.metrics["m"].model_dump(include={"low", "high", "reason"}) == {
        "low": None,
        "high": None,
        "reason": "too few sources: 1 source, an interval needs 4",
    }


def test_interval_wider_than_scale_is_told() -> None:
    """Five sources, one eleven times as bad as the others are good: no number may be read off that."""
    cards = {"m": card("m"), "n": card("n", axis="local_consistency")}
    samples = list("abcde")
    draft, truth = (dict.fromkeys([(s, m) for s in samples for m in cards], v) for v in (0.0, 1.0))
    run = frame({(s, "m"): -10.0 if s == "c" else 0.9 for s in samples} | {(s, "n"): -9.0 for s in samples})
    found = summarise(run, answers(draft=draft, target=truth), metas(samples), cards)
    wide, bad = found.metrics["m"], found.metrics["n"]
    assert (wide.value, wide.low, wide.high) == (None, None, None)
    assert re.fullmatch(r"says nothing: 5 sources, the interval is ±\d+ points, .* 100", wide.reason)
    assert found.axes["texture_fidelity"].value is None
    assert (bad.value, bad.low, bad.high, bad.reason) == (-900.0, -900.0, -900.0, None)  # bad, but surely so
    assert "reason" not in bad.model_dump()
    assert Summary.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: pd.concat([run, run.head(1)]), "twice"),
        (lambda run: run.assign(value=float("nan")), "finite"),
        (lambda run: run.assign(value=float("inf")), "finite"),
        (lambda run: run.assign(sample=run["sample"] + "-x"), "planned"),
        (lambda run: run.assign(card="other"), "cards"),
        (lambda run: run.drop(columns="value"), "columns"),
    ],
)
def test_impossible_scores_are_refused(change, says: str) -> None:  # type: ignore[no-untyped-def]
    cards = {"m": card("m")}
    run = frame({("a", "m"): 0.5, ("b", "m"): 0.5})
    given_answers = answers(draft={("a", "m"): 0.0, ("b", "m"): 0.0}, target={("a", "m"): 1.0, ("b", "m"): 1.0})
    with pytest.raises(RefbenchError, match=says):
        summarise(change(run), given_answers, metas(["a", "b"]), cards)


def test_single_recoveries_are_clipped() -> None:
    cards = {"m": card("m")}
    draft = {("a", "m"): 0.0, ("b", "m"): 0.0, ("c", "m"): 1.0}
    truth = {("a", "m"): 1.0, ("b", "m"): 0.01, ("c", "m"): 1.0}
    run = frame({("a", "m"): 0.25, ("b", "m"): -5.0, ("c", "m"): 0.7})
    found = clipped(gains(run, answers(draft=draft, target=truth), list("abc"), cards), cards)
    assert found[:, 0] == pytest.approx([25.0, -100.0, np.nan], nan_ok=True)


@pytest.mark.filterwarnings("error")
def test_without_tolerance_gapless_samples_left_out() -> None:
    # A count (say, matched keypoints) has tolerance 0: a gap of 0 passes its floor, and must not be divided by.
    cards = {"m": card("m", tolerance=0.0)}
    draft, truth = {("a", "m"): 3.0, ("b", "m"): 3.0}, {("a", "m"): 3.0, ("b", "m"): 5.0}
    for value in (3.0, 1.0):  # as good as the draft (0 / 0), and worse (-2 / 0)
        run = frame({("a", "m"): value, ("b", "m"): value})
        found = clipped(gains(run, answers(draft=draft, target=truth), list("ab"), cards), cards)
        assert found[:, 0] == pytest.approx([np.nan, 100 * (value - 3) / 2], nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(0.01, 100.0),
    shift=st.floats(-50.0, 50.0),
    values=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
)
def test_recovery_does_not_depend_on_unit(scale: float, shift: float, values: list[float]) -> None:
    samples = list("abcde")
    draft = dict.fromkeys([(s, "m") for s in samples], 0.0)
    truth = {(s, "m"): 1.0 + i / 10 for i, s in enumerate(samples)}
    run = {(s, "m"): v for s, v in zip(samples, values, strict=True)}

    def units(table: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        return {key: scale * value + shift for key, value in table.items()}

    cards = {"m": card("m")}
    plain = summarise(frame(run), answers(draft=draft, target=truth), metas(samples), cards, resamples=100)
    other = summarise(
        frame(units(run)), answers(draft=units(draft), target=units(truth)), metas(samples), cards, resamples=100
    )
    if plain.metrics["m"].value is None:  # far apart on five sources: the interval says nothing, in either unit
        assert other.metrics["m"].value is None
        return
    assert other.metrics["m"].value == pytest.approx(plain.metrics["m"].value, abs=1e-6)
    # the interval divides by a spread that may be next to nothing, so its unit is the width itself
    width = plain.metrics["m"].high - plain.metrics["m"].low
    assert other.metrics["m"].low == pytest.approx(plain.metrics["m"].low, abs=1e-3 * width + 1e-6)


def test_whole_suite_takes_about_a_second() -> None:
    rng = np.random.default_rng(0)
    axes = ["texture_fidelity"] * 13 + ["reference_alignment"] * 5 + ["local_consistency"] * 7
    cards = {f"m{i}": card(f"m{i}", axis=axis) for i, axis in enumerate(axes)}
    samples = [f"s{i}" for i in range(160)]
    plan = pd.concat(
        [
            metas(samples[i : i + 20], category, [f"{category}-{i + k // 2}" for k in range(20)]).assign(task=f"t{i}")
            for i, category in zip(
                range(0, 160, 20), ["text", "logo", "pattern", "object", "face", "text", "logo", "pattern"], strict=True
            )
        ]
    )
    grid = [(s, m) for s in samples for m in cards]
    draft, truth = dict.fromkeys(grid, 0.0), dict.fromkeys(grid, 1.0)
    run = frame({key: float(rng.normal(0.4, 0.3)) for key in grid})
    given_answers = answers(draft=draft, paste=draft, stretch=draft, target=truth)
    start = time.perf_counter()
    found = summarise(run, given_answers, plan, cards, resamples=2000)
    seconds = time.perf_counter() - start
    assert found.clusters == 80
    # 0.6 s on an idle core; the bound leaves room for a busy machine and still fails for a loop over resamples
    assert seconds < 6.0
