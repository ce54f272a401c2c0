"""Rewards: highest for the truth, blind outside the mask, on a log scale, by a named backbone."""

from __future__ import annotations

import pytest
import torch

from refbench.errors import RefbenchError
from refbench.omnirefiner.method.rewards import choose_backbone, patch_grid, perceptual, perceptual_reward, pixel_reward


def _scene() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    return target, mask


def test_pixel_reward_is_bels_of_error() -> None:
    target, mask = _scene()
    shown = target + 0.1
    assert torch.allclose(pixel_reward(shown, target, mask, 8), torch.full((2,), 2.0), atol=1e-4)
    outside = target + 0.5 * (1 - mask)
    assert torch.allclose(pixel_reward(outside, target, mask, 8), torch.full((2,), 4.0), atol=1e-4)


def test_patches_weigh_by_their_mask() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, :8] = 1
    mask[..., 8:, 8:12] = 1
    assert torch.allclose(patch_grid(mask, 8)[0], torch.tensor([[2 / 3, 0], [0, 1 / 3]]), atol=1e-6)


@pytest.mark.parametrize("name", ["squeezenet", "efficientnet"])
def test_the_perceptual_reward_prefers_truth(name: str) -> None:
    target, mask = _scene()
    similarity = perceptual(name, "cpu")
    truth = perceptual_reward(target, target, mask, 16, similarity)
    blurred = torch.nn.functional.avg_pool2d(target, 5, 1, 2)
    assert torch.allclose(truth, torch.ones(2), atol=1e-4)
    assert (perceptual_reward(blurred, target, mask, 16, similarity) < truth - 1e-3).all()


def test_an_unknown_backbone_is_one_sentence() -> None:
    with pytest.raises(RefbenchError, match="perceptual backbone"):
        perceptual("alexnet", "cpu")


def test_auto_names_what_it_took() -> None:
    assert choose_backbone("auto") in ("dreamsim", "squeezenet")
