"""Sharpness: is the amount of detail, place by place, that of the target?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics.checks import Form, Second, bare, boxes, contrasted, high_pass, masked
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, blur, luma, unit
from refbench.metrics.regions import cut, region_box
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

DETAIL, WINDOW = 2.0, 6.0
"""Sigmas in px: detail is luma minus its blur; its energy is taken in windows."""
NOISE = 0.005
"""Detail in luma of [0, 1] below which more or less of it is not seen (half a unit of CIELAB's L)."""


def local_detail(luma: Floats) -> Floats:
    """(h, w) root mean square, in Gaussian windows, of the luma (h, w) minus its blur."""
    detail = luma - blur(luma, 17, DETAIL)
    energy: Floats = blur(detail * detail, 49, WINDOW)
    return np.sqrt(np.maximum(energy, 0.0))


def detail_ratio(output: Floats, target: Floats, mask: Mask) -> Floats:
    """Natural logarithm of output's over target's local detail at the masked pixels (n,); 0 where they are alike."""
    out: Floats = np.log((local_detail(output)[mask] + NOISE) / (local_detail(target)[mask] + NOISE))
    return out


def _second(truth: Truth, output: Image) -> float:
    """scipy."""
    from scipy.ndimage import gaussian_filter

    mask = cut(masked(truth), region_box(truth.mask, truth.target.shape[:2]))
    lumas = [(image / 255.0) @ np.array([0.299, 0.587, 0.114]) for image in boxes(truth, output)]
    a, b = (np.sqrt(gaussian_filter(high_pass(x, 2.0, 8) ** 2, 6.0, mode="mirror", radius=24))[mask] for x in lumas)
    return float(np.abs(np.log((a + 0.005) / (b + 0.005))).mean())


class Sharpness(Metric):
    """Local amount of detail against the target's."""

    perfect, symmetric = 0.0, True
    second = Second("scipy", _second)
    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="sharpness",
            definition="detail is luma minus its Gaussian blur (sigma 2 px); its root mean square in Gaussian windows "
            "(sigma 6 px), plus 0.005; mean over masked pixels of |ln(output's / target's)|",
            paper="this project; local energy of detail as in Pertuz, Puig, Garcia 2013, doi "
            "10.1016/j.patcog.2012.11.011",
            axis="local_consistency",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="BT.601 luma in [0,1]",
            region_rule="local map averaged over the masked pixels of the output composited over the target outside",
            border_rule="reflected",
            backend=opencv(),
            trivial="paste",
            note="too much detail (noise, blocks) counts as too little does; blind to which detail it is and to colour",
            unit=0.4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return float(np.abs(detail_ratio(view.luma, view.known.luma, view.mask)).mean())

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        strong, weak = contrasted(2.0), contrasted(1.0)
        grey = luma(unit(weak))
        deviation = float(np.sqrt(np.square(grey - blur(grey, 17, DETAIL)).mean()))
        step = math.log((2 * deviation + 0.005) / (deviation + 0.005))
        yield Form("twice the contrast: ln((2 s + c) / (s + c))", step, self.number(bare(weak), strong), 0.02)
