"""What a refined picture is held to, on cases whose answers follow from the definitions."""

from __future__ import annotations

import math

import pytest
import torch

from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.retouch import losses as terms
from refbench.tasks.degradations import blur


def pictures(count: int = 2, side: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return blur(torch.randn(count, 3, side, side, generator=generator), 1.5).mul(1.2).clamp(-1, 1)


def half(count: int = 2, side: int = 64) -> torch.Tensor:
    mask = torch.zeros(count, 1, side, side)
    mask[..., 16:48, 16:48] = 1
    return mask


def test_the_target_itself_loses_nothing() -> None:
    target, mask = pictures(), half()
    found = terms.features(load_efficientnet(), target)
    zero = {
        "rmse": terms.rmse(target, target, mask) - 1e-3,  # the floor under the root: sqrt(1e-6)
        "tint": terms.colour_shift(target, target, mask), "energy": terms.detail_energy(target, target, mask),
        "features": terms.feature_distance(found, found, mask), "matched": terms.nearest_features(found, found, mask),
        "hinge": terms.likeness_hinge(found, found, found, mask),
    }  # fmt: skip
    for name, value in zero.items():
        assert value.abs().max() < 1e-5, name


def test_rmse_is_of_the_masked_pixels() -> None:
    target = torch.zeros(1, 3, 32, 32)
    out = target.clone()
    out[..., :16] = 0.5
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24] = 1  # half of the masked pixels are off by 0.5
    assert float(terms.rmse(out, target, mask)) == pytest.approx(math.sqrt(0.125), abs=1e-5)


def test_colour_shift_is_blind_to_detail() -> None:
    target, mask = pictures(1, 64, 1), half(1)
    stripes = torch.ones(1, 3, 64, 64)
    stripes[..., ::2] = -1  # of a period of 2 px: nothing of it is left in windows of 6 px
    assert float(terms.colour_shift(target + 0.2 * stripes, target, mask)) < 0.01
    assert float(terms.colour_shift(target + 0.2, target, mask)) == pytest.approx(0.2, abs=1e-5)


def test_motion_counts_where_it_is_known() -> None:
    motion, known = torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32)
    known[:, 0, :, :16], known[:, 0, :, 16:] = 3.0, 30.0
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1
    assert float(terms.motion_error(motion, known, left)) == pytest.approx(3.0, abs=0.01)
    assert float(terms.motion_error(motion, known, 1 - left)) == 8.0  # no more is counted
    assert float(terms.motion_error(motion, known, torch.zeros_like(left))) == 0.0


def test_doubled_detail_has_known_energy() -> None:
    grey = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(3)).expand(-1, 3, -1, -1)
    mask = torch.ones(1, 1, 96, 96)
    value = float(terms.detail_energy(2 * grey, grey, mask))
    # below ln 4 by what the floor takes where there is next to no detail
    assert 0.9 * math.log(4) < value <= math.log(4)


def test_nearest_features_forgive_one_cell() -> None:
    network = load_efficientnet()
    target = pictures(1, 128, 4)
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 32:96, 32:96] = 1
    moved = target.roll(4, -1)  # a cell of the finest tap
    known, seen = terms.features(network, target), terms.features(network, moved)
    other = terms.features(network, pictures(1, 128, 5))
    assert terms.nearest_features(seen, known, mask) < 0.6 * terms.nearest_features(other, known, mask)
    ratio = terms.feature_distance(seen, known, mask) / terms.feature_distance(other, known, mask)
    assert ratio > 0.6 * terms.nearest_features(seen, known, mask) / terms.nearest_features(other, known, mask)


def test_the_critic_tells_two_kinds_apart() -> None:
    torch.manual_seed(0)
    network, critic = load_efficientnet(), terms.Critic()
    sharp = terms.features(network, pictures(4, 64, 8))
    soft = terms.features(network, blur(pictures(4, 64, 8), 2.0))
    mask = half(4)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-3)
    for _ in range(30):
        loss = terms.critic_loss(critic(soft, mask), 1.0, 1.0) + terms.critic_loss(critic(sharp, mask), -1.0, 1.0)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert terms.critic_loss(critic(sharp, mask), 1.0, None) > terms.critic_loss(critic(soft, mask), 1.0, None) + 0.5
