"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, doi 10.1109/TIP.2003.819861)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics.checks import GREYS, Form, Second, bare, flat, grey_luminance, inside, masked, skimage_ssim
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, Singles, valid
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

SIZE, SIGMA = 11, 1.5
REACH = SIZE // 2
C1, C2 = 0.01**2, 0.03**2
"""(K1 L)^2 and (K2 L)^2 for images in [0, 1]."""


def ssim_maps(x: Singles, y: Singles) -> tuple[Singles, Singles]:
    """The SSIM map and its contrast-structure part of two images (h, w, c) of range 1, eq. 12 and 13 of the paper.

    The window is an 11 x 11 Gaussian of sigma 1.5 with population statistics, kept where it lies in the image: the maps
    are (h - 10, w - 10, c). Both factors (2 a b + C) / (a^2 + b^2 + C) are written with the sum s and the difference d
    of the images, 1 - d^2 / ((s^2 + d^2) / 2 + C): nothing cancels where the images are alike, so that single precision
    is enough.
    """
    s, d = x + y, x - y
    mean_s, mean_d = valid(s, SIZE, SIGMA), valid(d, SIZE, SIGMA)
    square_s, square_d = mean_s * mean_s, mean_d * mean_d
    spread_s = valid(s * s, SIZE, SIGMA) - square_s
    spread_d = valid(d * d, SIZE, SIGMA) - square_d
    half = np.float32(0.5)
    contrast = 1 - spread_d / (half * (spread_s + spread_d) + np.float32(C2))
    luminance = 1 - square_d / (half * (square_s + square_d) + np.float32(C1))
    return contrast * luminance, contrast


def mean_ssim(maps: Callable[[], tuple[Singles, Singles]], mask: Mask) -> float | None:
    """SSIM averaged over channels and over masked pixels whose window lies in the frame; None where there are none.

    Args:
        maps: gives :func:`ssim_maps` of images cut with at least 5 px around the mask wherever the frame allows.
        mask: (h, w).
    """
    inner = mask[REACH:-REACH, REACH:-REACH]
    if not inner.any():
        return None
    return float(maps()[0][inner].mean(dtype=np.float64))


def _second(truth: Truth, output: Image) -> float:
    """scikit-image."""
    return skimage_ssim(inside(truth, output) / 255.0, truth.target / 255.0, masked(truth))


class SSIM(Metric):
    """SSIM on RGB inside the mask."""

    perfect, symmetric = 1.0, True
    second = Second("scikit-image", _second)

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="ssim",
            definition="SSIM map with an 11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, population covariance, "
            "each channel by itself, channels averaged; mean over the masked pixels",
            paper="Wang et al. 2004, doi 10.1109/TIP.2003.819861",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(-1.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="local map averaged over the masked pixels; the output is composited over the target outside "
            "the mask",
            border_rule="valid window: pixels within 5 px of the frame's edge have no value; undefined where no "
            "others are masked",
            backend=f"{opencv()}; equals scikit-image (gaussian_weights, population covariance) and pytorch-msssim",
            note="blind to small colour drift and to errors in saturated contrast; sensitive to shifts",
            unit=0.44,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        return mean_ssim(lambda: view.once("ssim", lambda: ssim_maps(view.single, view.known.single)), view.mask)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        low, high = GREYS
        yield Form("two greys: the luminance term", grey_luminance(), self.number(bare(flat(low)), flat(high)), 5e-6)


def channel_means(maps: Singles) -> Floats:
    """Mean over space of a map (h, w, c): (c,)."""
    out: Floats = maps.mean(axis=(0, 1), dtype=np.float64)
    return out
