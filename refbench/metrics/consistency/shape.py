"""Shape: do the coarse edges of the region agree with the target's in place and direction?"""

from __future__ import annotations

import numpy as np

from refbench.images import Mask
from refbench.metrics.contract import Metric, library
from refbench.metrics.filters import Floats, covered, wide_blur
from refbench.metrics.view import View
from refbench.schema import MetricCard

SHARE = 1.0 / 16.0
"""Sigma of the blur, as a share of the square root of the masked area: strokes and texture go, outlines stay."""
LEAST = 3.0
NOISE = (1.0 / 255.0) ** 2
"""Squared gradient below which an edge is nothing: one level a pixel."""


def coarse_gradient(luma: Floats, mask: Mask, sigma: float) -> Floats:
    """Gradient (n, 2) at the masked pixels of the luma (h, w) after a Gaussian cut at 3 sigma, central differences.

    The Gaussian is normalised where it leaves the image.
    """
    size = 2 * int(3.0 * sigma + 0.5) + 1
    smooth = wide_blur(luma[..., None], size, sigma)[..., 0] / covered(luma.shape[0], luma.shape[1], size, sigma)
    down, across = np.gradient(np.asarray(smooth))
    slope = np.stack([down, across], axis=2)
    out: Floats = slope[mask]
    return out


def blur_sigma(mask: Mask) -> float:
    """Sigma in px for a region of this size."""
    return max(SHARE * float(np.sqrt(mask.sum())), LEAST)


def edge_agreement(output: Floats, target: Floats, mask: Mask) -> float:
    """Dice similarity of two gradient fields over the masked pixels, in [0, 1].

    ``2 sum max(0, <g, h>) / sum (|g|^2 + |h|^2)``: 1 for equal fields, 0 where edges are elsewhere or reversed.

    Args:
        output, target: luma (h, w) in [0, 1].
        mask: (h, w).
    """
    sigma = blur_sigma(mask)
    g, h = coarse_gradient(output, mask, sigma), coarse_gradient(target, mask, sigma)
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
            definition="Dice similarity of the coarse gradient fields (luma, Gaussian whose sigma is a sixteenth of "
            "the square root of the masked area, at least 3 px, cut at 3 sigma): 2 sum max(0, <g, h>) / "
            "sum (|g|^2 + |h|^2)",
            paper="this project; a threshold-free form of edge-map agreement (Dice 1945, doi 10.2307/1932409)",
            axis="local_consistency",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="BT.601 luma in [0,1]",
            region_rule="local map on the mask's box with 16 px margin, at least 64 px a side, summed over the masked "
            "pixels; the output is composited over the target outside the mask",
            border_rule="the Gaussian is normalised where it leaves the box",
            backend=library("numpy"),
            trivial="paste",
            note="blind to detail finer than the blur and to colour of equal luma",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return edge_agreement(view.luma, view.known.luma, view.mask)
