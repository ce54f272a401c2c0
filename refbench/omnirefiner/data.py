"""Training quadruplets in the model's own range, with the curriculum on the reference's misalignment.

Measured: with the reference misaligned from the start a small model never learns to read it; aligned first and moved
apart more and more, it does (shared finding of several toy runs, see ``docs/omnirefiner.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Sampler(Protocol):
    """What the suite's ``QuadrupletSampler`` offers; any callable of this shape can train the model."""

    def batch(self, count: int, misalignment: float | Tensor = 1.0) -> dict[str, Tensor]:
        """`draft`, `reference`, `target` (B, 3, S, S) and `mask` (B, 1, S, S), floats in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Quadruplets:
    """A batch: pictures (B, 3, S, S) in [-1, 1], mask (B, 1, S, S) in {0, 1}."""

    draft: Tensor
    reference: Tensor
    target: Tensor
    mask: Tensor

    def first(self, count: int) -> Quadruplets:
        """Every so manieth sample, `count` of them, so that all kinds stay in."""
        rows = torch.linspace(0, len(self.mask) - 1, min(count, len(self.mask))).round().long()
        return Quadruplets(self.draft[rows], self.reference[rows], self.target[rows], self.mask[rows])


def open_sampler(
    assets: Path, size: int, device: str, seed: int, strength: tuple[float, float] = (0.25, 0.95)
) -> Sampler:
    """The suite's sampler over a folder of prepared training assets; `strength` is of the drafts' degradations."""
    from refbench.tasks.sampler import QuadrupletSampler

    generator = torch.Generator(device).manual_seed(seed)
    return QuadrupletSampler(assets, size, device, generator, strength=strength)


def curriculum(progress: float, bounds: tuple[float, float]) -> float:
    """The largest misalignment at this share of the run: 0 up to ``bounds[0]``, 1 from ``bounds[1]`` on."""
    start, full = bounds
    if progress >= full:
        return 1.0
    return max(0.0, (progress - start) / max(full - start, 1e-9))


def draw(
    sampler: Sampler, count: int, largest: float, generator: torch.Generator, *, moved: float = 0.0, wild: float = 0.0,
    light: float = 0.0,
) -> Quadruplets:  # fmt: skip
    """One batch whose misalignments are uniform in [0, largest], but for a share `wild` of them in [0, 1].

    A reference laid onto the draft's frame by :func:`refbench.omnirefiner.focus.focus` lies near but has its own light,
    so `light` in [0, 1] adds colour and light drift whatever the misalignment; some references cannot be laid, and
    `wild` ones teach that.

    `moved` turns that share of the batch into the second kind of single-image editing the base learns: the draft is
    the reference's whole view and everything is to be put right. In it lies what stage 1 builds on, matching by
    appearance between streams, as FLUX.1-Kontext has it from its own training on pairs of the same thing.
    """
    levels = torch.rand(count, generator=generator, device=generator.device)
    far = torch.rand(count, generator=generator, device=generator.device) < wild
    levels = torch.where(far, levels, levels * largest)
    batch = sampler.batch(count, levels)
    draft, reference, target, mask = (batch[k] for k in ("draft", "reference", "target", "mask"))
    if light > 0:
        from refbench.tasks.degradations import drift

        change = torch.rand(count, generator=generator, device=generator.device) * light
        reference = drift(reference, change, generator)
    if moved > 0:
        chosen = (torch.rand(count, generator=generator, device=generator.device) < moved).to(draft).view(-1, 1, 1, 1)
        draft = chosen * reference + (1 - chosen) * draft
        mask = torch.maximum(mask, chosen)
    return Quadruplets(draft * 2 - 1, reference * 2 - 1, target * 2 - 1, mask)
