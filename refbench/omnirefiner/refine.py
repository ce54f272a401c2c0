"""Refine one picture: what ``refbench refine`` and the adapter call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refbench import images
from refbench.crops import crop_box
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, check_mask, load_image, load_mask, resize
from refbench.omnirefiner.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.weights import checkpoints, load_pipeline
from refbench.schema import Box

PROMPT = "Restore the detail inside the mask from the reference."

VARIANTS: dict[str, tuple[str, ...]] = {
    "omnirefiner": ("sft", "grpo"),
    "omnirefiner-sft": ("sft",),
    "omnirefiner-base": (),
}
"""Adapters of each shipped variant; the base is a single-image editor and sees no reference."""


def load_refiner(
    variant: str = "omnirefiner", *, checkpoint: str | Path | None = None, device: str = "cpu"
) -> OmniRefinerPipeline:
    """A shipped variant, or one of another checkpoint folder.

    Raises:
        RefbenchError: an unknown variant, or a checkpoint without it.
    """
    if variant not in VARIANTS:
        raise RefbenchError(f"Expected a variant {', '.join(VARIANTS)}, but got '{variant}'; choose one of these.")
    return load_pipeline(checkpoint or checkpoints(), VARIANTS[variant], device=device)


def box_mask(box: Box, size: tuple[int, int]) -> Mask:
    """A mask (H, W) that is true in the box (x, y, width, height).

    Raises:
        RefbenchError: the box has no area or leaves the frame.
    """
    x, y, width, height = box
    if width < 1 or height < 1 or x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise RefbenchError(
            f"Expected a box inside the draft of {size[1]} x {size[0]} px, but got {x},{y},{width},{height}; "
            "give x,y,width,height in px."
        )
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def refine(
    draft: Image,
    reference: Image,
    mask: Mask | None = None,
    *,
    box: Box | None = None,
    reference_box: Box | None = None,
    prompt: str = PROMPT,
    variant: str = "omnirefiner",
    checkpoint: str | Path | None = None,
    pipeline: OmniRefinerPipeline | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Image:
    """Put the marked detail of a draft right from a reference.

    Args:
        draft: (H, W, 3).
        reference: (h, w, 3), any size.
        mask: (H, W), or `box` (x, y, width, height) in its place: what is wrong.
        reference_box: where the same detail is in the reference, if known.
        prompt: an instruction; without text encoders (the tiny scale) it has no effect.
        variant: see :data:`VARIANTS`; with `checkpoint`, of that folder.
        pipeline: a loaded one, instead of `variant` and `checkpoint`.
        steps: Euler steps, by default the pipeline's.
        seed: of the starting noise.

    Returns:
        The refined picture (H, W, 3); outside the mask it is the draft.

    Raises:
        RefbenchError: neither or both of mask and box, a mask that is empty or of another size, a box outside.
    """
    if (mask is None) == (box is None):
        raise RefbenchError(
            "Expected either a mask or a box, but got " + ("both" if box else "neither") + "; give one."
        )
    if mask is None:
        assert box is not None
        mask = box_mask(box, draft.shape[:2])
    check_mask(mask, draft.shape[:2], "the mask" if box is None else "the box")
    return refine_many(
        [(draft, reference, mask, reference_box, prompt, seed)],
        pipeline or load_refiner(variant, checkpoint=checkpoint, device=device),
        steps=steps, use_reference=variant != "omnirefiner-base",
    )[0]  # fmt: skip


def refine_many(
    questions: Sequence[tuple[Image, Image, Mask, Box | None, str, int]], pipeline: OmniRefinerPipeline, *,
    steps: int | None = None, use_reference: bool = True,
) -> list[Image]:  # fmt: skip
    """Refine a batch of (draft, reference, mask, reference box, prompt, seed).

    Crops of one working size go through the model together; a picture's result does not depend on the others.
    """
    sizes = [pipeline.size_for(crop_box(mask)[2]) for _, _, mask, _, _, _ in questions]
    images: dict[int, Image] = {}
    for size in sorted(set(sizes)):
        rows = [i for i, s in enumerate(sizes) if s == size]
        chosen = [questions[i] for i in rows]
        found = pipeline(
            [
                pipeline.focus(d, r if use_reference else None, m, size, reference_box=b, prompt=p)
                for d, r, m, b, p, _ in chosen
            ],
            [q[4] for q in chosen], [q[5] for q in chosen], steps=steps, use_reference=use_reference,
        )  # fmt: skip
        images |= dict(zip(rows, found.images, strict=True))
    return [images[i] for i in range(len(questions))]


def side_by_side(draft: Image, reference: Image, mask: Mask, refined: Image) -> Image:
    """Draft with the mask's outline, reference, and refined, at one height, for ``--show``: (H, W', 3)."""
    height = draft.shape[0]
    shown = draft.copy()
    inner = mask.copy()
    inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    shown[mask & ~inner] = (255, 0, 160)
    width = max(1, round(reference.shape[1] * height / reference.shape[0]))
    gap = np.full((height, 8, 3), 255, np.uint8)
    return np.ascontiguousarray(np.hstack([shown, gap, resize(reference, (height, width)), gap, refined]))


def refine_file(
    draft: Path, reference: Path, out: Path, *, mask: Path | None = None, box: Box | None = None,
    reference_box: Box | None = None, prompt: str | None = None, variant: str = "omnirefiner",
    checkpoint: Path | None = None, steps: int | None = None, seed: int = 0, device: str = "cpu",
    show: Path | None = None,
) -> Image:  # fmt: skip
    """:func:`refine` from files to a PNG, WebP or TIFF file, and with `show` a side-by-side picture.

    A draft with transparency keeps its alpha; the model sees it over white.

    Raises:
        RefbenchError: as :func:`refine`, or a file that cannot be read or written.
    """
    original = images.load_rgba(draft)
    images.check_output(out, "--out", original.shape[:2])
    if show is not None:
        images.check_output(show, "--show")
    pictures = images.over_white(original), load_image(reference)
    marked = load_mask(mask) if mask is not None else None
    if marked is not None:
        check_mask(marked, original.shape[:2], str(mask))
    refined = refine(
        *pictures, marked, box=box, reference_box=reference_box, prompt=prompt or PROMPT, variant=variant,
        checkpoint=checkpoint, steps=steps, seed=seed, device=device,
    )  # fmt: skip
    images.save_image(out, images.with_alpha_of(original, refined))
    if show is not None:
        if marked is None:
            assert box is not None
            marked = box_mask(box, refined.shape[:2])
        images.save_image(show, side_by_side(*pictures, marked, refined))
    return refined
