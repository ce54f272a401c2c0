"""Contact sheets: draft, reference, target and mask of each sample, one row a sample."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from refbench.tasks.writing import Question


def contact_sheet(questions: Sequence[Question], side: int = 112, columns: int = 2) -> bytes:
    """A JPEG of all samples: per sample its id and four pictures fitted into squares of `side` px.

    The reference shows its box, where known, and the target the mask's outline.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = -(-len(questions) // columns)
    band = 15
    cell = (4 * side + 8, side + band)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for number, question in enumerate(questions):
        left, top = (number % columns) * cell[0], (number // columns) * cell[1]
        mask = np.repeat(question.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
        shown = (question.draft, question.reference, question.target, mask)
        for place, picture in enumerate(picture for picture in shown if picture is not None):
            tile = Image.fromarray(picture)
            if place == 1 and question.reference_box:
                x, y, width, height = question.reference_box
                ImageDraw.Draw(tile).rectangle((x, y, x + width, y + height), outline=(0, 255, 120), width=2)
            tile.thumbnail((side, side))
            sheet.paste(tile, (left + place * (side + 1), top + band))
        meta = question.meta
        label = f"{meta.id} {meta.view} {meta.degradation} {meta.strength:g} {meta.mask_kind} {meta.mask_share:.0%}"
        label += f" {meta.text or ''}"
        draw.text((left + 2, top + 1), label[:100], fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=72)
    return buffer.getvalue()
