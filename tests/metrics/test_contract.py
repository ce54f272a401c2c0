"""Facts about every metric, held to by one tester: card, perfect value, direction, range, region, batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refbench.baselines import baseline_images
from refbench.metrics import METRICS, Measurer, card_hash, contract, list_cards
from refbench.metrics.checks import lettered
from refbench.metrics.contract import Metric
from refbench.metrics.registry import default_metrics, make_metrics, score_metrics
from refbench.metrics.view import View
from refbench.schema import MetricCard, Score, Truth
from tests.metrics.scenes import face_truth, halfway, scene, text_truth

NAMES = default_metrics()
METRICS_HERE = make_metrics(NAMES)
GENERAL = [name for name, metric in METRICS_HERE.items() if metric.card_once.categories is None]


@pytest.fixture(scope="module")
def measurer() -> Measurer:
    return Measurer(GENERAL, threads=1)


@pytest.fixture(scope="module")
def metrics() -> dict[str, Metric]:
    return make_metrics()


def values(scores: list[Score]) -> dict[str, float]:
    return {score.metric: score.value for score in scores}


def truth_for(name: str) -> Truth:
    categories = METRICS_HERE[name].card_once.categories or ()
    return text_truth() if "text" in categories else face_truth()[0] if "face" in categories else scene()


def test_score_is_made_of_these_metrics() -> None:
    """Another one is another score: SCORE_VERSION rises with it."""
    assert score_metrics() == [
        "squeeze_pooled", "squeeze_match", "ocr_cer", "contextual", "keypoint_gain", "face_id",
        "seam", "illumination", "sharpness", "ghosting", "background_ssim", "background_exact",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_card_is_complete_with_its_name(name: str) -> None:
    card = make_metrics([name])[name].card()
    assert isinstance(card, MetricCard)
    assert card.name == name
    assert all(len(text) > 3 for text in (card.definition, card.paper, card.colour, card.region_rule, card.backend))
    assert "not installed" not in card.backend
    assert card.note, "every card says what the metric is blind to"
    assert (card.weights is None) == (card.weights_sha256 is None)
    assert card.weights_sha256 is None or len(card.weights_sha256) == 64
    assert (card.trivial == "draft") == (card.axis != "local_consistency")
    assert card.region != "outside" or card.axis == "diagnostics" or card.trivial == "stretch"
    assert (card.unit is not None) == (card.scored and card.axis != "diagnostics")
    if not card.scored:
        assert "not scored" in card.note


def test_card_hash_is_of_content_alone() -> None:
    card = make_metrics(["ssim"])["ssim"].card()
    assert card_hash(card) == card_hash(MetricCard.model_validate_json(card.model_dump_json()))
    assert card_hash(card) != card_hash(card.model_copy(update={"border_rule": "padded"}))
    assert len(card_hash(card)) == 12


def test_hash_of_a_known_card_stays() -> None:
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


@pytest.mark.parametrize("name", NAMES)
def test_target_is_perfect_and_draft_is_worse(name: str, metrics: dict[str, Metric]) -> None:
    truth = truth_for(name)
    metric = metrics[name]
    best = metric.values([View(truth, truth.target)])[0]
    assert best is not None
    if metric.perfect is not None:
        # VIFp adds 1e-8 to both sums of its ratio, and the target's CIELAB is kept in float32; the rest is rounding.
        assert best == pytest.approx(metric.perfect, abs=1e-6)
    else:
        assert metric.target_free, "a metric that looks at the target says what the target itself scores"
    card = metric.card_once
    if card.axis == "diagnostics":
        return  # in units of their own: another value is not a worse one
    if card.categories == ("text",):
        worse = lettered("BXNCQMARK")
    elif card.trivial in ("stretch", "blend"):
        worse = baseline_images(truth)[card.trivial]
    else:
        assert truth.draft is not None
        worse = truth.draft
    bad = metric.values([View(truth, worse)])[0]
    assert bad is not None
    assert (bad < best) == metric.card_once.higher_is_better
    assert bad != best


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_in_the_cards_range(name: str, metrics: dict[str, Metric]) -> None:
    truth = truth_for(name)
    low, high = metrics[name].card_once.range
    noise = np.random.default_rng(1).integers(0, 256, truth.target.shape, dtype=np.uint8)
    for output in (noise, 255 - truth.target, np.zeros_like(noise), truth.target):
        value = metrics[name].values([View(truth, output)])[0]
        if value is None:
            assert name in ("outside_shift", "outside_zoom", "copied")  # nothing to follow, or to recognise
            continue
        assert low is None or value >= low - 1e-9
        assert high is None or value <= high + 1e-6


@pytest.mark.parametrize("name", [name for name, metric in METRICS_HERE.items() if metric.symmetric])
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
def test_change_outside_leaves_inside_metrics_alone(measurer: Measurer, seed: int, everywhere: bool) -> None:
    truth = scene()
    assert truth.mask is not None
    output = halfway(truth)
    generator = np.random.default_rng(seed)
    touched = ~truth.mask if everywhere else ~truth.mask & (generator.random(truth.mask.shape) < 0.01)
    other = output.copy()
    other[touched] = generator.integers(0, 256, (int(touched.sum()), 3))
    before, after = (measurer.measure([truth], [image])[0] for image in (output, other))
    inside = [score.metric for score in before if score.region == "inside"]
    assert {"ssim", "squeeze_pooled", "contextual", "illumination"} <= set(inside)
    for name in inside:
        assert values(after)[name] == values(before)[name]
    assert values(after)["background_exact"] < 1.0


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_change_inside_leaves_outside_metrics_alone(measurer: Measurer, seed: int) -> None:
    truth = scene()
    assert truth.mask is not None
    output = halfway(truth)
    output[truth.mask] = np.random.default_rng(seed).integers(0, 256, (int(truth.mask.sum()), 3))
    found = values(measurer.measure([truth], [output])[0])
    assert found["background_mse"] == 0.0
    assert found["background_ssim"] == 1.0
    assert found["background_exact"] == 1.0


def test_without_mask_the_region_is_full() -> None:
    truth = replace(scene(), mask=None)
    scores = Measurer(GENERAL, threads=1).measure([truth], [halfway(truth)])[0]
    assert {score.region for score in scores} == {"full"}
    lacking = {"seam", "ghosting", "background_mse", "background_ssim", "background_exact", "outside_shift"}
    assert not lacking & set(values(scores))


@pytest.mark.parametrize("size", [(65, 97), (48, 200), (33, 33), (12, 12)])
def test_small_and_odd_sizes_are_handled(size: tuple[int, int]) -> None:
    truth = scene(*size)
    found = values(Measurer(GENERAL, threads=1).measure([truth], [halfway(truth)])[0])
    assert ("ms_ssim" in found) == (min(size) >= 176)
    assert ("vifp" in found) == (min(size) >= 41)
    assert all(math.isfinite(value) for value in found.values())
    assert {"mse", "psnr", "background_exact", "seam"} <= set(found)


@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_masks_at_frame_edge_are_measured(corner: str, measurer: Measurer) -> None:
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


@pytest.mark.parametrize(("share", "seen"), [(0.0, 0.0), (0.3, 1 / 3), (0.5, 1.0), (0.7, 1.0), (1.0, 0.0)])
def test_ghosting_sees_the_draft_shine_through(share: float, seen: float, metrics: dict[str, Metric]) -> None:
    """Over other detail than its own the draft's share is what it was mixed with; RISE and FALL say what is seen."""
    rng = np.random.default_rng(3)
    target, draft = (rng.integers(0, 256, (160, 160, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((160, 160), dtype=bool)
    mask[40:120, 40:120] = True
    truth = Truth("", target, np.where(mask[..., None], draft, target), target, mask)
    mixed = np.rint(share * draft + (1 - share) * target).astype(np.uint8)
    assert metrics["ghosting"].values([View(truth, mixed)])[0] == pytest.approx(seen, abs=0.05)


def test_diagnostics_measure_what_was_done_outside(metrics: dict[str, Metric]) -> None:
    import cv2

    truth = scene()
    height, width = truth.target.shape[:2]
    moved = np.roll(truth.target, 3, axis=1)
    bigger = cv2.warpAffine(
        truth.target, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, 1.02), (width, height),
        flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip

    def found(name: str, image: np.ndarray) -> float | None:  # type: ignore[type-arg]
        return metrics[name].values([View(truth, np.asarray(image, dtype=np.uint8))])[0]

    assert found("outside_shift", moved) == pytest.approx(3.0, abs=0.3)
    assert found("outside_zoom", moved) == pytest.approx(0.0, abs=0.5)
    assert found("outside_zoom", bigger) == pytest.approx(2.0, abs=0.5)
    assert found("outside_shift", bigger) == pytest.approx(0.0, abs=0.5)
    tinted = np.clip(truth.target.astype(int) + (8, 0, -8), 0, 255)
    assert (found("outside_drift", tinted) or 0.0) > 3.0
    assert found("copied", truth.target) is not None
