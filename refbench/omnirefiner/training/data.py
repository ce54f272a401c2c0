"""Training quadruplets in the model's own range, with the curriculum on the reference's misalignment.

Measured: with the reference misaligned from the start a small model never learns to read it; aligned first and moved
apart more and more, it does (shared finding of several toy runs, see ``reports/omnirefiner-experiments.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Sampler(Protocol):
    """What the suite's ``QuadrupletSampler`` offers; any callable of this shape can train the model."""

    def batch(self, count: int, misalignment: float | Tensor = 1.0, details: bool = False) -> dict[str, Tensor]:
        """`draft`, `reference`, `target` (B, 3, S, S) and `mask` (B, 1, S, S), floats in [0, 1].

        With `details` also `kind` (-1 text, 0 to 2 other prints, 3 clip) and `fault` (1: the print is another), (B,).
        """
        ...


@dataclass(frozen=True, slots=True)
class Quadruplets:
    """A batch: pictures (B, 3, S, S) in [-1, 1], mask (B, 1, S, S) in {0, 1}."""

    draft: Tensor
    reference: Tensor
    target: Tensor
    mask: Tensor
    other: Tensor | None = None
    """(B,) in {0, 1}: the draft shows another thing than the reference, and the instruction asks to replace it; None
    is 0 for all."""

    @property
    def replaced(self) -> Tensor:
        """`other`, with its zeros where it is None."""
        return torch.zeros(len(self.mask), device=self.mask.device) if self.other is None else self.other

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Draft, reference, target, mask and `replaced`, as the first five fields take them."""
        return self.draft, self.reference, self.target, self.mask, self.replaced

    def rows(self, index: Tensor) -> Quadruplets:
        """Some samples of the batch."""
        return Quadruplets(*(part[index] for part in self.parts))

    def first(self, count: int) -> Quadruplets:
        """Every so manieth sample, `count` of them, so that all kinds stay in."""
        return self.rows(torch.linspace(0, len(self.mask) - 1, min(count, len(self.mask))).round().long())


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
    sampler: Sampler, count: int, largest: float, generator: torch.Generator, *, wild: float = 0.0,
    light: float = 0.0,
) -> Quadruplets:  # fmt: skip
    """One batch whose misalignments are uniform in [0, largest], but for a share `wild` of them in [0, 1].

    A reference shown on the draft's frame by the focus lies near but has its own light, so `light` in [0, 1] adds
    colour and light drift whatever the misalignment; some poses are not found, and `wild` ones teach that.
    """
    levels = torch.rand(count, generator=generator, device=generator.device)
    far = torch.rand(count, generator=generator, device=generator.device) < wild
    levels = torch.where(far, levels, levels * largest)
    batch = sampler.batch(count, levels, details=True)
    draft, reference, target, mask = (batch[k] for k in ("draft", "reference", "target", "mask"))
    if light > 0:
        from refbench.tasks.degradations import drift

        change = torch.rand(count, generator=generator, device=generator.device) * light
        reference = drift(reference, change, generator)
    other = exchanged(batch).to(mask)
    return Quadruplets(draft * 2 - 1, reference * 2 - 1, target * 2 - 1, mask, other)


def exchanged(batch: dict[str, Tensor]) -> Tensor:
    """(B,) bool of a sampler's batch with details: the draft shows another print than the reference.

    Clips never do, and plain text (kind -1) counts as garbled.
    """
    return (batch["fault"] > 0) & (batch["kind"] >= 0)


def mirrored(batch: Quadruplets, generator: torch.Generator) -> Quadruplets:
    """Half of the batch mirrored left to right, at random."""
    count = len(batch.mask)
    mirror = (torch.rand(count, generator=generator, device=generator.device) < 0.5).to(batch.mask.device)
    *pictures, other = batch.parts
    draft, reference, target, mask = (torch.where(mirror.view(-1, 1, 1, 1), p.flip(-1), p) for p in pictures)
    return Quadruplets(draft, reference, target, mask, other)
