"""The trivial answers: what their pixels are, and that one definition serves the scores and the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refbench import load_adapter, load_suite
from refbench.baselines import BASELINES, baseline_image, baseline_images, paste_reference, stretch_reference
from refbench.images import mask_box, resize


def test_baselines_match_models_and_construction() -> None:
    """Recovery divides by these scores: pixels that changed here would change every number on the board."""
    suite = load_suite("mini").select(limit=16)
    paste = load_adapter("reference-paste")
    for sample in suite:
        truth = suite.truth(sample.id)
        answers = baseline_images(truth)
        assert tuple(answers) == BASELINES
        np.testing.assert_array_equal(answers["draft"], sample.draft)
        np.testing.assert_array_equal(answers["target"], suite.target(sample))
        np.testing.assert_array_equal(answers["stretch"], resize(sample.reference, sample.draft.shape[:2]))
        np.testing.assert_array_equal(answers["paste"], paste.refine(sample).image)
        x, y, width, height = sample.reference_box or (0, 0, sample.reference.shape[1], sample.reference.shape[0])
        part = np.ascontiguousarray(sample.reference[y : y + height, x : x + width])
        left, top, wide, tall = mask_box(sample.mask)
        layer = sample.draft.copy()
        layer[top : top + tall, left : left + wide] = resize(part, (tall, wide))
        np.testing.assert_array_equal(answers["paste"], np.where(sample.mask[..., None], layer, sample.draft))


def test_answer_whose_input_is_missing_left_out() -> None:
    suite = load_suite("mini")
    truth = suite.truth(suite.ids[0])
    assert list(baseline_images(replace(truth, reference=None))) == ["draft", "target"]
    assert list(baseline_images(replace(truth, mask=None))) == ["draft", "stretch", "target"]
    alone = replace(truth, draft=None)
    assert list(baseline_images(alone)) == ["paste", "stretch", "target"]
    assert alone.mask is not None
    pasted = baseline_image(alone, "paste")
    np.testing.assert_array_equal(pasted[~alone.mask], truth.target[~alone.mask])


def test_paste_fits_box_into_masks_box() -> None:
    draft = np.zeros((40, 60, 3), np.uint8)
    reference = np.zeros((50, 50, 3), np.uint8)
    reference[10:30, 5:25] = (255, 0, 0)
    reference[10:30, 25:45] = (0, 0, 255)
    mask = np.zeros((40, 60), bool)
    mask[8:28, 10:50] = True
    out = paste_reference(draft, reference, mask, (5, 10, 40, 20))
    assert (out[10:26, 12:28] == (255, 0, 0)).all()  # the left half, clear of the filter's reach at its edges
    assert (out[10:26, 32:48] == (0, 0, 255)).all()
    assert (out[~mask] == 0).all()
    whole = paste_reference(draft, reference, mask)
    np.testing.assert_array_equal(whole[8:28, 10:50], resize(reference, (20, 40)))
    np.testing.assert_array_equal(stretch_reference(draft, reference), resize(reference, (40, 60)))


def test_paste_takes_visible_part_of_box() -> None:
    reference = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    draft, mask = np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30), bool)
    mask[5:15, 5:15] = True
    out = paste_reference(draft, reference, mask, (10, 10, 40, 40))
    np.testing.assert_array_equal(out[5:15, 5:15], reference[10:, 10:])
