"""Unweighted distance of SqueezeNet features: LPIPS (Zhang et al. 2018) without its learned weights, so not LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from refbench.images import Image
from refbench.metrics.backbones import SHA256
from refbench.metrics.contract import Metric, library
from refbench.metrics.view import View
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-10


def to_batch(images: Sequence[Image], device: str) -> Tensor:
    """uint8 images (h, w, 3) of one size as a float32 batch (n, 3, h, w) in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def stage_distances(x: Tensor, y: Tensor) -> Tensor:
    """Mean over the seven taps of the spatial mean of the squared distance of unit-length feature vectors.

    Args:
        x, y: (n, 3, h, w) RGB in [0, 1].

    Returns:
        (n,) in [0, 2] for non-negative features; differentiable in both.
    """
    import torch

    from refbench.metrics.backbones import load_squeezenet

    network = load_squeezenet(str(x.device))
    total = torch.zeros(len(x), device=x.device)
    stages = network.stages(torch.cat([x, y]))
    for stage in stages:
        # |a/s - b/t|^2 written out, with s = |a| + eps and t = |b| + eps: no normalised copies are made.
        a, b = stage[: len(x)], stage[len(x) :]
        aa, bb, ab = a.square().sum(dim=1), b.square().sum(dim=1), (a * b).sum(dim=1)
        s, t = aa.sqrt() + EPS, bb.sqrt() + EPS
        distance = aa / s**2 + bb / t**2 - 2.0 * ab / (s * t)
        total = total + distance.clamp_min(0.0).mean(dim=(1, 2))
    return total / len(stages)


class Squeeze(Metric):
    """Feature distance to the target on the mask's box."""

    batched = True
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="squeeze",
            definition="features of SqueezeNet 1.1 at seven depths, each position's vector scaled to unit length; "
            "squared distance, mean over positions, mean over depths; no learned weights, hence not LPIPS",
            paper="after Zhang et al. 2018, arXiv 1801.03924 (baseline without linear heads); SqueezeNet: arXiv "
            "1602.07360",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 2.0),
            colour="sRGB, x 255 minus (123, 117, 104)",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask; no resizing",
            border_rule="as the network pads",
            backend=library("torch"),
            weights="SqueezeNet 1.1, ImageNet, half precision, refbench/metrics/weights/squeezenet1_1.safetensors",
            weights_sha256=SHA256["squeezenet1_1"],
            licence="BSD-2-Clause (weights)",
            note="tolerates shifts of a pixel or two; cannot read: a wrong glyph costs little more than a blurred one",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        import torch

        groups: dict[tuple[int, ...], list[int]] = {}
        for at, view in enumerate(views):
            if not view.same:
                groups.setdefault(view.image.shape, []).append(at)
        found: list[float | None] = [0.0] * len(views)
        with torch.inference_mode():
            for group in groups.values():
                x = to_batch([views[at].image for at in group], self.device)
                y = to_batch([views[at].known.target for at in group], self.device)
                for at, value in zip(group, stage_distances(x, y).double().cpu().tolist(), strict=True):
                    found[at] = value
        return found
