"""Contestant `warp-blend`: lay the reference over the draft by geometry, match its light, blend it into the mask.

The strongest classical answer. How the reference lies is found by :mod:`refbench.adapters.hypotheses` (keypoints,
boxes, figures, template search) and :mod:`refbench.adapters.geometry` (ECC); :mod:`refbench.adapters.light` matches
light and cuts the figure out of the reference's background (GrabCut). The draft keeps its coarse light and colour, the
reference gives the rest. Where the draft shows other content than the reference (the prompt says so, or nothing of
the one is found in the other), the masked part is painted over (Telea, JGT 2004) and the reference's figure laid in.
Where the reference cannot be laid with confidence, the draft stays. Deterministic. Its constants were chosen on the
validation suite (docs/adapters.md).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.adapters import geometry, hypotheses, light
from refbench.adapters.geometry import Matrix, Pose, View
from refbench.adapters.opencv import cv2
from refbench.images import Image, mask_box, resize
from refbench.schema import AdapterCard, Box, Inputs

Float = NDArray[np.float32]

CONFIDENT = 0.5
"""Least score of a pose (see :class:`~refbench.adapters.geometry.Pose`) at which the reference is laid by it."""
UNRELATED = 0.15
"""Best score of a pose below which the draft is taken to show something else than the reference."""
AROUND = 12
"""Least number of agreeing keypoints at which the surroundings alone say how the reference lies."""
OTHER_CONTENT = re.compile(
    r"\b(replac|swap|exchang|substitut|switch)\w*|\b(instead|rather than|in place of)\b|\bchange\b.*\b(to|into|for)\b",
    re.IGNORECASE,
)
"""The English words of exchange: with one of them a prompt asks for something else than what the draft shows, so that
likeness to the draft says nothing."""


class WarpBlend:
    """Warps, relights and blends the reference into the mask."""

    card = AdapterCard(
        name="warp-blend",
        summary="Keypoints, RANSAC homography and ECC polish lay the reference over the draft; "
        "its light is matched in Lab, its background cut away, and it is blended into the mask.",
        licence="Apache-2.0",
        paper="https://doi.org/10.1145/882262.882269",
        requires=("cv2",),
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The refined image, and how it was made: {"pose": source, "score": score, "matches": count}."""
        other = OTHER_CONTENT.search(inputs.prompt) is not None
        draft, factor = reduced(inputs.draft)
        reference, shrink = reduced(inputs.reference)
        mask = inputs.mask if factor == 1 else light.shrink_mask(inputs.mask, (draft.shape[0], draft.shape[1]))
        box = within(inputs.reference_box, inputs.reference.shape[:2], shrink)
        view = View(light.to_lab(draft), light.to_lab(reference), mask, box)
        pose = hypotheses.find_pose(view)[0]
        around = pose.same_scene and pose.matches >= AROUND
        if box is not None and not around and (other or pose.score < UNRELATED):
            pose, other = view.judge(hypotheses.from_boxes(view), "placed"), True
        facts = {"pose": pose.source, "score": round(pose.score, 3), "matches": pose.matches}
        if pose.score < CONFIDENT and pose.source != "placed" and not (other and around):
            return inputs.draft.copy(), {**facts, "pose": "none"}
        matrix = np.diag([1 / shrink, 1 / shrink, 1.0]) @ pose.matrix @ np.diag([factor, factor, 1.0])
        return blend(inputs, matrix, pose, other and (around or pose.source == "placed")), facts


def reduced(image: Image) -> tuple[Image, float]:
    """The image with its long side at most `geometry.WORK_SIDE`, and the factor by which it was reduced."""
    factor = min(1.0, geometry.WORK_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))
    return (resize(image, size), factor) if factor < 1 else (image, 1.0)


def within(box: Box | None, frame: tuple[int, ...], factor: float) -> Box | None:
    """The part of a box inside a (height, width) frame, both scaled; None where it is below 8 px across."""
    if box is None:
        return None
    x, y = max(box[0], 0), max(box[1], 0)
    w, h = min(box[0] + box[2], frame[1]) - x, min(box[1] + box[3], frame[0]) - y
    x, y, w, h = (round(v * factor) for v in (x, y, w, h))
    return (x, y, w, h) if min(w, h) >= 8 else None


def blend(inputs: Inputs, matrix: Matrix, pose: Pose, other: bool) -> Image:
    """Warp by a pose of full resolution, match the light, blend inside the mask.

    Args:
        inputs: the sample.
        matrix: (3, 3), draft px -> reference px.
        pose: what is known about it.
        other: the draft's content is to be replaced, so nothing inside the mask can be learned from it.
    """
    side = max(mask_box(inputs.mask)[2:])
    x, y, w, h = mask_box(inputs.mask, max(12, side // 4))
    draft, mask = inputs.draft[y : y + h, x : x + w], inputs.mask[y : y + h, x : x + w]
    local = matrix @ np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
    box = within(inputs.reference_box, inputs.reference.shape[:2], 1.0)
    layer = _layer(inputs.reference, None if pose.same_scene else box)
    warped, valid = geometry.warp(geometry.pyramid(layer), local, (h, w))
    target = light.to_lab(draft)
    matte = np.asarray(np.clip(warped[..., 3] / 255, 0, 1) * valid, np.float32)
    content = light.to_lab(np.clip(warped[..., :3], 0, 255).astype(np.uint8))
    if (mask & (matte > 0.5)).sum() < 16:
        return inputs.draft.copy()
    if other:
        base = light.to_lab(light.painted_over(draft, mask))
        if not pose.same_scene:
            content[..., 0] *= light.shading(base[..., 0], side / 8)
    else:
        base = target
        known = np.asarray(matte * mask, np.float32)
        content = content + light.masked_blur(np.asarray(target - content, np.float32), known, max(4.0, side / 8))
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask & valid
    if pose.same_scene and ring.sum() > 16:
        around = ring.astype(np.float32)
        content = content + light.membrane(
            light.masked_blur(np.asarray(target - content, np.float32), around, 2.0), ring
        )
    edge = cv2.GaussianBlur(np.pad(mask, 1).astype(np.float32), (0, 0), 0.8)[1:-1, 1:-1]
    weight = (matte * (1.0 if other else np.clip(2 * edge - 0.6, 0, 1)))[..., None]
    result = light.to_rgb(base + weight * (content - base))
    out = inputs.draft.copy()
    out[y : y + h, x : x + w][mask] = result[mask]
    return out


def _layer(reference: Image, box: Box | None) -> NDArray[np.float32]:
    """The reference with its matte as a fourth channel: all of it, or the figure in the box."""
    inside = np.ones(reference.shape[:2], bool)
    if box is not None:
        inside[:] = False
        inside[max(box[1], 0) : box[1] + box[3], max(box[0], 0) : box[0] + box[2]] = True
    matte = np.full(reference.shape[:2], 255, np.float32) if box is None else light.figure(reference, inside) * 255
    return np.dstack([reference.astype(np.float32), matte]).astype(np.float32)
