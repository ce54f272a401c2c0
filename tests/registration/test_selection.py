"""Selection: the draft stays where it shows already what the laid reference shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.images import Image, Mask
from refbench.registration import placement
from refbench.registration.opencv import cv2
from refbench.registration.placement import lay
from refbench.registration.selection import UNLIKE, UNLIKE_OTHER, differing

SIDE = 120
MASK = np.zeros((SIDE, SIDE), bool)
MASK[20:100, 20:100] = True


def _panel(word: str, ground: Image) -> Image:
    shown = ground.copy()
    cv2.putText(shown, word, (30, 68), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (250, 245, 235), 2, cv2.LINE_AA)
    return shown


def _ground(seed: int) -> Image:
    """A dark panel whose surface shines through: its own folds, a few levels strong."""
    rng = np.random.default_rng(seed)
    folds = cv2.resize(rng.normal(0, 9, (15, 15)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.array([40, 70, 110]) + folds[..., None], 0, 255).astype(np.uint8)


def test_reference_is_let_in_on_figures() -> None:
    ground = _ground(0)
    draft, laid = _panel("SOAP", ground), _panel("MINT", _ground(1))
    weight = differing(draft, laid, MASK, 80, other=False)
    figure = np.abs(_panel("MINT", ground).astype(int) - draft).max(-1) > 100
    assert weight[figure].min() > 0.5
    assert weight[figure].mean() > 0.9
    far = MASK & ~(cv2.dilate((np.abs(laid.astype(int) - draft).max(-1) > 60).astype(np.uint8), np.ones((13, 13))) > 0)
    assert far.sum() > 500
    assert weight[far].mean() < 0.4
    mixed = draft + weight[..., None] * (laid.astype(float) - draft)
    target = _panel("MINT", ground)
    errors = [np.sqrt(((x.astype(float) - target)[MASK] ** 2).mean()) for x in (mixed, laid, draft)]
    assert errors[0] < 0.95 * errors[1]
    assert errors[0] < errors[2]


def test_pictures_that_are_the_same_need_no_choice() -> None:
    picture = _ground(2)
    assert (differing(picture, picture, MASK, 80, other=False) == 1).all()
    nowhere: Mask = np.zeros_like(MASK)
    assert (differing(picture, _ground(3), nowhere, 80, other=False) == 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 1.0))
def test_weights_do_not_depend_on_contrast(seed: int, contrast: float) -> None:
    rng = np.random.default_rng(seed)
    apart = rng.integers(0, 200, (60, 60, 3))
    inside = np.ones((60, 60), bool)
    draft = np.zeros((60, 60, 3), np.uint8)
    strong, weak = (differing(draft, (k * apart).astype(np.uint8), inside, 60, other=False) for k in (1.0, contrast))
    assert strong.min() >= 0
    assert strong.max() <= 1
    # levels are cut to integers: at a fifth of 200 levels one is 2.5 % of the contrast, 3.6 % of its UNLIKE share,
    # and the contrast itself is off by as much
    assert np.abs(strong - weak).max() < 0.1


@pytest.mark.parametrize(("other", "share"), [(False, UNLIKE), (True, UNLIKE_OTHER)])
def test_contrast_lets_the_reference_in(other: bool, share: float) -> None:
    draft = np.zeros((80, 80, 3), np.uint8)
    laid = draft.copy()
    laid[:, :20], laid[:, 20:40], laid[:, 40:60] = 200, round(200 * share) + 4, round(200 * share) - 12
    weight = differing(draft, laid, np.ones((80, 80), bool), 80, other=other)
    assert weight[40, 30] == pytest.approx(1.0)
    assert weight[40, 50] == weight[40, 75] == 0


def test_nothing_of_another_thing_shines_through() -> None:
    panel = np.full((80, 80, 3), 230, np.uint8)
    draft, laid = panel.copy(), panel.copy()
    draft[20:60, 10:40] -= 50  # a pale figure
    laid[20:60, 45:70] = 20  # a dark one, so that the pale one differs by less than UNLIKE of the contrast
    kept, gone = (differing(draft, laid, np.ones((80, 80), bool), 80, other=other) for other in (False, True))
    assert (kept[25:55, 15:35] == 0).all()
    assert (gone[25:55, 15:35] > 0.99).all()


def test_nothing_is_half_the_draft_and_half_the_reference() -> None:
    rng = np.random.default_rng(4)
    waves = cv2.GaussianBlur(rng.normal(size=(90, 90)), (0, 0), 9)
    draft = np.full((90, 90, 3), 128, np.uint8)
    laid = np.clip(128 + 40 * waves / waves.std(), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    weight = differing(draft, laid, np.ones((90, 90), bool), 90, other=False)
    assert 0.1 < weight.mean() < 0.9
    between = (weight > 0.05) & (weight < 0.95)
    edge = cv2.morphologyEx((weight > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    assert (edge | ~between).all()


def test_only_tracing_refiners_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "LIT_TRACED", placement.LIT)
    ground = _ground(0)
    draft, reference = _panel("SOAP", ground), _panel("MINT", _ground(1))
    box = (20, 20, 80, 80)

    def laid(outlines: bool, same_scene: bool) -> Image:
        return lay(
            draft, reference, MASK, box, np.eye(3), same_scene=same_scene, other=False, outlines=outlines
        ).picture

    assert np.array_equal(laid(True, True), laid(False, True))
    chosen, whole = laid(True, False), laid(False, False)
    assert np.array_equal(chosen[~MASK], draft[~MASK])
    # where both words leave the ground bare the draft is right, and the reference brings its own folds
    bare = MASK & ~(np.abs(_panel("MINT", ground).astype(int) - draft).max(-1) > 0)
    errors = [np.abs(x.astype(int) - draft)[bare].mean() for x in (chosen, whole)]
    assert errors[0] < errors[1]


def test_tracing_keeps_the_drafts_light() -> None:
    reference = _panel("SOAP", _ground(0))
    waves = 12 * np.sin(np.arange(SIDE) / 80 * 2 * np.pi * 1.6)  # a shadow across the panel, 50 px from crest to crest
    draft = np.clip(reference + waves[:, None, None], 0, 255).astype(np.uint8)
    errors = []
    for outlines in (False, True):
        out = lay(draft, reference, MASK, None, np.eye(3), same_scene=True, other=False, outlines=outlines).picture
        errors.append(np.abs(out.astype(int) - draft)[MASK].mean())
    assert errors[1] < 0.8 * errors[0]
