"""Regions: the box around a mask that metrics work on, composites that shut out the other side, the mask's edge.

Metrics of region `inside` see the output's masked pixels over the target (:func:`composite`), so that nothing
outside the mask can move them; metrics of region `outside` see the reverse. Where a metric has a local map, the
map is averaged over the masked pixels; where it has none, it is taken of the composite's box (:func:`region_box`).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.schema import Box, Truth

Kind = TypeVar("Kind", bound=np.generic)

MARGIN = 16
"""px of target kept around the mask's box; covers the reach of every local map (SSIM-HF: 5 + 8)."""
MULTIPLE = 32
"""Box sides are rounded up to this, so that crops of a suite share few shapes and FFTs are quick."""
SMALLEST = 64
"""Shortest box side, where the frame allows (VIFp needs 41 px)."""


def _span(start: int, stop: int, frame: int, smallest: int, multiple: int) -> tuple[int, int]:
    """Grow [start, stop) around its middle to a multiple, at least `smallest`, at even `start`, inside [0, frame)."""
    size = max(-(-(stop - start) // multiple) * multiple, smallest)
    if size >= frame:
        return 0, frame
    start = min(max((start + stop - size) // 2, 0), frame - size)
    start -= start % 2
    return start, size


def grown_box(box: Box, frame: tuple[int, int], smallest: int = SMALLEST, multiple: int = MULTIPLE) -> Box:
    """The box (x, y, width, height) grown inside a frame (height, width).

    Sides become multiples of `multiple` and at least `smallest` or as long as the frame; x and y are even, so that
    maps at half resolution fall on the same grid as those of the whole frame.
    """
    x, y, width, height = box
    left, width = _span(x, x + width, frame[1], smallest, multiple)
    top, height = _span(y, y + height, frame[0], smallest, multiple)
    return left, top, width, height


def region_box(mask: Mask | None, frame: tuple[int, int], smallest: int = SMALLEST) -> Box:
    """The mask's box with ``MARGIN`` px around it, grown by :func:`grown_box`; the whole frame without a mask."""
    if mask is None:
        return 0, 0, frame[1], frame[0]
    left, top, width, height = grown_box(mask_box(mask, MARGIN), frame, smallest)
    x, y, w, h = mask_box(mask, MARGIN)
    # The even start may have cut the last row or column of an odd frame off: keep all of the mask.
    width = min(max(width, x + w - left), frame[1] - left)
    height = min(max(height, y + h - top), frame[0] - top)
    return left, top, width, height


def square_box(box: Box, frame: tuple[int, int]) -> Box:
    """The box with its short side grown to its long side around the middle, as far as the frame allows."""
    x, y, width, height = box
    side = max(width, height)
    w, h = min(side, frame[1]), min(side, frame[0])
    left = min(max(x + width // 2 - w // 2, 0), frame[1] - w)
    top = min(max(y + height // 2 - h // 2, 0), frame[0] - h)
    return left, top, w, h


def cut(image: NDArray[Kind], box: Box) -> NDArray[Kind]:
    """The part of an image or a mask in a box, a view without copy."""
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def reference_crop(truth: Truth) -> Image:
    """The reference where the detail is: its box with 16 px margin, squared in the frame; all of it without a box."""
    reference = truth.reference
    assert reference is not None
    if truth.reference_box is None:
        return reference
    x, y, width, height = truth.reference_box
    left, top = max(x - MARGIN, 0), max(y - MARGIN, 0)
    right, bottom = min(x + width + MARGIN, reference.shape[1]), min(y + height + MARGIN, reference.shape[0])
    return cut(reference, square_box((left, top, right - left, bottom - top), reference.shape[:2]))


def composite(inside: Image, outside: Image, mask: Mask) -> Image:
    """`inside` where the mask is true, `outside` elsewhere; all of one size."""
    out = outside.copy()
    np.copyto(out, inside, where=mask[..., None])
    return out


def half(mask: Mask) -> Mask:
    """The mask at half resolution, true where any of a cell's four pixels is (an odd last row or column is padded)."""
    height, width = mask.shape
    odd = max(height % 2, width % 2)
    padded = np.pad(mask, ((0, odd), (0, odd)))[: (height + odd) // 2 * 2, : (width + odd) // 2 * 2]
    return padded[0::2, 0::2] | padded[1::2, 0::2] | padded[0::2, 1::2] | padded[1::2, 1::2]
