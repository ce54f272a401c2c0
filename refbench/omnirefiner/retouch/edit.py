"""What stage 1's networks say of a placed reference, and the picture that comes of it.

For every cell of 8 px eight numbers: by how much each of three bands of detail is raised or lowered, how the light
changes, and how far the content moves. All of them vary slowly over the picture. So the result's detail is the
reference's own: none can be painted, and draft and reference cannot be mixed into a double exposure. Eight zeros leave
the placed reference as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.tasks.degradations import blur

if TYPE_CHECKING:
    from refbench.omnirefiner.retouch.data import SceneBatch

CELL = 8
"""Side in px of what has numbers of its own."""
NUMBERS = 8
"""Of a cell: three gains, three of light, two of motion."""
EDGES = (0.0, 1.0, 2.0, 4.0)
"""Sigmas in px between which the bands of detail lie."""
GAIN, LIGHT, REACH = 1.1, 0.5, 16.0
"""Largest logarithm of a gain, change of light (a picture spans 2), and motion in px."""


@dataclass(frozen=True, slots=True)
class Retouch:
    """Numbers (B, n, h, w) of the cells of a picture."""

    gains: Tensor
    """(B, 3, h, w) natural logarithms, fine to coarse."""
    light: Tensor
    """(B, 3, h, w), added to R, G and B in [-1, 1]."""
    motion: Tensor
    """(B, 2, h, w) in px: the content at (x, y) comes from (x + first, y + second)."""

    def apply(self, placed: Tensor, scale: int = 1) -> Tensor:
        """The retouched picture (B, 3, H, W), about [-1, 1], of a placed reference (B, 3, H, W); px and sigmas are
        `scale` times as large as where the numbers were found."""
        size = placed.shape[-2:]
        moved = warp(placed, scale * upsample(self.motion, size))
        gains, levels = upsample(self.gains, size), [moved, *(blur(moved, scale * sigma) for sigma in EDGES[1:])]
        out = moved + upsample(self.light, size)
        for band in range(3):
            out = out + (gains[:, band : band + 1].exp() - 1) * (levels[band] - levels[band + 1])
        return out


def from_numbers(numbers: Tensor) -> Retouch:
    """A network's output (B, 8, h, w), unbounded, as a :class:`Retouch` within its bounds."""
    numbers = numbers.float()
    gains, light, motion = numbers[:, :3], numbers[:, 3:6], numbers[:, 6:]
    return Retouch(GAIN * torch.tanh(gains), LIGHT * torch.tanh(light), REACH * torch.tanh(motion / 4))


def composite(retouch: Retouch, scenes: SceneBatch, scale: int = 1) -> Tensor:
    """The picture (B, 3, H, W): retouched where the reference is let in, else the draft."""
    return scenes.draft + scenes.weight * (retouch.apply(scenes.placed, scale) - scenes.draft)


def upsample(cells: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Numbers of cells (B, n, h, w) for every pixel (B, n, H, W)."""
    return F.interpolate(cells, tuple(size), mode="bilinear", align_corners=False)


def warp(picture: Tensor, motion: Tensor) -> Tensor:
    """A picture (B, 3, H, W) sampled, bicubic, at each pixel's place plus its motion (B, 2, H, W) in px."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=picture.device), torch.arange(width, device=picture.device), indexing="ij"
    )
    grid = torch.stack([2 * (x + motion[:, 0] + 0.5) / width - 1, 2 * (y + motion[:, 1] + 0.5) / height - 1], -1)
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
