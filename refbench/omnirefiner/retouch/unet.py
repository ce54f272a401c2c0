"""Stage 1's network of convolutions: sees draft, placed reference, its view and mask, and says how to retouch it.

Draft and placed reference go through the same layers and are compared by a local correlation, as networks for optical
flow do (FlowNetC, Dosovitskiy et al. 2015). Untrained it says zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.omnirefiner.retouch.edit import NUMBERS

WIDTHS = (32, 64, 128, 160, 192)
"""Channels at strides of 2, 4, 8, 16 and 32 px."""
RADIUS = 4
"""Of the correlation, in places of 4 px."""


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


class RetouchUNet(nn.Module):
    """Draft, placed reference, its view and mask -> eight numbers a cell; sides are multiples of 32."""

    def __init__(self, widths: tuple[int, int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.seen = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, a, 3, padding=1), Block(a), nn.Conv2d(a, b, 2, stride=2), Block(b)
        )
        self.compared = nn.Conv2d((2 * RADIUS + 1) ** 2, b, 1)
        self.stem = nn.Conv2d(4 * b + 2 * 16 + 1, c, 2, stride=2)
        self.down = nn.ModuleList([nn.Sequential(Block(c), Block(c)), nn.Sequential(Block(d), Block(d))])
        self.shrink = nn.ModuleList([nn.Conv2d(c, d, 2, stride=2), nn.Conv2d(d, e, 2, stride=2)])
        self.middle = nn.Sequential(Block(e), Block(e))
        self.grow = nn.ModuleList([nn.ConvTranspose2d(e, d, 2, stride=2), nn.ConvTranspose2d(d, c, 2, stride=2)])
        self.up = nn.ModuleList([nn.Sequential(Block(d), Block(d)), nn.Sequential(Block(c), Block(c))])
        self.head = nn.Conv2d(c, NUMBERS, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(
        self, draft: Tensor, placed: Tensor, view: Tensor, mask: Tensor, weight: Tensor, other: Tensor
    ) -> Tensor:
        """(B, 8, H / 8, W / 8).

        Args:
            draft, placed, view: (B, 3, H, W) in [-1, 1].
            mask: (B, 1, H, W) in {0, 1}.
            weight: (B, 1, H, W) in [0, 1], how far the reference is let in.
            other: (B,) 1 where the draft shows another thing.
        """
        return self.tail(*self.trunk(draft, placed, view, mask, weight, other))

    def trunk(
        self, draft: Tensor, placed: Tensor, view: Tensor, mask: Tensor, weight: Tensor, other: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`tail` takes: (B, 160, H / 16, W / 16), and (B, 128, H / 8, W / 8)."""
        count = len(draft)
        pictures = torch.cat([draft, placed, view]).contiguous(memory_format=torch.channels_last)
        first, second, third = self.seen(pictures).split(count)
        near = self.compared(correlation(first, second))
        planes = F.pixel_unshuffle(torch.cat([mask, weight], 1) * 2 - 1, 4)
        asked = (other.view(-1, 1, 1, 1) * 2 - 1).expand(-1, 1, *planes.shape[-2:]).to(planes)
        x = self.stem(torch.cat([first, second, third, near, planes, asked], 1))
        kept = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x)
            kept.append(x)
            x = shrink(x)
        coarse, fine = kept.pop(), kept.pop()
        return self.up[0](self.grow[0](self.middle(x)) + coarse), fine

    def tail(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """The last level, which stage 2 trains: (B, 8, H / 8, W / 8)."""
        out: Tensor = self.head(self.up[1](self.grow[1](coarse) + fine)).float()
        return out

    def tail_weights(self) -> dict[str, nn.Parameter]:
        """The weights of :meth:`tail` by name."""
        return {n: p for n, p in self.named_parameters() if n.startswith(("grow.1.", "up.1.", "head."))}


def correlation(a: Tensor, b: Tensor, radius: int = RADIUS) -> Tensor:
    """Cosines of each place (B, C, h, w) of `a` with the places of `b` within `radius`: (B, (2 radius + 1)^2, h, w)."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    height, width = a.shape[-2:]
    padded = F.pad(b, (radius,) * 4)
    return torch.cat([
        (a * padded[..., i : i + height, j : j + width]).sum(1, keepdim=True)
        for i in range(2 * radius + 1) for j in range(2 * radius + 1)
    ], 1)  # fmt: skip
