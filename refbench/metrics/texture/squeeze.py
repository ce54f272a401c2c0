"""Unweighted distance of SqueezeNet features: LPIPS (Zhang et al. 2018) without its learned weights, so not LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from refbench.images import Image
from refbench.metrics.backbones import SHA256
from refbench.metrics.checks import Second, boxes, squeezenet_taps
from refbench.metrics.contract import Metric, library
from refbench.metrics.tiles import large, tiled_means
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-10
STRIDES = (4, 8, 16, 16)
"""Of the four depths, in px."""


def to_batch(images: Sequence[Image], device: str) -> Tensor:
    """uint8 images (h, w, 3) of one size as a float32 batch (n, 3, h, w) in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def stages(images: Tensor) -> list[Tensor]:
    """Features of RGB images (n, 3, h, w) in [0, 1] at the four depths, each position's vector of unit length."""
    from refbench.metrics.backbones import load_squeezenet

    found = load_squeezenet(str(images.device)).stages(images)
    return [stage / (stage.square().sum(dim=1, keepdim=True).sqrt() + EPS) for stage in found]


def distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean over depths of the spatial mean of the squared distance of two lists of :func:`stages`: (n,) in [0, 2]."""
    import torch

    return torch.stack([(x - y).square().sum(dim=1).mean(dim=(1, 2)) for x, y in zip(a, b, strict=True)]).mean(dim=0)


def tiled_distance(a: Image, b: Image, device: str) -> float:
    """:func:`distances` of two large images, taken tile by tile; features in half precision as for small ones."""
    import torch

    def tile(part: Image) -> list[Tensor]:
        return [stage.half().float() for stage in stages(to_batch([part], device))]

    def maps(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
        return [(one - two).square().sum(dim=1, keepdim=True) for one, two in zip(x, y, strict=True)]

    with torch.inference_mode():
        return float(np.mean(tiled_means(a, b, tile, STRIDES, maps)))


def _second(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = (
            [F.normalize(x, dim=1).half().float() for x in squeezenet_taps(image)] for image in boxes(truth, output)
        )
        return float(np.mean([float((x - y).square().sum(1).mean()) for x, y in zip(a, b, strict=True)]))


class Squeeze(Metric):
    """Feature distance to the target on the mask's box."""

    perfect, symmetric = 0.0, True
    second = Second("torchvision's squeezenet1_1", _second, module="torchvision")
    batched = True
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="squeeze",
            definition="features of SqueezeNet 1.1 at four depths, each position's vector scaled to unit length; "
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
            scored=False,
            note="not scored: features are compared place by place, and a right detail some pixels off counts as wrong "
            "(squeeze_match and squeeze_pooled tolerate that); cannot read",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        import torch

        groups: dict[tuple[int, ...], list[int]] = {}
        found: list[float | None] = [0.0] * len(views)
        for at, view in enumerate(views):
            if not view.same and large(view.image):
                found[at] = tiled_distance(view.image, view.known.target, self.device)
            elif not view.same:
                groups.setdefault(view.image.shape, []).append(at)
        with torch.inference_mode():
            for group in groups.values():
                chosen = [views[at] for at in group]
                outputs = [stage.half() for stage in stages(to_batch([view.image for view in chosen], self.device))]
                targets = self._targets(chosen)
                values = distances([stage.float() for stage in outputs], [stage.float() for stage in targets])
                for at, value in zip(group, values.double().cpu().tolist(), strict=True):
                    found[at] = value
        return found

    def _targets(self, views: Sequence[View]) -> list[Tensor]:
        """Features of the targets, in half precision as they are stored, those that are new in one pass."""
        import torch

        new = {id(v.known): v.known for v in views if not v.known.has("squeeze.target", self.hash)}
        if new:
            made = [stage.half().cpu() for stage in stages(to_batch([k.target for k in new.values()], self.device))]
            for at, known in enumerate(new.values()):
                arrays = {str(depth): stage[at].permute(1, 2, 0).numpy() for depth, stage in enumerate(made)}
                known.feature("squeeze.target", self.hash, lambda arrays=arrays: arrays)  # type: ignore[misc]
        stored = [view.known.feature("squeeze.target", self.hash, dict) for view in views]
        return [
            torch.from_numpy(np.stack([arrays[str(depth)] for arrays in stored])).to(self.device).permute(0, 3, 1, 2)
            for depth in range(len(stored[0]))
        ]
