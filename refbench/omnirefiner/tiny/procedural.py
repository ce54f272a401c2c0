"""Pictures drawn by rule: shapes over shapes, stripes, noise and words, for training the autoencoder.

A dead-leaves picture (Lee, Mumford, Huang 2001) has the edge and scale statistics of photographs; words and
thin strokes are added because lettering is what a coarse latent loses first. No source asset is used.
"""

from __future__ import annotations

import string

import numpy as np
from numpy.random import Generator

from refbench.images import Image


def plate(rng: Generator, size: int = 192) -> Image:
    """One (size, size, 3) picture: a textured ground, 20 to 120 textured shapes, up to 12 words."""
    from PIL import Image as PILImage
    from PIL import ImageDraw, ImageFont

    picture = PILImage.fromarray(_texture(rng, size, size))
    for _ in range(int(rng.integers(20, 120))):
        width, height = (int(v) for v in np.minimum(size, 6 * rng.pareto(1.2, 2) + 6))
        shape = PILImage.new("L", (width, height), 0)
        draw = ImageDraw.Draw(shape)
        kind = rng.integers(0, 3)
        if kind == 0:
            draw.ellipse((0, 0, width - 1, height - 1), fill=255)
        elif kind == 1:
            draw.rectangle((0, 0, width, height), fill=255)
        else:
            draw.polygon([tuple(p) for p in rng.uniform(0, 1, (4, 2)) * (width, height)], fill=255)
        shape = shape.rotate(float(rng.uniform(0, 180)), expand=True, resample=PILImage.Resampling.BILINEAR)
        leaf = PILImage.fromarray(_texture(rng, shape.height, shape.width))
        picture.paste(leaf, (int(rng.integers(-10, size)), int(rng.integers(-10, size))), shape)
    draw = ImageDraw.Draw(picture)
    letters = list(string.ascii_letters + string.digits + "&%!?-.")
    for _ in range(int(rng.integers(0, 12))):
        word = "".join(rng.choice(letters, int(rng.integers(2, 10))))
        font = ImageFont.load_default(float(rng.uniform(7, 48)))
        draw.text(
            tuple(rng.integers(-5, size - 20, 2)), word, font=font, fill=tuple(int(v) for v in rng.integers(0, 256, 3))
        )
    for _ in range(int(rng.integers(0, 6))):
        ends = [tuple(p) for p in rng.uniform(0, size, (2, 2))]
        draw.line(ends, fill=tuple(int(v) for v in rng.integers(0, 256, 3)), width=int(rng.integers(1, 5)))
    return np.ascontiguousarray(np.asarray(picture))


def _texture(rng: Generator, height: int, width: int) -> Image:
    """A colour ramp, with stripes or smooth or fine noise on it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x * np.cos(a := rng.uniform(0, np.pi)) + y * np.sin(a)) / max(height, width)
    first, second = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.5:
        second = first + rng.normal(0, 25, 3)
    kind = rng.integers(0, 4)
    if kind == 0:
        across = 0.5 + 0.5 * np.sin(across * rng.uniform(10, 2.0 * max(height, width)))
    values = first + (second - first) * np.clip(across, 0, 1)[..., None]
    if kind == 1:
        values = values + rng.normal(0, rng.uniform(2, 30), (height, width, 1))
    if kind == 2:
        cell = int(rng.integers(2, 9))
        grain = rng.normal(0, rng.uniform(5, 40), (height // cell + 2, width // cell + 2, 1))
        values = values + grain.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    texture: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return texture
