"""Mean squared error and peak signal-to-noise ratio over the masked pixels and the three channels."""

from __future__ import annotations

import math

import numpy as np

from refbench.metrics.contract import Metric, opencv
from refbench.metrics.view import View
from refbench.schema import MetricCard


def mean_squared_error(view: View) -> float:
    """Mean over masked pixels and RGB of (output - target)^2, images in [0, 1]; exact in integers."""
    import cv2

    total = cv2.norm(view.image, view.known.target, cv2.NORM_L2SQR, view.mask.view(np.uint8))
    return float(total) / (3 * int(view.mask.sum()) * 255.0**2)


class MSE(Metric):
    """Mean squared error."""

    smallest = 1

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="mse",
            definition="mean over masked pixels and the three channels of (output - target)^2",
            paper="Gonzalez & Woods, Digital Image Processing, 4th ed., eq. 8-10",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="local map (squared error) averaged over the masked pixels",
            backend=opencv(),
            scored=False,
            note="not scored: PSNR enters the recovery as root mean squared error, and the same number would count "
            "twice",
            tolerance=1e-9,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return view.once("mse", lambda: mean_squared_error(view))


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB; infinite where the output equals the target."""

    smallest = 1

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="psnr",
            definition="10 log10(1 / MSE) in dB, MSE over masked pixels and the three channels; per image, then "
            "averaged; +inf where the output equals the target",
            paper="Gonzalez & Woods, Digital Image Processing, 4th ed., section 8.1",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, None),
            colour="sRGB in [0,1]",
            region_rule="local map (squared error) averaged over the masked pixels",
            backend=opencv(),
            recovery_of="root_mse",
            unit=0.16,
            note="enters the recovery as root mean squared error, 10^(-PSNR/20), so that a perfect region counts as 0 "
            "error; blind to where the error is and to what it looks like; a shift by one pixel costs more than a "
            "strong blur",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        mse = view.once("mse", lambda: mean_squared_error(view))
        return -10.0 * math.log10(mse) if mse > 0.0 else math.inf
