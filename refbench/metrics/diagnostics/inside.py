"""What the refined region is made of: copied from the reference, and how much detail it lost or gained."""

from __future__ import annotations

import numpy as np

from refbench.images import Image, Mask, resize
from refbench.metrics.consistency.sharpness import detail_ratio
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.deep import scaled
from refbench.metrics.regions import reference_crop
from refbench.metrics.view import View
from refbench.schema import MetricCard

BLOCK = 16
ALIKE = 0.95
"""Correlation of a block's luma with some place of the reference from which on it counts as copied."""
PLAIN = 2.0
"""Standard deviation in levels below which a block shows nothing that could be recognised."""
LONGEST = 192
"""Longest side in px at which regions are searched."""


def copied_share(output: Image, reference: Image, mask: Mask) -> float | None:
    """Share of the masked 16 px blocks with detail that lie, unturned, somewhere in the reference; None without any.

    Args:
        output: (h, w, 3) uint8, the region.
        reference: (h, w, 3) uint8 at the region's scale.
        mask: (h, w).
    """
    import cv2

    grey = cv2.cvtColor(output, cv2.COLOR_RGB2GRAY)
    there = cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY)
    found = []
    for top in range(0, mask.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, mask.shape[1] - BLOCK + 1, BLOCK):
            block = grey[top : top + BLOCK, left : left + BLOCK]
            if mask[top : top + BLOCK, left : left + BLOCK].all() and block.std() >= PLAIN:
                found.append(float(cv2.matchTemplate(there, block, cv2.TM_CCOEFF_NORMED).max()) >= ALIKE)
    return float(np.mean(found)) if found else None


class Copied(Metric):
    """Share of the result that is a copy of the reference."""

    target_free = True
    needs = frozenset({"reference"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="copied",
            definition="share of the 16 px blocks of the region, wholly masked and not plain (standard deviation of 2 "
            "levels or more), whose luma correlates at 0.95 or more with some place of the reference brought to the "
            "region's longer side",
            paper="this project; normalised cross-correlation (Lewis 1995)",
            axis="diagnostics",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="8-bit grey",
            region_rule="on the mask's box with 16 px margin; the reference on its box with 16 px margin made square",
            resize_rule="a region longer than 192 px is brought to 192 px, Pillow's antialiased bicubic",
            backend=opencv(),
            scored=False,
            note="not scored: a diagnostic; copying can be right; blind to copies that are turned or in another size; "
            "undefined where no block shows detail",
            tolerance=1e-2,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        crop = np.ascontiguousarray(reference_crop(view.truth))
        image, mask = scaled(view.image, LONGEST), view.mask
        if image.shape != view.image.shape:
            mask = scaled(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * np.uint8(255), LONGEST)[..., 0] > 127
        scale = max(image.shape[:2]) / max(crop.shape[:2])
        size = max(BLOCK, round(crop.shape[0] * scale)), max(BLOCK, round(crop.shape[1] * scale))
        return copied_share(image, resize(crop, size), mask)


class SharpnessChange(Metric):
    """How much detail the region lost (negative) or gained against the target."""

    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="sharpness_change",
            definition="100 x (exp(mean over masked pixels of ln(output's / target's local detail)) - 1), local detail "
            "as in `sharpness`: per cent of detail lost (negative) or added",
            paper="this project",
            axis="diagnostics",
            region="inside",
            higher_is_better=True,
            range=(-100.0, None),
            colour="BT.601 luma in [0,1]",
            region_rule="local map averaged over the masked pixels",
            border_rule="reflected",
            backend=opencv(),
            scored=False,
            note="not scored: a diagnostic, in per cent; loss at one place and gain at another cancel out, which "
            "`sharpness` does not let them",
            tolerance=1e-3,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        ratio = detail_ratio(view.luma, view.known.luma, view.mask)
        return 100.0 * (float(np.exp(ratio.mean())) - 1.0)
