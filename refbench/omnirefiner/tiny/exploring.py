"""The tiny scale's explorer: the group explores how far the gates open, patch by patch.

White noise on the latents, which Flow-GRPO explores with, hardly reaches what a blend decides: its answer follows from
draft and reference, and later steps wash the noise out. So here the *gate* is the action. With m the mean opening that
the network wants for each patch of the reward, a ~ N(m, s^2) is drawn for every patch and sample, and the gates of the
patch are moved by a - m. The policy is a Gaussian in these few numbers, so its ratio, clipping and KL are those of
:mod:`refbench.omnirefiner.method.policy`, per patch; and because the paper's reward is patch-wise, each patch is
credited with its own reward, compared with the same patch of the group's other samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.omnirefiner.config import GRPOConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.policy import clipped_objective
from refbench.omnirefiner.method.rewards import Perceptual, patch_grid, perceptual_map, pixel_map, used_patches
from refbench.omnirefiner.method.tokens import Conditions, pack, unpack
from refbench.omnirefiner.method.velocity import call
from refbench.omnirefiner.tiny.gates import GateHead, blended, even_gate, openness
from refbench.omnirefiner.training.data import Quadruplets
from refbench.omnirefiner.training.explorer import Embedded, Explorer
from refbench.omnirefiner.training.loop import Values
from refbench.omnirefiner.training.sft import encode_batch


@dataclass(frozen=True, slots=True)
class Opening:
    """What the network says of a batch: change and evened gate (B, N, C), and m (B, rows, columns)."""

    change: Tensor
    gate: Tensor
    mean: Tensor


def opening(pipeline: OmniRefinerPipeline, conditions: Conditions, noise: Tensor, patch: int) -> Opening:
    """One call of the network at sigma 1, and each `patch` px patch's mean opening, before it is held to [0, 1]."""
    sigma = torch.ones(len(noise), device=noise.device)
    change, gate = call(pipeline.transformer, noise, sigma, conditions, pipeline.config.mask_mode).chunk(2, dim=-1)
    gate = even_gate(gate, conditions.size)
    cells = patch // pipeline.vae_scale_factor
    mean = F.avg_pool2d(unpack(gate, *conditions.size).mean(1, keepdim=True), cells)[:, 0]
    return Opening(change, gate, mean)


def acted(
    pipeline: OmniRefinerPipeline, conditions: Conditions, batch: Quadruplets, found: Opening, offset: Tensor
) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] whose gates are moved by `offset` (B, rows, columns)."""
    channels = found.gate.shape[-1] // 4
    wide = F.interpolate(offset[:, None], conditions.size, mode="bilinear", align_corners=False)
    shift = pack(wide.expand(-1, channels, -1, -1))
    head = pipeline.head
    assert isinstance(head, GateHead)
    change, gate = head.hold(found.change, found.gate + shift)
    tokens = conditions.draft.float() + blended(change, gate, conditions)
    return pipeline.pictures(tokens, conditions, batch.draft, openness(gate, conditions.size), batch.reference)


def patch_advantages(rewards: Tensor, used: Tensor, floor: float, cap: float) -> tuple[Tensor, Tensor]:
    """Advantages (G, K, rows, columns) of patch rewards, and the pooled spread ().

    Each patch's reward minus the group's mean for that patch, over the root of the mean within-group variance of all
    `used` patches (G, rows, columns).
    """
    weight = used[:, None].to(rewards)
    centred = (rewards - rewards.mean(1, keepdim=True)) * weight
    count = used.sum().clamp(min=1) * max(rewards.shape[1] - 1, 1)
    spread = (centred.square().sum() / count).sqrt()
    return (centred / spread.clamp(min=floor)).clamp(-cap, cap), spread


def log_likelihood(action: Tensor, mean: Tensor, std: float) -> Tensor:
    """Gaussian log-probability of each action, without the constant that ratios do not see."""
    return -(action - mean).square() / (2 * std * std)


def gate_loss(
    found: Tensor, actions: Tensor, old: Tensor, advantages: Tensor, weights: Tensor, held: Tensor, config: GRPOConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped objective and KL, per patch.

    Args:
        found: openings m (G, rows, columns) of the network now.
        actions: (G, K, rows, columns) drawn when they were `old` (G, rows, columns).
        advantages: of the actions.
        weights: of the patches (G, rows, columns), adding to 1 in a sample.
        held: openings of the stage 1 policy.
    """
    std = config.gate_std
    ratio = (log_likelihood(actions, found[:, None], std) - log_likelihood(actions, old[:, None], std)).exp()
    surrogate = clipped_objective(ratio, advantages, config.clip_range).mean(1)
    kl = (found - held).square() / (2 * std * std)
    loss = ((surrogate + config.kl * kl) * weights).sum((1, 2)).mean()
    clipped = ((ratio - 1).abs() > config.clip_range).float()
    seen = weights[:, None].expand_as(ratio) > 0
    return loss, {"ratio": ratio.detach()[seen], "kl": kl.detach()[weights > 0], "clip_share": clipped[seen]}


def drift(now: Tensor, held: Tensor) -> Tensor:
    """Mean squared difference () of changes (B, N, C), over the mean square of the `held` ones.

    No reward sees a change by itself, because it is not drawn, and an adapter that opens gates moves it as well.
    """
    return (now - held).square().mean() / held.square().mean().clamp(min=1e-8)


def unguided(pipeline: OmniRefinerPipeline, conditions: Conditions, noise: Tensor) -> Tensor:
    """The change (B, N, C) of one call at sigma 1 without the reference."""
    alone = conditions.without_reference()
    sigma = torch.ones(len(noise), device=noise.device)
    return call(pipeline.transformer, noise, sigma, alone, pipeline.config.mask_mode).chunk(2, dim=-1)[0]


def patch_weights(mask: Tensor, patch: int) -> Tensor:
    """Weights (B, rows, columns) of the used patches by their share of mask (B, 1, H, W), adding to 1 in a sample."""
    weights = patch_grid(mask, patch) * used_patches(mask, patch)
    return weights / weights.sum((1, 2), keepdim=True)


@torch.no_grad()
def explore(
    pipeline: OmniRefinerPipeline, config: GRPOConfig, batch: Quadruplets, conditions: Conditions, found: Opening,
    similarity: Perceptual, generator: torch.Generator,
) -> tuple[Tensor, Tensor, dict[str, float]]:  # fmt: skip
    """Draw a group for each condition: actions (G, K, rows, columns), their advantages, and what to log."""
    groups, size = len(batch.mask), config.group
    shape = (groups, size, *found.mean.shape[1:])
    offset = config.gate_std * torch.randn(shape, generator=generator, device=generator.device).to(found.mean)
    used, weights = used_patches(batch.mask, config.patch), patch_weights(batch.mask, config.patch)
    right, model = (batch.target + 1) / 2, (batch.reference + 1) / 2
    share = config.reward_weights(batch.replaced)
    parts: dict[str, list[Tensor]] = {name: [] for name in share}
    for k in range(size):
        shown = (acted(pipeline, conditions, batch, found, offset[:, k]) + 1) / 2
        parts["perceptual"].append(perceptual_map(shown, right, batch.mask, config.patch, similarity))
        parts["pixel"].append(pixel_map(shown, right, batch.mask, config.patch))
        if "reference" in parts:
            parts["reference"].append(perceptual_map(shown, model, batch.mask, config.patch, similarity))
    total, facts = torch.zeros(shape, device=offset.device), {}
    for name, maps in parts.items():
        rewards = torch.stack(maps, 1)
        advantage, spread = patch_advantages(rewards, used, config.std_floor, config.advantage_cap)
        total = total + share[name].view(-1, 1, 1, 1) * advantage
        facts[f"reward/{name}"] = float((rewards.mean(1) * weights).sum((1, 2)).mean())
        facts[f"group_std/{name}"] = float(spread)
    facts["opening"] = float((found.mean * weights).sum((1, 2)).mean())
    return found.mean[:, None] + offset, total, facts


class GateExplorer(Explorer):
    """The group explores the gates."""

    @property
    def steps(self) -> int:
        """The pipeline's own."""
        return int(self.pipeline.config.default_steps)

    def losses(self, batch: Quadruplets, embedded: Embedded, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """One group for each condition and `updates` optimiser steps on it."""
        pipeline, config = self.pipeline, self.config
        conditions, clean = encode_batch(pipeline, batch, embedded, reference=True)
        noise = torch.randn(conditions.draft.shape, generator=self.generator, device=self.generator.device)
        noise = noise.to(conditions.draft)
        found = now = opening(pipeline, conditions, noise, config.patch)
        old = found.mean.detach()
        with torch.no_grad(), self.stage1():
            held = opening(pipeline, conditions, noise, config.patch)
            alone = unguided(pipeline, conditions, noise)
        actions, advantages, facts = explore(
            pipeline, config, batch, conditions, found, self.similarity, self.generator
        )
        weights = patch_weights(batch.mask, config.patch)
        for update in range(config.updates):
            if update:
                now = opening(pipeline, conditions, noise, config.patch)
            loss, logged = gate_loss(now.mean, actions, old, advantages, weights, held.mean, config)
            if config.drift_weight > 0:
                moved = drift(now.change, held.change), drift(unguided(pipeline, conditions, noise), alone)
                values |= {"drift": moved[0].detach(), "drift_unguided": moved[1].detach()}
                loss = loss + config.drift_weight * (moved[0] + moved[1])
            values |= {name: value.mean() for name, value in logged.items()}
            values["ratio_spread"] = (logged["ratio"] - 1).abs().max()
            yield loss, not config.anchor > 0
            yield from self.anchored(conditions, clean, values)
        values |= facts
