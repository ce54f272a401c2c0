"""Contestant `reference-paste`, and the trivial answers that recovery scores are measured against."""

from __future__ import annotations

from refbench.images import Image, Mask, mask_box, resize
from refbench.schema import AdapterCard, Box, Inputs


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
    patch = resize(reference_content(reference, reference_box), (height, width))
    out = draft.copy()
    inside = mask[y : y + height, x : x + width]
    out[y : y + height, x : x + width][inside] = patch[inside]
    return out


def stretch_reference(draft: Image, reference: Image) -> Image:
    """The whole reference resized to the draft's frame, (H, W, 3) uint8: the trivial answer of background metrics."""
    return resize(reference, (draft.shape[0], draft.shape[1])).copy()


class ReferencePaste:
    """Pastes the reference hard into the mask."""

    card = AdapterCard(
        name="reference-paste",
        summary="Resizes the reference (its box, where known) into the mask's box and pastes it hard.",
        licence="Apache-2.0",
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft with the reference pasted into the mask; see :func:`paste_reference`."""
        return paste_reference(inputs.draft, inputs.reference, inputs.mask, inputs.reference_box)
