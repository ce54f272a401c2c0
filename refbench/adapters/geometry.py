"""Find how the reference lies over the draft: keypoints, box and template hypotheses, ECC polish, dense flow.

A *pose* is a 3 x 3 homography that takes draft pixels to reference pixels. Hypotheses come from

- SIFT keypoints (Lowe, IJCV 2004) as RootSIFT (Arandjelovic and Zisserman, CVPR 2012), ratio test, and MAGSAC++
  (Barath et al., CVPR 2020), first near the mask, then anywhere; with few matches a similarity;
- the mask's box laid on the reference's box;
- a multi-scale template search (normalised cross-correlation) for the draft's coarse content.

Each is polished by ECC (Evangelidis and Psarakis, TPAMI 2008), and scored by how well the coarse content of the
draft inside the mask, which is right in place if wrong in detail, correlates with the warped reference.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Mask, mask_box
from refbench.schema import Box

Float = NDArray[np.float32]
Matrix = NDArray[np.float64]

JUDGE_SIDE = 144
"""Hypotheses are judged with the mask's window reduced to this long side (px)."""
WORK_SIDE = 480
"""Images are reduced to this long side (px) for the search; the polish of the last pixel is done there as well."""
SAME_SCENE = 0.5
"""Least correlation around the mask at which the surroundings are taken for the same scene."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A hypothesis that has been scored."""

    matrix: Matrix
    """(3, 3), draft px -> reference px."""
    source: str
    """Where it came from: "keypoints", "similarity", "box", "figure", "template" or "placed"."""
    matches: int
    """Keypoint matches near the mask that agree with it."""
    inside: float
    """Correlation of coarse content inside the mask, -1 to 1."""
    ring: float
    """The same in a band around the mask; low where the surroundings are another scene."""
    cover: float
    """Share of the mask that the reference (its box, where the surroundings differ) has content for."""

    @property
    def score(self) -> float:
        """What hypotheses are ranked by: likeness inside and around, and agreeing keypoints."""
        likeness = min(1.0, self.cover / 0.6) * (self.inside + 0.35 * max(self.ring, 0.0))
        return likeness + 0.5 * min(max(self.matches - 4, 0), 25) / 25

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
        import cv2

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
        self.matched = (np.zeros((0, 2)), np.zeros((0, 2)))
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
        import cv2

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
        return Pose(matrix, source, self.agreeing(matrix), likeness, around, cover)


def _shrink(image: NDArray[Any], size: tuple[int, int]) -> Any:
    import cv2

    if image.dtype == np.bool_:
        return cv2.resize(image.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA) > 0.5
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def pyramid(image: NDArray[Any]) -> list[NDArray[Any]]:
    """The image at 1, 1/2, 1/4 ... of its size, down to 32 px."""
    import cv2

    levels = [image]
    while min(levels[-1].shape[:2]) >= 64:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def in_box(box: Box, frame: tuple[int, int], matrix: Matrix, size: tuple[int, int]) -> Mask:
    """Where `matrix` takes the pixels of a (height, width) frame into a box of the reference, grown by 3 %."""
    import cv2

    x, y, width, height = box
    area = np.zeros(frame, np.uint8)
    grow_x, grow_y = max(1, round(0.03 * width)), max(1, round(0.03 * height))
    area[max(y - grow_y, 0) : y + height + grow_y, max(x - grow_x, 0) : x + width + grow_x] = 255
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(area, matrix, (size[1], size[0]), flags=flags) > 127)


def band(image: Float, fine: float, wide: float) -> Float:
    """Detail between two Gaussian scales, sigma in px."""
    import cv2

    smooth: Float = cv2.GaussianBlur(image, (0, 0), fine)
    return smooth - cv2.GaussianBlur(image, (0, 0), wide)


def even(luma: Float, fine: float, wide: float) -> Float:
    """Detail of (H, W) lightness between two scales (sigma in px) at even local contrast, about -3 to 3."""
    import cv2

    detail = band(luma, fine, wide)
    return np.asarray(detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), wide)) + 1.0), np.float32)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation of (n,) or (n, channels), pooled over channels; 0 if constant or n is below 16."""
    if len(a) < 16:
        return 0.0
    a = (a - a.mean(0, dtype=np.float64)).ravel()
    b = (b - b.mean(0, dtype=np.float64)).ravel()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-6 else 0.0


def warp(levels: list[NDArray[Any]], matrix: Matrix, size: tuple[int, int]) -> tuple[NDArray[Any], Mask]:
    """Sample an image where `matrix` takes each pixel of a (height, width) frame; also where that is inside it.

    Args:
        levels: the image's :func:`pyramid`; the level nearest above the frame's resolution is sampled.
        matrix: (3, 3), frame px -> image px.
        size: (height, width).
    """
    import cv2

    centre = matrix @ np.array([size[1] / 2, size[0] / 2, 1.0])
    factor = float(np.sqrt(abs(float(np.linalg.det(matrix))) / max(abs(float(centre[2])) ** 3, 1e-9)))
    level = int(np.clip(np.floor(np.log2(max(factor, 1.0)) + 0.3), 0, len(levels) - 1))
    down = 2.0**-level
    # pyrDown keeps even pixels: pixel p of a level lies at p * 2**level
    scaled = np.diag([down, down, 1.0]) @ matrix
    source = levels[level]
    frame = (size[1], size[0])
    flags = (cv2.INTER_CUBIC if factor < 1.5 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    out = cv2.warpPerspective(source, scaled, frame, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    ones = np.full(source.shape[:2], 255, np.uint8)
    valid = cv2.warpPerspective(ones, scaled, frame, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 250
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


@functools.cache
def _sift() -> Any:
    import cv2

    return cv2.SIFT_create(nfeatures=2500, contrastThreshold=0.015, edgeThreshold=12)


def _features(luma: Float) -> tuple[NDArray[np.float64], Float]:
    """Positions (n, 2) and RootSIFT descriptors (n, 128) of a Lab lightness."""
    found, described = _sift().detectAndCompute(np.clip(luma * 2.55, 0, 255).astype(np.uint8), None)
    if described is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    described = np.sqrt(described / np.maximum(described.sum(1, keepdims=True), 1e-6)).astype(np.float32)
    return np.array([k.pt for k in found]), described


def _matches(similar: Float, rows: Mask, columns: Mask, ratio: float) -> NDArray[np.int64]:
    """Pairs (n, 2) whose distance is below `ratio` times that of the row's second best column."""
    a, b = np.flatnonzero(rows), np.flatnonzero(columns)
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), np.int64)
    table = similar[np.ix_(a, b)]
    best = table.argmax(1)
    index = np.arange(len(a))
    top = table[index, best]
    table[index, best] = -1
    good = (top > 0) & (2 - 2 * top < ratio**2 * (2 - 2 * table.max(1)))
    return np.stack([a[good], b[best[good]]], 1)


def from_keypoints(view: View) -> list[tuple[Matrix, str]]:
    """Hypotheses from keypoints; the matches near the mask are kept in `view.matched`.

    Three sets of candidates: near the mask against the reference's box at a like place in it (which rules most
    wrong matches out, so that a laxer ratio will do), near the mask against all, and all against all.
    """
    points, described = _features(view.draft[..., 0])
    there, described_there = _features(view.reference[..., 0])
    left, top, right, bottom = view.window(view.reach)
    near = (points[:, 0] >= left) & (points[:, 0] < right) & (points[:, 1] >= top) & (points[:, 1] < bottom)
    x, y, w, h = view.box
    u, v, p, q = view.reference_box
    here, place = (points - (x, y)) / (w, h), (there - (u, v)) / (p, q)
    similar = described @ described_there.T  # RootSIFT rows have unit length: the distance is sqrt(2 - 2 s)
    sets = [_matches(similar, near, np.ones(len(there), bool), 0.85)]
    if view.has_box:
        like = (here[:, None, 0] - place[None, :, 0]) ** 2 + (here[:, None, 1] - place[None, :, 1]) ** 2 < 0.45**2
        sets.append(_matches(np.where(like, similar, -1), near, (np.abs(place - 0.5) < 0.6).all(1), 0.92))
    sets.append(_matches(similar, np.ones(len(points), bool), np.ones(len(there), bool), 0.85))
    every = np.unique(np.concatenate(sets), axis=0)
    every = every[near[every[:, 0]]]
    view.matched = (points[every[:, 0]], there[every[:, 1]])
    return [fit for pairs in sets for fit in _fits(points[pairs[:, 0]], there[pairs[:, 1]], view)]


def _fits(a: NDArray[Any], b: NDArray[Any], view: View) -> list[tuple[Matrix, str]]:
    import cv2

    found = []
    for _ in range(2):  # the second round finds another surface than the first
        if len(a) < 4:
            break
        inliers = np.zeros((len(a), 1), np.uint8)
        if len(a) >= 6:
            matrix, kept = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 3.0, maxIters=3000, confidence=0.999)
            if matrix is not None and kept.sum() >= 6 and plausible(matrix, view):
                found.append((matrix, "keypoints"))
                inliers |= kept
        similarity, kept = cv2.estimateAffinePartial2D(a, b, method=cv2.RANSAC, ransacReprojThreshold=5.0)
        if similarity is not None and kept.sum() >= 4:
            matrix = np.vstack([similarity, [0, 0, 1]])
            if plausible(matrix, view):
                found.append((matrix, "similarity"))
            inliers |= kept
        if not inliers.any():
            break
        a, b = a[inliers.ravel() == 0], b[inliers.ravel() == 0]
    return found


def from_boxes(view: View) -> Matrix:
    """The mask's box laid on the reference's box (or on the whole reference)."""
    x, y, w, h = view.box
    u, v, p, q = view.reference_box
    return np.array([[p / w, 0, u - x * p / w], [0, q / h, v - y * q / h], [0, 0, 1.0]])


def from_figures(view: View, here: Mask, there: Mask) -> Matrix:
    """The reference's figure laid on the draft's: corner on corner where both have four, else by size and turn.

    Args:
        view: the images.
        here: (H, W), the figure that stands in the draft now, right or wrong.
        there: (h, w), the figure in the reference.
    """
    import cv2

    (a, a_is_quad), (b, b_is_quad) = _corners(here), _corners(there)
    wide_a, tall_a, wide_b, tall_b = (
        float(np.hypot(*(c[i] - c[j])) + np.hypot(*(c[k] - c[m])))
        for c, i, j, k, m in ((a, 1, 0, 2, 3), (a, 3, 0, 2, 1), (b, 1, 0, 2, 3), (b, 3, 0, 2, 1))
    )
    aspect = (wide_a / max(tall_a, 1.0)) / max(wide_b / max(tall_b, 1.0), 1e-3)
    if not (a_is_quad and b_is_quad and 0.67 < aspect < 1.5):
        box_a, box_b = (cv2.boxPoints(cv2.minAreaRect(c)) for c in (a, b))
        a, b = _clockwise(box_a), _clockwise(box_b)
        if not 0.85 < aspect < 1.18:  # another shape: same middle and turn, equal area, inside the mask's box
            middle, across, down = a.mean(0), a[1] - a[0], a[3] - a[0]
            across, down = across / max(float(np.hypot(*across)), 1e-3), down / max(float(np.hypot(*down)), 1e-3)
            size = np.array([np.hypot(*(b[1] - b[0])), np.hypot(*(b[3] - b[0]))])
            grow = np.sqrt(cv2.contourArea(a) / max(cv2.contourArea(b), 1.0))
            grow = min(grow, 1.02 * view.box[2] / size[0], 1.02 * view.box[3] / size[1])
            half_x, half_y = across * size[0] * grow / 2, down * size[1] * grow / 2
            a = np.array([middle + i * half_x + j * half_y for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    matrix = cv2.getPerspectiveTransform(a.astype(np.float32), b.astype(np.float32)).astype(np.float64)
    return np.asarray(matrix) if plausible(matrix, view) else from_boxes(view)


def _clockwise(corners: NDArray[Any]) -> NDArray[Any]:
    """Four corners in the order top left, top right, bottom right, bottom left."""
    around = corners[np.argsort(np.arctan2(*(corners - corners.mean(0)).T[::-1]))]
    return np.roll(around, -int(np.argmin(around.sum(1))), axis=0)


def _corners(figure: Mask) -> tuple[NDArray[Any], bool]:
    """The corners of a figure, clockwise from the top left, and whether it is a quadrilateral; else its box."""
    import cv2

    outlines, _ = cv2.findContours(figure.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate([o for o in outlines if len(o) * 20 > max(map(len, outlines))]))
    for epsilon in (0.03, 0.05, 0.07):
        quad = cv2.approxPolyDP(hull, epsilon * cv2.arcLength(hull, True), True)
        if len(quad) == 4:
            break
    full = cv2.contourArea(hull)
    if len(quad) == 4 and 0.88 < cv2.contourArea(quad) / max(full, 1.0) < 1.1 and figure.sum() > 0.85 * full:
        return _clockwise(quad.reshape(4, 2).astype(np.float32)), True
    return _clockwise(cv2.boxPoints(cv2.minAreaRect(hull))), False


def from_template(view: View, count: int = 2) -> list[Matrix]:
    """The best places, scales and turns at which the detail's coarse content is found in the other image.

    With a reference box its content is looked for around the mask; without, the content under the mask's box is
    looked for in the reference. Normalised cross-correlation over the Lab channels, at about 64 px.
    """
    import cv2

    x, y, w, h = view.box
    if view.has_box:
        u, v, p, q = view.reference_box
        left, top, right, bottom = view.window(view.reach)
        area, patch = view.draft[top:bottom, left:right], view.reference[v : v + q, u : u + p]
        scales = min(w / p, h / q) * np.array([0.7, 0.82, 0.95, 1.1])
        origin, corner, turns = (left, top), (u, v), np.deg2rad(np.arange(-36, 37, 9))
    else:
        area, patch = view.reference, view.draft[y : y + h, x : x + w]
        scales = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.12, 1.25, 1.4, 1.6, 1.9])
        origin, corner, turns = (0, 0), (x, y), np.deg2rad([-20.0, 0.0, 20.0])
    reduce = min(1.0, 64 / max(area.shape[:2])) if view.has_box else min(1.0, 40 / max(w, h))
    small = cv2.resize(area, None, fx=reduce, fy=reduce, interpolation=cv2.INTER_AREA)
    found: list[tuple[float, Matrix]] = []
    tall, wide = patch.shape[:2]
    for scale in scales:
        factor = float(scale) * reduce
        shrunk = cv2.GaussianBlur(patch, (0, 0), 0.4 / factor) if factor < 0.7 else patch
        for turn in turns:
            cos, sin = factor * np.cos(turn), factor * np.sin(turn)
            size = np.ceil([abs(cos) * wide + abs(sin) * tall, abs(sin) * wide + abs(cos) * tall]).astype(int)
            if np.any(size < 6) or size[0] > small.shape[1] or size[1] > small.shape[0]:
                continue
            place = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
            place[:2, 2] = (size - 1) / 2 - place[:2, :2] @ ((wide - 1) / 2, (tall - 1) / 2)
            template = cv2.warpAffine(shrunk, place[:2], size.tolist(), flags=cv2.INTER_LINEAR)
            cover = cv2.warpAffine(np.ones((tall, wide), np.float32), place[:2], size.tolist(), flags=cv2.INTER_LINEAR)
            cover = (cover > 0.9).astype(np.float32)
            if cover.sum() < 40:
                continue
            response = cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED, mask=cover[..., None].repeat(3, 2))
            response[~np.isfinite(response)] = -1
            _, value, _, at = cv2.minMaxLoc(response)
            # patch px -> area px -> image px
            there = (
                np.diag([1 / reduce, 1 / reduce, 1.0]) @ np.array([[1, 0, at[0]], [0, 1, at[1]], [0, 0, 1.0]]) @ place
            )
            there = np.array([[1, 0, origin[0]], [0, 1, origin[1]], [0, 0, 1.0]]) @ there
            there = there @ np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1.0]])
            found.append((float(value), np.linalg.inv(there) if view.has_box else there))
    found.sort(key=lambda item: -item[0])
    return [matrix for _, matrix in found[:count]]


def polish(view: View, pose: Pose) -> Pose:
    """ECC at two resolutions over the mask (and its surroundings, where they show the same scene).

    Returns the pose itself where ECC does not converge or does not raise the score.
    """
    import cv2

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
            if tried.score > best.score and tried.matches >= 0.8 * pose.matches:
                best = tried
    return best


def find_pose(view: View, extra: Sequence[Matrix] = ()) -> list[Pose]:
    """All hypotheses polished and scored, best first; never empty (the boxes are always one)."""
    start = [view.judge(*found) for found in from_keypoints(view)]
    start += [view.judge(from_boxes(view), "box"), *(view.judge(m, "figure") for m in extra)]
    best = max(start, key=lambda p: p.score)
    if best.matches < 15 or best.inside < 0.7:
        start += [view.judge(m, "template") for m in from_template(view)]
    start.sort(key=lambda p: -p.score)
    return sorted((polish(view, p) for p in start[:3]), key=lambda p: -p.score)


def flow_after(
    draft: Float, warped: Float, trusted: NDArray[np.float32], smooth: float, limit: float
) -> NDArray[np.float32]:
    """What is left between the warped reference and the draft, as a smooth field (H, W, 2) in px.

    DIS optical flow (Kroeger et al., ECCV 2016), smoothed by a normalised convolution.

    Args:
        draft, warped: (H, W) detail at even contrast, see :func:`even`.
        trusted: (H, W) weight of each pixel's flow, 0 to 1.
        smooth: sigma in px of the field's smoothing.
        limit: longer vectors, in px, get no weight.
    """
    import cv2

    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    a, b = (np.clip(i * 40 + 128, 0, 255).astype(np.uint8) for i in (draft, warped))
    flow = solver.calc(a, b, None)
    weight = (trusted * (np.hypot(flow[..., 0], flow[..., 1]) < limit)).astype(np.float32) + 1e-4
    total = cv2.GaussianBlur(weight, (0, 0), smooth)
    field: NDArray[np.float32] = cv2.GaussianBlur(flow * weight[..., None], (0, 0), smooth) / total[..., None]
    return field
