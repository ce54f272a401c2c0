"""Pooled feature similarity: are the features of the region those of the target, wherever they lie in it?"""

from __future__ import annotations

import numpy as np

from refbench.metrics import deep
from refbench.metrics.backbones import SHA256
from refbench.metrics.contract import Metric, library
from refbench.metrics.view import View
from refbench.schema import MetricCard


def pooled_similarity(output: deep.Features, target: deep.Features, weight: deep.Features) -> float:
    """Cosine of two maps of features (h, w, C) summed over positions by `weight` (h, w)."""
    a, b = ((one * weight[..., None]).sum(axis=(0, 1), dtype=np.float64) for one in (output, target))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), deep.EPS))


class SqueezePooled(Metric):
    """Cosine of pooled SqueezeNet features."""

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
