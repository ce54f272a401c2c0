"""Facts about every metric, held to by one tester: card, perfect value, direction, range, region, batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refbench.metrics import METRICS, Measurer, card_hash, contract, list_cards
from refbench.metrics.contract import Metric
from refbench.metrics.registry import cards_of, default_metrics, make_metrics, score_metrics
from refbench.metrics.view import View
from refbench.schema import AXES, MetricCard, Score, Truth
from refbench.trivial import trivial_answers
from tests.metrics.scenes import face_truth, halfway, lettered, scene, text_truth

SCORED = {
    "texture_fidelity": ["squeeze_pooled", "squeeze_match", "ocr_cer"],
    "reference_alignment": ["contextual", "keypoint_gain", "face_id"],
    "local_consistency": ["seam", "illumination", "sharpness", "ghosting", "background_ssim", "background_exact"],
    "pixel_fidelity": ["psnr", "ssim", "ms_ssim", "ssim_hf", "gmsd", "vifp", "fsimc", "haarpsi", "mdsi"],
}
BESIDE = ["squeeze", "spectrum", "embed", "palette", "background_mse", "mse"]
DIAGNOSTICS = ["outside_shift", "outside_zoom", "outside_drift", "copied", "sharpness_change"]
DEFAULT = default_metrics()
JUDGED = [name for name in DEFAULT if name not in DIAGNOSTICS]
PERFECT = {
    "psnr": math.inf,
    "ssim": 1.0,
    "ms_ssim": 1.0,
    "ssim_hf": 1.0,
    "vifp": 1.0,
    "fsimc": 1.0,
    "haarpsi": 1.0,
    "squeeze_pooled": 1.0,
    "background_ssim": 1.0,
    "background_exact": 1.0,
} | dict.fromkeys(
    (
        "mse",
        "gmsd",
        "mdsi",
        "spectrum",
        "squeeze",
        "squeeze_match",
        "ocr_cer",
        "background_mse",
        "seam",
        "illumination",
        "sharpness",
        "ghosting",
        "outside_shift",
        "outside_zoom",
        "outside_drift",
        "sharpness_change",
    ),
    0.0,
)
"""What an output that equals the target scores, by definition; alignment has no such number."""
ROUNDED = {"vifp": 1e-7, "illumination": 5e-6, "seam": 5e-6}
"""VIFp adds 1e-8 to both sums of its ratio; the target's CIELAB is kept in float32."""
OUTSIDE = [
    "background_ssim",
    "background_exact",
    "background_mse",
    "outside_shift",
    "outside_zoom",
    "outside_drift",
]
SYMMETRIC = (
    "mse",
    "psnr",
    "ssim",
    "ms_ssim",
    "ssim_hf",
    "gmsd",
    "fsimc",
    "haarpsi",
    "spectrum",
    "squeeze",
    "squeeze_pooled",
    "squeeze_match",
    "illumination",
    "sharpness",
)
"""Metrics whose definition does not tell output and target apart."""
GENERAL = [name for name in DEFAULT if name not in ("ocr_cer", "face_id")]


@pytest.fixture(scope="module")
def measurer() -> Measurer:
    return Measurer(GENERAL, threads=1)


@pytest.fixture(scope="module")
def metrics() -> dict[str, Metric]:
    return make_metrics()


def values(scores: list[Score]) -> dict[str, float]:
    return {score.metric: score.value for score in scores}


def truth_for(name: str) -> Truth:
    if name == "ocr_cer":
        return text_truth()
    return face_truth()[0] if name == "face_id" else scene()


def test_each_axis_has_its_metrics() -> None:
    cards = cards_of(DEFAULT)
    for axis, names in SCORED.items():
        assert [name for name, card in cards.items() if card.axis == axis and card.scored] == names
    assert sorted(name for name in JUDGED if not cards[name].scored) == sorted(BESIDE)
    assert [name for name, card in cards.items() if card.axis == "diagnostics"] == DIAGNOSTICS
    assert score_metrics() == [name for axis in AXES for name in SCORED[axis]]


@pytest.mark.parametrize("name", DEFAULT)
def test_card_is_complete_and_agrees_with_its_name(name: str) -> None:
    card = make_metrics([name])[name].card()
    assert isinstance(card, MetricCard)
    assert card.name == name
    assert all(len(text) > 3 for text in (card.definition, card.paper, card.colour, card.region_rule, card.backend))
    assert "not installed" not in card.backend
    assert card.note, "every card says what the metric is blind to"
    assert (card.weights is None) == (card.weights_sha256 is None)
    assert card.weights_sha256 is None or len(card.weights_sha256) == 64
    if name == "ghosting":
        assert card.trivial == "blend"
    elif card.axis == "local_consistency":
        assert card.trivial == ("stretch" if card.region == "outside" else "paste")
    else:
        assert card.trivial == "draft"
    if not card.scored:
        assert "not scored" in card.note
    assert card.scored == (card.unit is not None and card.unit > 0)
    assert (card.recovery_of == "root_mse") == (name == "psnr")


def test_card_hash_is_of_the_content_alone() -> None:
    card = make_metrics(["ssim"])["ssim"].card()
    assert card_hash(card) == card_hash(MetricCard.model_validate_json(card.model_dump_json()))
    assert card_hash(card) != card_hash(card.model_copy(update={"border_rule": "padded"}))
    assert len(card_hash(card)) == 12


def test_card_hash_of_a_known_card_does_not_move() -> None:
    """SHA-256 of canonical JSON, worked out once by hand; a new number here breaks old scores."""
    card = MetricCard(
        name="x", definition="d", paper="p", axis="texture_fidelity", region="full", higher_is_better=True,
        range=(0.0, None), colour="c", region_rule="r", backend="b",
    )  # fmt: skip
    assert card_hash(card) == "4490e7183370"


def test_a_build_is_no_other_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's builds for processors and for CUDA carry the same version and give the same card."""
    monkeypatch.setattr(contract, "version", lambda package: "2.13.0+cpu")
    assert contract.library.__wrapped__("torch") == "torch 2.13.0"


def test_listing_cards_needs_neither_torch_nor_opencv() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from refbench.metrics import list_cards; n = len(list_cards()); "
        "print(n, [m for m in ('torch', 'cv2', 'scipy', 'skimage', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{len(METRICS)} []"
    assert all(missing is None or "run `" in missing for _, missing in list_cards())


@pytest.mark.parametrize("name", DEFAULT)
def test_target_is_perfect_and_an_answer_worse(name: str, metrics: dict[str, Metric]) -> None:
    truth = truth_for(name)
    metric = metrics[name]
    best = metric.values([View(truth, truth.target)])[0]
    assert best is not None
    if name in PERFECT:
        assert best == pytest.approx(PERFECT[name], abs=ROUNDED.get(name, 1e-9))
    if name in DIAGNOSTICS:
        return
    answers = trivial_answers(truth)
    if name.startswith("background"):
        worse = answers["stretch"]
    elif name == "ocr_cer":
        worse = lettered("BXNCQMARK")
    elif name == "ghosting":
        worse = answers["blend"]
    else:
        worse = answers["draft"]
    bad = metric.values([View(truth, worse)])[0]
    assert bad is not None
    assert (bad < best) == metric.card_once.higher_is_better
    assert bad != best


@pytest.mark.parametrize("name", DEFAULT)
def test_values_stay_in_the_range_of_the_card(name: str, metrics: dict[str, Metric]) -> None:
    truth = truth_for(name)
    low, high = metrics[name].card_once.range
    noise = np.random.default_rng(1).integers(0, 256, truth.target.shape, dtype=np.uint8)
    for output in (noise, 255 - truth.target, np.zeros_like(noise), truth.target):
        value = metrics[name].values([View(truth, output)])[0]
        if value is None:  # no corner found again in noise, no block with detail in black: the notes say so
            assert "undefined where" in metrics[name].card_once.note
            assert output is not truth.target
            continue
        assert low is None or value >= low - 1e-9
        assert high is None or value <= high + 1e-6


@pytest.mark.parametrize("name", SYMMETRIC)
def test_output_and_target_can_change_places(name: str, metrics: dict[str, Metric]) -> None:
    truth, output = scene(), halfway(scene(), 0.3)
    turned = replace(truth, target=output)
    there = metrics[name].values([View(truth, output)])[0]
    # Outside the mask both equal the target here, so that compositing does not tell them apart either.
    back = metrics[name].values([View(turned, truth.target)])[0]
    assert there == pytest.approx(back, rel=1e-6)


def test_batched_equals_single(measurer: Measurer) -> None:
    truths = [scene(), scene(200, 264), scene()]
    outputs = [halfway(t, s) for t, s in zip(truths, (0.2, 0.5, 0.8), strict=True)]
    together = Measurer(GENERAL, batch_size=3, threads=2).measure(truths, outputs)
    for truth, output, scores in zip(truths, outputs, together, strict=True):
        assert values(scores) == pytest.approx(values(measurer.measure([truth], [output])[0]), abs=1e-5)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), everywhere=st.booleans())
def test_a_change_outside_leaves_inside_metrics_alone(measurer: Measurer, seed: int, everywhere: bool) -> None:
    truth = scene()
    assert truth.mask is not None
    output = halfway(truth)
    generator = np.random.default_rng(seed)
    touched = ~truth.mask if everywhere else ~truth.mask & (generator.random(truth.mask.shape) < 0.01)
    other = output.copy()
    other[touched] = generator.integers(0, 256, (int(touched.sum()), 3))
    before, after = (measurer.measure([truth], [image])[0] for image in (output, other))
    inside = [score.metric for score in before if score.region == "inside"]
    assert len(inside) == len(GENERAL) - len(OUTSIDE) - 1
    for name in inside:
        assert values(after)[name] == values(before)[name]
    assert values(after)["background_exact"] < 1.0


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_a_change_inside_leaves_outside_metrics_alone(measurer: Measurer, seed: int) -> None:
    truth = scene()
    assert truth.mask is not None
    output = halfway(truth)
    output[truth.mask] = np.random.default_rng(seed).integers(0, 256, (int(truth.mask.sum()), 3))
    found = values(measurer.measure([truth], [output])[0])
    assert {name: found[name] for name in OUTSIDE} == {name: PERFECT[name] for name in OUTSIDE}


def test_without_a_mask_the_region_is_full_and_nothing_is_outside() -> None:
    truth = replace(scene(), mask=None)
    scores = Measurer(GENERAL, threads=1).measure([truth], [halfway(truth)])[0]
    assert {score.region for score in scores} == {"full"}
    assert not {"seam", "ghosting", *OUTSIDE} & set(values(scores))


@pytest.mark.parametrize("size", [(65, 97), (48, 200), (33, 33), (12, 12)])
def test_small_and_odd_sizes_are_measured_or_left_out(size: tuple[int, int]) -> None:
    truth = scene(*size)
    found = values(Measurer(GENERAL, threads=1).measure([truth], [halfway(truth)])[0])
    assert ("ms_ssim" in found) == (min(size) >= 176)
    assert ("vifp" in found) == (min(size) >= 41)
    deep = {"squeeze_pooled", "squeeze_match", "contextual", "outside_drift", "sharpness", "ghosting"}
    assert {name for name in deep if name in found} == {
        name for name in deep if min(size) >= make_metrics([name])[name].smallest
    }
    assert all(math.isfinite(value) for value in found.values())
    assert {"mse", "psnr", "background_exact", "seam"} <= set(found)


@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_masks_at_the_frame_edge_are_measured(corner: str, measurer: Measurer) -> None:
    truth = scene(201, 233)
    mask = np.zeros(truth.target.shape[:2], dtype=bool)
    where = np.s_[:40, :50] if corner == "top left" else np.s_[-40:, -50:]
    mask[where] = True
    edge = replace(truth, mask=mask)
    output = truth.target.copy()
    output[where] = 255 - output[where]
    found = values(measurer.measure([edge], [output])[0])
    assert set(found) == set(GENERAL)
    assert found["ssim"] < 0.5
    assert found["mse"] == pytest.approx(float(((output[mask] / 255.0 - truth.target[mask] / 255.0) ** 2).mean()))
