"""The U-Net control of stage 1: decides for each place between draft and placed reference, and adds a change.

Untrained it gives the placed reference back: every gate is shut (the reference's) and the change is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (48, 96, 192, 256)
SHUT = -2.0
"""Logit of an untrained gate."""
CELL = 8
"""Side in px of what is chosen together, but for the line between."""
CHANGE = 0.25
"""Scale of the change's head: a picture spans 2."""


class Block(nn.Module):
    """Residual block of two convolutions behind a group norm; nearly nothing at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.01)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        out: Tensor = x + self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return out


@dataclass(frozen=True, slots=True)
class Mended:
    """What the network says of a batch."""

    picture: Tensor
    """(B, 3, H, W), about [-1, 1]."""
    logits: Tensor
    """(B, 1, H, W) of the gate: above 0 the draft stays."""
    change: Tensor
    """(B, 3, H, W)."""


class Mender(nn.Module):
    """Draft, placed reference, the reference's view and mask -> picture; sides are multiples of 16."""

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Conv2d(4 * 10 + 1, a, 3, padding=1)
        self.down = nn.ModuleList([Block(a), Block(b), Block(c)])
        self.shrink = nn.ModuleList([nn.Conv2d(m, n, 2, stride=2) for m, n in ((a, b), (b, c), (c, d))])
        self.middle = nn.Sequential(Block(d), Block(d))
        self.grow = nn.ModuleList([nn.ConvTranspose2d(n, m, 2, stride=2) for m, n in ((c, d), (b, c), (a, b))])
        self.up = nn.ModuleList([Block(c), Block(b), nn.Sequential(Block(a), Block(a))])
        self.head = nn.Conv2d(a, 4 * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, draft: Tensor, placed: Tensor, view: Tensor, mask: Tensor, other: Tensor) -> Mended:
        """Pictures (B, 3, H, W) in [-1, 1], mask (B, 1, H, W) in {0, 1}, `other` (B,) in {0, 1}."""
        shown = F.pixel_unshuffle(torch.cat([draft, placed, view, mask * 2 - 1], 1), 2)
        asked = (other.view(-1, 1, 1, 1) * 2 - 1).expand(-1, 1, *shown.shape[-2:]).to(shown)
        x = self.stem(torch.cat([shown, asked], 1).contiguous(memory_format=torch.channels_last))
        kept = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x)
            kept.append(x)
            x = shrink(x)
        x = self.middle(x)
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(grow(x) + kept.pop())
        found = F.pixel_shuffle(self.head(x).float(), 2)
        logits, change = _coarse(found[:, :1] * 4 + SHUT), found[:, 1:] * CHANGE
        gate = decided(logits)
        return Mended(placed + gate * (draft - placed) + change, logits, change)


def decided(logits: Tensor) -> Tensor:
    """Gates (B, 1, H, W): open or shut, with an edge of a pixel; gradients as of the logistic function."""
    soft = torch.sigmoid(logits)
    hard = (logits > 0).to(soft)
    return _softened(soft + (hard - soft).detach())


def _coarse(logits: Tensor) -> Tensor:
    """Logits averaged over :data:`CELL` px: pixels that go either way one by one mix draft and reference by dither."""
    return F.interpolate(F.avg_pool2d(logits, CELL), logits.shape[-2:], mode="bilinear", align_corners=False)


def _softened(gate: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(gate, (1, 1, 1, 1), mode="replicate"), 3, 1)
