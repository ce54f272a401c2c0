"""Random tensors of one generator, and notes of what they made."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Draws:
    """What the parts of a sampler draw from and note into; the order of the draws decides every batch."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self.notes: dict[str, list[Tensor]] = {}
        """What was made, by name."""
        self.maps = False
        """Whether where pixels fall on the print is noted too."""

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Floats in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Floats of N(0, 1)."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def index(self, high: int, batch: int) -> Tensor:
        """(batch,) int64 in [0, high)."""
        return torch.randint(0, max(high, 1), (batch,), generator=self.generator, device=self.device)

    def note(self, **values: Tensor) -> None:
        """Remember what was made, a part of the batch after the other."""
        for name, value in values.items():
            self.notes.setdefault(name, []).append(value)


class Scene(NamedTuple):
    """A part of a batch before its draft is spoilt."""

    base: Tensor
    """(B, 3, S, S) what the draft is made of: the target, or with a wrong print."""
    target: Tensor
    reference: Tensor
    mask: Tensor
    """(B, 1, S, S)."""
    spoil: Tensor
    """(B,) bool: whether `base` is degraded."""


def window(centre: Tensor, zoom: Tensor, angle: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Sampling grid (B, size, size, 2) of a turned square window: `centre` (B, 2) and half side `zoom` (B,) in
    [-1, 1]; `flip` (B,) of -1 mirrors the whole source."""
    axis = (torch.arange(size, device=zoom.device, dtype=zoom.dtype) * 2 + 1) / size - 1
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    step = zoom.view(-1, 1, 1)
    u = centre[:, 0].view(-1, 1, 1) + step * (x * cos - y * sin)
    v = centre[:, 1].view(-1, 1, 1) + step * (x * sin + y * cos)
    if flip is not None:
        # mirrored in the window, so that a followed point stays where it is in the source
        u = centre[:, 0].view(-1, 1, 1) + step * (flip.view(-1, 1, 1) * x * cos - y * sin)
    return torch.stack([u, v], dim=-1)
