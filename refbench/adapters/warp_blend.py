"""Contestant `warp-blend`: lay the reference over the draft by geometry, match its light, blend it into the mask.

The strongest classical answer. How the reference lies is found by :mod:`refbench.adapters.hypotheses` (keypoints,
boxes, figures, template search) and :mod:`refbench.adapters.geometry` (ECC, dense flow); :mod:`refbench.adapters.light`
matches light and cuts the figure out of the reference's background (GrabCut). The draft's own coarse content is kept
as far as it can be trusted, the reference gives the detail. Where the prompt asks for other content than the draft
shows, the masked part is painted over (Telea, JGT 2004) and the reference's figure laid in. Where the reference cannot
be laid with confidence, the draft stays, mildly sharpened. Deterministic.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.adapters import geometry, hypotheses, light
from refbench.adapters.geometry import Matrix, Pose, View
from refbench.adapters.opencv import cv2
from refbench.adapters.sharpen import sharpened
from refbench.images import Image, Mask, mask_box, resize
from refbench.schema import AdapterCard, Box, Inputs

Float = NDArray[np.float32]

CONFIDENT = 0.55
"""Least score of a pose (see :class:`~refbench.adapters.geometry.Pose`) at which the reference is used."""
OTHER_CONTENT = re.compile(
    r"\b(replac|swap|exchang|instead of|in place of|in exchange|wrong (emblem|logo|mark|print|pattern)|not this)"
    r"|\bput the reference's|\bgive the\b|\bshould (say|have|show|carry)\b|\buse the reference's",
    re.IGNORECASE,
)
"""Prompts that ask for something else than what the draft shows, so that likeness to the draft says nothing."""


class WarpBlend:
    """Warps, relights and blends the reference into the mask."""

    card = AdapterCard(
        name="warp-blend",
        summary="Keypoints, RANSAC homography, ECC polish and dense flow lay the reference over the draft; "
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
        laid = [] if box is None else [_figure_on_figure(view, draft, reference, other)]
        pose = hypotheses.find_pose(view, laid)[0]
        around = pose.same_scene and pose.matches >= 12
        if other and box is not None and not around and (pose.matches < 15 or pose.inside < 0.5):
            pose = view.judge(laid[0], "placed")
        facts = {"pose": pose.source, "score": round(pose.score, 3), "matches": pose.matches}
        weak = pose.matches < 6 and pose.inside < 0.65
        if (pose.score < CONFIDENT or weak) and pose.source != "placed" and not (other and around):
            return sharpened(inputs.draft, inputs.mask, 0.5), {**facts, "pose": "none"}
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
    """Warp by a pose of full resolution, refine it by flow, match the light, blend inside the mask.

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
    target, fine = light.to_lab(draft), 0.0
    if not other:
        warped, valid, fine = _follow(layer, local, target, warped, valid, mask, pose.same_scene)
    matte = np.asarray(np.clip(warped[..., 3] / 255, 0, 1) * valid, np.float32)
    content = light.to_lab(np.clip(warped[..., :3], 0, 255).astype(np.uint8))
    inside = mask & (matte > 0.5)
    if inside.sum() < 16:
        return sharpened(inputs.draft, inputs.mask, 0.5)
    if other:
        base = light.to_lab(light.painted_over(draft, mask))
        if not pose.same_scene:
            content[..., 0] *= light.shading(base[..., 0], side / 8)
        sure = matte
    else:
        base = light.to_lab(sharpened(inputs.draft, inputs.mask, 0.3)[y : y + h, x : x + w])
        content = light.match_levels(content, target, inside)
        lost, share = light.lost_below(target[..., 0], content[..., 0], inside)
        fine = max(fine, float(np.clip((0.45 - share) / 0.15, 0, 1)))  # blurred, so what is left is in place
        soft = (1 - fine) * max(4.0, side / 16) + fine * lost
        scales = max(1.5, side / 60), max(4.0, side / 10)
        believed, shows = light.agreement(target[..., 0], content[..., 0], matte, *scales)
        known = np.asarray(matte * mask * shows, np.float32)
        content = content + light.masked_blur(np.asarray(target - content, np.float32), known, soft)
        sure = matte * believed
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask & valid
    if pose.same_scene and ring.sum() > 16:
        around = ring.astype(np.float32)
        content = content + light.membrane(
            light.masked_blur(np.asarray(target - content, np.float32), around, 2.0), ring
        )
    edge = cv2.GaussianBlur(np.pad(mask, 1).astype(np.float32), (0, 0), 0.8)[1:-1, 1:-1]
    weight = (sure * (1.0 if other else np.clip(2 * edge - 0.6, 0, 1)))[..., None]
    result = light.to_rgb(base + weight * (content - base))
    out = inputs.draft.copy()
    out[y : y + h, x : x + w][mask] = result[mask]
    return out


def _figure_on_figure(view: View, draft: Image, reference: Image, other: bool) -> Matrix:
    """The pose that lays the reference's figure on the one that stands in the draft, right or wrong."""
    box = np.zeros(reference.shape[:2], bool)
    x, y, w, h = view.reference_box
    box[max(y, 0) : y + h, max(x, 0) : x + w] = True
    there, here = light.figure(reference, box) > 0.5, light.figure(draft, view.mask) > 0.5
    return hypotheses.from_figures(view, here if here.any() else view.mask, there if there.any() else box)


def _layer(reference: Image, box: Box | None) -> NDArray[np.float32]:
    """The reference with its matte as a fourth channel: all of it, or the figure in the box."""
    inside = np.ones(reference.shape[:2], bool)
    if box is not None:
        inside[:] = False
        inside[max(box[1], 0) : box[1] + box[3], max(box[0], 0) : box[0] + box[2]] = True
    matte = np.full(reference.shape[:2], 255, np.float32) if box is None else light.figure(reference, inside) * 255
    return np.dstack([reference.astype(np.float32), matte]).astype(np.float32)


def _follow(
    layer: Float, matrix: Matrix, target: Float, warped: Float, valid: Mask, mask: Mask, same_scene: bool
) -> tuple[Float, Mask, float]:
    """Correct the warp by optical flow, as finely as the draft's own geometry can be trusted.

    A draft that lost detail still has its edges in place, and flow towards it is smooth; a melted draft pulls the
    reference's right geometry into its own wrong one, and that flow is rough. The trust (0 to 1) is read off the
    roughness: the median difference of the flow at two smoothings, relative to the mask's size.

    Returns:
        The layer warped anew, where it is valid, and the trust in the draft's geometry.
    """
    side = max(mask_box(mask)[2:])
    luma = target[..., 0]
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in mask.shape[::-1])), -1)
    field = np.zeros_like(grid)
    trust = 0.0
    for first, sigma in ((True, 2.0), (False, 1.2), (False, 0.8)):
        usable = valid & (warped[..., 3] > 127)
        inside = mask & usable
        if inside.sum() < 64:
            break
        a, b = (geometry.even(i, sigma, side / 8) for i in (luma, _lightness(warped)))
        if first:
            fine, broad = (
                geometry.flow_after(a, b, usable.astype(np.float32), max(2.0, s), side / 6)
                for s in (side / 30, side / 8)
            )
            rough = float(np.median(np.hypot(*np.moveaxis(fine - broad, -1, 0))[inside])) / side
            trust = float(np.clip((0.0115 - rough) / 0.004, 0, 1))
        trusted = np.where(mask, 0.05 + 0.95 * trust, 1.0 if same_scene else 0.0).astype(np.float32) * usable
        if trust == 0 and not same_scene:
            break
        step = geometry.flow_after(a, b, trusted, max(3.0, side / (8 + 14 * trust)), side / 8)
        moved = grid + step
        total = step + cv2.remap(field, moved, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        at = cv2.perspectiveTransform(grid + total, matrix).astype(np.float32)
        tried = cv2.remap(layer, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        there = cv2.remap(valid.astype(np.uint8), moved, None, cv2.INTER_NEAREST) > 0
        judged = usable if same_scene else inside
        both = judged & there & (tried[..., 3] > 127)
        if both.sum() < 0.9 * judged.sum():
            continue
        c = geometry.even(_lightness(tried), sigma, side / 8)
        if geometry.correlation(a[both], c[both]) > geometry.correlation(a[both], b[both]) + 0.005:
            warped, valid, field = tried, there, total
    return warped, valid, trust


def _lightness(layer: Float) -> Float:
    return np.ascontiguousarray(light.to_lab(np.clip(layer[..., :3], 0, 255).astype(np.uint8))[..., 0])
