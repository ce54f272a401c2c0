"""Masks cover the shape they are drawn for, tightly, by its box, or by a scribble."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.errors import RefbenchError
from refbench.images import mask_box
from refbench.tasks.masks import draw_mask, ellipse, filled, polygon, soft_inside, widen


@given(
    x=st.integers(20, 60), y=st.integers(20, 60), w=st.integers(20, 60), h=st.integers(20, 60), seed=st.integers(0, 9)
)
@settings(max_examples=30, deadline=None)
def test_masks_cover_the_shape(x: int, y: int, w: int, h: int, seed: int) -> None:
    shape = ellipse((x, y, w, h), (140, 150))
    rng = np.random.default_rng(seed)
    tight, box, scribble = (draw_mask(shape, kind, rng) for kind in ("tight", "box", "scribble"))  # type: ignore[arg-type]
    assert not (shape & ~tight).any()
    assert not (tight & ~box).any()
    assert (shape & scribble).sum() > 0.7 * shape.sum()
    _, _, bw, bh = mask_box(box)
    assert box.sum() == bw * bh
    assert not np.array_equal(scribble, box)


def test_axis_aligned_polygon_is_its_rectangle() -> None:
    mask = polygon([(10, 20), (29, 20), (29, 39), (10, 39)], (60, 50))
    assert mask[20:40, 10:30].all()
    assert mask.sum() == 400


def test_widen_is_scipys_dilation() -> None:
    from scipy.ndimage import binary_dilation

    shape = np.random.default_rng(0).random((40, 50)) > 0.98
    assert np.array_equal(widen(shape, 3), binary_dilation(shape, np.ones((7, 7))))
    bars = np.zeros((40, 50), bool)
    bars[10:30, 10:15] = bars[10:30, 20:25] = True
    assert filled(bars, 6)[20, 10:25].all()
    assert not filled(bars, 1)[20, 17]


def test_the_soft_edge_lies_wholly_inside() -> None:
    mask = ellipse((20, 20, 60, 50), (100, 110))
    weight = soft_inside(mask)
    assert weight[~mask].max() == 0
    assert weight.max() == 1
    assert weight[45, 50] == 1


def test_an_empty_shape_is_refused() -> None:
    with pytest.raises(RefbenchError, match="empty"):
        draw_mask(np.zeros((20, 20), bool), "box", np.random.default_rng(0))
