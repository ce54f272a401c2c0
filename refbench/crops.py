"""The crop around a mask that is refined in place of the whole picture, and how it is put back.

Shared by every refiner that crops, enlarges and pastes (Focus-and-Refine, RefineAnything, arXiv 2604.06870).
"""

from __future__ import annotations

from numbers import Integral
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, mask_box, resize

Square: TypeAlias = tuple[int, int, int, int]
"""(x, y, side, side) in px; it may reach over the frame."""

Pixel = TypeVar("Pixel", np.uint8, np.float32)

MARGIN = 0.2
"""Margin around the mask's box, as a share of its longer side."""
FEATHER = 1.2
"""Width in px of the soft edge, which lies inside the mask."""


def check_box(box: tuple[int, int, int, int], size: tuple[int, int], what: str) -> None:
    """Refuse a box (x, y, width, height) that has no area or leaves a picture, `what`, of (height, width)."""
    if isinstance(box, str) or len(box) != 4 or not all(isinstance(value, Integral) for value in box):
        raise RefbenchError(f"Expected a box as four whole numbers x, y, width, height in px, but got {box!r}.")
    x, y, width, height = box
    if width < 1 or height < 1 or x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise RefbenchError(
            f"Expected a box inside {what} of {size[1]} x {size[0]} px, but got {x},{y},{width},{height}; "
            "give x,y,width,height in px."
        )


LEAST_SIDE = 8
"""Px of a reference, and of the box in it, below which there is nothing to look for."""


def check_reference(size: tuple[int, int], box: tuple[int, int, int, int] | None, where: str = "the reference") -> None:
    """Refuse a reference of (height, width), `where`, or a box in it, that is below :data:`LEAST_SIDE`; and a box
    outside."""
    if box is not None:
        check_box(box, size, "the reference")
    sides = {where: (size[1], size[0])} | ({"the box in the reference": box[2:]} if box is not None else {})
    for what, (width, height) in sides.items():
        if min(width, height) < LEAST_SIDE:
            raise RefbenchError(
                f"Expected {what} to have {LEAST_SIDE} x {LEAST_SIDE} px or more, but it has {width} x {height} px; "
                "give one that shows the detail."
            )


def box_mask(box: tuple[int, int, int, int], size: tuple[int, int]) -> Mask:
    """A mask (H, W) that is true in the box (x, y, width, height).

    Raises:
        RefbenchError: the box has no area or leaves the frame.
    """
    check_box(box, size, "the draft")
    x, y, width, height = box
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def side_by_side(draft: Image, reference: Image, mask: Mask, refined: Image) -> Image:
    """Draft with the mask's outline, reference, and refined, at one height: (H, W', 3)."""
    height = draft.shape[0]
    shown = draft.copy()
    inner = mask.copy()
    inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    shown[mask & ~inner] = (255, 0, 160)
    width = max(1, round(reference.shape[1] * height / reference.shape[0]))
    gap = np.full((height, 8, 3), 255, np.uint8)
    return np.ascontiguousarray(np.hstack([shown, gap, resize(reference, (height, width)), gap, refined]))


def crop_box(mask: Mask, margin: float = MARGIN) -> Square:
    """The square (x, y, side, side) around the mask's box with `margin`, moved into the frame where it fits."""
    return square_around(mask_box(mask), (mask.shape[0], mask.shape[1]), margin)


def square_around(box: tuple[int, int, int, int], size: tuple[int, int], margin: float = MARGIN) -> Square:
    """The square around a box (x, y, width, height) with `margin`, moved into a frame of (height, width) if it fits."""
    x, y, width, height = box
    side = int(np.ceil(max(width, height, 8) * (1 + 2 * margin)))
    corner = []
    for start, length, limit in ((x, width, size[1]), (y, height, size[0])):
        first = round(start + length / 2 - side / 2)
        corner.append(int(np.clip(first, 0, limit - side)) if side <= limit else (limit - side) // 2)
    return corner[0], corner[1], side, side


def cut(picture: NDArray[Pixel], box: Square) -> NDArray[Pixel]:
    """The box out of a picture (H, W, C), mirrored where it reaches over the frame."""
    x, y, width, height = box
    columns = _mirror(np.arange(x, x + width), picture.shape[1])
    rows = _mirror(np.arange(y, y + height), picture.shape[0])
    return np.ascontiguousarray(picture[rows[:, None], columns[None]])


def _mirror(index: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    period = max(2 * size - 2, 1)
    folded = np.abs(index) % period
    return np.where(folded >= size, period - folded, folded)


def soft_mask(mask: Mask) -> NDArray[np.float32]:
    """Blending weights (H, W) in [0, 1]: 0 outside the mask, rising to 1 within two :data:`FEATHER` px inside it."""
    import cv2

    padded = np.pad(mask.astype(np.float32), 16, mode="edge")
    blurred = cv2.GaussianBlur(padded, (0, 0), FEATHER)[16:-16, 16:-16]
    weights: NDArray[np.float32] = np.clip(2 * blurred - 1, 0, 1).astype(np.float32) * mask
    return weights


def put_crop(picture: Image, refined: Image, box: Square) -> Image:
    """The picture (H, W, 3) with a refined crop of any size in place of `box`, as far as that lies in the frame."""
    x, y, side, _ = box
    height, width = picture.shape[:2]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    out = picture.copy()
    out[top:bottom, left:right] = resize(refined, (side, side))[top - y : bottom - y, left - x : right - x]
    return out


def keep_outside(draft: Image, refined: Image, mask: Mask) -> Image:
    """The refined picture inside the mask, with a soft edge, and the draft's very pixels outside (paste-back)."""
    weights = soft_mask(mask)[..., None]
    mixed = draft + weights * (refined.astype(np.float32) - draft)
    return np.where(weights > 0, np.clip(np.rint(mixed), 0, 255), draft).astype(np.uint8)
