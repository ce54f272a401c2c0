"""Illumination: does the light inside the mask's edge go on from that of the scene?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics.checks import GREYS, Form, Second, bare, flat, lightness, masked, middle, patched
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, blur
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

RIM = 8.0
"""px inside the mask's edge where the surroundings show what the light should be."""
SIGMA = 4.0
TAPS = 33


def rim(mask: Mask) -> Mask:
    """(h, w) masked pixels at most RIM px from an unmasked pixel of the box; all of the mask where there is none."""
    import cv2

    if mask.all():
        return mask
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    out: Mask = mask & (np.asarray(depth) <= RIM + 0.5)
    return out


def low_pass_difference(output: Floats, target: Floats, where: Mask) -> float:
    """Mean over `where` of the CIELAB distance between the images, low-passed over these pixels alone.

    Args:
        output, target: CIELAB (h, w, 3).
        where: (h, w).
    """
    weight = where.astype(np.float64)
    # The low pass is linear: one pass over the difference is enough.
    planes = np.concatenate([(output - target) * weight[..., None], weight[..., None]], axis=2)
    smooth = blur(planes, TAPS, SIGMA)[where]
    return float(np.linalg.norm(smooth[:, :3] / smooth[:, 3:], axis=1).mean())


def _second(truth: Truth, output: Image) -> float:
    """scipy and scikit-image, whole frame."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.color import rgb2lab

    mask = masked(truth)
    rim = mask if mask.all() else mask & (distance_transform_edt(mask) <= 8.5)
    planes = (rgb2lab(output) - rgb2lab(truth.target)).transpose(2, 0, 1)
    soft = [gaussian_filter(p * rim, 4.0, mode="mirror", radius=16)[rim] for p in (*planes, np.ones(mask.shape))]
    return float(np.linalg.norm([plane / soft[3] for plane in soft[:3]], axis=0).mean())


class Illumination(Metric):
    """Low-frequency Lab difference to the target along the mask's edge."""

    perfect, symmetric = 0.0, True
    second = Second("scipy and scikit-image, whole frame", _second)
    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="illumination",
            definition="mean CIELAB distance between output and target, after a Gaussian low pass (sigma 4 px) over "
            "the masked pixels within 8 px of the mask's edge alone, at these pixels",
            paper="this project; the low pass as an estimate of illumination follows Jobson, Rahman, Woodell 1997, "
            "doi 10.1109/83.557356",
            axis="local_consistency",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="CIELAB, D65, of 8-bit sRGB",
            region_rule="local map averaged over the masked pixels within 8 px of the mask's edge (over all where the "
            "mask has no edge)",
            border_rule="the Gaussian is normalised over the pixels it is taken over",
            backend=opencv(),
            trivial="paste",
            note="blind to detail and to what lies deeper than 8 px in the mask; a thing of another colour at the edge "
            "counts as another light",
            unit=36.0,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        return low_pass_difference(view.lab, view.known.lab, rim(view.mask))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        step = lightness(GREYS[1]) - lightness(GREYS[0])
        found = self.number(bare(flat(GREYS[0]), middle()), patched())
        yield Form("a grey patch on grey: the difference of L*", step, found, 1e-5)
