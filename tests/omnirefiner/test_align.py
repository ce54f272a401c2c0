"""Alignment by coarse content: a turned, scaled, shifted and blurred view is found, a foreign one is not believed."""

from __future__ import annotations

import numpy as np
import torch

from refbench.omnirefiner.align import FINE, agreement, align, candidates, correlation
from refbench.omnirefiner.focus import AGREED, crop_box, find_match
from refbench.omnirefiner.procedural import plate
from refbench.omnirefiner.refine import box_mask


def test_correlation_ignores_light_and_minds_the_mask() -> None:
    target = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(1, 16, 16)
    weights[:, 4:12, 4:12] = 1
    other = torch.where(weights.bool(), 0.5 * target + 0.2, torch.rand(3, 16, 16))
    assert torch.allclose(
        correlation(torch.stack([target, other, -target]), target, weights), torch.tensor([1.0, 1, -1])
    )


def test_the_grid_holds_the_identity() -> None:
    identity = torch.tensor([[0.5, 0, 0], [0, 0.5, 0]])
    assert (candidates() - identity).abs().amax((1, 2)).min() < 1e-6


def test_a_blurred_draft_finds_its_turned_and_scaled_reference() -> None:
    import cv2

    target = plate(np.random.default_rng(2), 160)
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D((80, 80), 17, 1.15)
    matrix[:2, 2] += (4, -3)
    reference = cv2.warpPerspective(target, matrix, (160, 160), borderMode=cv2.BORDER_REFLECT_101)
    mask = box_mask((55, 55, 50, 50), (160, 160))
    draft = cv2.GaussianBlur(target, (0, 0), 4)
    found, match = find_match(draft, reference, mask, crop_box(mask), (55, 55, 50, 50))
    assert match == "content"
    corners = np.array([(55, 55, 1), (105, 55, 1), (105, 105, 1), (55, 105, 1)], float)
    moved, truth = ((corners @ m.T)[:, :2] / (corners @ m.T)[:, 2:] for m in (found, matrix))
    # ECC sees 64 px over a crop of 70; within two of its pixels
    assert np.abs(moved - truth).max() < 2.5


def test_a_foreign_reference_is_left_where_the_box_is() -> None:
    draft, reference = (plate(np.random.default_rng(i), 120) for i in (5, 6))
    mask = box_mask((40, 40, 40, 40), (120, 120))
    found, match = find_match(draft, reference, mask, crop_box(mask), (40, 40, 40, 40))
    assert match == "box"
    assert np.allclose(found, np.eye(3))


def test_the_identity_agrees_with_itself() -> None:
    field = torch.rand(3, 2 * FINE, 2 * FINE, generator=torch.Generator().manual_seed(1))
    field = torch.nn.functional.avg_pool2d(field[None], 9, 1, 4)[0]
    frame = field[:, FINE // 2 : -FINE // 2, FINE // 2 : -FINE // 2]
    mask = torch.ones(1, FINE, FINE)
    matrix, score = align(frame, field, mask)
    assert score > 0.99
    assert agreement(frame, field, mask, matrix) == score
    assert score > AGREED
