"""The focus crop shows what it should, finds a moved reference, and leaves every pixel outside the mask alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.crops import crop_box, soft_mask
from refbench.omnirefiner.focus.crop import focus
from refbench.omnirefiner.focus.paste import paste_back
from refbench.omnirefiner.tiny.procedural import plate


def _mask(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    x, y, w, h = box
    mask[y : y + h, x : x + w] = True
    return mask


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_crop_is_square_around_it(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(40, 200)), data.draw(st.integers(40, 200))
    w, h = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    left, top, side, other = crop_box(_mask(height, width, (x, y, w, h)))
    assert side == other
    assert left <= x
    assert top <= y
    assert left + side >= x + w
    assert top + side >= y + h
    if side <= min(height, width):
        assert left >= 0
        assert top >= 0
        assert left + side <= width
        assert top + side <= height


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([32, 64, 96]))
def test_outside_mask_not_one_pixel_changes(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    draft = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    box = (int(rng.integers(0, 60)), int(rng.integers(0, 40)), 30, 30)
    mask = _mask(70, 90, box)
    focused = focus(draft, draft, mask, size, reference_box=box)
    out = paste_back(focused, torch.rand(3, size, size) * 2 - 1)
    assert out.shape == draft.shape
    assert np.array_equal(out[~mask], draft[~mask])
    assert not np.array_equal(out[mask], draft[mask])


def test_an_unchanged_crop_comes_back_exactly() -> None:
    draft = plate(np.random.default_rng(1), 96)
    focused = focus(draft, draft, _mask(96, 96, (20, 30, 40, 25)), 32, reference_box=(20, 30, 40, 25))
    assert np.array_equal(paste_back(focused, focused.draft), draft)


def test_keypoints_find_turned_and_scaled_reference() -> None:
    import cv2

    target = plate(np.random.default_rng(4), 192)
    matrix = cv2.getRotationMatrix2D((96, 96), 20, 0.8)
    reference = cv2.warpAffine(target, matrix, (192, 192), borderMode=cv2.BORDER_REFLECT_101)
    mask = _mask(192, 192, (70, 70, 50, 50))
    draft = target.copy()
    draft[mask] = cv2.GaussianBlur(target, (0, 0), 2)[mask]
    focused = focus(draft, reference, mask, 64)
    assert focused.match in ("keypoints", "similarity")
    right = focus(target, target, mask, 64, reference_box=(70, 70, 50, 50)).draft
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(reference.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1, (64, 64)
    )[0]
    # resampled twice, so not exact; a wrong match is off by as much as the whole reference is
    assert (focused.reference - right).abs().mean() < 0.35 * (whole - right).abs().mean()


def test_without_keypoints_boxes_give_the_pose() -> None:
    flat = np.full((100, 100, 3), 128, np.uint8)
    reference = np.full((200, 200, 3), 128, np.uint8)
    reference[100:160, 40:100] = (255, 0, 0)
    focused = focus(flat, reference, _mask(100, 100, (30, 30, 30, 30)), 64, reference_box=(40, 100, 60, 60))
    assert focused.match in {"placed", "outline"}  # the outlines are squares as well
    red = focused.reference[1] < -0.9
    marked = focused.mask[0] > 0.5
    # the edge's outermost working pixels are half red, and boxes are laid on each other by pixel centres
    assert (red == marked).float().mean() > 0.93


def test_without_anything_whole_reference_is_shown() -> None:
    flat = np.full((100, 100, 3), 128, np.uint8)
    focused = focus(flat, np.full((50, 60, 3), 10, np.uint8), _mask(100, 100, (30, 30, 30, 30)), 64)
    assert focused.match == "whole"
    assert torch.allclose(focused.reference, torch.full((3, 64, 64), 10 / 127.5 - 1), atol=1e-3)


def test_soft_edge_lies_inside_mask() -> None:
    mask = _mask(60, 60, (20, 20, 20, 20))
    weights = soft_mask(mask)
    assert weights[~mask].max() == 0
    assert weights[30, 30] == 1
    assert 0 < weights[20, 30] < 1
