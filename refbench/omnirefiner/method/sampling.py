"""The stochastic sampler of a flow-matching model, as a policy pi(x' | x) = N(mu, s^2).

Notation: x_sigma = (1 - sigma) x0 + sigma eps, velocity v ~ eps - x0, step from sigma to sigma' < sigma,
dt = sigma' - sigma < 0; x0_hat = x - sigma v, eps_hat = x + (1 - sigma) v. All arithmetic is in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(x (B, N, C), sigma (B,)) -> v (B, N, C)."""


def euler_step(x: Tensor, v: Tensor, sigma: float, following: float) -> Tensor:
    """(E7) ``x' = x + dt v``, the deterministic step of the probability-flow ODE."""
    return x + (following - sigma) * v


def cps_step(x: Tensor, v: Tensor, sigma: float, following: float, eta: float) -> tuple[Tensor, float]:
    """(E8) Coefficients-preserving sampling (arXiv 2509.05952): mean (B, N, C) and standard deviation of x'.

    ``mu = (1 - sigma') x0_hat + sqrt(sigma'^2 - s^2) eps_hat``: the noise in x' is exactly sigma' whatever eta is, and
    of it ``s = sigma' sin(eta pi / 2)`` is fresh.
    """
    x, v = x.float(), v.float()
    s = following * math.sin(eta * math.pi / 2)
    clean, noise = x - sigma * v, x + (1 - sigma) * v
    return (1 - following) * clean + math.sqrt(max(following**2 - s**2, 0.0)) * noise, s


def log_probability(value: Tensor, mean: Tensor, s: float) -> Tensor:
    """(E9) ``log N(value; mu, s^2)`` per sample (B,): the *mean* over all dimensions, in float32.

    A mean over 10^4 to 10^5 dimensions moves little, so ratios stay near 1 and clip ranges are tiny.
    """
    squared = (value.float() - mean.float()).square().flatten(1).mean(1)
    return -squared / (2 * s * s) - math.log(s) - 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Step:
    """One stochastic step of a rollout: what the policy saw and what it chose."""

    x: Tensor
    chosen: Tensor
    sigma: float
    following: float
    log_probability: Tensor
    """(B,), under the policy that sampled."""


def window_steps(window: tuple[int, int], steps: int) -> range:
    """Indices of the stochastic steps: `window` = (first, count), never the last step, whose noise would stay."""
    first, count = window
    return range(first, min(first + count, steps - 1))


@torch.no_grad()
def rollout(
    velocity: Velocity, noise: Tensor, sigmas: Tensor, *, eta: float, window: range, generator: torch.Generator
) -> tuple[Tensor, list[Step]]:  # fmt: skip
    """Sample with noise inside the window and Euler steps elsewhere (MixGRPO, arXiv 2507.21802).

    Args:
        velocity: the policy's network.
        noise: x at sigma 1, (B, N, C).
        sigmas: levels (steps + 1,) from 1 to 0.
        eta: noise level of the steps; 0 gives the ODE's result.
        window: indices of the stochastic steps.
        generator: of the fresh noise.

    Returns:
        The clean tokens, and the stochastic steps.
    """
    x, taken = noise.float(), []
    levels = [float(s) for s in sigmas]
    for i, (sigma, following) in enumerate(pairwise(levels)):
        v = velocity(x, torch.full((x.shape[0],), sigma, device=x.device)).float()
        if i not in window or eta == 0:
            x = euler_step(x, v, sigma, following)
            continue
        mean, s = cps_step(x, v, sigma, following, eta)
        chosen = mean + s * torch.randn(x.shape, generator=generator, device=generator.device).to(mean)
        taken.append(Step(x, chosen, sigma, following, log_probability(chosen, mean, s)))
        x = chosen
    return x, taken
