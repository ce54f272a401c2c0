"""Lay a reference into a draft's mask: find its pose, match its light, cut out its figure, blend it in.

The draft keeps its coarse light and colour, the reference gives the rest. Where the draft shows other content than the
reference (the prompt says so, or nothing of the one is found in the other), the masked part is painted over (Telea,
JGT 2004) and the reference's figure laid in. Where the reference cannot be laid with confidence, the draft stays.
Constants were chosen on the validation suite (reports/models.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration import hypotheses, light, looks, pose
from refbench.registration.exchange import exchange
from refbench.registration.looks import Look
from refbench.registration.opencv import cv2
from refbench.registration.outline import Outlines
from refbench.registration.pose import Matrix, Pose, View
from refbench.registration.selection import differing
from refbench.registration.wording import asks_exchange
from refbench.schema import Box

Float = NDArray[np.float32]

LIT, LIT_TRACED = 8.0, 12.0
"""So many lengths go into the mask's longer side: what the draft shows over more than one of them is its light, which
stays where the same thing is repaired. The second where outlines are traced, as OmniRefiner does."""
CONFIDENT = 0.5
"""Least plain score of a pose (:class:`~refbench.registration.pose.Pose`) at which the reference is laid by it, unless
a network's matches back it."""
SEARCHED = 0.75
"""The same where no box says where to look, in a large reference or where a network's matches were asked for and do not
back it: of so many places one is always a little alike."""
UNRELATED = 0.15
"""Best score of a pose below which the draft is taken to show something else than the reference."""
AROUND = 12
"""Least number of agreeing keypoints at which the surroundings alone say how the reference lies."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the reference lies."""

    matrix: Matrix
    """(3, 3), draft px -> reference px, at full resolution."""
    pose: Pose
    """The best hypothesis, at the working resolution."""
    confident: bool
    """Whether the reference should be laid by it at all."""
    other: bool
    """The draft's content is to be replaced, so nothing inside the mask can be learned from it."""
    boxed: bool = False
    """A box said where the detail is in the reference."""
    least: float = CONFIDENT
    """The plain score from which a pose is believed that nothing else backs."""
    figure: float | None = None
    """As :attr:`Laid.figure`, once the reference is laid."""

    @property
    def facts(self) -> dict[str, Any]:
        """{"pose": source or "none", "score": score, "matches": count}, for the run's record; "figure" where known."""
        source = self.pose.source if self.confident else "none"
        facts = {"pose": source, "score": round(self.pose.plain, 3), "matches": self.pose.matches}
        return facts if self.figure is None else {**facts, "figure": round(self.figure, 2)}


def told(draft: Image, refined: Image, found: Placement | None = None) -> dict[str, Any]:
    """What a refiner tells of one picture, for the run's record and ``refbench refine``.

    Args:
        draft, refined: (H, W, 3).
        found: how the reference was found to lie, by a refiner that looks for it.

    Returns:
        :attr:`Placement.facts`, "changed", the number of pixels that are not the draft's, and "why" where there are
        none, the reference was not found, or only a part of its figure was.
    """
    changed = int(np.count_nonzero((draft != refined).any(-1)))
    facts = {**(found.facts if found is not None else {}), "changed": changed}
    if found is not None and not found.confident:
        sure = f"score {found.pose.plain:.2f}, {found.least:g} is enough"
        do = "check that the box in the reference holds the marked detail" if found.boxed else (
            "say where the detail is in the reference: --reference-box x,y,width,height"
        )  # fmt: skip
        why = f"the reference was not found in the draft ({sure}); {do}"
    elif changed and (found is None or found.figure is None or found.figure >= SPANS):
        return facts
    elif changed and found is not None:
        why = (
            f"the figure found spans {found.figure:.0%} of the reference's box and may be cut off, the rest of the "
            "mask was painted over; check that the box holds the detail and little else"
        )
    elif found is not None:
        why = "the draft shows already what the reference shows there, or the pose laid nothing of it inside the mask"
    else:
        why = "the model gave the draft back"
    return {**facts, "why": why}


SPANS = 2 / 3
"""Share of the reference's box that a figure's own box covers, below which it is told that it may be cut off."""
ALIKE = 0.9
"""Least overlap of two outlines at which they are taken for the same thing's."""
ALIKE_BLIND = 0.8
"""The same where nothing but the boxes says how the reference lies: there an outline has less to beat."""
WORSE = 0.05
"""How much likeness inside an outline may cost where the draft shows the right thing."""
CORROBORATED = 0.3
"""Least likeness inside at which an outline alone is believed, where no pose was."""
OUTLINE, MATCHED = 1.5, 0.5
"""Where the pose before does not cover the figure, the two are compared by likeness inside, plus so much times the
overlap of the outlines, plus so much times a network's support; with laxer bounds for the rest, :data:`LAX`. Chosen on
183 prints of the training split whose poses are known (reports/placement.md)."""
LAX = (0.85, 0.4, 0.2)
"""In that comparison what :data:`ALIKE`, :data:`WORSE` and :data:`CORROBORATED` are else."""


def place(
    draft: Image, reference: Image, mask: Mask, reference_box: Box | None, prompt: str, *, thorough: bool = False
) -> Placement:
    """Find how the reference lies over the draft.

    Args:
        draft, reference: (H, W, 3) and (h, w, 3).
        mask: (H, W), not empty.
        reference_box: (x, y, width, height) of the detail in the reference, or None.
        prompt: words of exchange in it say that the draft shows something else.
        thorough: where the draft shows the same thing, ask a network's matches as well
            (:mod:`refbench.registration.learned`), and with a box let the outline of what it holds have the last word
            (:mod:`refbench.registration.outline`).
    """
    other = asks_exchange(prompt)
    here = looks.around(draft, mask_box(mask))
    marked = here.mask(mask)
    there = looks.around(reference, reference_box) if reference_box is not None else None
    box = there.box(reference_box) if there is not None else None
    if there is None or box is None:
        best, view, there = _anywhere(here, reference, marked, thorough and not other)
    else:
        view = View(light.to_lab(here.picture), light.to_lab(there.picture), marked, box)
        matches: Sequence[hypotheses.Matches] = ()
        if thorough and not other:
            from refbench.registration.learned import Matcher

            matches = Matcher(here.picture, marked)(there.picture, box)
        best = hypotheses.find_pose(view, matches, sure=CONFIDENT)
    around = best.same_scene and best.matches >= AROUND
    if box is not None and not around and (other or best.score < UNRELATED):
        best, other = view.judge(hypotheses.from_boxes(view), "placed"), True
    searched = box is None and ((thorough and not other) or max(reference.shape) >= 2 * looks.WORK_SIDE)
    least = SEARCHED if searched else CONFIDENT
    confident = best.plain >= least or best.backed or best.source == "placed" or (other and around)
    if thorough and box is not None and not best.same_scene and not around:
        traced = _traced(view, best, confident, other, here.picture, there.picture, marked, box)
        best, confident = (best, confident) if traced is None else (traced, True)
    matrix = np.linalg.inv(there.matrix) @ best.matrix @ here.matrix
    return Placement(
        matrix, best, confident, other and (around or best.source in ("placed", "outline")), box is not None, least
    )


def _anywhere(here: Look, reference: Image, mask: Mask, learned: bool) -> tuple[Pose, View, Look]:
    """The best pose where no box says where in the reference to look: coarse to fine, then close by.

    Args:
        here: what is seen of the draft.
        reference: (h, w, 3).
        mask: of what is seen.
        learned: ask a network's matches as well.
    """
    lab = light.to_lab(here.picture)
    matcher = None
    if learned:
        from refbench.registration.learned import Matcher

        matcher = Matcher(here.picture, mask)

    def found(there: Look, also: Sequence[tuple[Matrix, str]] = ()) -> tuple[Pose, View, Look]:
        view = View(lab, light.to_lab(there.picture), mask, None)
        return hypotheses.find_pose(view, matcher(there.picture) if matcher else (), also, sure=SEARCHED), view, there

    best, view, there = max(map(found, looks.coarse_to_fine(reference)), key=lambda each: each[0].score)
    whole = np.linalg.inv(there.matrix) @ best.matrix
    x, y, w, h = view.box
    corners = cv2.perspectiveTransform(np.array([[[x, y], [x + w, y], [x + w, y + h], [x, y + h]]], float), whole)[0]
    low = np.clip(np.floor(corners.min(0)), 0, np.maximum(np.array(reference.shape[1::-1]) - 8, 0)).astype(int)
    size = np.maximum(np.ceil(corners.max(0)).astype(int) - low, 8)
    closer = looks.around(reference, (int(low[0]), int(low[1]), int(size[0]), int(size[1])))
    if closer.window == there.window and closer.picture.shape == there.picture.shape:
        return best, view, there
    return found(closer, [(closer.matrix @ whole, best.source)])


def _traced(
    view: View, best: Pose, confident: bool, other: bool, draft: Image, reference: Image, mask: Mask, box: Box
) -> Pose | None:
    """The pose that the outlines give, where they are alike and the content does not speak against it."""
    outlines = Outlines(draft, reference, mask, box)
    found = outlines.fit([best.matrix, hypotheses.from_boxes(view)])
    if found is None or not pose.plausible(found[0], view):
        return None
    judged, overlap = view.judge(found[0], "outline"), found[1]
    if judged.support < best.support - pose.BACKED:
        return None
    alike = overlap >= (ALIKE_BLIND if best.source == "placed" else ALIKE)
    if other:
        return judged if alike else None
    if alike and judged.inside >= (best.inside - WORSE if confident else CORROBORATED):
        return judged

    def worth(of: Pose, covered: float) -> float:
        return of.inside + OUTLINE * covered + MATCHED * of.support

    least, worse, corroborated = LAX
    clear = overlap >= least and judged.inside >= (best.inside - worse if confident else corroborated)
    if outlines.whole or best.matches >= AROUND or not clear:
        return None
    return judged if worth(judged, overlap) > worth(best, outlines.overlap(best.matrix)) else None


def within(box: Box | None, frame: tuple[int, ...]) -> Box | None:
    """The part of a box inside a (height, width) frame; None where it is below 8 px across."""
    if box is None:
        return None
    x, y = max(box[0], 0), max(box[1], 0)
    w, h = min(box[0] + box[2], frame[1]) - x, min(box[1] + box[3], frame[0]) - y
    return (x, y, w, h) if min(w, h) >= 8 else None


def window_of(mask: Mask) -> Box:
    """The part of the frame that is looked at when something is laid into a mask: its box with a margin."""
    return mask_box(mask, max(12, max(mask_box(mask)[2:]) // 4))


def view(reference: Image, matrix: Matrix, window: Box, flow: Float | None = None) -> Image:
    """The reference through a pose (draft px -> reference px) over a window of the draft, moved by `flow` (h, w, 2)."""
    x, y, w, h = window
    local = matrix @ np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
    warped, _ = pose.warp(pose.pyramid(reference), local, (h, w), flow)
    return np.ascontiguousarray(warped)


@dataclass(frozen=True, slots=True)
class Laid:
    """A draft with a reference in its mask."""

    picture: Image
    """(H, W, 3)."""
    figure: float | None = None
    """Share of the reference's box that its figure spans, where what the mask shows beside the figure was painted over;
    None where nothing was, or the figure was not asked for."""


def lay(
    draft: Image, reference: Image, mask: Mask, reference_box: Box | None, matrix: Matrix, *,
    same_scene: bool, other: bool, flow: Float | None = None, outlines: bool = False, selected: bool = True,
) -> Laid:  # fmt: skip
    """Warp the reference by a pose, match its light, blend it inside the mask; outside it the draft's pixels stay.

    Args:
        draft, reference, mask, reference_box: as :func:`place` takes them.
        matrix: (3, 3), draft px -> reference px.
        same_scene: the surroundings of the mask are the same in both, so they say what light is right.
        other: the draft's content is to be replaced, so nothing inside the mask can be learned from it.
        flow: (H, W, 2) in px, by which a pixel is moved before `matrix` takes it; finer than any plane can say.
        outlines: where a print is replaced by one of the same outline, keep the draft's edge and its panel's light
            (:mod:`refbench.registration.exchange`).
        selected: with `outlines`, where the surroundings differ keep the draft where it shows already what the
            reference shows (:mod:`refbench.registration.selection`).
    """
    side = max(mask_box(mask)[2:])
    x, y, w, h = window_of(mask)
    before, inside = draft[y : y + h, x : x + w], mask[y : y + h, x : x + w]
    local = matrix @ np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
    box = None if same_scene else within(reference_box, reference.shape[:2])
    layer = _layer(reference, box)
    warped, valid = pose.warp(pose.pyramid(layer), local, (h, w), None if flow is None else flow[y : y + h, x : x + w])
    matte = np.asarray(np.clip(warped[..., 3] / 255, 0, 1) * valid, np.float32)
    if (inside & (matte > 0.5)).sum() < 16:
        return Laid(draft.copy())
    spanned = _spanned(layer, box) if box is not None and other else None
    target = light.to_lab(before)
    shown = np.clip(warped[..., :3], 0, 255).astype(np.uint8)
    exchanged = exchange(before, shown, matte * inside, inside, side) if outlines and other and not same_scene else None
    if exchanged is not None:
        under, over = light.to_lab(exchanged.base), light.to_lab(exchanged.content)
        result = light.to_rgb(under + exchanged.weight[..., None] * (over - under))
        kept = differing(before, result, inside, side, other=True) if selected else None
        return Laid(_put(draft, result, inside, (x, y, w, h), kept), spanned if exchanged.cut else None)
    content = light.to_lab(shown)
    if other:
        base = light.to_lab(light.painted_over(before, inside))
        if not same_scene:
            content[..., 0] *= light.shading(base[..., 0], side / 8)
    else:
        base = target
        known = np.asarray(matte * inside, np.float32)
        reach = max(4.0, side / (LIT_TRACED if outlines else LIT))
        content = content + light.masked_blur(np.asarray(target - content, np.float32), known, reach)
    ring = (cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~inside & valid
    if same_scene and ring.sum() > 16:
        around = ring.astype(np.float32)
        content = content + light.membrane(
            light.masked_blur(np.asarray(target - content, np.float32), around, 2.0), ring
        )
    edge = cv2.GaussianBlur(np.pad(inside, 1).astype(np.float32), (0, 0), 0.8)[1:-1, 1:-1]
    weight = (matte * (1.0 if other else np.clip(2 * edge - 0.6, 0, 1)))[..., None]
    result = light.to_rgb(base + weight * (content - base))
    chosen = None
    if outlines and selected and not same_scene:
        chosen = differing(before, result, inside, side, other=other)
    return Laid(_put(draft, result, inside, (x, y, w, h), chosen), spanned)


def compose(
    draft: Image, reference: Image, mask: Mask, reference_box: Box | None, prompt: str, *, selected: bool = True
) -> tuple[Image, Placement]:
    """:func:`place`, thorough, then :func:`lay`; arguments as they take them.

    Returns:
        The draft with the reference in its mask, or as it is where the placement is not believed; and the placement.
    """
    found = place(draft, reference, mask, reference_box, prompt, thorough=True)
    if not found.confident:
        return draft.copy(), found
    done = lay(
        draft, reference, mask, reference_box, found.matrix, same_scene=found.pose.same_scene, other=found.other,
        outlines=True, selected=selected,
    )  # fmt: skip
    return done.picture, replace(found, figure=done.figure)


def _put(draft: Image, shown: Image, inside: Mask, window: Box, weight: Float | None) -> Image:
    """The draft with a laid window (h, w, 3) inside the mask, as far as `weight` (h, w) lets it in."""
    x, y, w, h = window
    out = draft.copy()
    before = out[y : y + h, x : x + w]
    if weight is not None:
        mixed = before + weight[..., None] * (shown.astype(np.float32) - before)
        shown = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    before[inside] = shown[inside]
    return out


def _spanned(layer: NDArray[np.float32], box: Box) -> float:
    """Share of a box that the box of the figure in it covers."""
    figure = layer[..., 3] > 127
    width, height = mask_box(figure)[2:] if figure.any() else (0, 0)
    return width * height / (box[2] * box[3])


def _layer(reference: Image, box: Box | None) -> NDArray[np.float32]:
    """The reference with its matte as a fourth channel: all of it, or the figure in the box."""
    inside = np.ones(reference.shape[:2], bool)
    if box is not None:
        inside[:] = False
        inside[max(box[1], 0) : box[1] + box[3], max(box[0], 0) : box[0] + box[2]] = True
    matte = np.full(reference.shape[:2], 255, np.float32) if box is None else light.figure(reference, inside) * 255
    return np.dstack([reference.astype(np.float32), matte]).astype(np.float32)
