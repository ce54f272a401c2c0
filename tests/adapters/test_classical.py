"""What the classical models do, on known cases."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.adapters.load import load_adapter
from refbench.images import Image, Mask, resize
from refbench.schema import Inputs

NAMES = ("identity", "reference-paste", "sharpen", "texture-transfer", "warp-blend", "place-blend")


@cache
def photo(name: str, side: int = 240) -> Image:
    import skimage.data

    image = np.asarray(getattr(skimage.data, name)())
    image = image if image.ndim == 3 else np.dstack([image] * 3)
    short = min(image.shape[:2])
    return resize(np.ascontiguousarray(image[:short, :short, :3]), (side, side))


def psnr(a: Image, b: Image, mask: Mask) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a[mask].astype(float) - b[mask]) ** 2), 1e-9)))


def run(name: str, inputs: Inputs, **options: Any) -> Image:
    image = load_adapter(name, **options).refine(inputs).image
    assert image is not None
    return image


def ellipse(side: int, share: float = 0.25) -> Mask:
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    return np.asarray((x / share) ** 2 + (y / (0.8 * share)) ** 2 < 1)


def blurred(image: Image, mask: Mask, sigma: float) -> Image:
    out = image.copy()
    out[mask] = cv2.GaussianBlur(image, (0, 0), sigma)[mask]
    return out


def view_of(image: Image, pose: np.ndarray, gain: float = 1.0, offset: float = 0.0) -> Image:
    """The image seen through a homography, with another light; empty parts are grey."""
    size = (image.shape[1], image.shape[0])
    seen = cv2.warpPerspective(image, pose, size, flags=cv2.INTER_CUBIC, borderValue=(128, 128, 128))
    return np.clip(seen * gain + offset, 0, 255).astype(np.uint8)


def lens(side: int) -> np.ndarray:
    """Twelve degrees of turn, a tenth larger, and some perspective, about the middle."""
    turn = np.vstack([cv2.getRotationMatrix2D((side / 2, side / 2), 12, 1.1), [0, 0, 1]])
    middle = np.array([[1, 0, -side / 2], [0, 1, -side / 2], [0, 0, 1.0]])
    return np.linalg.inv(middle) @ np.array([[1, 0, 0], [0, 1, 0], [4e-4, -3e-4, 1.0]]) @ middle @ turn


def case(name: str = "astronaut", sigma: float = 4.0, side: int = 240) -> tuple[Inputs, Image]:
    target, mask = photo(name, side), ellipse(side)
    reference = view_of(target, lens(side), gain=0.85, offset=12)
    return Inputs("s", blurred(target, mask, sigma), reference, mask, "Restore the detail."), target


@pytest.mark.parametrize("name", NAMES)
def test_outside_mask_draft_stays_and_answer_repeats(name: str) -> None:
    inputs, _ = case("coffee")
    out = run(name, inputs)
    assert out.dtype == np.uint8
    assert out.shape == inputs.draft.shape
    np.testing.assert_array_equal(out[~inputs.mask], inputs.draft[~inputs.mask])
    np.testing.assert_array_equal(out, run(name, inputs))
    np.testing.assert_array_equal(inputs.draft, case("coffee")[0].draft)  # the inputs are left as they were


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_answer_has_the_drafts_size(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width, tall, wide = generator.integers(8, 70, 4)
    draft = generator.integers(0, 256, (height, width, 3), np.uint8)
    reference = generator.integers(0, 256, (tall, wide, 3), np.uint8)
    if seed % 3 == 0:  # flat images have no texture to divide by
        draft[:], reference[:] = 90, 180
    mask = np.zeros((height, width), bool)
    y, x = generator.integers(0, height - 1), generator.integers(0, width - 1)
    mask[y : y + generator.integers(1, height), x : x + generator.integers(1, width)] = True
    mask[0, 0] = False
    if not mask.any():
        mask[-1, -1] = True
    box = (int(generator.integers(-3, wide)), int(generator.integers(-3, tall)), int(wide), 5) if seed % 2 else None
    prompt = ("Fix it.", "Replace the logo with the reference's.")[seed % 5 == 0]
    out = run(name, Inputs("s", draft, reference, mask, prompt, box))
    assert out.shape == draft.shape
    np.testing.assert_array_equal(out[~mask], draft[~mask])


def test_identity_returns_the_draft() -> None:
    inputs, _ = case()
    np.testing.assert_array_equal(run("identity", inputs), inputs.draft)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_sharpen_brings_blurred_draft_nearer_to_target(name: str, sigma: float) -> None:
    inputs, target = case(name, sigma)
    gain = psnr(run("sharpen", inputs), target, inputs.mask) - psnr(inputs.draft, target, inputs.mask)
    assert gain > 0.3  # dB; Richardson-Lucy undoes part of a Gaussian without noise


def test_sharpen_does_not_look_at_reference() -> None:
    inputs, _ = case()
    other = Inputs("s", inputs.draft, inputs.reference[::-1].copy(), inputs.mask, inputs.prompt)
    np.testing.assert_array_equal(run("sharpen", inputs), run("sharpen", other))


@pytest.mark.parametrize(("name", "margin"), [("astronaut", 4.0), ("coffee", 4.0), ("chelsea", 1.5)])
def test_warp_blend_restores_known_view(name: str, margin: float) -> None:
    """A homography and another light are within its model: what limits it is interpolation, twice."""
    inputs, target = case(name)
    gain = psnr(run("warp-blend", inputs), target, inputs.mask) - psnr(inputs.draft, target, inputs.mask)
    assert gain > margin  # dB


def test_warp_blend_restores_true_stereo_pair() -> None:
    """Middlebury's motorcycle: real parallax, which no single homography explains."""
    import skimage.data

    left, right, _ = skimage.data.stereo_motorcycle()
    target, reference = np.ascontiguousarray(left[80:380, 150:450]), np.ascontiguousarray(right[80:380, 100:450])
    mask = np.zeros((300, 300), bool)
    mask[120:240, 100:250] = True
    inputs = Inputs("s", blurred(target, mask, 4), reference, mask, "Restore the engine.")
    gain = psnr(run("warp-blend", inputs), target, mask) - psnr(inputs.draft, target, mask)
    assert gain > 2.0  # dB


def test_warp_blend_replaces_by_references_box() -> None:
    scene, other = photo("coffee"), photo("chelsea")

    def sign(background: Image, colour: tuple[int, int, int], text: str, x: int, y: int) -> Image:
        out = background.copy()
        cv2.rectangle(out, (x, y), (x + 99, y + 49), colour, -1)
        cv2.putText(out, text, (x + 8, y + 34), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3, cv2.LINE_AA)
        return out

    target = sign(scene, (20, 60, 160), "OPEN", 70, 90)
    draft = sign(scene, (170, 40, 30), "SHUT", 70, 90)
    mask = np.zeros(scene.shape[:2], bool)
    mask[86:144, 66:174] = True
    reference = sign(other, (20, 60, 160), "OPEN", 30, 120)
    boxed = Inputs("s", draft, reference, mask, "Replace the sign with the reference's.", (28, 118, 104, 54))
    out = run("warp-blend", boxed)
    assert psnr(out, target, mask) > psnr(draft, target, mask) + 4.0
    unboxed = Inputs("s", draft, reference, mask, boxed.prompt)
    assert psnr(out, target, mask) > psnr(run("warp-blend", unboxed), target, mask) + 3.0


def test_warp_blend_keeps_draft_without_match() -> None:
    inputs, _ = case()
    stranger = Inputs("s", inputs.draft, photo("chelsea"), inputs.mask, inputs.prompt)
    answer = load_adapter("warp-blend").refine(stranger)
    assert answer.facts["pose"] == "none"
    assert answer.image is not None
    assert psnr(answer.image, inputs.draft, inputs.mask) > 28


def test_warp_blend_works_same_at_four_times_size() -> None:
    target, mask = photo("astronaut", 512), ellipse(512, 0.2)
    target, mask = resize(target, (1024, 1024)), np.kron(mask, np.ones((2, 2), bool))
    inputs = Inputs("s", blurred(target, mask, 10), view_of(target, lens(1024)), mask, "Restore it.")
    gain = psnr(run("warp-blend", inputs), target, mask) - psnr(inputs.draft, target, mask)
    assert gain > 4.0


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_texture_transfer_gives_back_contrast_of_texture(name: str) -> None:
    """Two distinct parts of one photographed texture: no pixel corresponds, the statistics do."""
    texture = photo(name, 512)
    target, reference = np.ascontiguousarray(texture[:240, :240]), np.ascontiguousarray(texture[260:500, 260:500])
    mask = ellipse(240)
    draft = blurred(target, mask, 2.5)

    def contrast(image: Image) -> float:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
        return float((grey - cv2.GaussianBlur(grey, (0, 0), 2.5))[inner].std())

    out = run("texture-transfer", Inputs("s", draft, reference, mask, "Restore the texture."))
    assert contrast(draft) < 0.4 * contrast(target)
    assert 0.45 * contrast(target) < contrast(out) < 1.2 * contrast(target)


def test_texture_transfer_reads_the_references_box() -> None:
    inputs, _ = case("grass")
    reference = np.hstack([photo("brick"), photo("gravel")])
    left = run("texture-transfer", Inputs("s", inputs.draft, reference, inputs.mask, "", (0, 0, 240, 240)))
    alone = run("texture-transfer", Inputs("s", inputs.draft, photo("brick"), inputs.mask, "", (0, 0, 240, 240)))
    np.testing.assert_array_equal(left, alone)
