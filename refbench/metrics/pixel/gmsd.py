"""Gradient magnitude similarity deviation (Xue, Zhang, Mou, Bovik 2014, doi 10.1109/TIP.2013.2293423)."""

from __future__ import annotations

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics.checks import Second, inside, masked, tensors
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import PREWITT, Floats, gradient, halve, similarity
from refbench.metrics.regions import half
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

T = 170.0 / 255.0**2


def edges(luma: Floats) -> Floats:
    """Prewitt gradient magnitude of the luma at half resolution, eq. 1 and 2."""
    return gradient(halve(luma), PREWITT)


def gmsd(x: Floats, y: Floats, mask: Mask) -> float:
    """Standard deviation of the gradient similarity map over the masked cells, eq. 4 and 6.

    Args:
        x, y: luma (h, w) in [0, 1].
        mask: (h, w); a half-resolution cell counts when any of its pixels is masked.
    """
    return float(np.std(similarity(edges(x), edges(y), T)[half(mask)]))


def _second(truth: Truth, output: Image) -> float:
    """piq's parts, because piq.gmsd has no region."""
    import torch
    import torch.nn.functional as F
    from piq.functional import gradient_map, prewitt_filter, rgb2yiq, similarity_map

    kernels = torch.stack([prewitt_filter(), prewitt_filter().transpose(-1, -2)])
    maps = []
    odd = max(output.shape[0] % 2, output.shape[1] % 2)
    for tensor in tensors(inside(truth, output), truth.target):
        luma = rgb2yiq(F.pad(tensor, [0, odd, 0, odd]))[:, :1]
        maps.append(gradient_map(F.avg_pool2d(luma, 2), kernels))
    region = F.pad(torch.from_numpy(masked(truth)).float()[None, None], [0, odd, 0, odd])
    touched = F.max_pool2d(region, 2)[0, 0] > 0
    return float(similarity_map(maps[0], maps[1], 170.0 / 255.0**2)[0, 0][touched].std(correction=0))


class GMSD(Metric):
    """Deviation of the gradient similarity inside the mask."""

    perfect, symmetric = 0.0, True
    second = Second("piq's parts, because piq.gmsd has no region", _second, 1e-6, "piq")
    smallest = 2

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="gmsd",
            definition="standard deviation of the gradient magnitude similarity map (Prewitt, c = 170/255^2) at half "
            "resolution",
            paper="Xue et al. 2014, doi 10.1109/TIP.2013.2293423",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 0.5),
            colour="BT.601 luma in [0,1]",
            region_rule="local map, its deviation over the half-resolution cells that the mask touches; the output is "
            "composited over the target outside the mask",
            resize_rule="2x2 mean",
            border_rule="zeros beyond the frame's edge, in both images alike",
            backend=f"{opencv()}; equals piq",
            note="blind to colour and light; a deviation, so damage that is the same everywhere is under-rated",
            unit=0.24,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return gmsd(view.luma, view.known.luma, view.mask)
