"""Mean deviation similarity index (Nafchi, Shahkolaei, Hedjam, Cheriet 2016, arXiv 1608.07433)."""

from __future__ import annotations

import numpy as np

from refbench.metrics.checks import by_piq
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import PREWITT, Floats, gradient, similarity
from refbench.metrics.view import View
from refbench.schema import MetricCard

C1, C2, C3, ALPHA, Q, POOL = 140.0, 55.0, 550.0, 0.6, 0.25, 0.25
LHM = np.array([[0.2989, 0.587, 0.114], [0.3, 0.04, -0.35], [0.34, -0.6, 0.17]])
"""RGB to lightness and two chroma channels, eq. 5."""


def pooled(rgb: Floats) -> Floats:
    """(h, w, 3) in [0, 1] to LHM in 0 to 255, averaged down so that the short side is near 256 px."""
    factor = max(1, round(min(rgb.shape[:2]) / 256))
    if factor > 1:
        before, after = (factor - 1) // 2, factor // 2
        rgb = np.pad(rgb, ((before, after), (before, after), (0, 0)))
        height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
        rgb = rgb[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    out: Floats = (rgb * 255.0) @ LHM.T
    return out


def mdsi(x: Floats, y: Floats) -> float:
    """MDSI by summation, eq. 3 to 11, of two images (h, w, 3) in [0, 1]."""
    x, y = pooled(x), pooled(y)
    light_x, light_y = np.ascontiguousarray(x[..., 0]), np.ascontiguousarray(y[..., 0])
    edge_x, edge_y = gradient(light_x, PREWITT), gradient(light_y, PREWITT)
    edge_mean = gradient((light_x + light_y) / 2.0, PREWITT)
    edges = similarity(edge_x, edge_y, C1) + similarity(edge_x, edge_mean, C2) - similarity(edge_y, edge_mean, C2)
    h_x, m_x, h_y, m_y = x[..., 1], x[..., 2], y[..., 1], y[..., 2]
    chroma = (2.0 * (h_x * h_y + m_x * m_y) + C3) / (h_x**2 + h_y**2 + m_x**2 + m_y**2 + C3)
    quarter = (ALPHA * edges + (1.0 - ALPHA) * chroma).astype(np.complex128) ** Q
    return float(np.abs(quarter - quarter.mean()).mean() ** POOL)


class MDSI(Metric):
    """MDSI on the mask's box."""

    perfect = 0.0
    second = by_piq("mdsi", 1e-5)
    smallest = 16

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="mdsi",
            definition="mean deviation of the combined gradient and chroma similarity, summation variant, alpha 0.6, "
            "q = o = 1/4",
            paper="Nafchi et al. 2016, arXiv 1608.07433",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="LHM of sRGB in [0,255]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask",
            resize_rule="mean of k x k cells, k = round(short side of the box / 256)",
            border_rule="zeros beyond the border",
            backend=f"{opencv()}; equals piq",
            note="a fourth root steepens it near 0: the first traces of damage count most",
            unit=0.44,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        if view.same:
            return 0.0
        return mdsi(view.rgb, view.known.rgb)
