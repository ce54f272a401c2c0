"""Bringing a sample to an editor's size and back: focus, sizes, the canvas, paste-back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.adapters.editing import Options, beside, finish, flag, prepare, resize_mask, working_size
from refbench.errors import RefbenchError
from refbench.schema import Inputs

SIDES = st.integers(17, 300)


def inputs(height: int = 75, width: int = 91, **changes: Any) -> Inputs:
    generator = np.random.default_rng(height * width)
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 3 + 12, width // 2 : width // 2 + 8] = True
    values: dict[str, Any] = {
        "draft": generator.integers(0, 256, (height, width, 3), np.uint8),
        "reference": generator.integers(0, 256, (60, 120, 3), np.uint8),
        "mask": mask,
        "reference_box": (20, 10, 30, 15),
    }
    return Inputs(id="x", prompt="fix it", **(values | changes))


@given(SIDES, SIDES, st.sampled_from([8, 16]), st.sampled_from([64, 512, 1024]))
def test_working_sizes_keep_area_and_shape(h: int, w: int, multiple: int, size: int) -> None:
    height, width = working_size(h, w, size, multiple)
    assert height % multiple == width % multiple == 0
    # rounding moves a side by half a multiple at most, and at 4 : 1 the short side is size / 2
    assert abs(height * width / size**2 - 1) < 3 * multiple / size
    shape = np.clip(w / h, 0.25, 4)
    assert abs(np.log(width / height / shape)) < 3 * multiple / size


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_answer_lands_in_the_drafts_frame(h: int, w: int, focus: bool, paste_back: bool, seed: int) -> None:
    options = Options(focus=focus, paste_back=paste_back, size=64)
    sample = inputs(max(h, 40), max(w, 40))
    work = prepare(sample, options)
    answer = np.random.default_rng(seed).integers(0, 256, (*work.size, 3), np.uint8)
    out = finish(work, answer, options)
    assert out.shape == sample.draft.shape
    assert out.dtype == np.uint8
    if paste_back:
        assert (out[~sample.mask] == sample.draft[~sample.mask]).all()
    elif focus and work.box is not None:
        x, y, side, _ = work.box
        outside = np.ones(sample.mask.shape, bool)
        outside[max(y, 0) : y + side, max(x, 0) : x + side] = False
        assert (out[outside] == sample.draft[outside]).all()
    assert (out != sample.draft).any()


def test_unchanged_answer_gives_the_draft() -> None:
    sample = inputs(64, 64)
    for focus in (False, True):
        options = Options(focus=focus, size=64)
        work = prepare(sample, options)
        size = work.box[2] if work.box else 64
        exact = prepare(sample, Options(focus=focus, size=size, multiple=1))
        assert (finish(exact, exact.draft, options) == sample.draft).all()


def test_focus_crops_mask_and_box() -> None:
    draft, reference = np.zeros((80, 80, 3), np.uint8), np.zeros((60, 120, 3), np.uint8)
    mask = np.zeros((80, 80), bool)
    mask[50:60, 50:60] = True
    draft[44:66, 44:66] = 200
    reference[5:35, 15:60] = 100
    work = prepare(
        inputs(draft=draft, reference=reference, mask=mask, reference_box=(22, 10, 20, 20)),
        Options(focus=True, size=64),
    )
    assert work.box == (48, 48, 14, 14)
    assert (work.draft == 200).all()
    assert (work.reference == 100).all()
    assert work.mask.mean() == pytest.approx((10 / 14) ** 2, abs=0.06)
    whole = prepare(inputs(draft=draft, reference=reference, mask=mask), Options(size=64))
    assert whole.draft.mean() < 60
    assert whole.reference.shape == (48, 96, 3)  # 2 : 1 kept, in multiples of 16


def test_focus_without_box_shows_whole_reference() -> None:
    sample = inputs(reference_box=None)
    work = prepare(sample, Options(focus=True, size=64))
    assert work.reference.shape == (48, 96, 3)
    assert work.reference.mean() == pytest.approx(sample.reference.mean(), abs=2)


def test_shrunk_mask_loses_no_pixel() -> None:
    mask = np.zeros((100, 100), bool)
    mask[50, 50] = True
    assert resize_mask(mask, (16, 16)).sum() >= 1
    assert (resize_mask(mask, (200, 200)) == np.kron(mask, np.ones((2, 2), bool))).all()


@pytest.mark.parametrize("shape", [(40, 40), (20, 40), (10, 200), (300, 20)])
def test_canvas_holds_both_pictures(shape: tuple[int, int]) -> None:
    left, right = np.full((64, 48, 3), 10, np.uint8), np.full((*shape, 3), 90, np.uint8)
    canvas = beside(left, right)
    assert (canvas[:, :48] == 10).all()
    assert canvas.shape[0] == 64
    assert canvas.shape[1] % 16 == 0
    assert 48 < canvas.shape[1] <= 48 + 96
    panel = canvas[:, 48:]
    assert set(np.unique(panel)) <= {90, 255}
    assert (panel[0] == 90).all()


def test_a_flag_is_yes_or_no() -> None:
    assert flag("true", "focus")
    assert not flag(0, "focus")
    with pytest.raises(RefbenchError, match="focus to be true or false, but it is 'maybe'"):
        flag("maybe", "focus")
