"""Training quadruplets in the model's own range, with the curriculum on the reference's misalignment.

Measured: with the reference misaligned from the start a small model never learns to read it; aligned first and moved
apart more and more, it does (shared finding of several toy runs, see ``reports/omnirefiner-experiments.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from refbench.images import mask_box
from refbench.registration.laying import lay

if TYPE_CHECKING:
    from refbench.omnirefiner.models import Aligner


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
    shuffled: Tensor | None = None
    """Validation only: another sample's reference (B, 3, S, S), shown in the same way as the right one."""

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
        draft, reference, target, mask, other = (part[index] for part in self.parts)
        wrong = None if self.shuffled is None else self.shuffled[index]
        return Quadruplets(draft, reference, target, mask, other, wrong)

    def first(self, count: int) -> Quadruplets:
        """Every so manieth sample, `count` of them, so that all kinds stay in."""
        return self.rows(torch.linspace(0, len(self.mask) - 1, min(count, len(self.mask))).round().long())


Source: TypeAlias = Callable[[int, torch.Generator], Quadruplets]
"""Draws a batch of so many; a source that makes endless new ones may leave the generator alone."""


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
    light: float = 0.0, laying: bool = False, aligner: Aligner | None = None,
) -> Quadruplets:  # fmt: skip
    """One batch whose misalignments are uniform in [0, largest], but for a share `wild` of them in [0, 1].

    A reference laid onto the draft's frame by the focus lies near but has its own light, so `light` in [0, 1] adds
    colour and light drift whatever the misalignment; some references cannot be laid, and `wild` ones teach that.

    With `laying` the references are laid into the drafts as the focus lays them, see :func:`lay_references`.
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
    made = Quadruplets(draft * 2 - 1, reference * 2 - 1, target * 2 - 1, mask, other)
    return lay_references(made, batch["kind"] == 3, aligner) if laying else made


def exchanged(batch: dict[str, Tensor]) -> Tensor:
    """(B,) bool of a sampler's batch with details: the draft shows another print than the reference.

    Clips never do, and plain text (kind -1) counts as garbled.
    """
    return (batch["fault"] > 0) & (batch["kind"] >= 0)


@torch.no_grad()
def lay_references(batch: Quadruplets, same_scene: Tensor, aligner: Aligner | None) -> Quadruplets:
    """The batch with each reference laid into its draft: moved by the aligner, its light matched, its figure cut out.

    The pose is taken for found (what it leaves is the batch's misalignment), the box of the detail for the mask's.

    Args:
        batch: pictures (B, 3, S, S), and which of them show another print than the reference.
        same_scene: (B,) bool, the reference shows the draft's own surroundings.
        aligner: None moves nothing.
    """
    flows = None
    if aligner is not None:
        from refbench.omnirefiner.tiny.aligner import SHARE

        flows = SHARE * aligner(batch.draft, batch.reference, batch.mask)[-1]
    pictures = [
        ((p.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        for p in (batch.draft, batch.reference)
    ]
    masks = batch.mask[:, 0].cpu().numpy() > 0.5
    laid, other = [], batch.replaced > 0.5
    for k, (draft, reference, mask) in enumerate(zip(*pictures, masks, strict=True)):
        flow = (
            None
            if flows is None or bool(other[k])
            else np.ascontiguousarray(flows[k].permute(1, 2, 0).float().cpu().numpy())
        )
        laid.append(
            lay(
                np.ascontiguousarray(draft), np.ascontiguousarray(reference), mask, mask_box(mask), np.eye(3),
                same_scene=bool(same_scene[k]), other=bool(other[k]), flow=flow,
            ).picture
        )  # fmt: skip
    shown = torch.from_numpy(np.stack(laid)).permute(0, 3, 1, 2).to(batch.draft) / 127.5 - 1
    return replace(batch, reference=shown)


class Reservoir:
    """Samples that cost more to make than to learn from, each used about `reuse` times.

    Args:
        make: draws so many fresh samples: a tuple of tensors, each with them as its first axis.
        capacity: samples kept.
        reuse: 1 keeps none.
        first: samples made before the first draw; the size of that draw when None.
    """

    def __init__(
        self, make: Callable[[int], tuple[Tensor, ...]], capacity: int, reuse: int, first: int | None = None
    ) -> None:
        self.make, self.capacity, self.reuse, self.first = make, capacity, reuse, first
        self.kept: tuple[Tensor, ...] = ()
        self.next, self.filled, self.made = 0, 0, 0

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A batch of `count`."""
        if self.reuse <= 1:
            self.made += count
            return self.make(count)
        parts = self.make(-(-count // self.reuse) if self.kept else self.first or count)
        if not self.kept:
            self.kept = tuple(p.new_zeros(self.capacity, *p.shape[1:]) for p in parts)
        fresh = len(parts[0])
        rows = (self.next + torch.arange(fresh)) % self.capacity
        for kept, part in zip(self.kept, parts, strict=True):
            kept[rows] = part
        self.next = int(rows[-1] + 1) % self.capacity
        self.filled, self.made = min(self.capacity, self.filled + fresh), self.made + fresh
        chosen = torch.randint(self.filled, (count,), generator=generator, device=generator.device)
        return tuple(p[chosen.to(p.device)] for p in self.kept)


def mirrored(batch: Quadruplets, generator: torch.Generator) -> Quadruplets:
    """Half of the batch mirrored left to right, at random."""
    count = len(batch.mask)
    mirror = (torch.rand(count, generator=generator, device=generator.device) < 0.5).to(batch.mask.device)
    *pictures, other = batch.parts
    draft, reference, target, mask = (torch.where(mirror.view(-1, 1, 1, 1), p.flip(-1), p) for p in pictures)
    return Quadruplets(draft, reference, target, mask, other)
