"""Illumination: is the light inside the mask that of the scene?"""

from __future__ import annotations

import numpy as np

from refbench.images import Mask
from refbench.metrics.contract import Metric, library
from refbench.metrics.filters import Floats, wide_blur
from refbench.metrics.view import View
from refbench.schema import MetricCard

SHARE = 0.25
"""Sigma of the low pass, as a share of the square root of the masked area: prints and textures have structure almost as
large as the region, and what is left above that scale is its light and overall colour."""
LEAST = 4.0


def low_pass_difference(output: Floats, target: Floats, mask: Mask) -> float:
    """Mean over masked pixels of the CIELAB distance between the low-passed images.

    The low pass is a Gaussian normalised over masked pixels only, so that nothing outside is mixed in.

    Args:
        output, target: CIELAB (h, w, 3).
        mask: (h, w).
    """
    sigma = max(SHARE * float(np.sqrt(mask.sum())), LEAST)
    weight = mask.astype(np.float64)
    # The low pass is linear: one pass over the difference is enough.
    planes = np.concatenate([(output - target) * weight[..., None], weight[..., None]], axis=2).astype(np.float32)
    smooth = wide_blur(planes, 2 * int(3.0 * sigma + 0.5) + 1, sigma)[mask]
    return float(np.linalg.norm(smooth[:, :3] / smooth[:, 3:], axis=1).mean(dtype=np.float64))


class Illumination(Metric):
    """Low-frequency Lab difference to the target."""

    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="illumination",
            definition="mean CIELAB distance between output and target after a Gaussian low pass over the masked "
            "pixels alone, sigma a quarter of the square root of the masked area, at least 4 px, cut at 3 sigma",
            paper="this project; the low pass as an estimate of illumination follows Jobson, Rahman, Woodell 1997, "
            "doi 10.1109/83.557356",
            axis="local_consistency",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="CIELAB, D65, of 8-bit sRGB",
            region_rule="local map averaged over the masked pixels",
            border_rule="the Gaussian is normalised over masked pixels",
            backend=library("numpy"),
            trivial="paste",
            note="blind to detail; a thing of another colour counts as another light",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return low_pass_difference(view.lab, view.known.lab, view.mask)
