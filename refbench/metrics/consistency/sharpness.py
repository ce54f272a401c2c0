"""Sharpness: is the amount of detail, place by place, that of the target?"""

from __future__ import annotations

import numpy as np

from refbench.images import Mask
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, blur
from refbench.metrics.view import View
from refbench.schema import MetricCard

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


class Sharpness(Metric):
    """Local amount of detail against the target's."""

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
