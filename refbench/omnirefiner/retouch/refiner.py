"""The small scale's refiner: the reference placed by rule, retouched by the U-Net of stage 1 or 2; torch alone.

It works at the picture's own resolution on a window about the mask. Where a window is larger than :data:`LARGEST` the
network sees it smaller, and its eight numbers, which vary slowly, are carried out on the picture itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from refbench.crops import cut
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, mask_box
from refbench.omnirefiner.retouch.data import SceneBatch, blend_weight
from refbench.omnirefiner.retouch.edit import composite, from_numbers
from refbench.omnirefiner.retouch.unet import RetouchUNet
from refbench.omnirefiner.tensors import to_tensor
from refbench.registration.placement import compose, told, view
from refbench.schema import Box

LARGEST = 384
"""Longest side in px of what the network sees."""
STEP = 32
"""Sides of what it sees are multiples of this."""
STAGES = ("stage1", "stage2")


def checkpoints() -> Path:
    """Folder of the shipped weights."""
    return Path(__file__).parents[1] / "checkpoints" / "retouch"


def load_retoucher(stage: str | None = None, folder: Path | None = None, *, device: str = "cpu") -> Retoucher:
    """The refiner after a stage; stage 2's file holds what it changed of stage 1.

    Args:
        stage: of :data:`STAGES`; the last that the folder holds when None.
        folder: with ``stage1.safetensors``; the shipped one when None.
        device: where the network runs.

    Raises:
        RefbenchError: the folder holds no such stage, or another network's.
    """
    network: Any = RetouchUNet()
    where = folder or checkpoints()
    last = stage or max((name for name in STAGES if (where / f"{name}.safetensors").is_file()), default=STAGES[0])
    for name in STAGES[: STAGES.index(last) + 1]:
        path = where / f"{name}.safetensors"
        if not path.is_file():
            raise RefbenchError(
                f"Expected the weights of {name} at {path}, but there are none; train them with `refbench train "
                f"{name}`."
            )
        load_into(network, path)
    return Retoucher(network.to(device), device)


def load_into(network: RetouchUNet, path: Path) -> None:
    """Set the weights that a file of half-precision ones holds; a stage 1 holds all of them.

    Raises:
        RefbenchError: it holds others, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state, known = load_file(path), network.state_dict()
    except SafetensorError as error:
        raise RefbenchError(
            f"Expected weights as safetensors at {path}, but the file is damaged or of another kind ({error}); take a "
            "whole one."
        ) from None
    whole = path.stem != "stage1" or state.keys() == known.keys()
    if not whole or any(name not in known or known[name].shape != value.shape for name, value in state.items()):
        raise RefbenchError(
            f"Expected weights of the retouching U-Net in {path}, but they are another network's; choose another "
            "folder."
        )
    network.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)


class Retoucher:
    """Places the reference and retouches it.

    Args:
        network: with weights.
        device: where it is.
    """

    def __init__(self, network: RetouchUNet, device: str = "cpu") -> None:
        self.network, self.device = network.eval().requires_grad_(False), device

    def refine(
        self, draft: Image, reference: Image, mask: Mask, reference_box: Box | None, prompt: str
    ) -> tuple[Image, dict[str, Any]]:
        """The refined picture (H, W, 3), and what is known of it (:func:`refbench.registration.placement.told`); the
        draft where the reference was not found."""
        laid, found = compose(draft, reference, mask, reference_box, prompt, selected=False)
        if not found.confident:
            return draft.copy(), told(draft, draft, found)
        scale, box = window(mask)
        shown = cut(draft, box), cut(laid, box), view(reference, found.matrix, box)
        marked = torch.from_numpy(cut(mask.astype(np.uint8)[..., None], box)[..., 0].astype(np.float32))[None]
        drafted, placed, warped = (to_tensor(picture) for picture in shown)
        same, other = (torch.tensor(float(x)) for x in (found.pose.same_scene, found.other))
        weight = blend_weight(drafted, placed, marked, same, other)
        parts = [part[None] for part in (drafted, placed, warped, drafted, marked, weight, other)]
        scene = SceneBatch(*parts).to(self.device)
        out = put(draft, self.retouched(scene, scale), mask, box)
        return out, told(draft, out, found)

    @torch.no_grad()
    def retouched(self, scene: SceneBatch, scale: int = 1) -> Image:
        """The picture (H, W, 3) of one scene, which the network sees smaller by `scale`."""
        seen = [scene.draft, scene.placed, scene.warped, scene.mask, scene.weight]
        if scale > 1:
            seen = [F.avg_pool2d(part, scale) for part in seen]
            seen[3] = (seen[3] > 0.5).to(seen[3])
        numbers = from_numbers(self.network(*seen, scene.replaced))
        picture = composite(numbers, scene, scale)[0].permute(1, 2, 0).float().cpu().numpy()
        return np.clip(np.rint((picture + 1) * 127.5), 0, 255).astype(np.uint8)


def window(mask: Mask) -> tuple[int, Box]:
    """What the network is shown of a picture: by how much smaller, and the box about the mask, which may leave the
    picture."""
    x, y, width, height = mask_box(mask)
    scale = max(1, math.ceil((max(width, height) + 24) / LARGEST))
    step = scale * STEP
    across, down = (max(96, -(-(side + 24) // step) * step) for side in (width, height))
    return scale, (x + width // 2 - across // 2, y + height // 2 - down // 2, across, down)


def put(draft: Image, window: Image, mask: Mask, box: Box) -> Image:
    """The draft with a window (h, w, 3) at `box` inside the mask."""
    x, y, width, height = box
    out = draft.copy()
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, out.shape[0]), min(x + width, out.shape[1])
    inside = mask[top:bottom, left:right]
    out[top:bottom, left:right][inside] = window[top - y : bottom - y, left - x : right - x][inside]
    return out
