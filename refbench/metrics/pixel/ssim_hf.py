"""SSIM of the high-pass images, after the SSIM-HF of HiFi-Inpaint (arXiv 2603.02210): is the fine detail right?"""

from __future__ import annotations

from collections.abc import Iterator

from refbench.images import Image
from refbench.metrics.checks import GREYS, Form, Second, bare, flat, inside, masked, skimage_ssim
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Singles, blur
from refbench.metrics.pixel.ssim import mean_ssim, ssim_maps
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

SIZE, SIGMA = 17, 2.0


def high_pass(image: Singles) -> Singles:
    """The image (h, w, c) minus its Gaussian blur of sigma 2 px (17 taps, borders reflected), in [-1, 1]."""
    return image - blur(image, SIZE, SIGMA)


def _second(truth: Truth, output: Image) -> float:
    """scipy and scikit-image."""
    from scipy.ndimage import gaussian_filter

    high = [
        image - gaussian_filter(image, (2.0, 2.0, 0.0), mode="mirror", truncate=4.0)
        for image in (inside(truth, output) / 255.0, truth.target / 255.0)
    ]
    return skimage_ssim(high[0], high[1], masked(truth))


class HighPassSSIM(Metric):
    """SSIM of image minus its blur."""

    perfect, symmetric = 1.0, True
    second = Second("scipy and scikit-image", _second)

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="ssim_hf",
            definition="SSIM (as the metric ssim) of high-pass images, image minus its Gaussian blur of sigma 2 px",
            paper="after HiFi-Inpaint, arXiv 2603.02210; the paper leaves the filter open, this card fixes it",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(-1.0, 1.0),
            colour="sRGB in [0,1], high-passed to [-1,1]",
            region_rule="local map averaged over the masked pixels; the output is composited over the target outside "
            "the mask",
            border_rule="blur reflects at the frame's edge; valid SSIM window; undefined where no masked pixel has one",
            backend=f"{opencv()}; equals scipy.ndimage.gaussian_filter and scikit-image",
            note="blind to everything of low frequency: light, colour, coarse shape",
            unit=0.56,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        return mean_ssim(lambda: ssim_maps(high_pass(view.single), high_pass(view.known.single)), view.mask)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        low, high = GREYS
        yield Form("two greys have the same detail", 1.0, self.number(bare(flat(low)), flat(high)), 1e-9)
