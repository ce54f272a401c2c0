"""Palette distance: are the colours of the refined region those of the reference?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image
from refbench.metrics.checks import Form, Second, masked, scene
from refbench.metrics.contract import Metric, library, opencv
from refbench.metrics.filters import Floats, lab
from refbench.metrics.regions import cut
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

COLOURS = 8
MOST = 4096
"""Pixels that a palette is made of; larger regions are thinned evenly."""
SHARMA = (
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
)
"""Pairs 1, 17, 25, 29 and 34 of Sharma, Wu, Dalal 2005, table 1: two CIELAB colours and their CIEDE2000."""


def palette(pixels: Image) -> tuple[Floats, Floats]:
    """Up to eight colours of pixels (n, 3) uint8: CIELAB means (k, 3) and shares (k,) that sum to 1.

    The boxes are Pillow's median cut (Heckbert 1982), which has no random start; each colour is the mean of its box.
    """
    from PIL import Image as PILImage

    if len(pixels) > MOST:
        pixels = pixels[np.linspace(0, len(pixels) - 1, MOST).astype(np.intp)]
    row = np.ascontiguousarray(pixels)[None]
    index = np.asarray(PILImage.fromarray(row).quantize(COLOURS, PILImage.Quantize.MEDIANCUT)).ravel()
    count = np.bincount(index, minlength=COLOURS).astype(np.float64)
    values = lab(row[0])
    sums = np.stack([np.bincount(index, weights=values[:, c], minlength=COLOURS) for c in range(3)], axis=1)
    used = count > 0
    return sums[used] / count[used, None], count[used] / count.sum()


def palette_distance(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """Earth mover's distance (Rubner et al. 2000) of two palettes, CIEDE2000 as the ground distance."""
    import cv2
    from skimage.color import deltaE_ciede2000

    cost: NDArray[np.float32] = deltaE_ciede2000(a[0][:, None], b[0][None]).astype(np.float32)  # type: ignore[no-untyped-call]
    weights = [side[1].astype(np.float32)[:, None] for side in (a, b)]
    distance, _, _ = cv2.EMD(weights[0], weights[1], cv2.DIST_USER, cost)
    return float(distance)


def reference_pixels(truth: Truth) -> Image:
    """Pixels (n, 3) of the reference in its box, of all of it without one."""
    reference = truth.reference
    assert reference is not None
    part = reference if truth.reference_box is None else cut(reference, truth.reference_box)
    return part.reshape(-1, 3)


def _second(truth: Truth, output: Image) -> float:
    """Pillow, scikit-image and OpenCV."""
    import cv2
    from PIL import Image as PILImage
    from skimage.color import deltaE_ciede2000, rgb2lab

    colours, shares = [], []
    for pixels in (output[masked(truth)], reference_pixels(truth)):
        if len(pixels) > MOST:
            pixels = pixels[np.linspace(0, len(pixels) - 1, MOST).astype(np.intp)]
        index = np.asarray(PILImage.fromarray(pixels[None]).quantize(COLOURS, PILImage.Quantize.MEDIANCUT))[0]
        used = np.unique(index)
        lab = rgb2lab(pixels[None])[0]
        colours.append(np.stack([lab[index == i].mean(axis=0) for i in used]))
        shares.append(np.array([(index == i).mean() for i in used], dtype=np.float32)[:, None])
    cost = deltaE_ciede2000(colours[0][:, None], colours[1][None]).astype(np.float32)  # type: ignore[no-untyped-call]
    return float(cv2.EMD(shares[0], shares[1], cv2.DIST_USER, cost)[0])


class Palette(Metric):
    """CIEDE2000 distance of colour palettes."""

    second = Second("Pillow, scikit-image and OpenCV", _second, 1e-4)
    target_free = True
    needs = frozenset({"reference"})
    smallest = 1

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="palette",
            definition="earth mover's distance between the 8-colour palettes (median cut of at most 4096 evenly taken "
            "pixels, mean colours in CIELAB, weighted by area) of the refined region and of the reference, ground "
            "distance CIEDE2000",
            paper="CIEDE2000: Sharma, Wu, Dalal 2005, doi 10.1002/col.20070; EMD: Rubner et al. 2000, "
            "doi 10.1023/A:1026543900054",
            axis="reference_alignment",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="CIELAB, D65, of 8-bit sRGB",
            region_rule="the masked pixels of the output, against all pixels of the reference's box (of the whole "
            "reference where no box is given)",
            backend=f"{library('scikit-image')} (CIEDE2000), {opencv()} (EMD), "
            f"{library('Pillow', 'pillow')} (median cut)",
            scored=False,
            note="not scored: blind to where the colours are; the reference's background counts where the box holds "
            "some; gets better where damage happens to move colours towards the reference's own light (audit: a dark "
            "rim)",
            tolerance=1e-4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""

        def reference_side() -> dict[str, NDArray[np.generic]]:
            colours, shares = palette(reference_pixels(view.truth))
            return {"colours": colours, "shares": shares}

        known = view.known.feature("palette.reference", self.hash, reference_side)
        reference = known["colours"].astype(np.float64), known["shares"].astype(np.float64)
        return palette_distance(palette(view.image[view.mask]), reference)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        from scipy.optimize import linprog
        from skimage.color import deltaE_ciede2000

        for number, (first, second, expected) in enumerate(SHARMA, 1):
            found = float(deltaE_ciede2000(first, second))  # type: ignore[no-untyped-call]
            yield Form(f"CIEDE2000 as published, pair {number}", expected, found, 5e-5)
        truth, output = scene()
        a, b = palette(output[masked(truth)]), palette(truth.target.reshape(-1, 3))
        cost = deltaE_ciede2000(a[0][:, None], b[0][None])  # type: ignore[no-untyped-call]
        rows, columns = np.kron(np.eye(len(a[1])), np.ones(len(b[1]))), np.kron(np.ones(len(a[1])), np.eye(len(b[1])))
        best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a[1], b[1]]))
        found = palette_distance(a, b)
        yield Form("earth mover's distance by linear programming", float(best.fun), found, 1e-3)
