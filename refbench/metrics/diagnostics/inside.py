"""What the refined region is made of: copied from the reference, and how much detail it lost or gained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from refbench.baselines import reference_content
from refbench.images import Image, Mask, mask_box, resize
from refbench.metrics.checks import Form, bare, noise
from refbench.metrics.consistency.sharpness import detail_ratio
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.deep import scaled
from refbench.metrics.filters import Singles
from refbench.metrics.view import Known, View
from refbench.schema import MetricCard

BLOCK = 16
ALIKE = 0.94
"""Correlation of a block's detail with some place of the reference from which on it counts as copied."""
DEGREE = 2
"""Detail is luma minus the polynomial of this degree fitted to the block: smooth shades are alike everywhere."""
PLAIN = 1.0
"""Standard deviation of a block's detail in levels below which it shows nothing that could be recognised."""
LONGEST = 192
"""Longest side in px at which regions are searched."""
AROUND = 1.12
"""A copy may be this much smaller or larger than the mask's box asks, and somewhat more."""
UNSCALED = 512
"""Longest side in px of a reference that is searched unscaled."""
ROWS = 32
"""Rows of places that are compared at once."""


def blocks(image: Image) -> NDArray[np.uint8]:
    """Luma of every :data:`BLOCK` px square of an image (h, w, 3) at every second px, a view (rows, columns, 8, 8)."""
    import cv2

    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return sliding_window_view(grey, (BLOCK, BLOCK))[:, :, ::2, ::2]


def detail(squares: NDArray[np.uint8]) -> tuple[Singles, Singles]:
    """What squares (..., 8, 8) show beyond smooth shades, (N, 64) of length 1, and its standard deviation (N,)."""
    smooth = _smooth()
    flat = squares.reshape(-1, len(smooth)).astype(np.float32)
    flat -= (flat @ smooth) @ smooth.T
    length = np.sqrt(np.einsum("ij,ij->i", flat, flat))
    return flat / np.maximum(length, 1e-6)[:, None], length / np.float32(np.sqrt(len(smooth)))


@lru_cache
def _smooth() -> Singles:
    """(64, 6) orthonormal polynomials up to :data:`DEGREE` on a square."""
    rows, columns = np.mgrid[0:BLOCK:2, 0:BLOCK:2] / BLOCK - 0.5
    terms = [rows**i * columns**j for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))[0].astype(np.float32)


def copied_share(output: Image, references: Iterable[Image], mask: Mask) -> float | None:
    """Share of the masked 16 px blocks with detail that lie, unturned, in one of the references; None without any.

    Args:
        output: (h, w, 3) uint8, the region.
        references: (h, w, 3) uint8, the reference at the scales that are searched.
        mask: (h, w).
    """
    whole = sliding_window_view(mask, (BLOCK, BLOCK))[::BLOCK, ::BLOCK].all(axis=(2, 3))
    found, spread = detail(blocks(output)[::BLOCK, ::BLOCK][whole])
    left = found[spread >= PLAIN]
    count = len(left)
    for reference in references if count else ():
        places = blocks(reference)
        best = np.full(len(left), -1.0, dtype=np.float32)
        for top in range(0, len(places), ROWS):
            np.maximum(best, (left @ detail(places[top : top + ROWS])[0].T).max(axis=1), out=best)
        left = left[best < ALIKE]
        if not len(left):
            break
    return 1.0 - len(left) / count if count else None


def searched(known: Known, scale: float) -> Iterator[Image]:
    """The reference at the scales at which a copy would lie in the region, likeliest first.

    As :func:`refbench.baselines.paste_reference` lays it; where its box is known also that much smaller and
    larger (:data:`AROUND`) and without change of proportions, else unscaled (up to :data:`UNSCALED`).

    Args:
        known: of a truth with a reference.
        scale: by which the region is brought to :data:`LONGEST`, 1 where it is not.
    """
    truth = known.truth
    assert truth.reference is not None
    content = np.ascontiguousarray(reference_content(truth.reference, truth.reference_box))
    x, y, width, height = mask_box(known.truth.mask if known.truth.mask is not None else known.mask)
    left, top, across, down = known.box
    around = (y - top, top + down - y - height), (x - left, left + across - x - width), (0, 0)
    yield scaled(np.pad(resize(content, (height, width)), around, mode="edge"), LONGEST)
    rows, columns = height / content.shape[0], width / content.shape[1]
    even = (rows * columns) ** 0.5
    others = [(rows / AROUND, columns / AROUND), (rows * AROUND, columns * AROUND), (even, even)]
    if truth.reference_box is None:
        others = [(1.0, 1.0)] if max(content.shape) * scale <= UNSCALED else []
    for of_rows, of_columns in others:
        sides = content.shape[0] * of_rows * scale, content.shape[1] * of_columns * scale
        yield resize(content, (max(BLOCK, round(sides[0])), max(BLOCK, round(sides[1]))))


class Copied(Metric):
    """Share of the result that is a copy of the reference."""

    target_free = True
    needs = frozenset({"reference"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="copied",
            definition="share of the 16 px blocks of the region, wholly masked and with detail (standard deviation of "
            "1 level or more), whose detail, luma at every second px minus a quadratic surface fitted to the block, "
            "correlates at 0.94 or more with some place of the reference: its box resized to the mask's box, to 1.12 "
            "times less and more, and evenly to the same area; without a box all of it resized to the mask's box, and "
            "unscaled where its longer side is at most 512 px",
            paper="this project; normalised cross-correlation (Lewis 1995)",
            axis="diagnostics",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="8-bit grey",
            region_rule="on the mask's box with 16 px margin; the reference on its box",
            resize_rule="a region longer than 192 px is brought to 192 px, Pillow's antialiased bicubic",
            backend=opencv(),
            scored=False,
            note="not scored: a diagnostic; copying can be right; blind to copies that are turned or of a scale far "
            "from the boxes'; undefined where no block shows detail",
            tolerance=1e-2,
        )

    def value(self, view: View) -> float | None:
        """The number for one output."""
        image, mask = scaled(view.image, LONGEST), view.mask
        if image.shape != view.image.shape:
            mask = scaled(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * np.uint8(255), LONGEST)[..., 0] > 127
        return copied_share(image, searched(view.known, max(image.shape) / max(view.image.shape)), mask)

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("a region and itself as reference", 1.0, self.number(bare(noise(), reference=noise()), noise()), 0.0)


class SharpnessChange(Metric):
    """How much detail the region lost (negative) or gained against the target."""

    perfect = 0.0
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
