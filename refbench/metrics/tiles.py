"""Pictures too large for a network at once, passed in tiles, for metrics that are means of local maps.

The margins cover what a stage's pixel sees, so that the sum over the tiles' cores is the value of the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from refbench.images import Image
from refbench.metrics.view import LARGE

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = LARGE
"""Images of more pixels are passed in tiles."""
TILE, MARGIN = 512, 128
"""Side of a tile's core and the margin around it, in px; multiples of the networks' largest stride (16). A stage's
pixel sees at most 119 px beyond its place (SqueezeNet's last), so that 128 px make tiles exact."""


def large(image: Image) -> bool:
    """Whether an image is passed in tiles."""
    return bool(image.shape[0] * image.shape[1] > WHOLE)


def tiles(size: tuple[int, int]) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]:
    """(core, tile) boxes as (top, bottom, left, right) that cover a frame (height, width) without overlap of cores."""
    height, width = size

    def cuts(length: int) -> list[tuple[int, int]]:
        edges = list(range(0, length, TILE))
        if len(edges) > 1 and length - edges[-1] < 2 * MARGIN:
            edges.pop()  # a last sliver is measured with the tile before it
        return list(zip(edges, [*edges[1:], length], strict=True))

    for top, bottom in cuts(height):
        for left, right in cuts(width):
            yield (
                (top, bottom, left, right),
                (max(top - MARGIN, 0), min(bottom + MARGIN, height), max(left - MARGIN, 0), min(right + MARGIN, width)),
            )


def tiled_means(
    a: Image,
    b: Image,
    stages: Callable[[Image], list[Tensor]],
    strides: Sequence[int],
    maps: Callable[[list[Tensor], list[Tensor]], list[Tensor]],
) -> list[float]:
    """The spatial mean of each of `maps` of two images' stages, taken tile by tile.

    Args:
        a, b: images of one size.
        stages: tile -> stages (1, C, h, w).
        strides: of each stage in px.
        maps: list of stages of both -> local maps (1, C, h, w), one a stage in the order of the stages; the mean is
            over positions and channels.
    """
    totals: dict[int, float] = {}
    counts: dict[int, int] = {}
    height, width = a.shape[:2]
    for (top, bottom, left, right), (y0, y1, x0, x1) in tiles((height, width)):
        parts = [stages(np.ascontiguousarray(image[y0:y1, x0:x1])) for image in (a, b)]
        for at, found in enumerate(maps(*parts)):
            stride = strides[at]
            rows = slice((top - y0) // stride, None if bottom == height else (bottom - y0) // stride)
            columns = slice((left - x0) // stride, None if right == width else (right - x0) // stride)
            core = found[:, :, rows, columns]
            totals[at] = totals.get(at, 0.0) + float(core.double().sum())
            counts[at] = counts.get(at, 0) + core.numel()
    return [totals[at] / counts[at] for at in sorted(totals)]
