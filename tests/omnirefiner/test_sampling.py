"""The samplers are the published policies: exact probabilities, preserved noise, the ODE at noise level 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refbench.omnirefiner.method.sampling import (
    cps_step,
    euler_step,
    log_probability,
    rollout,
    window_steps,
)  # fmt: skip


def _field(x: Tensor, sigma: Tensor) -> Tensor:
    return 0.3 * x - sigma.view(-1, 1, 1)


def test_noise_zero_reproduces_the_ode() -> None:
    noise, sigmas = torch.randn(3, 5, 4), torch.linspace(1, 0, 7)
    generator = torch.Generator().manual_seed(0)
    found, steps = rollout(_field, noise, sigmas, eta=0.0, window=range(0, 3), generator=generator)
    x = noise
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = euler_step(x, _field(x, torch.full((3,), sigma)), sigma, following)
    assert torch.equal(found, x)
    assert steps == []


def test_vanishing_noise_gives_the_euler_step() -> None:
    x, v = torch.randn(2, 4, 4), torch.randn(2, 4, 4)
    mean, _ = cps_step(x, v, 0.7, 0.5, 1e-4)
    assert torch.allclose(mean, euler_step(x, v, 0.7, 0.5), atol=1e-5)


def test_log_probabilities_agree_with_torch_distributions() -> None:
    value, mean = torch.randn(4, 6, 5), torch.randn(4, 6, 5)
    expected = torch.distributions.Normal(mean.double(), 0.3).log_prob(value.double()).flatten(1).mean(1)
    assert torch.allclose(log_probability(value, mean, 0.3).double(), expected, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.3, 0.8, 1.0])
def test_cps_keeps_the_total_noise(eta: float) -> None:
    mean, s = cps_step(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 0.8, 0.5, eta)
    # x = 0, v = 1: x0_hat = -0.8, eps_hat = 0.2; the factor of eps_hat and s are the legs of a triangle of side sigma'
    factor = (mean.item() + 0.5 * 0.8) / 0.2
    assert math.hypot(factor, s) == pytest.approx(0.5, rel=1e-5)


def test_window_never_holds_last_step() -> None:
    assert list(window_steps((0, 2), 6)) == [0, 1]
    assert list(window_steps((4, 9), 6)) == [4]


def test_rollout_records_what_policy_chose() -> None:
    generator = torch.Generator().manual_seed(0)
    _, steps = rollout(
        _field,
        torch.randn(2, 3, 4),
        torch.linspace(1, 0, 5),
        eta=0.8,
        window=range(0, 2),
        generator=generator,
    )
    assert [round(s.sigma, 3) for s in steps] == [1.0, 0.75]
    assert torch.equal(steps[1].x, steps[0].chosen)
