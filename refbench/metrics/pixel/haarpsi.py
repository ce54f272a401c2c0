"""Haar wavelet perceptual similarity index (Reisenhofer, Bosse, Kutyniok, Wiegand 2018, arXiv 1607.06140)."""

from __future__ import annotations

import math

import numpy as np

from refbench.metrics.checks import by_piq
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, halve, similarity
from refbench.metrics.pixel.fsimc import YIQ
from refbench.metrics.view import View
from refbench.schema import MetricCard

C, ALPHA = 30.0, 4.2


def haar(luma: Floats, size: int) -> tuple[Floats, Floats]:
    """Magnitudes of the horizontal and vertical Haar responses of `size` px, same shape, zeros beyond the border."""
    import cv2

    kernel = np.full((size, size), 1.0 / size)
    kernel[size // 2 :] *= -1.0
    anchor = (size // 2 - 1, size // 2 - 1)
    return tuple(  # type: ignore[return-value]
        np.abs(cv2.filter2D(luma, cv2.CV_64F, k, anchor=anchor, borderType=cv2.BORDER_CONSTANT))
        for k in (kernel, np.ascontiguousarray(kernel.T))
    )


def chroma(channel: Floats) -> Floats:
    """Magnitude of the 2 x 2 mean at every pixel, zeros beyond the bottom and right border."""
    padded = np.pad(channel, ((0, 1), (0, 1)))
    out: Floats = np.abs(0.25 * (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]))
    return out


def haarpsi(x: Floats, y: Floats) -> float:
    """HaarPSI, eq. 10 to 12, of two images (h, w, 3) in [0, 1], sides at least 16 px.

    The two finer scales say how similar the images are, the coarsest how much each place counts.
    """
    x, y = halve((x * 255.0) @ YIQ.T), halve((y * 255.0) @ YIQ.T)
    luma_x, luma_y = np.ascontiguousarray(x[..., 0]), np.ascontiguousarray(y[..., 0])
    scales_x, scales_y = ([haar(luma, size) for size in (2, 4, 8)] for luma in (luma_x, luma_y))
    maps, weights = [], []
    for orientation in range(2):
        fine = [similarity(scales_x[s][orientation], scales_y[s][orientation], C) for s in (0, 1)]
        maps.append((fine[0] + fine[1]) / 2.0)
        weights.append(np.maximum(scales_x[2][orientation], scales_y[2][orientation]))
    colour = [similarity(chroma(x[..., c]), chroma(y[..., c]), C) for c in (1, 2)]
    maps.append((colour[0] + colour[1]) / 2.0)
    weights.append((weights[0] + weights[1]) / 2.0)
    eps = float(np.finfo(np.float32).eps)
    above = sum(float((w / (1.0 + np.exp(-ALPHA * m))).sum()) for m, w in zip(maps, weights, strict=True)) + eps
    score = above / (sum(float(w.sum()) for w in weights) + eps)
    # Two flat images weigh nothing and would give 1, whose logit is infinite; they are equal but for light.
    score = min(score, 1.0 / (1.0 + math.exp(-ALPHA)))
    return (math.log(score / (1.0 - score)) / ALPHA) ** 2


class HaarPSI(Metric):
    """HaarPSI on the mask's box."""

    perfect, symmetric = 1.0, True
    second = by_piq("haarpsi", 1e-5)
    smallest = 16

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="haarpsi",
            definition="HaarPSI with colour: similarity of Haar coefficients at two fine scales, weighted by the "
            "coarsest; C = 30, alpha = 4.2",
            paper="Reisenhofer et al. 2018, arXiv 1607.06140",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="YIQ of sRGB in [0,255]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask",
            resize_rule="2x2 mean",
            border_rule="zeros beyond the border",
            backend=f"{opencv()}; equals piq",
            note="blind to slow changes of light",
            unit=0.41,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return haarpsi(view.rgb, view.known.rgb)
