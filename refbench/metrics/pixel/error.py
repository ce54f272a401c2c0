"""Mean squared error and peak signal-to-noise ratio over the masked pixels and the three channels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refbench.images import Image
from refbench.metrics.checks import GREYS, Form, Second, bare, flat, masked
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth


def mean_squared_error(view: View) -> float:
    """Mean over masked pixels and RGB of (output - target)^2, images in [0, 1]; exact in integers."""
    import cv2

    total = cv2.norm(view.image, view.known.target, cv2.NORM_L2SQR, view.mask.view(np.uint8))
    return float(total) / (3 * int(view.mask.sum()) * 255.0**2)


def _mse(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import mean_squared_error

    mask = masked(truth)
    return float(mean_squared_error(truth.target[mask] / 255.0, output[mask] / 255.0))


def _psnr(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import peak_signal_noise_ratio

    mask = masked(truth)
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth.target[mask] / 255.0, output[mask] / 255.0, data_range=1.0))  # type: ignore[no-untyped-call]


def _apart(metric: Metric, expected: float) -> Iterator[Form]:
    low, high = GREYS
    yield Form(f"two greys {high - low} levels apart", expected, metric.number(bare(flat(low)), flat(high)), 1e-9)


class MSE(Metric):
    """Mean squared error."""

    perfect, symmetric = 0.0, True
    second = Second("scikit-image", _mse)
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

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        return _apart(self, ((GREYS[1] - GREYS[0]) / 255.0) ** 2)


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB; infinite where the output equals the target."""

    perfect, symmetric = math.inf, True
    second = Second("scikit-image", _psnr)
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

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        return _apart(self, 20 * math.log10(255 / (GREYS[1] - GREYS[0])))
