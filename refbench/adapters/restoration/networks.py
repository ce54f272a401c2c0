"""The restoration networks in torch, with the names of the papers' own code.

- RRDBNet: Wang et al., ESRGAN (ECCVW 2018, arXiv 1809.00219), as Real-ESRGAN x4plus (arXiv 2107.10833) and RealSR
  (Ji et al., CVPRW 2020, arXiv 2005.01996) use it: 23 blocks, 64 features, x4 by nearest neighbours and convolutions;
- UpConv7: waifu2x's ``upconv_7`` (github.com/nagadomi/waifu2x): six valid convolutions and one transposed, x2.

Tensors are (N, 3, H, W) RGB in [0, 1], in and out; nothing is clipped here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each seeing all before it; its change is added at a fifth."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for n in range(4):
            setattr(self, f"conv{n + 1}", nn.Conv2d(features + n * growth, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) in and out."""
        seen = [x]
        for n in range(1, 5):
            seen.append(functional.leaky_relu(getattr(self, f"conv{n}")(torch.cat(seen, 1)), 0.2))
        change: Tensor = self.conv5(torch.cat(seen, 1))
        return change * 0.2 + x


class RRDB(nn.Module):
    """Three dense blocks in a residual."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(features, growth)
        self.rdb2 = ResidualDenseBlock(features, growth)
        self.rdb3 = ResidualDenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) in and out."""
        change: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return change * 0.2 + x


class RRDBNet(nn.Module):
    """x4 super-resolution by residual-in-residual dense blocks."""

    scale = 4
    crop = 0
    """Pixels of the input that are lost at each side."""

    def __init__(self, blocks: int = 23, features: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up2 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 4H, 4W)."""
        first = self.conv_first(x)
        x = first + self.conv_body(self.body(first))
        for convolution in (self.conv_up1, self.conv_up2):
            x = functional.leaky_relu(convolution(functional.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        out: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(x), 0.2))
        return out


class UpConv7(nn.Module):
    """x2 super-resolution and noise removal by seven layers without padding."""

    scale = 2
    crop = 7
    """Pixels of the input that are lost at each side."""
    widths = (16, 32, 64, 128, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for n, width in enumerate(self.widths):
            setattr(self, f"conv{n + 1}", nn.Conv2d(before, width, 3))
            before = width
        self.conv7 = nn.ConvTranspose2d(before, 3, 4, stride=2, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 2H - 28, 2W - 28)."""
        for n in range(1, 7):
            x = functional.leaky_relu(getattr(self, f"conv{n}")(x), 0.1)
        out: Tensor = self.conv7(x)
        return out
