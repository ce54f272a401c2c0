"""The trivial answers that stand at 0 in a recovery, and the truth that stands at 100."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refbench.images import Image, mask_box, resize
from refbench.metrics.regions import composite, cut
from refbench.schema import Truth

ANSWERS = ("draft", "paste", "stretch", "target")


def trivial_answers(truth: Truth) -> dict[str, Image]:
    """The answers that no thought gives, each an image of the target's size, and the target itself.

    - `draft`: the draft as it came;
    - `paste`: the reference (its box, where one is drawn) resized to the mask's box and pasted hard into the mask;
    - `stretch`: the whole reference resized over the whole frame;
    - `target`: the truth.

    An answer whose input the truth lacks is left out.
    """
    answers = {"target": truth.target}
    size = truth.target.shape[:2]
    if truth.draft is not None:
        answers["draft"] = truth.draft
    if truth.reference is not None:
        answers["stretch"] = resize(np.ascontiguousarray(truth.reference), (size[0], size[1]))
        if truth.mask is not None:
            part = truth.reference if truth.reference_box is None else cut(truth.reference, truth.reference_box)
            x, y, width, height = mask_box(truth.mask)
            base = truth.target if truth.draft is None else truth.draft
            pasted = base.copy()
            fitted = resize(np.ascontiguousarray(part), (height, width))
            place = (slice(y, y + height), slice(x, x + width))
            pasted[place] = composite(fitted, base[place], truth.mask[place])
            answers["paste"] = pasted
    return {name: answers[name] for name in ANSWERS if name in answers}


def answer_names(truths: Sequence[Truth]) -> tuple[str, ...]:
    """The answers that every one of these truths has."""
    return tuple(name for name in ANSWERS if all(name in trivial_answers(truth) for truth in truths))
