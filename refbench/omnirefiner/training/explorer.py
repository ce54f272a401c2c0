"""The paper's explorer: what differs inside a group of stage 2, one of the two seams between the scales.

The group draws noise in an early window of steps; where a network says how to retouch, it draws what is said
(``retouch/exploring.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from refbench.omnirefiner.config import GRPOConfig, SupervisedConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.policy import combine, policy_loss
from refbench.omnirefiner.method.rewards import Perceptual, perceptual_reward, pixel_reward
from refbench.omnirefiner.method.sampling import Velocity, rollout, window_steps
from refbench.omnirefiner.method.tokens import Conditions
from refbench.omnirefiner.training.data import Quadruplets
from refbench.omnirefiner.training.loop import Values
from refbench.omnirefiner.training.sft import encode_batch, supervised_loss

Embedded = tuple[Tensor, Tensor]
"""Embedded instructions of a batch: states (B, T, D) and pooled states (B, P)."""


def rewards_of(pictures: Tensor, batch: Quadruplets, config: GRPOConfig, similarity: Perceptual) -> dict[str, Tensor]:
    """The reward's parts (B,), each by name; pictures in [-1, 1]."""
    shown, right = (pictures + 1) / 2, (batch.target + 1) / 2
    return {
        "perceptual": perceptual_reward(shown, right, batch.mask, config.patch, similarity),
        "pixel": pixel_reward(shown, right, batch.mask, config.patch),
    }


def pieces(count: int, size: int) -> Sequence[slice]:
    """Consecutive slices of at most `size`."""
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


@dataclass
class NoiseExplorer:
    """Draws groups by noise in an early window of steps (MixGRPO, arXiv 2507.21802), and says what loss makes the
    better of them more likely."""

    pipeline: OmniRefinerPipeline
    config: GRPOConfig
    sft: SupervisedConfig
    """Of the supervised anchor."""
    similarity: Perceptual
    generator: torch.Generator

    def anchored(self, conditions: Conditions, clean: Tensor, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """The supervised loss on the ground truth, where it has a weight, and the end of an update."""
        if self.config.anchor > 0:
            supervised = supervised_loss(self.pipeline, conditions, clean, self.sft, self.generator).mean()
            values["anchor"] = supervised.detach()
            yield self.config.anchor * supervised, True

    @contextmanager
    def stage1(self) -> Iterator[None]:
        """Inside, the network is the stage 1 policy: its adapter is switched off."""
        self.pipeline.transformer.disable_adapters()
        try:
            yield
        finally:
            self.pipeline.transformer.enable_adapters()

    def policy(self, rows: Conditions) -> Velocity:
        """The velocity that is followed, with gradients."""
        return lambda x, sigma: self.pipeline.predict(x, sigma, rows)

    def reference(self, rows: Conditions) -> Velocity:
        """The same of stage 1."""

        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            with self.stage1():
                return self.policy(rows)(x, sigma)

        return velocity

    def losses(self, batch: Quadruplets, embedded: Embedded, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """One rollout of every group and `updates` optimiser steps on it."""
        config, groups, size = self.config, len(batch.mask), self.config.group
        conditions, clean = encode_batch(self.pipeline, batch, embedded, reference=True)
        many, parts = conditions.repeat(size), pieces(groups * size, config.micro_batch)
        shape = (groups * size, *conditions.draft.shape[1:])
        noise = torch.randn(shape, generator=self.generator, device=self.generator.device)
        sigmas = self.pipeline.set_schedule(config.steps, conditions.draft.shape[1])
        window = window_steps(config.window, config.steps)
        results = [
            rollout(
                self.policy(many.rows(part)), noise[part], sigmas, eta=config.eta, window=window,
                generator=self.generator,
            )
            for part in parts
        ]  # fmt: skip
        repeated = Quadruplets(*(part.repeat_interleave(size, 0) for part in batch.parts))
        pictures = self.pipeline.pictures(torch.cat([x for x, _ in results]), many, repeated.draft)
        advantages, facts = combine(
            rewards_of(pictures, repeated, config, self.similarity), groups, config.weights, config.std_floor,
            config.advantage_cap,
        )  # fmt: skip
        seed = int(facts["reward/pixel"] * 1e6) % 2**31
        order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed))
        share = -(-len(parts) // config.updates)
        logged: dict[str, list[Tensor]] = {"ratio": [], "kl": [], "clip_share": [], "velocity_norm": []}
        for start in range(0, len(order), share):
            chunk = order[start : start + share].tolist()
            total = sum(parts[p].stop - parts[p].start for p in chunk)
            jobs = [(p, step) for p in chunk for step in results[p][1]]
            for number, (p, step) in enumerate(jobs, start=1):
                rows = many.rows(parts[p])
                done = policy_loss(step, advantages[parts[p]], self.policy(rows), self.reference(rows), config)
                for name, value in zip(logged, (done.ratio, done.kl, done.clipped, done.norm_ratio), strict=True):
                    logged[name].append(value)
                scale = (parts[p].stop - parts[p].start) / total / max(len(results[p][1]), 1)
                yield done.loss * scale, number == len(jobs) and not config.anchor > 0
            yield from self.anchored(conditions, clean, values)
        values |= facts | {name: torch.cat(found).mean() for name, found in logged.items() if found}
        values["ratio_spread"] = (torch.cat(logged["ratio"]) - 1).abs().max()
