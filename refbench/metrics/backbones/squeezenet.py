"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360): the convolutional features, in torchvision's layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (123.0, 117.0, 104.0)
"""Caffe's training mean, RGB in 0 to 255; its inputs are not divided by anything."""

TAPS = (4, 7, 9, 12)
"""Layers whose outputs :meth:`SqueezeNet.stages` returns: the last at strides 4 and 8, first and last at 16."""


class Fire(nn.Module):
    """Squeeze to few channels with 1x1, expand to many with 1x1 and 3x3 side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The layer\'s output."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Sequential):
    """Module names are torchvision's ``squeezenet1_1().features``, so that a state dict fits both."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Activations at the four taps.

        Args:
            images: (N, 3, H, W) RGB in [0, 1], H and W at least 32.

        Returns:
            Four tensors (N, C_l, H_l, W_l), C_l 128, 256, 384, 512, at strides 4, 8, 16, 16.
        """
        mean = self.mean
        assert isinstance(mean, Tensor)
        x = images * 255.0 - mean
        found = []
        for index, layer in enumerate(self):
            x = layer(x)
            if index in TAPS:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The last activation, (N, 512, H/16, W/16), of RGB in [0, 1]."""
        return self.stages(images)[-1]
