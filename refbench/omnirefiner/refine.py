"""Refine pictures with a shipped checkpoint or another: what the adapter calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refbench.crops import box_mask, check_reference
from refbench.devices import AUTO, resolve
from refbench.errors import RefbenchError, check_seed
from refbench.images import Image, Mask, check_mask
from refbench.omnirefiner.method.instructions import RESTORE
from refbench.omnirefiner.method.refiner import Refiner
from refbench.omnirefiner.retouch.refiner import STAGES, Retoucher, load_retoucher
from refbench.pictures import Marked, Picture, as_image, as_mask, where
from refbench.schema import Box

VARIANTS = ("omnirefiner", "omnirefiner-sft")
"""The last stage that a checkpoint holds, and stage 1 alone."""


def load_refiner(
    variant: str = "omnirefiner", *, checkpoint: str | Path | None = None, device: str = AUTO
) -> Retoucher | Refiner:
    """A shipped variant, or one of another checkpoint, which is a folder or a hub id.

    A checkpoint holds ``stage1.safetensors`` and, where there is one, ``stage2.safetensors``; or a diffusers pipeline
    with adapters `sft` and, where there is one, `grpo`; or LoRA adapters alone, whose base is the one they name, else
    FLUX.1-Kontext-dev.

    Raises:
        RefbenchError: an unknown variant, or a checkpoint without it.
    """
    if variant not in VARIANTS:
        raise RefbenchError(f"Expected a variant {', '.join(VARIANTS)}, but got '{variant}'; choose one of these.")
    device = resolve(device)
    last = variant == "omnirefiner"
    if checkpoint is None:
        return load_retoucher(None if last else "stage1", device=device)
    from refbench.omnirefiner.training.weights import adapters_of, base_of, load_pipeline, open_checkpoint

    folder = open_checkpoint(checkpoint)
    if any((folder / f"{name}.safetensors").is_file() for name in STAGES):
        return load_retoucher(None if last else "stage1", folder, device=device)
    if not (folder / "model_index.json").is_file():
        adapters = adapters_of(folder)
        return load_adapted(adapters if last else adapters[:1], base_of(adapters[0]), device=device)
    second = last and (folder / "adapters" / "grpo").is_dir()
    return load_pipeline(folder, ["sft", "grpo"] if second else ["sft"], device=device)


def load_adapted(adapters: Sequence[Path], base: str | None, *, device: str) -> Refiner:
    """LoRA adapters on a FLUX.1-Kontext pipeline, the published one when `base` is None.

    Raises:
        RefbenchError: the pipeline cannot be loaded, or an adapter is another network's.
    """
    from refbench.omnirefiner.config import load_config
    from refbench.omnirefiner.flux.kontext import load_kontext

    model = load_config("flux-kontext").model
    pipeline = load_kontext(model.model_copy(update={"pretrained": base or model.pretrained}), adapters=adapters)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    return pipeline


def refine(
    draft: Picture,
    reference: Picture,
    mask: Marked | None = None,
    *,
    box: Box | None = None,
    reference_box: Box | None = None,
    prompt: str = RESTORE,
    variant: str = "omnirefiner",
    checkpoint: str | Path | None = None,
    pipeline: Retoucher | Refiner | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = AUTO,
) -> Image:
    """Put the marked detail of a draft right from a reference.

    Args:
        draft: (H, W, 3) uint8, a PIL image or a path.
        reference: the same, of any size.
        mask: what is wrong: (H, W) bool, a black and white PIL image or a path, or `box` (x, y, width, height).
        reference_box: where the same detail is in the reference, if known.
        prompt: an instruction; the shipped network hears only whether it asks for another thing than the draft shows.
        variant: see :data:`VARIANTS`; with `checkpoint`, of that folder.
        pipeline: a loaded one, instead of `variant` and `checkpoint`.
        steps: Euler steps of a diffusers checkpoint, by default its own; the shipped network makes one call.
        seed: of the starting noise, which the shipped network has not.

    Returns:
        The refined picture (H, W, 3); outside the mask it is the draft.

    Raises:
        RefbenchError: neither or both of mask and box, a mask that is empty or of another size, a box outside or that
            is none, a reference or box in it below 8 px, or a prompt, pipeline, steps or seed of another kind.
    """
    if (mask is None) == (box is None):
        raise RefbenchError(
            "Expected either a mask or a box, but got " + ("neither" if box is None else "both") + "; give one."
        )
    if not isinstance(prompt, str):
        raise RefbenchError(f"Expected a prompt as text, but got {prompt!r}; leave it out to restore.")
    if not (pipeline is None or isinstance(pipeline, Retoucher | Refiner)):
        raise RefbenchError(f"Expected a pipeline of load_refiner, but got {pipeline!r}; a folder is checkpoint=.")
    if steps is not None and steps < 1:
        raise RefbenchError(f"Expected 1 step or more, but {steps} came.")
    check_seed(seed)
    drafted, shown = as_image(draft, "draft"), as_image(reference, "reference")
    size = (drafted.shape[0], drafted.shape[1])
    check_reference((shown.shape[0], shown.shape[1]), reference_box)
    if box is not None:
        marked = box_mask(box, size)
    else:
        assert mask is not None
        marked = as_mask(mask)
    check_mask(marked, size, "the box" if box is not None else where(mask, "mask"))
    return refine_many(
        [(drafted, shown, marked, reference_box, prompt, seed)],
        pipeline or load_refiner(variant, checkpoint=checkpoint, device=device),
        steps=steps,
    )[0][0]  # fmt: skip


def refine_many(
    questions: Sequence[tuple[Image, Image, Mask, Box | None, str, int]], pipeline: Retoucher | Refiner, *,
    steps: int | None = None,
) -> list[tuple[Image, dict[str, Any]]]:  # fmt: skip
    """Refine a batch of (draft, reference, mask, reference box, prompt, seed): each picture, and what is known of it.

    A picture's result does not depend on the others.
    """
    if isinstance(pipeline, Retoucher):
        return [pipeline.refine(*question[:5]) for question in questions]
    focuses = [pipeline.focus(d, r, m, reference_box=b, prompt=p) for d, r, m, b, p, _ in questions]
    found = pipeline(focuses, [q[4] for q in questions], [q[5] for q in questions], steps=steps)
    return list(zip(found.images, found.facts, strict=True))
