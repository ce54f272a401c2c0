"""Shape: do the coarse edges of the region agree with the target's in place and direction?"""

from __future__ import annotations

import numpy as np

from refbench.images import Mask
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, blur
from refbench.metrics.view import View
from refbench.schema import MetricCard

SIGMA = 3.0
SIZE = 19
NOISE = (1.0 / 255.0) ** 2
"""Squared gradient below which an edge is nothing: one level a pixel."""


def coarse_gradient(luma: Floats) -> Floats:
    """Gradient (h, w, 2) of the luma after a Gaussian of sigma 3 px (19 taps), central differences."""
    down, across = np.gradient(blur(luma, SIZE, SIGMA))
    return np.stack([down, across], axis=-1)


def edge_agreement(output: Floats, target: Floats, mask: Mask) -> float:
    """Dice similarity of two gradient fields over the masked pixels, in [0, 1].

    ``2 sum max(0, <g, h>) / sum (|g|^2 + |h|^2)``: 1 for equal fields, 0 where edges are elsewhere or reversed.

    Args:
        output, target: luma (h, w) in [0, 1].
        mask: (h, w).
    """
    g, h = coarse_gradient(output)[mask], coarse_gradient(target)[mask]
    agree = np.maximum((g * h).sum(axis=1), 0.0).sum()
    noise = 1e-4 * NOISE * len(g)
    return float((2.0 * agree + noise) / ((g * g).sum() + (h * h).sum() + noise))


class Shape(Metric):
    """Edge agreement with the target."""

    smallest = 20

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="shape",
            definition="Dice similarity of the coarse gradient fields (luma, Gaussian of sigma 3 px): 2 sum max(0, "
            "<g, h>) / sum (|g|^2 + |h|^2)",
            paper="this project; a threshold-free form of edge-map agreement (Dice 1945, doi 10.2307/1932409)",
            axis="local_consistency",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="BT.601 luma in [0,1]",
            region_rule="local map summed over the masked pixels; the output is composited over the target outside "
            "the mask",
            border_rule="the blur reflects at the frame's edge",
            backend=opencv(),
            trivial="paste",
            note="blind to detail finer than about 6 px and to colour of equal luma",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return edge_agreement(view.luma, view.known.luma, view.mask)
