"""Noise and velocity of flow matching, and the paper's head."""

from __future__ import annotations

import torch

from refbench.omnirefiner.method.tokens import Conditions
from refbench.omnirefiner.method.velocity import VelocityHead, add_noise, to_velocity


def test_velocity_leads_from_noise_to_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 4, 64, generator=generator) for _ in range(2))
    sigma = torch.tensor([1.0, 0.5])
    noisy = add_noise(clean, noise, sigma)
    assert torch.equal(noisy[0], noise[0])
    # d x / d sigma of x = (1 - sigma) x0 + sigma eps is eps - x0; one division by sigma in single precision
    torch.testing.assert_close(to_velocity(noisy, clean, sigma), noise - clean, atol=2e-6, rtol=1e-6)


def test_head_of_paper_is_answer() -> None:
    answer, noisy = torch.rand(1, 4, 64), torch.rand(1, 4, 64)
    given = Conditions(noisy, (4, 4), torch.zeros(1, 1, 8), torch.zeros(1, 8))
    assert VelocityHead().read(answer, noisy, torch.ones(1), given) is answer
