"""The masked loss equals plain flow matching for a full mask and the average error inside it for a small one."""

from __future__ import annotations

import pytest
import torch

from refbench.omnirefiner.method.losses import boundary_band, draw_sigma, flow_loss, mask_weights
from refbench.omnirefiner.method.tokens import pack


def _terms() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 16, 8, generator=generator) for _ in range(3))  # type: ignore[return-value]


def test_full_mask_gives_plain_flow_matching() -> None:
    predicted, clean, noise = _terms()
    loss = flow_loss(predicted, clean, noise, torch.ones(3, 1, 8, 8))
    assert torch.allclose(loss, torch.nn.functional.mse_loss(predicted, noise - clean, reduction="none").mean((1, 2)))


def test_the_two_terms_are_two_means() -> None:
    latents = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:6] = 1
    predicted, clean, noise = (pack(x) for x in latents)
    error = (latents[0] - (latents[2] - latents[1])).square()
    inside = mask.bool().expand_as(error)
    expected = (error * (1 - mask)).mean() + error[inside].mean()
    assert flow_loss(predicted, clean, noise, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_cap_bounds_tiny_masks() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 0, 0] = 1
    assert mask_weights(mask).max() == 64
    assert mask_weights(mask, cap=8).max() == 8


def test_the_floor_weights_low_noise() -> None:
    predicted, clean, noise = _terms()
    mask = torch.ones(3, 1, 8, 8)
    plain = flow_loss(predicted, clean, noise, mask)
    floored = flow_loss(predicted, clean, noise, mask, sigma=torch.tensor([0.3, 0.6, 0.9]), floor=0.6)
    assert torch.allclose(floored / plain, torch.tensor([0.25, 1.0, 1.0]))


def test_the_band_is_around_the_edge() -> None:
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., 4:] = 1
    assert boundary_band(mask, 2)[0, 0, 6].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_noise_levels_follow_shifted_logit_normal() -> None:
    drawn = draw_sigma(20_000, 0.0, 1.0, 3.0, torch.Generator().manual_seed(0))
    # the median of sigmoid(N(0, 1)) is 1/2, which the shift takes to 3/2 / (1 + 2/2) = 0.75; 20,000 draws: +- 0.005
    assert drawn.median().item() == pytest.approx(0.75, abs=0.01)
