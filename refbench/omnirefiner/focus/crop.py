"""Focus: refine a crop at the model's working size inside a picture of any size.

The mask's box with a margin is cut out of the draft and enlarged (Focus-and-Refine, RefineAnything, arXiv 2604.06870);
the matching part of the reference is laid onto the same frame. The pose is found by :mod:`refbench.registration`
(keypoints, the user's box, a search of coarse content); where none is believed the user's box in the reference is laid
on the mask's, else the whole reference is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refbench.crops import crop_box, cut
from refbench.images import Image, Mask, mask_box
from refbench.omnirefiner.tensors import resize_crop, to_tensor
from refbench.registration.placement import Placement, place, view
from refbench.registration.pose import Matrix
from refbench.schema import Box


@dataclass(frozen=True, slots=True)
class Focus:
    """A crop at the working size S and what is needed to put it back."""

    draft: Tensor
    """(3, S, S) in [-1, 1]."""
    reference: Tensor
    """(3, S, S) in [-1, 1], the matching part of the reference on the same frame."""
    mask: Tensor
    """(1, S, S) in {0, 1}."""
    picture: Image
    """The whole draft."""
    picture_mask: Mask
    """The whole mask."""
    box: Box
    """The crop (x, y, side, side) in the draft; it may reach over the frame, where the draft is mirrored."""
    match: str
    """How the part of the reference was found: a pose's source, "box" or "whole"."""
    found: Placement
    """How the reference lies."""


def match_box(box: Box, mask: Mask, reference: Image, reference_box: Box | None) -> Matrix:
    """The map (3, 3) that takes the mask's box onto the reference's box, or the crop onto the whole reference.

    Centres fall on each other and the scale is the same both ways, so that nothing is squeezed.
    """
    if reference_box is not None:
        here: Box = mask_box(mask)
        there: Box = reference_box
        scale = float(np.sqrt(there[2] * there[3] / (here[2] * here[3])))
    else:
        here, there = box, (0, 0, reference.shape[1], reference.shape[0])
        scale = max(there[2] / here[2], there[3] / here[3])
    source = np.array([here[0] + here[2] / 2, here[1] + here[3] / 2])
    target = np.array([there[0] + there[2] / 2, there[1] + there[3] / 2])
    move = target - scale * source
    return np.array([[scale, 0, move[0]], [0, scale, move[1]], [0, 0, 1]], np.float64)


def show_reference(
    reference: Image, mask: Mask, box: Box, found: Placement, *, reference_box: Box | None = None
) -> tuple[Image, str]:
    """The reference (side, side, 3) on the frame of a crop `box` of the draft, and how it was found.

    Args:
        reference: (h, w, 3).
        mask: (H, W), not empty.
        box: the crop (x, y, side, side).
        found: how the reference lies.
        reference_box: as :func:`focus` takes it.
    """
    matrix, match = found.matrix, found.pose.source
    if not found.confident:
        matrix, match = match_box(box, mask, reference, reference_box), "box" if reference_box else "whole"
    return view(reference, matrix, box), match


def focus(
    draft: Image, reference: Image, mask: Mask, size: int, *, reference_box: Box | None = None, prompt: str = ""
) -> Focus:
    """Cut the crop to refine out of draft and reference, at `size` px.

    Args:
        draft: (H, W, 3).
        reference: (h, w, 3), any size.
        mask: (H, W), not empty.
        size: the working size, a multiple of the model's token side.
        reference_box: (x, y, width, height) of the detail in the reference, where the user has drawn it.
        prompt: words of exchange in it ("replace") say that the draft shows something else.
    """
    box = crop_box(mask)
    found = place(draft, reference, mask, reference_box, prompt, thorough=True)
    shown, match = show_reference(reference, mask, box, found, reference_box=reference_box)
    marked = torch.from_numpy(cut(mask.astype(np.uint8)[..., None], box)).permute(2, 0, 1).float()
    scaled = (
        torch.nn.functional.adaptive_max_pool2d(marked[None], (size, size))[0]
        if box[2] >= size
        else (torch.nn.functional.interpolate(marked[None], (size, size), mode="nearest-exact")[0])
    )
    return Focus(
        draft=resize_crop(to_tensor(cut(draft, box)), size).clamp(-1, 1),
        reference=resize_crop(to_tensor(shown), size).clamp(-1, 1),
        mask=scaled, picture=draft, picture_mask=mask, box=box, match=match, found=found,
    )  # fmt: skip
