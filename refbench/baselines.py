"""The trivial answers that stand at 0 in a recovery, and the truth that stands at 100.

- ``draft``: the draft as it came;
- ``paste``: the reference (its box, where one is drawn) resized to the mask's box and pasted hard into the mask, which
  is also what the model `reference-paste` gives;
- ``stretch``: the whole reference resized over the whole frame;
- ``blend``: the mean of draft and paste, a double exposure;
- ``target``: the truth.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from refbench.images import Image, Mask, mask_box, resize
from refbench.schema import Box, Truth

Answer: TypeAlias = Literal["draft", "paste", "stretch", "blend", "target"]
BASELINES: tuple[Answer, ...] = ("draft", "paste", "stretch", "blend", "target")


def reference_content(reference: Image, reference_box: Box | None) -> Image:
    """The box of the detail in the reference, clipped to its frame; the whole reference where no box is known.

    Args:
        reference: (h, w, 3) uint8.
        reference_box: (x, y, width, height) in px.
    """
    if reference_box is None:
        return reference
    x, y, width, height = reference_box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, reference.shape[1]), min(y + height, reference.shape[0])
    return reference if right <= left or bottom <= top else reference[top:bottom, left:right]


def paste_reference(draft: Image, reference: Image, mask: Mask, reference_box: Box | None = None) -> Image:
    """The reference's content resized into the mask's box and pasted hard inside the mask.

    Args:
        draft: (H, W, 3) uint8.
        reference: (h, w, 3) uint8.
        mask: (H, W) bool, not empty.
        reference_box: where the detail is in the reference; None takes the whole of it.

    Returns:
        (H, W, 3) uint8, equal to the draft outside the mask.
    """
    x, y, width, height = mask_box(mask)
    patch = resize(np.ascontiguousarray(reference_content(reference, reference_box)), (height, width))
    out = draft.copy()
    inside = mask[y : y + height, x : x + width]
    out[y : y + height, x : x + width][inside] = patch[inside]
    return out


def stretch_reference(draft: Image, reference: Image) -> Image:
    """The whole reference resized to the draft's frame, (H, W, 3) uint8: the trivial answer of background metrics."""
    return resize(reference, (draft.shape[0], draft.shape[1])).copy()


def has_answer(truth: Truth, answer: Answer) -> bool:
    """Whether the truth has what an answer is made of; `paste` takes the target's surroundings if there is no draft."""
    needed = {
        "target": (),
        "draft": (truth.draft,),
        "stretch": (truth.reference,),
        "paste": (truth.reference, truth.mask),
        "blend": (truth.draft, truth.reference, truth.mask),
    }
    return all(part is not None for part in needed[answer])


def baseline_image(truth: Truth, answer: Answer) -> Image:
    """The picture of an answer, of the target's size; the truth must have what it is made of (:func:`has_answer`)."""
    base = truth.target if truth.draft is None else truth.draft
    if answer == "target":
        return truth.target
    if answer == "draft":
        return base
    assert truth.reference is not None
    if answer == "stretch":
        return stretch_reference(base, truth.reference)
    assert truth.mask is not None
    paste = paste_reference(base, truth.reference, truth.mask, truth.reference_box)
    if answer == "paste":
        return paste
    mixed: Image = ((base.astype(np.uint16) + paste + 1) // 2).astype(np.uint8)
    return mixed


def baseline_images(truth: Truth) -> dict[Answer, Image]:
    """Every answer whose input the truth has, by name."""
    return {name: baseline_image(truth, name) for name in BASELINES if has_answer(truth, name)}
