"""How the reference lies over the draft: poses, how they are judged, and polished (ECC).

A *pose* is a 3 x 3 homography that takes draft pixels to reference pixels. A pose is judged by how well the coarse
content of the draft inside the mask, which is right in place if wrong in detail, correlates with the warped
reference, by the same around the mask, and by the keypoints that agree with it. :mod:`refbench.registration.hypotheses`
makes the poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.images import Mask, mask_box
from refbench.registration.opencv import cv2
from refbench.schema import Box

Float = NDArray[np.float32]
Matrix = NDArray[np.float64]
Points: TypeAlias = "tuple[NDArray[np.float64], ...]"

JUDGE_SIDE = 144
"""Hypotheses are judged with the mask's window reduced to this long side (px)."""
NEAR = 0.03
"""So far from where a pose takes a point a network's match may lie to agree, share of the mask's longer side; 3 px at
least."""
LEARNED = 0.5
"""What full support by a network's matches adds to a pose's score."""
ENOUGH = 40
"""So many agreeing matches of a network are full support."""
BACKED, LIKELY = 0.45, 0.3
"""Least support by a network's matches, and least plain score with it, at which a pose is believed."""
SAME_SCENE = 0.5
"""Least correlation around the mask at which the surroundings are taken for the same scene."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A hypothesis that has been scored."""

    matrix: Matrix
    """(3, 3), draft px -> reference px."""
    source: str
    """Where it came from: "keypoints", "similarity", "box", "template", "placed" or "outline"."""
    matches: int
    """Keypoint matches near the mask that agree with it."""
    inside: float
    """Correlation of coarse content inside the mask, -1 to 1."""
    ring: float
    """The same in a band around the mask; low where the surroundings are another scene."""
    cover: float
    """Share of the mask that the reference (its box, where the surroundings differ) has content for."""
    asked: int = 0
    """Matches of a network inside the mask."""
    agreed: int = 0
    """Those of them that agree with it."""

    @property
    def score(self) -> float:
        """What hypotheses are ranked by: likeness inside and around, agreeing keypoints and a network's matches."""
        return self.plain + LEARNED * self.support

    @property
    def plain(self) -> float:
        """The score without what a network's matches say."""
        likeness = min(1.0, self.cover / 0.6) * (self.inside + 0.35 * max(self.ring, 0.0))
        return likeness + 0.5 * min(max(self.matches - 4, 0), 25) / 25

    @property
    def support(self) -> float:
        """What a network's matches say for it, 0 to 1: their number times the share of them that agree."""
        return min(self.agreed, ENOUGH) / ENOUGH * self.agreed / self.asked if self.asked else 0.0

    @property
    def backed(self) -> bool:
        """Whether a network's matches say that it is right."""
        return self.support >= BACKED and self.plain >= LIKELY

    @property
    def same_scene(self) -> bool:
        """Whether the surroundings of the mask are the same in both images."""
        return self.ring > SAME_SCENE


class View:
    """What the search needs of a draft and a reference, computed once, at working resolution.

    Args:
        draft, reference: (H, W, 3) and (h, w, 3) Lab, float32.
        mask: (H, W) bool.
        reference_box: (x, y, width, height) in the reference, or None.
    """

    def __init__(self, draft: Float, reference: Float, mask: Mask, reference_box: Box | None) -> None:
        self.draft, self.reference, self.mask = draft, reference, mask
        self.box = mask_box(mask)
        side = max(self.box[2:])
        self.reach = max(8, round(0.2 * side))
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(4, self.reach // 3)) > 0
        self.coarse = max(1.5, side / 60)
        """Sigma in px of the detail that is not trusted in the draft."""
        self.wide = max(6.0, side / 10)
        """Sigma in px of the light that is not compared."""
        self.has_box = reference_box is not None
        self.reference_box: Box = reference_box or (0, 0, reference.shape[1], reference.shape[0])
        left, top, right, bottom = self.window(int(2.5 * self.coarse) + 2 + self.reach)
        self.frame = (left, top, right - left, bottom - top)
        self.matched: Points = (np.zeros((0, 2)), np.zeros((0, 2)))
        """Keypoints of the draft near the mask and of the reference that may show the same."""
        self.learned: Points = (np.zeros((0, 2)), np.zeros((0, 2)))
        """The same of a network, inside the mask."""
        self.near = max(3.0, NEAR * side)
        self.levels = pyramid(reference)
        self.reduce = max(1.0, max(self.frame[2:]) / JUDGE_SIDE)
        self.size = (round(self.frame[3] / self.reduce), round(self.frame[2] / self.reduce))
        """(height, width) at which hypotheses are judged."""
        self.inside = _shrink(mask[top:bottom, left:right], self.size)
        self.ring = _shrink((grown & ~mask)[top:bottom, left:right], self.size) & ~self.inside
        self.banded = self.band(_shrink(draft[top:bottom, left:right], self.size))

    def window(self, margin: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the mask's box grown by `margin` inside the frame."""
        x, y, width, height = self.box
        rows, columns = self.mask.shape
        return max(x - margin, 0), max(y - margin, 0), min(x + width + margin, columns), min(y + height + margin, rows)

    def band(self, image: Float) -> Float:
        """Coarse detail of an image at the judging size: between `coarse` and `wide`, at even local contrast.

        Shadows and folds of the surface a print lies on are stronger than the print: they must not decide.
        """
        wide = self.wide / self.reduce
        detail = band(image, max(0.7, self.coarse / self.reduce), wide)
        energy = cv2.GaussianBlur((detail * detail).sum(-1), (0, 0), wide)
        return np.asarray(detail / (np.sqrt(energy) + 3.0)[..., None], np.float32)

    def local(self, matrix: Matrix) -> Matrix:
        """A pose as a map from judging px to reference px."""
        x, y, width, height = self.frame
        across, down = width / self.size[1], height / self.size[0]
        half = np.array([[across, 0, x + (across - 1) / 2], [0, down, y + (down - 1) / 2], [0, 0, 1.0]])
        return np.asarray(matrix @ half)

    def warp(self, matrix: Matrix, same_scene: bool = True) -> tuple[Float, Mask]:
        """The reference over the window `frame` at the judging size, and where it may be used.

        That is inside its frame, or, where the surroundings are another scene, inside its box.
        """
        local = self.local(matrix)
        warped, valid = warp(self.levels, local, self.size)
        return warped, valid if same_scene else valid & self.boxed(local)

    def boxed(self, local: Matrix) -> Mask:
        """Where the reference's box falls at the judging size; everywhere when none is known."""
        if not self.has_box:
            return np.ones(self.size, bool)
        return in_box(self.reference_box, self.reference.shape[:2], local, self.size)

    def agreeing(self, matrix: Matrix) -> int:
        """Places in the reference that have a match near the mask which the hypothesis takes within 3 px of it."""
        a, b = self.matched
        moved = np.column_stack([a, np.ones(len(a))]) @ matrix.T
        depth = np.where(np.abs(moved[:, 2:]) < 1e-9, 1e-9, moved[:, 2:])
        close = np.hypot(*(moved[:, :2] / depth - b).T) < 3
        return len({tuple(point) for point in b[close].round().tolist()})

    def masked(self, points: NDArray[np.float64]) -> Mask:
        """Which points (n, 2) of the draft lie inside the mask or up to 3 px beside it, (n,)."""
        area = cv2.dilate(self.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        x, y = np.clip(points.round().astype(int), 0, np.array(self.mask.shape[::-1]) - 1).T
        return np.asarray(area[y, x])

    def backed(self, matrix: Matrix) -> int:
        """How many of a network's matches inside the mask agree with a pose, measured in the draft."""
        a, b = self.learned
        if not len(a) or abs(float(np.linalg.det(matrix))) < 1e-12:
            return 0
        moved = np.column_stack([b, np.ones(len(b))]) @ np.linalg.inv(matrix).T
        depth = np.where(np.abs(moved[:, 2:]) < 1e-9, 1e-9, moved[:, 2:])
        return int((np.hypot(*(moved[:, :2] / depth - a).T) < self.near).sum())

    def judge(self, matrix: Matrix, source: str) -> Pose:
        """Score a hypothesis."""
        warped, valid = self.warp(matrix)
        banded = self.band(warped)
        ring = self.ring & valid
        around = 0.0
        if ring.sum() >= max(25, 0.2 * int(self.ring.sum())):
            around = correlation(self.banded[ring], banded[ring])
        if around <= SAME_SCENE:
            valid = valid & self.boxed(self.local(matrix))
        inside = self.inside & valid
        cover = float(inside.sum()) / max(int(self.inside.sum()), 1)
        likeness = correlation(self.banded[inside], banded[inside])
        return Pose(
            matrix, source, self.agreeing(matrix), likeness, around, cover, len(self.learned[0]), self.backed(matrix)
        )


def _shrink(image: NDArray[Any], size: tuple[int, int]) -> Any:
    if image.dtype == np.bool_:
        return cv2.resize(image.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA) > 0.5
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def pyramid(image: NDArray[Any]) -> list[NDArray[Any]]:
    """The image at 1, 1/2, 1/4 ... of its size, down to 32 px."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 64:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def in_box(box: Box, frame: tuple[int, int], matrix: Matrix, size: tuple[int, int]) -> Mask:
    """Where `matrix` takes the pixels of a (height, width) frame into a box of the reference, grown by 3 %."""
    x, y, width, height = box
    area = np.zeros(frame, np.uint8)
    grow_x, grow_y = max(1, round(0.03 * width)), max(1, round(0.03 * height))
    area[max(y - grow_y, 0) : y + height + grow_y, max(x - grow_x, 0) : x + width + grow_x] = 255
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(area, matrix, (size[1], size[0]), flags=flags) > 127)


def band(image: Float, fine: float, wide: float) -> Float:
    """Detail between two Gaussian scales, sigma in px."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), fine) - cv2.GaussianBlur(image, (0, 0), wide), np.float32)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation of (n,) or (n, channels), pooled over channels; 0 if constant or n is below 16."""
    if len(a) < 16:
        return 0.0
    a = (a - a.mean(0, dtype=np.float64)).ravel()
    b = (b - b.mean(0, dtype=np.float64)).ravel()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-6 else 0.0


def warp(
    levels: list[NDArray[Any]], matrix: Matrix, size: tuple[int, int], flow: Float | None = None
) -> tuple[NDArray[Any], Mask]:
    """Sample an image where `matrix` takes each pixel of a (height, width) frame; also where that is inside it.

    Args:
        levels: the image's :func:`pyramid`; the level nearest above the frame's resolution is sampled.
        matrix: (3, 3), frame px -> image px.
        size: (height, width).
        flow: (height, width, 2), frame px by which a pixel is moved before `matrix` takes it, as (x, y).
    """
    centre = matrix @ np.array([size[1] / 2, size[0] / 2, 1.0])
    factor = float(np.sqrt(abs(float(np.linalg.det(matrix))) / max(abs(float(centre[2])) ** 3, 1e-9)))
    level = int(np.clip(np.floor(np.log2(max(factor, 1.0)) + 0.3), 0, len(levels) - 1))
    down = 2.0**-level
    # pyrDown keeps even pixels: pixel p of a level lies at p * 2**level
    scaled = np.diag([down, down, 1.0]) @ matrix
    source = levels[level]
    frame = (size[1], size[0])
    ones = np.full(source.shape[:2], 255, np.uint8)
    kernel = cv2.INTER_CUBIC if factor < 1.5 else cv2.INTER_LINEAR
    if flow is None:
        out = cv2.warpPerspective(
            source, scaled, frame, flags=kernel | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        valid = cv2.warpPerspective(ones, scaled, frame, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 250
        return out, valid
    columns, rows = np.meshgrid(np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32))
    moved = np.stack([columns + flow[..., 0], rows + flow[..., 1], np.ones_like(rows)], -1) @ scaled.T
    depth = np.where(np.abs(moved[..., 2:]) < 1e-9, 1e-9, moved[..., 2:])
    u, v = np.moveaxis((moved[..., :2] / depth).astype(np.float32), -1, 0)
    out = cv2.remap(source, u, v, kernel, borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.remap(ones, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 250
    return out, valid


def plausible(matrix: Matrix | None, view: View) -> bool:
    """Whether a homography keeps the mask's box convex, unmirrored, and within 8 times larger or smaller."""
    if matrix is None or not np.all(np.isfinite(matrix)):
        return False
    x, y, w, h = view.box
    corners = np.array([[x, y, 1], [x + w, y, 1], [x + w, y + h, 1], [x, y + h, 1.0]])
    moved = corners @ matrix.T
    if np.any(moved[:, 2] * np.sign(moved[0, 2]) < 1e-6):
        return False
    points = moved[:, :2] / moved[:, 2:]
    edges = np.roll(points, -1, 0) - points
    turns = edges[:, 0] * np.roll(edges, -1, 0)[:, 1] - edges[:, 1] * np.roll(edges, -1, 0)[:, 0]
    lengths = np.hypot(edges[:, 0], edges[:, 1]) / np.array([w, h, w, h])
    spread = float(lengths.max() / max(float(lengths.min()), 1e-9))
    return bool(np.all(turns > 0) and lengths.min() > 1 / 8 and lengths.max() < 8 and spread < 4)


def polish(view: View, pose: Pose) -> Pose:
    """ECC (Evangelidis and Psarakis, TPAMI 2008) over the mask, at two resolutions.

    Its surroundings take part where they show the same scene.

    Returns the pose itself where ECC does not converge or does not raise the score.
    """
    best = pose
    area = (view.inside | view.ring if pose.same_scene else view.inside).astype(np.uint8) * 255
    height, width = view.size
    template = view.banded[..., 0]
    to_local = np.linalg.inv(view.local(np.eye(3)))
    for reduce, motion in ((2, cv2.MOTION_AFFINE), (1, cv2.MOTION_HOMOGRAPHY)):
        size = (width // reduce, height // reduce)
        if min(size) < 16:
            continue
        warped, valid = view.warp(best.matrix, pose.same_scene)
        source = view.band(warped)[..., 0]
        images = [cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in (template, source)]
        masks = [cv2.resize(i, size, interpolation=cv2.INTER_NEAREST) for i in (area, valid.astype(np.uint8) * 255)]
        start = np.eye(2 if motion == cv2.MOTION_AFFINE else 3, 3, dtype=np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-4)
        try:
            _, step = cv2.findTransformECCWithMask(*images, *masks, start, motion, criteria, 3)
        except cv2.error:  # it raises when the images do not correlate at all
            continue
        step = np.vstack([step, [0, 0, 1]]) if len(step) == 2 else step
        scale = np.diag([size[0] / width, size[1] / height, 1.0]) @ to_local
        matrix = best.matrix @ np.linalg.inv(scale) @ step.astype(np.float64) @ scale
        if plausible(matrix, view):
            tried = view.judge(matrix, best.source)
            backed = tried.matches >= 0.8 * pose.matches and tried.agreed >= 0.8 * pose.agreed
            if tried.score > best.score and backed:
                best = tried
    return best
