"""What a refined picture is held to, beside flow matching: structure, features that tolerate a small shift, local
energy of detail, and likeness to the reference.

The features are EfficientNet-Lite0's, which no metric of the score uses. Every loss is a value a sample (B,), taken
inside the mask of the picture composited over its target.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.metrics.backbones.efficientnet import EfficientNetLite0
from refbench.tasks.composition import luminance
from refbench.tasks.degradations import blur

TAPS = (2, 4, 10)
"""Blocks after which features are taken: strides 4, 8 and 16; 24, 40 and 112 channels."""
NOISE = 2e-4
"""Energy of detail below which there is none to compare."""


def features(network: EfficientNetLite0, pictures: Tensor) -> list[Tensor]:
    """Feature maps at :data:`TAPS` of (B, 3, H, W) in [-1, 1], each of unit length a place."""
    x = F.relu6(network.stem(pictures))
    found = []
    for number, block in enumerate(network.blocks):
        x = block(x)
        if number in TAPS:
            found.append(F.normalize(x.float(), dim=1))
        if number == max(TAPS):
            break
    return found


def inside(x: Tensor, mask: Tensor) -> Tensor:
    """Mean (B,) of (B, 1, H, W) over the mask."""
    return (x * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)


def rmse(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Root of the mean squared error."""
    return (inside((out - target).square().mean(1, keepdim=True), mask) + 1e-6).sqrt()


def structure(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 - SSIM (Wang 2004; sigma 1.5 px), on pictures of [-1, 1]."""
    n = out.shape[1]
    means = blur(torch.cat([out, target, out * out, target * target, out * target], 1), 1.5)
    a, b, aa, bb, ab = torch.split(means, n, 1)
    low, high = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    map_ = (2 * a * b + low) * (2 * (ab - a * b) + high) / ((a * a + b * b + low) * (aa - a * a + bb - b * b + high))
    return 1 - inside(map_.mean(1, keepdim=True), mask)


def energy(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of local energy of detail, in two bands."""
    total, x, y, m = torch.zeros(len(out), device=out.device), luminance(out), luminance(target), mask
    for _ in range(2):
        low_x, low_y = blur(x, 2.0), blur(y, 2.0)
        local = [blur((a - b).square(), 4.0) for a, b in ((x, low_x), (y, low_y))]
        total = total + inside((local[0] + NOISE).log().sub((local[1] + NOISE).log()).abs(), m) / 2
        x, y, m = F.avg_pool2d(low_x, 2), F.avg_pool2d(low_y, 2), (F.avg_pool2d(m, 2) > 0.5).to(m)
    return total


def matched(out: list[Tensor], target: list[Tensor], mask: Tensor) -> Tensor:
    """1 - mean cosine of each place's best match within one cell in the other picture, both ways, over all taps."""
    total = torch.zeros(len(mask), device=mask.device)
    for a, b in zip(out, target, strict=True):
        m = F.adaptive_max_pool2d(mask, a.shape[-2:])
        for x, y in ((a, b), (b, a)):
            best = torch.full_like(m, -1.0)
            padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
            for i in range(3):
                for j in range(3):
                    seen = padded[..., i : i + a.shape[-2], j : j + a.shape[-1]]
                    best = torch.maximum(best, (x * seen).sum(1, keepdim=True))
            total = total + (1 - inside(best, m)) / (2 * len(out))
    return total


def placed_features(out: list[Tensor], target: list[Tensor], mask: Tensor) -> Tensor:
    """Mean squared distance of unit features place by place, over all taps."""
    total = torch.zeros(len(mask), device=mask.device)
    for a, b in zip(out, target, strict=True):
        m = F.adaptive_max_pool2d(mask, a.shape[-2:])
        total = total + inside((a - b).square().sum(1, keepdim=True), m) / len(out)
    return total


def likeness(a: list[Tensor], b: list[Tensor], mask: Tensor) -> Tensor:
    """Cosine (B,) of features pooled over the mask, mean of the two deeper taps."""
    total = torch.zeros(len(mask), device=mask.device)
    for x, y in zip(a[1:], b[1:], strict=True):
        m = F.adaptive_max_pool2d(mask, x.shape[-2:])
        total = total + F.cosine_similarity((x * m).sum((2, 3)), (y * m).sum((2, 3))) / 2
    return total


def hinge(out: list[Tensor], target: list[Tensor], view: list[Tensor], mask: Tensor) -> Tensor:
    """By how much the picture is less like the reference than the target is."""
    return F.relu(likeness(target, view, mask) - likeness(out, view, mask))


def remnant(gate: Tensor, draft: list[Tensor], target: list[Tensor], mask: Tensor) -> Tensor:
    """How much of what is wrong in the draft a gate (B, 1, H, W) keeps: the mean over the mask of the gate times the
    distance, 1 - cosine, of draft and target at the finest tap; in terms of that distance's mean."""
    apart = 1 - (draft[0] * target[0]).sum(1, keepdim=True)
    wide = F.interpolate(apart, mask.shape[-2:], mode="bilinear", align_corners=False)
    return inside(gate * wide, mask) / inside(wide, mask).clamp(min=1e-3)


class Critic(nn.Module):
    """Says of frozen features whether they are of a target: a small head a tap, for the hinge loss (Lim & Ye 2017)."""

    def __init__(self, channels: tuple[int, ...] = (24, 40, 112)) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, 64, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 64, 3, padding=1), nn.LeakyReLU(0.2),
                nn.Conv2d(64, 1, 1),
            )
            for c in channels
        )  # fmt: skip

    def forward(self, found: list[Tensor], mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each tap the verdicts (B, 1, h, w) and the mask at its size."""
        return [
            (head(x * x.shape[1] ** 0.5), F.adaptive_max_pool2d(mask, x.shape[-2:]))
            for head, x in zip(self.heads, found, strict=True)
        ]


def spoken(verdicts: list[tuple[Tensor, Tensor]], sign: float, margin: float | None) -> Tensor:
    """Mean over taps of ``relu(margin + sign v)`` inside the mask, or of ``sign v`` without a margin."""
    total = torch.zeros(())
    for v, m in verdicts:
        value = sign * v if margin is None else F.relu(margin + sign * v)
        total = total + (value * m).sum() / m.sum().clamp(min=1) / len(verdicts)
    return total
