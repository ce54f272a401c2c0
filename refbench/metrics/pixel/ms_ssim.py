"""Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003, doi 10.1109/ACSSC.2003.1292216)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image
from refbench.metrics.checks import GREYS, Form, Second, bare, boxes, flat, grey_luminance, tensors
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, Singles, single
from refbench.metrics.pixel.ssim import channel_means, ssim_maps
from refbench.metrics.regions import composite, cut, region_box
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = 176
"""Five scales need an 11 px window at 1/16 of the size."""


def half_padded(image: Singles) -> Singles:
    """Mean of 2 x 2 cells; an odd side gets a zero at both ends, as in pytorch-msssim."""
    height, width = image.shape[:2]
    image = np.pad(image, ((height % 2, height % 2), (width % 2, width % 2), (0, 0)))
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    image = image[:height, :width]
    out: Singles = np.float32(0.25) * (image[0::2, 0::2] + image[1::2, 0::2] + image[0::2, 1::2] + image[1::2, 1::2])
    return out


def ms_ssim(x: Singles, y: Singles, first: tuple[Singles, Singles] | None = None) -> float:
    """MS-SSIM of two images (h, w, c) in [0, 1], sides at least 176 px; negative factors count as 0.

    Args:
        x, y: the images.
        first: :func:`ssim_maps` of them, where they are known already.
    """
    product: Floats | float = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = half_padded(x), half_padded(y)
        full, contrast = first if first is not None and not scale else ssim_maps(x, y)
        factor = channel_means(full if scale == len(WEIGHTS) - 1 else contrast)
        product = product * np.maximum(factor, 0.0) ** weight
    return float(np.mean(product))


def _second(truth: Truth, output: Image) -> float:
    """pytorch-msssim."""
    import pytorch_msssim

    return float(pytorch_msssim.ms_ssim(*tensors(*boxes(truth, output, 176)), data_range=1.0))


class MultiScaleSSIM(Metric):
    """MS-SSIM on RGB on a box of at least 176 px around the mask."""

    perfect, symmetric = 1.0, True
    second = Second("pytorch-msssim", _second, module="pytorch_msssim")
    smallest = SMALLEST

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="ms_ssim",
            definition="product over five scales of the mean contrast-structure term (the last: mean SSIM) to the "
            "powers 0.0448 0.2856 0.3001 0.2363 0.1333, negative factors as 0; each channel by itself, channels "
            "averaged",
            paper="Wang, Simoncelli, Bovik 2003, doi 10.1109/ACSSC.2003.1292216",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="on the mask's box with 16 px margin, at least 176 px a side and a multiple of 32, of the "
            "output composited over the target outside the mask",
            resize_rule="2x2 mean between scales",
            border_rule="valid window at every scale",
            backend=f"{opencv()}; equals pytorch-msssim",
            note="diluted by the target's own pixels in a large box around a small mask, which the recovery takes "
            "out; blind to colour drift",
            unit=0.19,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        truth = view.truth
        box = region_box(truth.mask, truth.target.shape[:2], SMALLEST)
        if box == view.box:
            x, y = view.single, view.known.single
            return ms_ssim(x, y, view.once("ssim", lambda: ssim_maps(x, y)))
        output, target = cut(view.output, box), cut(truth.target, box)
        if truth.mask is not None:
            output = composite(output, target, cut(truth.mask, box))
        return ms_ssim(single(output), single(target))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        low, high = GREYS
        expected = grey_luminance() ** 0.1333
        yield Form("two greys: the luminance term ^ 0.1333", expected, self.number(bare(flat(low)), flat(high)), 5e-6)
