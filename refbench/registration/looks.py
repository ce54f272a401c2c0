"""What the search sees of a picture: all of it, or a window around the detail, at a working size.

A detail of 128 px is too small to be found where a picture of 2,400 px is reduced to 480. So what is far larger than
its detail is seen through a window; where no one knows where the detail is, at two sizes, coarse to fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, resize
from refbench.registration import light
from refbench.schema import Box

Matrix = NDArray[np.float64]

WORK_SIDE = 480
"""Long side in px of what is seen; the polish of the last pixel is done there as well."""
DETAIL_SIDE = 120
"""Least long side in px at which the detail is seen, where the picture has so many."""
LARGEST = 4 * WORK_SIDE
"""Most of the long side in px at which a whole picture is searched."""


@dataclass(frozen=True, slots=True)
class Look:
    """A window of a picture at the working size."""

    picture: Image
    """(h, w, 3)."""
    window: Box
    """(x, y, width, height) of what is seen, in the whole picture."""

    factor: float
    """By which it was reduced, in (0, 1]."""

    @property
    def matrix(self) -> Matrix:
        """(3, 3), px of the whole picture -> px of the look."""
        x, y = self.window[:2]
        return np.asarray(np.diag([self.factor, self.factor, 1.0]) @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]]))

    def mask(self, mask: Mask) -> Mask:
        """The part (h, w) of a mask of the whole picture: true where any of a pixel's was."""
        x, y, width, height = self.window
        part = np.ascontiguousarray(mask[y : y + height, x : x + width])
        size = (self.picture.shape[0], self.picture.shape[1])
        return part if part.shape == size else light.shrink_mask(part, size)

    def box(self, box: Box | None) -> Box | None:
        """The part of a box of the whole picture that is seen; None where it is below 8 px across."""
        if box is None:
            return None
        low = np.maximum(np.array(box[:2]) - self.window[:2], 0)
        high = np.minimum(np.array(box[:2]) + box[2:] - self.window[:2], self.window[2:])
        x, y, width, height = (round(float(v)) for v in (*(low * self.factor), *((high - low) * self.factor)))
        return (x, y, width, height) if min(width, height) >= 8 else None


def around(picture: Image, detail: Box) -> Look:
    """A look at a detail (x, y, width, height): the whole picture where the detail is large enough in it."""
    rows, columns = picture.shape[:2]
    x, y, width, height = detail
    side, frame = max(width, height), max(rows, columns)
    if frame <= WORK_SIDE or side * WORK_SIDE >= DETAIL_SIDE * frame:
        return seen(picture, (0, 0, columns, rows))
    reach = max(side * WORK_SIDE / DETAIL_SIDE, WORK_SIDE) / 2
    middle = x + width / 2, y + height / 2
    left, top = (max(0, round(at - reach)) for at in middle)
    right, bottom = min(columns, round(middle[0] + reach)), min(rows, round(middle[1] + reach))
    return seen(picture, (left, top, right - left, bottom - top))


def coarse_to_fine(picture: Image) -> Iterator[Look]:
    """The whole picture at the working size, and where it is twice as large or more at up to four times that.

    The searches bear scales from half to twice, so that these two leave none out.
    """
    rows, columns = picture.shape[:2]
    yield seen(picture, (0, 0, columns, rows))
    if max(rows, columns) >= 2 * WORK_SIDE:
        yield seen(picture, (0, 0, columns, rows), LARGEST)


def seen(picture: Image, window: Box, side: int = WORK_SIDE) -> Look:
    """A window of a picture with its long side at most `side`."""
    x, y, width, height = window
    part = np.ascontiguousarray(picture[y : y + height, x : x + width])
    factor = min(1.0, side / max(width, height))
    part = resize(part, (max(1, round(height * factor)), max(1, round(width * factor))))
    return Look(part, window, factor)
