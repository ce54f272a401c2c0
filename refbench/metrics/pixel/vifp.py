"""Visual information fidelity in the pixel domain (Sheikh & Bovik 2006, doi 10.1109/TIP.2005.859378)."""

from __future__ import annotations

import numpy as np

from refbench.metrics.checks import by_piq
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, valid
from refbench.metrics.view import View
from refbench.schema import MetricCard

NOISE = 2.0
"""Variance of the visual noise, for images in 0 to 255."""
EPS = 1e-8


def vifp(x: Floats, y: Floats) -> float:
    """Information that luma `x` keeps of luma `y` over four scales, both (h, w) in [0, 1], sides at least 41 px.

    A Gaussian scale mixture models `y`; `x` is taken as g y + noise locally. The value is the ratio of the
    information in `x` to that in `y`; above 1 where `x` has more contrast than `y`. Not symmetric.
    """
    x, y = x * 255.0, y * 255.0
    kept = there = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        sigma = size / 5.0
        if scale:
            x, y = valid(x, size, sigma)[::2, ::2], valid(y, size, sigma)[::2, ::2]
        mean_x, mean_y = valid(x, size, sigma), valid(y, size, sigma)
        var_x = np.maximum(valid(x * x, size, sigma) - mean_x * mean_x, 0.0)
        var_y = np.maximum(valid(y * y, size, sigma) - mean_y * mean_y, 0.0)
        cov = valid(x * y, size, sigma) - mean_x * mean_y

        gain = cov / (var_y + EPS)
        noise = var_x - gain * cov
        flat_y, flat_x = var_y < EPS, var_x < EPS
        gain[flat_y | flat_x] = 0.0
        noise = np.where(flat_y, var_x, noise)
        noise[flat_x] = 0.0
        var_y = np.where(flat_y, 0.0, var_y)
        noise = np.where(gain >= 0.0, noise, var_x)
        gain = np.maximum(gain, 0.0)
        noise = np.maximum(noise, EPS)

        kept += float(np.log10(1.0 + gain * gain * var_y / (noise + NOISE)).sum())
        there += float(np.log10(1.0 + var_y / NOISE).sum())
    return (kept + EPS) / (there + EPS)


class VIFp(Metric):
    """Pixel-domain VIF on the mask's box."""

    perfect = 1.0
    second = by_piq("vif_p", double=True)
    smallest = 41

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="vifp",
            definition="pixel-domain VIF over four scales with Gaussian windows 17, 9, 5, 3 and visual noise 2.0",
            paper="Sheikh & Bovik 2006, doi 10.1109/TIP.2005.859378; the authors' pixel-domain approximation",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, None),
            colour="BT.601 luma in [0,255]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask",
            resize_rule="Gaussian and every second pixel between scales",
            border_rule="valid window at every scale",
            backend=f"{opencv()}; equals piq and torchmetrics",
            note="blind to colour and to a constant offset of light; rises above 1 where contrast is raised",
            unit=0.56,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return vifp(view.luma, view.known.luma)
