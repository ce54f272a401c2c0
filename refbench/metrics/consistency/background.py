"""What happened outside the mask: mean squared error, structural similarity, and the share left exactly alone.

RefineEval (arXiv 2604.06870) measures the background by MSE and SSIM; a strict paste-back makes its PSNR infinite,
so MSE and the preserved share are reported instead.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image, Mask, mask_box
from refbench.metrics.checks import GREYS, SIDE, Form, Second, bare, flat, masked, middle, patched, skimage_ssim
from refbench.metrics.contract import Metric, library, opencv
from refbench.metrics.filters import single
from refbench.metrics.pixel.ssim import REACH, ssim_maps
from refbench.metrics.regions import composite, cut
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth


def _outside(view: View) -> Mask:
    mask = view.truth.mask
    assert mask is not None
    return ~mask


def _second_mse(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import mean_squared_error

    outside = ~masked(truth)
    return float(mean_squared_error(truth.target[outside] / 255.0, output[outside] / 255.0))


def _second_ssim(truth: Truth, output: Image) -> float:
    """scikit-image."""
    mask = masked(truth)
    return skimage_ssim(composite(truth.target, output, mask) / 255.0, truth.target / 255.0, ~mask)


def _second_exact(truth: Truth, output: Image) -> float:
    """numpy."""
    return float((output == truth.target).all(axis=2)[~masked(truth)].mean())


def _eight_rows(metric: Metric, expected: float) -> Iterator[Form]:
    changed = flat(GREYS[0])
    changed[:8] += 40
    found = metric.number(bare(flat(GREYS[0]), middle()), changed)
    yield Form("eight rows outside moved by 40 levels", expected, found, 1e-12)


SHARE = 8 / (0.75 * SIDE)
"""Of the unmasked pixels, what eight rows of a checked picture are."""


class BackgroundMSE(Metric):
    """Mean squared error outside the mask."""

    perfect = 0.0
    second = Second("scikit-image", _second_mse)
    target_free = True
    needs = frozenset({"mask"})
    smallest = 1

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="background_mse",
            definition="mean over the pixels outside the mask and the three channels of (output - target)^2",
            paper="RefineEval, arXiv 2604.06870",
            axis="local_consistency",
            region="outside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="local map (squared error) averaged over the pixels outside the mask",
            backend=library("numpy"),
            trivial="stretch",
            scored=False,
            note="not scored, by the audit: against a stretched reference the square hides what matters, a background "
            "re-rendered with 8 levels of noise still recovers more than 95; background_ssim and background_exact see "
            "it",
            tolerance=1e-9,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        import cv2

        outside = _outside(view)
        total = cv2.norm(view.output, view.truth.target, cv2.NORM_L2SQR, outside.view(np.uint8))
        return float(total) / (3 * int(outside.sum()) * 255.0**2)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        return _eight_rows(self, SHARE * (40 / 255) ** 2)


class BackgroundExact(Metric):
    """Share of untouched pixels outside the mask."""

    perfect = 1.0
    second = Second("numpy", _second_exact)
    target_free = True
    needs = frozenset({"mask"})
    smallest = 1

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="background_exact",
            definition="share of the pixels outside the mask whose three 8-bit channels all equal the target's",
            paper="this project; the strict form of RefineEval's background consistency, arXiv 2604.06870",
            axis="local_consistency",
            region="outside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="8-bit sRGB",
            region_rule="counted over the pixels outside the mask",
            backend=library("numpy"),
            trivial="stretch",
            note="one level of rounding everywhere costs as much as another picture: it asks whether the rest was "
            "left alone, not how far it moved",
            tolerance=1e-9,
            unit=0.96,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return 1.0 - int(view.changed.sum()) / int(_outside(view).sum())

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        return _eight_rows(self, 1.0 - SHARE)


class BackgroundSSIM(Metric):
    """SSIM outside the mask."""

    perfect = 1.0
    second = Second("scikit-image", _second_ssim)
    target_free = True
    needs = frozenset({"mask"})

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="background_ssim",
            definition="SSIM map as in the metric ssim, mean over the pixels outside the mask",
            paper="Wang et al. 2004, doi 10.1109/TIP.2003.819861; RefineEval, arXiv 2604.06870",
            axis="local_consistency",
            region="outside",
            higher_is_better=True,
            range=(-1.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="local map averaged over the pixels outside the mask; the output is composited over the "
            "target inside",
            border_rule="valid window: pixels within 5 px of the frame's edge have no value; undefined where no "
            "others are outside",
            backend=f"{opencv()}; equals scikit-image",
            trivial="stretch",
            note="blind to a small change of colour or light",
            unit=0.63,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        outside = _outside(view)
        count = int(outside[REACH:-REACH, REACH:-REACH].sum())
        if not count:
            return None
        if not view.changed.any():
            return 1.0
        # The map is 1 wherever no changed pixel is within reach: it is computed on the box of the change alone.
        box = mask_box(view.changed, 2 * REACH)
        target = cut(view.truth.target, box)
        output = composite(cut(view.output, box), target, cut(view.changed, box))
        inner = cut(outside, box)[REACH:-REACH, REACH:-REACH]
        if not inner.any():
            return 1.0
        loss = 1.0 - ssim_maps(single(output), single(target))[0].mean(axis=2, dtype=np.float64)
        return 1.0 - float(loss[inner].sum()) / count

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("a change inside only", 1.0, self.number(bare(flat(GREYS[0]), middle()), patched()), 1e-12)
