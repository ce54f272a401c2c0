"""EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the Lite variant has no squeeze-excite and uses ReLU6)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

STAGES = (
    # repeats, kernel, stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

SIDE = 224
"""Inputs are resized to SIDE x SIDE px before they come here."""


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": the odd pixel goes to the bottom and the right."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer\'s output."""
        padding = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding) if any(padding) else x)


class Block(nn.Module):
    """Inverted bottleneck: expand, depthwise, project, and the sum with the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = Same(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = Same(inner, inner, kernel, stride=stride, groups=inner)
        self.project = Same(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """The layer\'s output."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        z: Tensor = self.project(F.relu6(self.depthwise(y)))
        return x + z if self.residual else z


class EfficientNetLite0(nn.Module):
    """The features and the global average, with batch normalisation folded into the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Same(3, 32, 3, stride=2)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = Same(320, 1280, 1)

    def features(self, images: Tensor) -> Tensor:
        """The feature map (N, 1280, H/32, W/32) of RGB in [0, 1], shape (N, 3, H, W)."""
        x = F.relu6(self.stem(images * 2.0 - 1.0))
        return F.relu6(self.head(self.blocks(x)))

    def forward(self, images: Tensor) -> Tensor:
        """The embedding (N, 1280), the mean of :meth:`features` over space."""
        return self.features(images).mean(dim=(2, 3))
