"""Pooled feature similarity: are the features of the region those of the target, wherever they lie in it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image
from refbench.metrics import deep
from refbench.metrics.backbones import SHA256
from refbench.metrics.checks import Form, Second, bare, boxes, covered, noise, squeezenet_taps
from refbench.metrics.contract import Metric, library
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth


def pooled_similarity(output: deep.Features, target: deep.Features, weight: deep.Features) -> float:
    """Cosine of two maps of features (h, w, C) summed over positions by `weight` (h, w)."""
    a, b = ((one * weight[..., None]).sum(axis=(0, 1), dtype=np.float64) for one in (output, target))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), deep.EPS))


def _second(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's cosine similarity."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = (squeezenet_taps(image)[2:] for image in boxes(truth, output))
        weight = covered(truth, (a[0].shape[2], a[0].shape[3]))
        pairs = [((x * weight).sum((2, 3)), (y * weight).sum((2, 3))) for x, y in zip(a, b, strict=True)]
        return float(np.mean([float(F.cosine_similarity(x, y)) for x, y in pairs]))


class SqueezePooled(Metric):
    """Cosine of pooled SqueezeNet features."""

    perfect, symmetric = 1.0, True
    second = Second("torchvision's squeezenet1_1, torch's cosine similarity", _second, 1e-3, "torchvision")
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="squeeze_pooled",
            definition="activations of SqueezeNet 1.1 at its two deepest depths, summed over the positions by the "
            "share of each position's cell that is masked; cosine of output's and target's sums; mean of both depths",
            paper="after Babenko & Lempitsky 2015, arXiv 1510.07493 (sum-pooled convolutional features); SqueezeNet: "
            "arXiv 1602.07360",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="sRGB, x 255 minus (123, 117, 104)",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask; positions weighted by how much of their cell is masked",
            resize_rule=deep.RESIZE_RULE,
            border_rule="as the network pads",
            backend=library("torch"),
            weights=deep.WEIGHTS,
            weights_sha256=SHA256["squeezenet1_1"],
            licence="BSD-2-Clause (weights)",
            note="blind to where a detail lies in the region, and to its exact colours; cannot read",
            unit=0.21,
            tolerance=1e-4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        if view.same:
            return 1.0
        output, target = deep.of_output(view, self.device), deep.of_target(view.known, self.device)
        weight = deep.coverage(view.known, output[0].shape)
        return float(np.mean([pooled_similarity(a, b, weight) for a, b in zip(output, target, strict=True)]))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        moved = np.roll(noise(), 16, axis=1)
        yield Form("an image moved around by 16 px", 1.0, self.number(bare(noise()), moved), 2e-2)
