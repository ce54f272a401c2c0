"""Exchange: a replaced print keeps the draft's edge and its panel's light, where it is the same panel."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.images import Image, Mask
from refbench.registration.exchange import GAMMA, exchange, hulled, relit, shared_panel
from refbench.registration.opencv import cv2
from refbench.registration.placement import lay

SIDE = 120
PANEL = np.s_[35:85, 20:100]
MASK = np.zeros((SIDE, SIDE), bool)
MASK[30:90, 15:105] = True
MATTE = np.zeros((SIDE, SIDE), np.float32)
MATTE[PANEL] = 1
CREAM = (235, 225, 205)


def _label(word: str, panel: tuple[int, int, int] = CREAM, ink: tuple[int, int, int] = (170, 40, 50)) -> Image:
    shown = np.full((SIDE, SIDE, 3), (40, 90, 140), np.uint8)
    shown[PANEL] = panel
    cv2.putText(shown, word, (32, 68), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ink, 2, cv2.LINE_AA)
    return shown


def _lit(image: Image, gain: float | np.ndarray) -> Image:
    """The image under `gain` times the light, linear."""
    linear = (image / 255.0) ** GAMMA * gain
    return np.rint(np.clip(linear, 0, 1) ** (1 / GAMMA) * 255).astype(np.uint8)


def _error(image: Image, target: Image, where: Mask | slice | tuple[slice, slice]) -> float:
    return float(np.sqrt((image.astype(float) - target)[where].__pow__(2).mean()))


@pytest.mark.parametrize("gain", [0.35, 0.6, 1.0])
def test_a_dimmer_reference_is_shown_in_the_drafts_light(gain: float) -> None:
    target, draft, reference = _label("MINT"), _label("SOAP"), _lit(_label("MINT"), gain)
    found = exchange(draft, reference, MATTE, MASK, 90)
    assert found is not None
    # rounding to 8 bits in the dim picture is amplified by at most 1 / 0.35 ** (1 / 2.2) = 1.6
    assert _error(found.content, target, PANEL) < 2.5


def test_a_shadow_across_the_drafts_panel_is_kept() -> None:
    slope = np.linspace(0.5, 1.0, SIDE)[None, :, None]
    target, draft = _lit(_label("MINT"), slope), _lit(_label("SOAP"), slope)
    found = exchange(draft, _label("MINT"), MATTE, MASK, 90)
    assert found is not None
    # the light is blurred by 11 px and known on the panel alone: ends of the slope are flattened
    assert _error(found.content, target, PANEL) < 8
    assert _error(_label("MINT"), target, PANEL) > 20


def test_the_drafts_own_edge_stays_to_the_pixel() -> None:
    draft, reference = _label("SOAP"), _lit(_label("MINT"), 0.5)
    box = (20, 35, 80, 50)
    matrix = np.array([[1, 0, 1.5], [0, 1, -1.0], [0, 0, 1.0]])  # a pose that is off by nearly 2 px
    kept = lay(draft, reference, MASK, box, matrix, same_scene=False, other=True, outlines=True).picture
    plain = lay(draft, reference, MASK, box, matrix, same_scene=False, other=True).picture
    edge = MASK.copy()
    edge[37:83, 22:98] = False
    assert np.array_equal(kept[edge], draft[edge])
    assert not np.array_equal(plain[edge], draft[edge])
    assert np.array_equal(kept[~MASK], draft[~MASK])
    assert _error(kept, _label("MINT"), PANEL) < 0.6 * _error(plain, _label("MINT"), PANEL)


def test_panels_in_other_paint_are_not_the_same_panel() -> None:
    both = (MATTE > 0.5, MATTE > 0.5)
    draft = _label("SOAP")
    assert shared_panel(draft, _label("MINT"), both, 90) is not None
    assert shared_panel(draft, _label("MINT", panel=(60, 160, 60)), both, 90) is None
    assert shared_panel(draft, _label("MINT", panel=(30, 28, 26)), both, 90) is None


def test_a_print_without_a_panel_has_none() -> None:
    squares = (np.indices((SIDE, SIDE)) // 6).sum(0) % 2
    pattern = np.where(squares[..., None] == 1, (220, 60, 60), (40, 60, 200)).astype(np.uint8)
    assert shared_panel(pattern, pattern, (MATTE > 0.5,) * 2, 90) is None


def test_a_panel_of_another_shape_teaches_its_light_alone() -> None:
    small = _label("MINT")
    small[:, :30] = small[:, 90:] = (40, 90, 140)
    narrow = MATTE.copy()
    narrow[:, :30] = narrow[:, 90:] = 0
    found = exchange(_label("SOAP"), _lit(small, 0.5), narrow, MASK, 90)
    assert found is not None
    assert _error(found.content, small, narrow > 0.5) < 3
    assert np.array_equal(found.weight, narrow)  # its own edge, over the surface painted over
    assert _error(found.base, np.full((SIDE, SIDE, 3), (40, 90, 140)), MASK) < 3


def test_another_print_of_another_shape_teaches_nothing() -> None:
    narrow = np.zeros_like(MATTE)
    narrow[35:85, 45:75] = 1
    assert exchange(_label("SOAP"), _label("MINT", panel=(60, 160, 60)), narrow, MASK, 90) is None


@pytest.mark.parametrize("sigma", [11.0, None])
def test_a_panel_lit_alike_changes_nothing(sigma: float | None) -> None:
    label = _label("MINT")
    assert _error(relit(label, label, (MATTE > 0.5,) * 2, sigma), label, PANEL) < 0.6  # rounding


def test_a_hull_fills_notches_and_leaves_an_open_shape() -> None:
    notched = MATTE.copy()
    for column in range(24, 96, 12):
        notched[35:38, column : column + 6] = 0
    assert (hulled(notched) > 0.5).sum() == pytest.approx((MATTE > 0.5).sum(), rel=0.03)
    ring = MATTE.copy()
    ring[45:75, 30:100] = 0
    assert np.array_equal(hulled(ring), ring)
    empty = np.zeros_like(MATTE)
    assert np.array_equal(hulled(empty), empty)
