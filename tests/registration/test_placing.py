"""Placing in large pictures and without a box: what is looked at, what is found, and what is said when nothing is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from refbench.images import Image, Mask
from refbench.registration import looks
from refbench.registration.opencv import cv2
from refbench.registration.placement import lay, place, told
from refbench.schema import Box

SIDE = 128
"""Of the mask, px."""


def _ground(width: int, height: int, seed: int) -> Image:
    rough = np.random.default_rng(seed).integers(60, 200, (height // 40, width // 40, 3), np.uint8)
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC))


def _sign() -> Image:
    """A panel of 400 px with figures of every size on it."""
    rng = np.random.default_rng(5)
    panel = np.full((400, 400, 3), (235, 225, 200), np.uint8)
    for size in (90, 60, 40, 25, 15) * 6:
        x, y = (int(v) for v in rng.integers(20, 380, 2))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.rectangle(panel, (x, y), (x + size, y + size // 2), colour, -1)
        cv2.circle(panel, (y, x), size // 3, colour[::-1], -1)
    return panel


def _with_sign(ground: Image, matrix: np.ndarray) -> Image:
    size = ground.shape[1::-1]
    small = cv2.GaussianBlur(_sign(), (0, 0), 0.5 / np.sqrt(np.linalg.det(matrix[:2, :2])))
    laid = cv2.warpPerspective(small, matrix, size, flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.full((400, 400), 255, np.uint8), matrix, size) > 127
    return np.where(cover[..., None], laid, ground).astype(np.uint8)


def _similarity(scale: float, turn: float, x: float, y: float) -> np.ndarray:
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]])


def _question(
    size: tuple[int, int], scale: float, corner: tuple[int, int]
) -> tuple[Image, Image, Mask, Box, np.ndarray]:
    """A draft of 2,400 px with a blurred sign of 128 px, a reference, the mask, the sign's box, and the true pose."""
    here = _similarity(SIDE / 400, 0.0, 1500, 700)
    there = _similarity(scale, 0.1, *corner)
    draft = _with_sign(_ground(2400, 1600, 1), here)
    reference = _with_sign(_ground(*size, 2), there)
    mask = np.zeros(draft.shape[:2], bool)
    mask[700 : 700 + SIDE, 1500 : 1500 + SIDE] = True
    draft[mask] = cv2.GaussianBlur(draft, (0, 0), 2.0)[mask]
    corners = cv2.perspectiveTransform(np.array([[[0, 0], [400, 0], [400, 400], [0, 400.0]]]), there)[0]
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    box = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    return draft, reference, mask, box, there @ np.linalg.inv(here)


def _off(found: np.ndarray, true: np.ndarray) -> float:
    """The farthest corner's error in px of the draft, as a share of the mask's side."""
    corners = np.array([[[1500, 700], [1628, 700], [1628, 828], [1500, 828.0]]])
    back = cv2.perspectiveTransform(cv2.perspectiveTransform(corners, true), np.linalg.inv(found))
    return float(np.hypot(*(back - corners)[0].T).max()) / SIDE


@pytest.mark.parametrize(
    ("size", "scale", "corner", "boxed", "thorough"),
    [
        ((2000, 1600), 0.45, (300, 900), True, False),
        ((2000, 1600), 0.45, (300, 900), False, False),
        ((480, 480), 0.8, (90, 60), False, True),
    ],
)
def test_a_small_mask_in_a_large_picture_is_placed(
    size: tuple[int, int], scale: float, corner: tuple[int, int], boxed: bool, thorough: bool
) -> None:
    draft, reference, mask, box, true = _question(size, scale, corner)
    found = place(draft, reference, mask, box if boxed else None, "Restore it.", thorough=thorough)
    assert found.confident
    assert _off(found.matrix, true) < 0.03


def test_what_is_seen_well_is_seen_whole() -> None:
    picture = _ground(400, 300, 0)
    look = looks.around(picture, (10, 10, 12, 12))
    assert look.picture.base is picture or np.array_equal(look.picture, picture)
    assert np.array_equal(look.matrix, np.eye(3))
    assert len(list(looks.coarse_to_fine(picture))) == 1
    large = _ground(1600, 1200, 0)
    assert looks.around(large, (100, 100, 700, 300)).window == (0, 0, 1600, 1200)
    assert [max(each.picture.shape) for each in looks.coarse_to_fine(large)] == [480, 1600]


@pytest.mark.parametrize("detail", [(1500, 700, 128, 60), (0, 0, 50, 128), (2300, 1500, 100, 100)])
def test_a_window_shows_a_small_detail_at_120_px(detail: Box) -> None:
    draft = _ground(2400, 1600, 0)
    look = looks.around(draft, detail)
    x, y, w, h = detail
    mask = np.zeros(draft.shape[:2], bool)
    mask[y : y + h, x : x + w] = True
    box = look.box(detail)
    assert box is not None
    assert min(max(w, h), 119) <= max(box[2:])
    assert max(look.picture.shape) <= looks.WORK_SIDE
    seen = look.mask(mask)
    assert seen.shape == look.picture.shape[:2]
    assert seen[box[1] : box[1] + box[3], box[0] : box[0] + box[2]].all()
    middle = look.matrix @ (x + (w - 1) / 2, y + (h - 1) / 2, 1)
    assert middle[:2] == pytest.approx(np.array(box[:2]) + (np.array(box[2:]) - 1) / 2, abs=1)


def test_what_is_not_found_is_told_with_what_to_type() -> None:
    draft, other = _ground(300, 240, 3), np.random.default_rng(0).integers(0, 256, (240, 300, 3), np.uint8)
    mask = np.zeros((240, 300), bool)
    mask[80:160, 100:200] = True
    found = place(draft, other, mask, None, "Restore it.", thorough=True)
    assert not found.confident
    changed = draft.copy()
    changed[100, 100] ^= 255
    for refined in (draft, changed):
        facts = told(draft, refined, found)
        assert facts["pose"] == "none"
        assert facts["why"].startswith("the reference was not found in the draft (score ")
        assert facts["why"].endswith("say where the detail is in the reference: --reference-box x,y,width,height")


def test_a_print_whose_figure_is_cut_off_is_told() -> None:
    """GrabCut takes a disc of 60 px that stands apart out of a box of 190 x 80 px."""
    y, x = np.mgrid[:120, :240]
    reference = np.full((120, 240, 3), (170, 90, 90), np.uint8)
    reference[(x - 70) ** 2 + (y - 60) ** 2 < 30**2] = (20, 20, 20)
    draft, mask = np.full((120, 240, 3), (60, 120, 60), np.uint8), np.zeros((120, 240), bool)
    mask[20:100, 30:220] = True
    asked = {"same_scene": False, "other": True}
    done = lay(draft, reference, mask, (30, 20, 190, 80), np.eye(3), **asked)
    assert done.figure == pytest.approx(60 * 60 / (190 * 80), abs=0.05)
    found = replace(place(draft, reference, mask, (30, 20, 190, 80), "Replace it."), figure=done.figure)
    facts = told(draft, done.picture, found)
    assert facts["figure"] == round(done.figure, 2)
    assert facts["why"].startswith("the figure found spans 2")
    assert "may be cut off" in facts["why"]
    tight = lay(draft, reference, mask, (38, 28, 64, 64), np.eye(3), **asked)
    assert tight.figure is not None
    assert "why" not in told(draft, tight.picture, replace(found, figure=tight.figure))
    assert lay(draft, reference, mask, (30, 20, 190, 80), np.eye(3), same_scene=True, other=True).figure is None


def test_nothing_of_torch_is_loaded_before_it_is_needed() -> None:
    code = "import sys, refbench.registration.placement; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
