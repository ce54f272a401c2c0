"""Local feature match: is each detail of the target in the output near its place, and nothing else?"""

from __future__ import annotations

import numpy as np

from refbench.images import Image
from refbench.metrics import deep
from refbench.metrics.backbones import SHA256
from refbench.metrics.checks import Second, boxes, covered, squeezenet_taps
from refbench.metrics.contract import Metric, library
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

REACH = 1
"""Positions (of 16 px) that a detail may lie off its place."""


def best_match(a: deep.Features, b: deep.Features, weight: deep.Features) -> float:
    """Mean over the positions of `a` of the smallest squared distance to `b` within REACH positions.

    Args:
        a, b: (h, w, C) features of unit length.
        weight: (h, w) of the positions.
    """
    height, width = weight.shape
    best = np.full((height, width), np.inf)
    for down in range(-REACH, REACH + 1):
        for across in range(-REACH, REACH + 1):
            rows = slice(max(-down, 0), height - max(down, 0))
            columns = slice(max(-across, 0), width - max(across, 0))
            there = b[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]
            apart = np.square(a[rows, columns] - there).sum(axis=-1)
            best[rows, columns] = np.minimum(best[rows, columns], apart)
    return float((best * weight).sum() / weight.sum())


def _second(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's unfold."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = (F.normalize(squeezenet_taps(image)[2], dim=1) for image in boxes(truth, output))
        height, width = a.shape[2:]
        weight = covered(truth, (height, width)).flatten()
        there = F.unfold(torch.ones(1, 1, height, width), 3, padding=1)[0] > 0
        means = []
        for x, y in ((a, b), (b, a)):
            around = F.unfold(y, 3, padding=1).view(x.shape[1], 9, -1)
            apart = (x.flatten(2)[0][:, None] - around).square().sum(0).masked_fill(~there, torch.inf)
            means.append(float((apart.amin(0) * weight).sum() / weight.sum()))
        return float(np.mean(means))


class SqueezeMatch(Metric):
    """Two-way best match of local SqueezeNet features within one position."""

    perfect, symmetric = 0.0, True
    second = Second("torchvision's squeezenet1_1, torch's unfold", _second, 1e-3, "torchvision")
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="squeeze_match",
            definition="activations of SqueezeNet 1.1 at its third depth (384 channels, stride 16), each position's "
            "vector scaled to unit length; for each position of the output the smallest squared distance to the "
            "target's within one position, mean over the masked positions; the same from target to output; mean of "
            "both",
            paper="this project; the search for the best neighbour follows Johnson, Alahi, Fei-Fei 2016, arXiv "
            "1603.08155 (feature loss) and Mechrez et al. 2018, arXiv 1803.02077 (unaligned pictures)",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 2.0),
            colour="sRGB, x 255 minus (123, 117, 104)",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask; positions weighted by how much of their cell is masked",
            resize_rule=deep.RESIZE_RULE,
            border_rule="as the network pads; no match beyond the box",
            backend=library("torch"),
            weights=deep.WEIGHTS,
            weights_sha256=SHA256["squeezenet1_1"],
            licence="BSD-2-Clause (weights)",
            note="tolerates a detail up to 16 px off its place; sees slow changes of light and colour weakly; cannot "
            "read",
            unit=0.52,
            tolerance=1e-4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        if view.same:
            return 0.0
        output = deep.unit(deep.of_output(view, self.device)[0])
        target = deep.unit(deep.of_target(view.known, self.device)[0])
        weight = deep.coverage(view.known, output.shape)
        return (best_match(output, target, weight) + best_match(target, output, weight)) / 2.0
