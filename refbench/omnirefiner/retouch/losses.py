"""What a refined picture is held to, beside flow matching: features that tolerate a small shift, local energy of
detail, light, and likeness to the reference. None is taken pixel by pixel: such losses pay for half of either picture.

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


def detail_energy(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of :func:`energy_difference` inside the mask."""
    return inside(energy_difference(out, target, mask), mask)


def energy_difference(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Absolute difference (B, 1, H, W) of the logarithms of local energy of detail inside the mask, mean of three bands
    (below 1, 2 and 4 px)."""
    total, bands = torch.zeros_like(mask), [luminance(out), luminance(target)]
    known = blur(mask, 5.0).clamp(min=1e-3)
    for sigma in (1.0, 2.0, 4.0):
        lower = [blur(luminance(x), sigma) for x in (out, target)]
        logs = [(blur((x - y).square() * mask, 5.0) / known + NOISE).log() for x, y in zip(bands, lower, strict=True)]
        total, bands = total + (logs[0] - logs[1]).abs() / 3, lower
    return total


def nearest_features(out: list[Tensor], target: list[Tensor], mask: Tensor) -> Tensor:
    """1 - mean cosine of each place's best match within one cell in the other picture, both ways, over all taps."""
    total = torch.zeros(len(mask), device=mask.device)
    for a, b in zip(out, target, strict=True):
        m = F.adaptive_max_pool2d(mask, a.shape[-2:])
        for x, y in ((a, b), (b, a)):
            total = total + (1 - inside(best_match(x, y), m)) / (2 * len(out))
    return total


def best_match(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (B, 1, h, w) of each place of unit features `a` with its best match within one cell in `b`."""
    best = torch.full_like(a[:, :1], -1.0)
    padded = F.pad(b, (1, 1, 1, 1), mode="replicate")
    for i in range(3):
        for j in range(3):
            best = torch.maximum(best, (a * padded[..., i : i + a.shape[-2], j : j + a.shape[-1]]).sum(1, keepdim=True))
    return best


def feature_distance(out: list[Tensor], target: list[Tensor], mask: Tensor) -> Tensor:
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


def likeness_hinge(out: list[Tensor], target: list[Tensor], view: list[Tensor], mask: Tensor) -> Tensor:
    """By how much the picture is less like the reference than the target is."""
    return F.relu(likeness(target, view, mask) - likeness(out, view, mask))


def colour_shift(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of the pictures averaged over Gaussian windows of 6 px inside the mask."""
    known = blur(mask, 6.0).clamp(min=1e-3)
    low = blur((out - target) * mask, 6.0) / known
    return inside(low.abs().mean(1, keepdim=True), mask)


def motion_error(motion: Tensor, known: Tensor, trust: Tensor) -> Tensor:
    """Mean distance in px, of at most 8 counted, of a motion (B, 2, H, W) from a known one where `trust` (B, 1, H, W)
    says that it is; 0 where it nowhere does."""
    apart = ((motion - known).square().sum(1, keepdim=True) + 0.01).sqrt().clamp(max=8.0)
    return (apart * trust).sum((1, 2, 3)) / trust.sum((1, 2, 3)).clamp(min=50)


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


def critic_loss(verdicts: list[tuple[Tensor, Tensor]], sign: float, margin: float | None) -> Tensor:
    """Mean over taps of ``relu(margin + sign v)`` inside the mask, or of ``sign v`` without a margin."""
    total = torch.zeros(())
    for v, m in verdicts:
        value = sign * v if margin is None else F.relu(margin + sign * v)
        total = total + (value * m).sum() / m.sum().clamp(min=1) / len(verdicts)
    return total
