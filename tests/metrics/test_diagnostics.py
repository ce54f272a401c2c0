"""Diagnostics on what was done to a picture: moved, grown, tinted, softened or copied by a known amount."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from refbench.images import Image, resize
from refbench.metrics import Measurer
from refbench.metrics.regions import composite
from refbench.schema import Truth
from tests.metrics.scenes import scene

NAMES = ["outside_shift", "outside_zoom", "outside_drift", "copied", "sharpness_change"]


@pytest.fixture(scope="module")
def measurer() -> Measurer:
    return Measurer(NAMES, threads=1)


def diagnosed(measurer: Measurer, output: Image) -> dict[str, float]:
    return {score.metric: score.value for score in measurer.measure([scene()], [output])[0]}


@pytest.mark.parametrize(("down", "across"), [(0, 3), (3, 0), (-1, 0), (3, -4)])
def test_rolled_outside_moved_by_its_px(measurer: Measurer, down: int, across: int) -> None:
    truth = scene()
    assert truth.mask is not None
    rolled = np.roll(truth.target, (down, across), axis=(0, 1))
    found = diagnosed(measurer, composite(truth.target, rolled, truth.mask))
    assert found["outside_shift"] == pytest.approx(math.hypot(down, across), abs=0.1)
    assert found["outside_zoom"] == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("per_cent", [-2.0, 1.0, 2.0])
def test_zoomed_outside_grew_by_its_share(measurer: Measurer, per_cent: float) -> None:
    truth = scene()
    height, width = truth.target.shape[:2]
    about = cv2.getRotationMatrix2D(((width - 1) / 2.0, (height - 1) / 2.0), 0.0, 1.0 + per_cent / 100.0)
    zoomed = np.asarray(
        cv2.warpAffine(truth.target, about, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT),
        dtype=np.uint8,
    )
    found = diagnosed(measurer, zoomed)
    assert found["outside_zoom"] == pytest.approx(per_cent, abs=0.15)
    assert found["outside_shift"] == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("tint", [(12, 0, -12), (6, 6, 6)])
def test_a_tinted_outside_has_drifted(measurer: Measurer, tint: tuple[int, int, int]) -> None:
    truth = scene()
    assert truth.mask is not None
    tinted = np.clip(truth.target + np.array(tint), 0, 255).astype(np.uint8)
    found = diagnosed(measurer, composite(truth.target, tinted, truth.mask))
    means = [rgb2lab(image)[~truth.mask].mean(axis=0) for image in (tinted, truth.target)]
    assert found["outside_drift"] == pytest.approx(float(np.linalg.norm(means[0] - means[1])), abs=1e-5)
    assert found["outside_shift"] == pytest.approx(0.0, abs=0.1)


def test_a_refined_inside_moves_nothing_outside(measurer: Measurer) -> None:
    truth = scene()
    assert truth.draft is not None
    found = diagnosed(measurer, truth.draft)
    assert {found[name] for name in ("outside_shift", "outside_zoom", "outside_drift")} == {0.0}


def test_outside_without_corners_has_no_motion() -> None:
    truth = scene()
    flat = np.full_like(truth.target, 90)
    changed = flat.copy()
    changed[0, 0] = 91
    found = Measurer(NAMES, threads=1).measure([replace(truth, target=flat, draft=flat)], [changed])[0]
    assert not {"outside_shift", "outside_zoom"} & {score.metric for score in found}
    assert "outside_drift" in {score.metric for score in found}


def test_blur_loses_and_noise_adds_sharpness(measurer: Measurer) -> None:
    truth = scene()
    soft = np.asarray(cv2.GaussianBlur(truth.target, (0, 0), 2.0), dtype=np.uint8)
    noise = np.random.default_rng(0).normal(0.0, 20.0, truth.target.shape)
    noisy = np.clip(truth.target + noise, 0, 255).astype(np.uint8)
    assert -80.0 < diagnosed(measurer, soft)["sharpness_change"] < -30.0
    assert diagnosed(measurer, noisy)["sharpness_change"] > 30.0


def test_copied_is_share_of_reference_blocks() -> None:
    """The left half of the region is the reference's, the right half another picture: half the blocks are copied."""
    target = scene(160, 192).target
    turned = np.ascontiguousarray(target[::-1])
    half = turned.copy()
    half[:, :96] = target[:, :96]
    truth = Truth("", target, None, target, None)
    found = Measurer(["copied"], threads=1).measure([truth] * 3, [target, half, turned])
    assert [scores[0].value for scores in found] == pytest.approx([1.0, 0.5, 0.0], abs=0.03)


def pasted(truth: Truth, box: tuple[int, int, int, int] | None, size: tuple[int, int], kept: bool = True) -> Truth:
    """A truth whose target has the reference's box resized to (height, width) px in the mask."""
    assert truth.reference is not None
    x, y, width, height = box or (0, 0, truth.reference.shape[1], truth.reference.shape[0])
    patch = resize(np.ascontiguousarray(truth.reference[y : y + height, x : x + width]), size)
    target, mask = truth.target.copy(), np.zeros(truth.target.shape[:2], dtype=bool)
    target[48 : 48 + size[0], 48 : 48 + size[1]] = patch
    mask[48 : 48 + size[0], 48 : 48 + size[1]] = True
    return Truth("", target, truth.draft, truth.reference, mask, reference_box=box if kept else None)


@pytest.fixture
def apart() -> Truth:
    """A target of one picture with the reference of another."""
    picture = scene(240, 256)
    return replace(picture, reference=np.ascontiguousarray(picture.target[::-1, ::-1].transpose(1, 0, 2)))


@pytest.mark.parametrize("box", [(20, 30, 120, 80), (40, 16, 60, 72), None])
@pytest.mark.parametrize("size", [(96, 128), (128, 80)])
def test_scaled_reference_is_copied_whole(
    apart: Truth, box: tuple[int, int, int, int] | None, size: tuple[int, int]
) -> None:
    truth = pasted(apart, box, size)
    other = np.ascontiguousarray(truth.target[::-1])
    found = Measurer(["copied"], threads=1).measure([truth] * 2, [truth.target, other])
    assert [scores[0].value for scores in found] == pytest.approx([1.0, 0.0], abs=0.05)


@pytest.mark.parametrize("off", [1 / 1.12, 1.0, 1.12])
def test_copy_near_boxes_scale_is_found(apart: Truth, off: float) -> None:
    """The box says another scale than the copy's; what lies beyond a box that is too small is not searched."""
    width, height = round(96 * off), round(80 * off)
    truth = replace(pasted(apart, (40, 40, 96, 80), (80, 96)), reference_box=(40, 40, width, height))
    assert (
        Measurer(["copied"], threads=1).measure([truth], [truth.target])[0][0].value > 0.6
    )  # 1 / 1.12^2 = 0.8 of it lies in the smaller box, and blocks at its border only in part


def test_unscaled_copy_is_found_without_box(apart: Truth) -> None:
    truth = pasted(apart, (40, 40, 96, 80), (80, 96), kept=False)
    assert Measurer(["copied"], threads=1).measure([truth], [truth.target])[0][0].value == pytest.approx(1.0)
