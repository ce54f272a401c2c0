"""Outlines: a label's pose to a pixel although its word is wrong, and no faith in labels of another shape."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from refbench.images import Image, Mask
from refbench.registration import placement, pose
from refbench.registration.opencv import cv2
from refbench.registration.outline import Outlines
from refbench.registration.placement import place
from refbench.schema import Box

SIDE = 240
WIDE, HIGH = 120, 70


def _label(word: str) -> Image:
    panel = np.full((HIGH, WIDE, 3), (30, 60, 160), np.uint8)
    cv2.putText(panel, word, (10, 48), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (250, 240, 220), 3, cv2.LINE_AA)
    return panel


def _ground(colour: tuple[int, int, int], seed: int) -> Image:
    grain = np.random.default_rng(seed).normal(0, 5, (SIDE, SIDE, 1))
    return np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8)


def _corners(left: float, top: float, scale: float, angle: float, stretch: float = 1.0) -> np.ndarray:
    flat = np.array([[0, 0], [WIDE, 0], [WIDE, HIGH * stretch], [0, HIGH * stretch]], float) * scale
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray((flat - flat.mean(0)) @ turn.T + flat.mean(0) + (left, top))


def _put(ground: Image, label: Image, corners: np.ndarray) -> tuple[Image, Mask, np.ndarray]:
    flat = np.array([[0, 0], [WIDE, 0], [WIDE, HIGH], [0, HIGH]], np.float32)
    matrix = cv2.getPerspectiveTransform(flat, corners.astype(np.float32))
    laid = cv2.warpPerspective(label, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.full((HIGH, WIDE), 255, np.uint8), matrix, (SIDE, SIDE)) > 127
    return np.where(cover[..., None], laid, ground).astype(np.uint8), cover, matrix


def _question(wrong: str, stretch: float = 1.0) -> tuple[Image, Image, Mask, Box, np.ndarray, np.ndarray]:
    """Draft with `wrong` on the label, reference with the right word, mask, box, the true pose, the label's corners."""
    here = _corners(70, 90, 1.0, 0.12)
    draft, cover, first = _put(_ground((190, 180, 150), 0), _label(wrong), here)
    reference, seen, second = _put(_ground((60, 140, 70), 1), _label("MINT"), _corners(40, 60, 1.2, -0.05, stretch))
    mask = cv2.dilate(cover.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    rows, columns = np.nonzero(seen)
    box = (int(columns.min()) - 3, int(rows.min()) - 3, int(np.ptp(columns)) + 7, int(np.ptp(rows)) + 7)
    return draft, reference, mask, box, second @ np.linalg.inv(first), here


def _off(found: np.ndarray, true: np.ndarray, corners: np.ndarray) -> float:
    """Largest distance in px between where two poses take the corners."""
    ends = [cv2.perspectiveTransform(corners[None].astype(np.float64), m)[0] for m in (found, true)]
    return float(np.hypot(*(ends[0] - ends[1]).T).max())


@pytest.mark.parametrize("shift", [(6.0, -4.0), (-9.0, 5.0), (0.0, 10.0)])
def test_a_label_with_a_wrong_word_is_placed_by_its_panel(shift: tuple[float, float]) -> None:
    draft, reference, mask, box, true, corners = _question("SOAP")
    moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]]) @ true
    found = Outlines(draft, reference, mask, box).fit([moved])
    assert found is not None
    pose, overlap = found
    assert overlap > 0.95
    assert _off(moved, true, corners) > 6
    # a matte's edge is known to about a pixel; the reference is 1.2 times as large
    assert _off(pose, true, corners) < 3


def test_the_best_start_wins() -> None:
    draft, reference, mask, box, true, corners = _question("SOAP")
    away = np.array([[1, 0, 300.0], [0, 1, 0], [0, 0, 1.0]]) @ true
    near = np.array([[1, 0, 5.0], [0, 1, -5.0], [0, 0, 1.0]]) @ true
    found = Outlines(draft, reference, mask, box).fit([away, near])
    assert found is not None
    assert _off(found[0], true, corners) < 3


def test_a_label_of_another_shape_is_not_stretched_to_fit() -> None:
    draft, reference, mask, box, *_ = _question("SOAP", stretch=1.9)
    upright = _question("SOAP")[4]
    found = Outlines(draft, reference, mask, box).fit([upright])
    assert found is None or found[1] < 0.9


def test_nothing_is_found_where_there_is_nothing() -> None:
    draft, reference, mask, _, true, _ = _question("SOAP")
    assert Outlines(draft, reference, mask, (500, 500, 10, 10)).fit([true]) is None


def test_placing_with_outlines_gives_the_panel_the_last_word() -> None:
    draft, reference, mask, box, true, corners = _question("SOAP")
    prompt = "Replace the word on the label."
    plain = place(draft, reference, mask, box, prompt)
    traced = place(draft, reference, mask, box, prompt, thorough=True)
    assert plain.pose.source == "placed"
    assert traced.pose.source == "outline"
    assert traced.confident
    assert traced.other
    assert _off(traced.matrix, true, corners) < 3 < _off(plain.matrix, true, corners)


def test_without_a_box_outlines_change_nothing() -> None:
    draft, reference, mask, *_ = _question("MINT")
    plain, traced = (place(draft, reference, mask, None, "Restore it.", thorough=how) for how in (False, True))
    assert np.array_equal(plain.matrix, traced.matrix)


def test_an_outline_has_less_to_beat_where_only_the_boxes_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    draft, reference, mask, box, true, _ = _question("SOAP")

    def source(overlap: float, prompt: str) -> str:
        monkeypatch.setattr(placement.Outlines, "fit", lambda *_: (true, overlap))
        return place(draft, reference, mask, box, prompt, thorough=True).pose.source

    replace = "Replace the word on the label."
    assert placement.ALIKE_BLIND < 0.85 < placement.ALIKE
    assert source(0.85, replace) == "outline"
    assert source(placement.ALIKE_BLIND - 0.01, replace) == "placed"


@pytest.mark.parametrize(
    ("overlap", "whole", "taken"), [(0.87, False, True), (0.87, True, False), (0.84, False, False)]
)
def test_a_repaired_print_is_placed_by_likeness_and_outline(
    monkeypatch: pytest.MonkeyPatch, overlap: float, whole: bool, taken: bool
) -> None:
    """Likeness inside + 1.5 times the overlap, from an overlap of 0.85 on, where the box is not all figure."""
    draft, reference, mask, box, true, _ = _question("SOAP")
    found = SimpleNamespace(whole=whole, fit=lambda _: (true, overlap), overlap=lambda _: 0.1)
    monkeypatch.setattr(pose, "SAME_SCENE", 2.0)  # two plain grounds are taken for one
    monkeypatch.setattr(placement, "Outlines", lambda *_: found)
    assert (place(draft, reference, mask, box, "Restore it.", thorough=True).pose.source == "outline") is taken


def test_a_box_inside_a_panel_is_all_figure() -> None:
    draft, reference, mask, box, *_ = _question("SOAP")
    x, y, width, height = box
    assert not Outlines(draft, reference, mask, box).whole
    assert Outlines(draft, reference, mask, (x + 12, y + 10, width // 6, height // 6)).whole


def test_an_outline_that_covers_no_more_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    draft, reference, mask, box, true, _ = _question("MINT")
    monkeypatch.setattr(pose, "SAME_SCENE", 2.0)
    aside = np.array([[1, 0, 9.0], [0, 1, 0], [0, 0, 1.0]]) @ true
    monkeypatch.setattr(placement.Outlines, "fit", lambda *_: (aside, 0.9))
    monkeypatch.setattr(placement.Outlines, "overlap", lambda *_: 0.9)
    assert place(draft, reference, mask, box, "Restore it.", thorough=True).pose.source != "outline"


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_the_overlap_is_that_of_moved_rectangles(shift: float) -> None:
    """Intersection over union of two equal rectangles, the one moved along by `shift`; soft edges take a little."""
    draft, reference, mask, box, true, _ = _question("SOAP")
    moved = true @ np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1.0]])
    assert Outlines(draft, reference, mask, box).overlap(moved) == pytest.approx(
        (WIDE - shift) / (WIDE + shift), abs=0.05
    )
