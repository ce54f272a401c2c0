"""Stage 2's objective: group-relative policy optimisation of a flow-matching model (Flow-GRPO, arXiv 2505.05470).

For each condition a group of samples is drawn; rewards are compared inside the group, and what better samples did
becomes more likely, held to the stage 1 policy by a KL term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refbench.omnirefiner.config import GRPOConfig
from refbench.omnirefiner.method.sampling import Step, Velocity, cps_step, log_probability


def group_advantages(rewards: Tensor, floor: float, cap: float) -> tuple[Tensor, Tensor]:
    """(E13) Advantages (G, K) of rewards (G, K) for G groups of K samples, and the pooled spread ().

    Each reward minus its group's mean, over the spread pooled across groups: the root of the mean *within-group*
    variance, at least `floor`. In restoration the conditions nearly determine the result, groups are tight, and a
    spread per group would blow noise up to signal, while the spread over the batch would erase what there is.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = centred.square().sum(1).div(max(rewards.shape[1] - 1, 1)).mean().sqrt()
    return (centred / spread.clamp(min=floor)).clamp(-cap, cap), spread


def combine(
    parts: dict[str, Tensor], groups: int, weights: Mapping[str, float], floor: float, cap: float
) -> tuple[Tensor, dict[str, float]]:
    """Advantages (B,) from rewards (B,) by name, each normalised inside its groups, weighted by its share and added;
    and what to log of them."""
    total = torch.zeros_like(next(iter(parts.values())))
    facts: dict[str, float] = {}
    for name, values in parts.items():
        grouped = values.view(groups, -1)
        advantage, spread = group_advantages(grouped, floor, cap)
        total = total + weights[name] * advantage.flatten()
        facts |= {
            f"reward/{name}": float(values.mean()), f"group_std/{name}": float(spread),
            f"between_std/{name}": float(grouped.mean(1).std()) if groups > 1 else 0.0,
        }  # fmt: skip
    return total, facts


def clipped_objective(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """(E14) ``max(-A rho, -A clip(rho, 1 - e, 1 + e))`` per sample, -J_clip (PPO's loss)."""
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip_range, 1 + clip_range))


@dataclass(frozen=True, slots=True)
class Update:
    """Loss () of one part of a rollout, and what to log of it (B,)."""

    loss: Tensor
    ratio: Tensor
    kl: Tensor
    clipped: Tensor
    norm_ratio: Tensor


def policy_loss(
    step: Step, advantage: Tensor, policy: Velocity, reference: Velocity | None, config: GRPOConfig
) -> Update:
    """(E15) ``-J = -J_clip + beta KL`` of one stochastic step for samples (B,).

    The KL of two Gaussians of equal spread is ``mean((mu - mu_ref)^2) / (2 s^2)``; `reference` None leaves it out.
    """
    sigma = torch.full((len(step.x),), step.sigma, device=step.x.device)
    velocity = policy(step.x, sigma).float()
    mean, s = cps_step(step.x, velocity, step.sigma, step.following, config.eta)
    ratio = (log_probability(step.chosen, mean, s) - step.log_probability).exp()
    loss = clipped_objective(ratio, advantage, config.clip_range)
    kl, grown = torch.zeros_like(loss), torch.ones_like(loss)
    if reference is not None and config.kl > 0:
        with torch.no_grad():
            held = reference(step.x, sigma).float()
            anchor, _ = cps_step(step.x, held, step.sigma, step.following, config.eta)
        kl = (mean - anchor).square().flatten(1).mean(1) / (2 * s * s)
        grown = velocity.detach().flatten(1).norm(dim=1) / held.flatten(1).norm(dim=1)
    clipped = ((ratio - 1).abs() > config.clip_range).float()
    return Update((loss + config.kl * kl).mean(), ratio.detach(), kl.detach(), clipped, grown)
