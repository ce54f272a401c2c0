"""Masks of a suite's samples: the tight shape of a print or polygon, its box, or a user's scribble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from refbench.errors import RefbenchError
from refbench.images import Mask, mask_box

MaskKind: TypeAlias = Literal["tight", "box", "scribble"]
SHARES = (0.02, 0.35)
"""Smallest and largest share of the image that a mask of a suite covers."""


def polygon(points: Sequence[Sequence[float]], size: tuple[int, int]) -> Mask:
    """The inside of a polygon with (x, y) corners in px, as a mask of (height, width)."""
    picture = Image.new("1", (size[1], size[0]), 0)
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.asarray(picture.convert("L")) > 127


def ellipse(box: Sequence[float], size: tuple[int, int]) -> Mask:
    """The ellipse inside a box (x, y, width, height) in px."""
    picture = Image.new("1", (size[1], size[0]), 0)
    x, y, width, height = box
    ImageDraw.Draw(picture).ellipse((x, y, x + width, y + height), fill=1)
    return np.asarray(picture.convert("L")) > 127


def widen(shape: Mask, radius: int) -> Mask:
    """Dilate by a square of 2 * radius + 1 px."""
    if radius <= 0:
        return shape
    grown = Image.fromarray(shape.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * radius + 1))
    return np.asarray(grown) > 127


def filled(shape: Mask, radius: int) -> Mask:
    """Close gaps up to 2 * radius px wide, so that single letters become one shape."""
    grown = Image.fromarray(widen(shape, radius).astype(np.uint8) * 255)
    return np.asarray(grown.filter(ImageFilter.MinFilter(2 * radius + 1))) > 127


def draw_mask(shape: Mask, kind: MaskKind, rng: np.random.Generator) -> Mask:
    """A mask of one kind around a shape; every kind covers the shape wholly, or nearly (scribble).

    ``tight`` is the shape with gaps closed and 3 px to spare, ``box`` its upright box with 5 px,
    ``scribble`` the round brush strokes by which a hand would paint it over.

    Raises:
        RefbenchError: the shape is empty.
    """
    if not shape.any():
        raise RefbenchError("Expected a shape with some pixels to mask, but it is empty; check the recipe's corners.")
    if kind == "tight":
        return widen(filled(shape, 6), 3)
    x, y, width, height = mask_box(shape, 5)
    if kind == "box":
        out = np.zeros_like(shape)
        out[y : y + height, x : x + width] = True
        return out
    return _scribble(shape, (x, y, width, height), rng)


def _scribble(shape: Mask, box: tuple[int, int, int, int], rng: np.random.Generator) -> Mask:
    x, y, width, height = box
    body = filled(shape, 6)
    picture = Image.new("L", (shape.shape[1], shape.shape[0]), 0)
    draw = ImageDraw.Draw(picture)
    brush = max(9, round(min(width, height) * 0.24))
    rows = max(2, round(height / (brush * 0.85)))
    points: list[tuple[float, float]] = []
    for row in range(rows):
        level = y + (row + 0.5) / rows * height
        line = body[int(np.clip(level, 0, shape.shape[0] - 1))]
        spans = np.flatnonzero(line)
        left, right = (float(spans[0]), float(spans[-1])) if len(spans) else (float(x), float(x + width))
        ends = [(left, level), (right, level)] if row % 2 == 0 else [(right, level), (left, level)]
        points += [(a + float(rng.normal(0, brush * 0.18)), b + float(rng.normal(0, brush * 0.14))) for a, b in ends]
    draw.line(points, fill=255, width=brush, joint="curve")
    for a, b in points:
        draw.ellipse((a - brush / 2, b - brush / 2, a + brush / 2, b + brush / 2), fill=255)
    return np.asarray(picture) > 127


def soft_inside(mask: Mask, sigma: float = 1.6) -> NDArray[np.float64]:
    """Weights in [0, 1] that are 0 outside and at the mask's edge and 1 some px inside."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(mask.astype(np.float64), sigma)
    weight: NDArray[np.float64] = np.clip(2 * smooth - 1, 0, 1) * mask
    return weight
