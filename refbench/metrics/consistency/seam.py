"""Seam: can the mask's edge be seen? The jump of colour across it, beyond the jump that the target has there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics.checks import GREYS, Form, Second, bare, flat, lightness, masked, middle, patched
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, covered, gaussian
from refbench.metrics.regions import cut
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

SIGMA = 2.0
SIZE = 13
"""Gaussian window that averages each side of the edge: sigma 2 px, 13 taps."""


def edge_pixels(mask: Mask) -> Mask:
    """Masked pixels with an unmasked pixel above, below, left or right of them in the image."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    out: Mask = mask & ~inner
    return out


def jumps(image: Floats, mask: Mask, edge: Mask) -> Floats:
    """Length of mean CIELAB colour just inside minus just outside, at each edge pixel: (n,)."""
    inside = mask.astype(np.float64)
    planes = np.concatenate([image * inside[..., None], inside[..., None]], axis=2)
    sum_in = _smooth(planes)[edge]
    ones = covered(mask.shape[0], mask.shape[1], SIZE, SIGMA)
    sum_out = np.concatenate([_smooth(image)[edge], ones[edge][:, None]], axis=1) - sum_in
    out: Floats = np.linalg.norm(sum_in[:, :3] / sum_in[:, 3:] - sum_out[:, :3] / sum_out[:, 3:], axis=1)
    return out


def seam(output: Floats, target_jumps: Floats, mask: Mask, edge: Mask) -> float:
    """Mean over the mask's edge of ``max(0, |jump in output| - |jump in target|)``, in CIELAB units.

    Args:
        output: CIELAB (h, w, 3), cut with at least 6 px around the mask.
        target_jumps: :func:`jumps` of the target.
        mask, edge: (h, w); `edge` from :func:`edge_pixels`, not empty.
    """
    return float(np.maximum(jumps(output, mask, edge) - target_jumps, 0.0).mean())


def _smooth(image: Floats) -> Floats:
    """Gaussian sums, zeros beyond the border, so that the frame's edge lends weight to neither side."""
    import cv2

    kernel = gaussian(SIZE, SIGMA)
    out = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(out, dtype=np.float64)


def _second(truth: Truth, output: Image) -> float:
    """scipy and scikit-image, whole frame."""
    from scipy.ndimage import binary_erosion, gaussian_filter
    from skimage.color import rgb2lab

    mask = masked(truth)
    edge = mask & ~binary_erosion(mask, border_value=1)
    lengths = []
    for image in (output, truth.target):
        sides = []
        for side in (mask, ~mask):
            weight = gaussian_filter(side.astype(float), 2.0, mode="constant", truncate=3.0)
            planes = [
                gaussian_filter(c * side, 2.0, mode="constant", truncate=3.0) for c in rgb2lab(image).transpose(2, 0, 1)
            ]
            sides.append(np.stack([plane[edge] / weight[edge] for plane in planes]))
        lengths.append(np.linalg.norm(sides[0] - sides[1], axis=0))
    return float(np.maximum(lengths[0] - lengths[1], 0.0).mean())


class Seam(Metric):
    """Visible edge of the mask."""

    perfect = 0.0
    second = Second("scipy and scikit-image, whole frame", _second)
    needs = frozenset({"mask"})
    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="seam",
            definition="at every pixel of the mask's inner edge: the mean colour just inside minus just outside "
            "(Gaussian windows of sigma 2 px, each side by itself); length of this jump in CIELAB beyond its length "
            "in the target, negative as 0; mean along the edge",
            paper="this project; after the gradient argument of Perez, Gangnet, Blake 2003, doi 10.1145/882262.882269",
            axis="local_consistency",
            region="seam",
            higher_is_better=False,
            range=(0.0, None),
            colour="CIELAB, D65, of 8-bit sRGB",
            region_rule="the mask's edge, with 6 px on both sides, of the output as it is",
            border_rule="pixels beyond the frame weigh nothing",
            backend=opencv(),
            trivial="paste",
            note="blind to texture that does not continue across the edge, and to a jump that is smaller than the "
            "target's",
            unit=38.0,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        edge = edge_pixels(view.mask)
        if not edge.any():
            return None
        known = view.known.feature("seam.jumps", self.hash, lambda: {"length": jumps(view.known.lab, view.mask, edge)})
        untouched = not (cut(view.changed, view.box) & view.known.near).any()
        output = view.lab if untouched else view.known.lab_of(np.ascontiguousarray(cut(view.output, view.box)))
        return seam(output, known["length"].astype(np.float64), view.mask, edge)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        step = lightness(GREYS[1]) - lightness(GREYS[0])
        found = self.number(bare(flat(GREYS[0]), middle()), patched())
        yield Form("a grey patch on grey: the difference of L*", step, found, 1e-5)
