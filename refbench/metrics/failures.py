"""Failures in rising strength, done to a truth's own target: what the audit shows to the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, mask_box, resize
from refbench.metrics.filters import Floats
from refbench.metrics.regions import composite
from refbench.schema import Truth

Damage: TypeAlias = Callable[[Truth, float, np.random.Generator], tuple[Truth, Image]]
"""(truth, strength, generator) -> the truth to measure against and the damaged answer."""

WORD, OTHER = "REFINE", "KMVWQX"
LETTER_KEY = "glyph"


def _mask(truth: Truth) -> Mask:
    if truth.mask is None:
        raise RefbenchError(f"Expected a mask on {truth.id or 'the sample'} for the audit, but there is none.")
    return truth.mask


def _image(values: Floats) -> Image:
    out: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return out


def blur(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """Gaussian blur inside the mask; strength is sigma in px."""
    import cv2

    soft = np.asarray(cv2.GaussianBlur(truth.target, (0, 0), strength), dtype=np.uint8)
    return truth, composite(soft, truth.target, _mask(truth))


def colour_drift(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """A warm tint inside the mask; strength is the levels by which red rises, and blue falls."""
    moved = truth.target.astype(np.float64) + np.array([strength, 0.0, -strength])
    return truth, composite(_image(np.asarray(moved, dtype=np.float64)), truth.target, _mask(truth))


def light_drift(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """Darker inside the mask; strength is the percentage of light lost."""
    return truth, composite(
        _image(truth.target.astype(np.float64) * (1.0 - strength / 100.0)), truth.target, _mask(truth)
    )


def shift(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """The content of the mask moved to the right; strength in px."""
    mask, step = _mask(truth), int(strength)
    moved = np.concatenate([truth.target[:, :1].repeat(step, axis=1), truth.target[:, :-step]], axis=1)
    return truth, composite(moved, truth.target, mask)


def scale(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """The content of the mask larger, around the middle of the mask's box; strength is by how many per cent."""
    import cv2

    mask = _mask(truth)
    x, y, width, height = mask_box(mask)
    factor = 1.0 + strength / 100.0
    middle = np.array([x + (width - 1) / 2.0, y + (height - 1) / 2.0])
    grown = cv2.warpAffine(
        truth.target,
        np.column_stack([factor * np.eye(2), (1.0 - factor) * middle]),
        truth.target.shape[1::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return truth, composite(np.asarray(grown, dtype=np.uint8), truth.target, mask)


def ghost(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """A double exposure: the draft shining through the target; strength is the draft's share in per cent."""
    if truth.draft is None:
        raise RefbenchError(f"Expected a draft on {truth.id or 'the sample'} for the audit, but there is none.")
    share = strength / 100.0
    mixed = _image(share * truth.draft.astype(np.float64) + (1.0 - share) * truth.target)
    return truth, composite(mixed, truth.target, _mask(truth))


def seam(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """A bright rim just inside the mask's edge that fades over 8 px; strength in levels at the edge."""
    import cv2

    mask = _mask(truth)
    depth = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rim = strength * np.clip(1.0 - (depth - 1.0) / 8.0, 0.0, 1.0)
    sign = np.where(truth.target.mean(axis=2) > 127, -1.0, 1.0)
    return truth, composite(_image(truth.target + (rim * sign)[..., None]), truth.target, mask)


def texture(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """Invented fine texture inside the mask, oriented band-pass noise; strength is its deviation in levels."""
    import cv2

    noise = generator.standard_normal(truth.target.shape[:2])
    band = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=2.5) - cv2.GaussianBlur(
        noise, (0, 0), sigmaX=3.0, sigmaY=4.0
    )
    band *= strength / band.std()
    return truth, composite(
        _image(truth.target + np.asarray(band, dtype=np.float64)[..., None]), truth.target, _mask(truth)
    )


def warp(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """Melted geometry inside the mask, a smooth random displacement; strength is its deviation in px."""
    import cv2

    height, width = truth.target.shape[:2]
    fields = []
    for _ in range(2):
        field = cv2.GaussianBlur(generator.standard_normal((height, width)), (0, 0), 8.0)
        fields.append((field * strength / field.std()).astype(np.float32))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        truth.target, columns + fields[0], rows + fields[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return truth, composite(np.asarray(moved, dtype=np.uint8), truth.target, _mask(truth))


def _lettered(truth: Truth, word: str, upon: Image, box: tuple[int, int, int, int]) -> Image:
    """A word on a plain label that fills a box of an image."""
    import cv2

    x, y, width, height = box
    label = np.full((96, 384, 3), (238, 232, 218), dtype=np.uint8)
    for number, letter in enumerate(word):
        (w, _), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_DUPLEX, 2.0, 4)
        cv2.putText(
            label,
            letter,
            (24 + 58 * number + (52 - w) // 2, 70),
            cv2.FONT_HERSHEY_DUPLEX,
            2.0,
            (40, 36, 90),
            4,
            cv2.LINE_AA,
        )
    out = upon.copy()
    tall = min(height, max(width // 4, 8))
    top = y + (height - tall) // 2
    out[top : top + tall, x : x + width] = resize(label, (tall, width))
    return out


def glyph(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """A word is printed in the mask's box of target and reference; strength is how many of six letters are wrong."""
    mask = _mask(truth)
    box = mask_box(mask)
    wrong = "".join(OTHER[i] if i < int(strength) else letter for i, letter in enumerate(WORD))
    whole = np.zeros_like(mask)
    whole[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    target = _lettered(truth, WORD, truth.target, box)
    reference, place = truth.reference, truth.reference_box
    if reference is not None:
        place = place or (0, 0, reference.shape[1], reference.shape[0])
        reference = _lettered(truth, WORD, np.ascontiguousarray(reference), place)
    printed = replace(
        truth,
        target=target,
        draft=_lettered(truth, OTHER, truth.target, box),
        reference=reference,
        reference_box=place,
        mask=whole,
        text=WORD,
        category="text",
        key=f"{truth.key}-{LETTER_KEY}" if truth.key else "",
    )
    return printed, _lettered(truth, wrong, truth.target, box)


def background(truth: Truth, strength: float, generator: np.random.Generator) -> tuple[Truth, Image]:
    """Everything outside the mask re-rendered: slightly blurred, tinted and noisy; strength in levels of noise."""
    import cv2

    soft = cv2.GaussianBlur(truth.target, (0, 0), 0.3 + strength / 10.0).astype(np.float64)
    moved = soft + np.array([strength, 0.0, -strength]) / 2.0
    moved += generator.standard_normal(moved.shape[:2])[..., None] * strength
    return truth, composite(truth.target, _image(moved), _mask(truth))


FAILURES: dict[str, tuple[Damage, tuple[float, ...], str]] = {
    "blur": (blur, (0.7, 1.2, 2.0, 4.0), "sigma in px"),
    "wrong glyph": (glyph, (1, 2, 4, 6), "letters of six"),
    "colour drift": (colour_drift, (4, 8, 16, 32), "levels"),
    "light drift": (light_drift, (4, 8, 16, 32), "% darker"),
    "shift": (shift, (1, 2, 4, 8), "px"),
    "scale": (scale, (1, 2, 3, 5), "% larger"),
    "melted geometry": (warp, (0.5, 1.0, 2.0, 4.0), "px"),
    "seam": (seam, (4, 8, 16, 32), "levels at the edge"),
    "hallucinated texture": (texture, (4, 8, 16, 32), "levels"),
    "ghost": (ghost, (10, 30, 50, 70), "% of the draft"),
    "background change": (background, (1, 2, 4, 8), "levels"),
}
"""Failure -> how it is done, four rising strengths, and their unit."""
SMALL: dict[str, tuple[int, str]] = {"shift": (2, "2 px"), "scale": (1, "1 %")}
"""Failure -> the step that an eye hardly minds, and its strength in words."""
