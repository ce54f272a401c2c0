"""What became of the unmasked part as a whole: did it move, grow, or change its colour?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench.metrics.checks import GREYS, Form, bare, flat, lightness, middle, patched
from refbench.metrics.contract import Metric, library, opencv
from refbench.metrics.filters import lab
from refbench.metrics.view import View
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from refbench.images import Image, Mask

CORNERS, LEAST = 400, 8
"""Corners that are followed at most, and how many must be found again."""
Similarity = NDArray[np.float64]


def motion(output: Image, target: Image, outside: Mask) -> Similarity | None:
    """The similarity (2, 3) that takes the target's unmasked part to the output's, or None where too little is found.

    Args:
        output, target: (H, W, 3) uint8.
        outside: (H, W) true where corners are taken.
    """
    import cv2

    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, output))
    where = np.where(outside, np.uint8(255), np.uint8(0))
    corners = cv2.goodFeaturesToTrack(first, CORNERS, 0.01, 7, mask=where)
    if corners is None or len(corners) < LEAST:
        return None
    start = np.zeros_like(corners)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, start, winSize=(21, 21), maxLevel=4)
    keep = found[:, 0] == 1
    if keep.sum() < LEAST:
        return None
    cv2.setRNGSeed(0)
    fitted, inliers = cv2.estimateAffinePartial2D(
        corners[keep], moved[keep], method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    if fitted is None or int(inliers.sum()) < LEAST:
        return None
    return np.asarray(fitted, dtype=np.float64)


def _motion(view: View) -> Similarity | None:
    def find() -> Similarity | None:
        mask = view.truth.mask
        assert mask is not None
        if not view.changed.any():
            return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        return motion(view.output, view.truth.target, ~mask)

    return view.once("diagnostics.motion", find)


def _card(name: str, definition: str, unit: str, note: str, low: float | None) -> MetricCard:
    return MetricCard(
        name=name,
        definition=definition,
        paper="this project; Lucas & Kanade 1981 (IJCAI) for the flow",
        axis="diagnostics",
        region="outside",
        higher_is_better=False,
        range=(low, None),
        colour="8-bit grey" if unit != "CIELAB" else "CIELAB, D65, of 8-bit sRGB",
        region_rule="the pixels outside the mask",
        backend=opencv() if unit != "CIELAB" else library("numpy"),
        scored=False,
        note=f"not scored: a diagnostic, in {unit}; {note}",
        tolerance=1e-2 if unit != "CIELAB" else 1e-5,
    )


class OutsideShift(Metric):
    """How far the unmasked part moved."""

    perfect = 0.0
    target_free = True
    needs = frozenset({"mask"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return _card(
            "outside_shift",
            "a similarity is fitted (RANSAC, 1 px) to corners of the target's unmasked part followed into the output "
            "by pyramidal optical flow; how far it moves the frame's centre, in px",
            "px",
            "undefined where fewer than 8 corners are found again; blind to shifts of parts",
            0.0,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        found = _motion(view)
        if found is None:
            return None
        height, width = view.output.shape[:2]
        centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
        return float(np.linalg.norm(found[:, :2] @ centre + found[:, 2] - centre))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("a change inside only", 0.0, self.number(bare(flat(GREYS[0]), middle()), patched()), 0.0)


class OutsideZoom(Metric):
    """By how much the unmasked part grew."""

    perfect = 0.0
    target_free = True
    needs = frozenset({"mask"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return _card(
            "outside_zoom",
            "the scale of the similarity of `outside_shift`, minus 1, in per cent; positive where the output shows "
            "things larger",
            "per cent",
            "undefined where `outside_shift` is",
            None,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        found = _motion(view)
        return None if found is None else 100.0 * (float(np.hypot(found[0, 0], found[1, 0])) - 1.0)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("a change inside only", 0.0, self.number(bare(flat(GREYS[0]), middle()), patched()), 0.0)


class OutsideDrift(Metric):
    """By how much the mean colour of the unmasked part changed."""

    perfect = 0.0
    target_free = True
    needs = frozenset({"mask"})
    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return _card(
            "outside_drift",
            "CIELAB distance between the mean colours of output and target over the pixels outside the mask",
            "CIELAB",
            "blind to changes of single pixels that cancel out",
            0.0,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        mask = view.truth.mask
        assert mask is not None
        if not view.changed.any():
            return 0.0
        means = [lab(image[~mask]).mean(axis=0) for image in (view.output, view.truth.target)]
        return float(np.linalg.norm(means[0] - means[1]))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("a change inside only", 0.0, self.number(bare(flat(GREYS[0]), middle()), patched()), 0.0)
        step = lightness(GREYS[1]) - lightness(GREYS[0])
        found = self.number(bare(flat(GREYS[0]), middle()), flat(GREYS[1]))
        yield Form("two greys: the difference of L*", step, found, 1e-5)
