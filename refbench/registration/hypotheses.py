"""Hypotheses of how the reference lies over the draft: keypoints, boxes, a template search, a network's matches.

- SIFT keypoints (Lowe, IJCV 2004) as RootSIFT (Arandjelovic and Zisserman, CVPR 2012), ratio test, and MAGSAC++
  (Barath et al., CVPR 2020), near the mask and anywhere; a similarity besides;
- the mask's box laid on the reference's box;
- a search for the detail's coarse content at several scales and turns (normalised cross-correlation);
- where they are given, the matches of a network (:mod:`refbench.registration.learned`), fitted as keypoints are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.images import Mask
from refbench.registration.opencv import cv2
from refbench.registration.pose import Float, Matrix, Pose, View, plausible, polish

Matches: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Points (n, 2) of the draft and of the reference, in px of a view, that show the same."""


CLEARLY = 0.2
"""By so much at least a network's matches must back their own pose more than another (:attr:`Pose.support`)."""
KEPT = 0.5
"""Share of what the other covers of the mask that it has to cover at least."""
WORSE = 0.15
"""By so much at most it may be worse in plain score, where the other is sure."""
OUTSIDE = 8
"""Least matches of a network outside the mask at which a homography is fitted to them and those inside."""


@functools.cache
def _sift() -> Any:
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
        sets.append(_matches(np.where(like, similar, -1), near, np.all(np.abs(place - 0.5) < 0.6, axis=1), 0.92))
    sets.append(_matches(similar, np.ones(len(points), bool), np.ones(len(there), bool), 0.85))
    every = np.unique(np.concatenate(sets), axis=0)
    every = every[near[every[:, 0]]]
    view.matched = (points[every[:, 0]], there[every[:, 1]])
    return [fit for pairs in sets for fit in _fits(points[pairs[:, 0]], there[pairs[:, 1]], view)]


def _fits(a: NDArray[Any], b: NDArray[Any], view: View, *, rigid: bool = False) -> list[tuple[Matrix, str]]:
    """Homographies and similarities, or similarities alone, of points (n, 2) that may show the same."""
    found = []
    for _ in range(2):  # the second round finds another surface than the first
        if len(a) < 4:
            break
        inliers = np.zeros((len(a), 1), np.uint8)
        if len(a) >= 6 and not rigid:
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


def from_template(view: View, count: int = 2) -> list[Matrix]:
    """The best places, scales and turns at which the detail's coarse content is found in the other image.

    With a reference box its content is looked for around the mask; without, the content under the mask's box is
    looked for in the reference. Normalised cross-correlation over the Lab channels, at about 64 px.
    """
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


def from_matches(view: View, found: Sequence[Matches]) -> list[tuple[Matrix, str]]:
    """Hypotheses from each set of a network's matches: inside the mask, near it, and anywhere.

    What is inside is spoilt: alone it says where, how large and how turned, and a homography would take its distortion
    along. The matches inside are kept in `view.learned`, and back poses from here on.
    """
    left, top, right, bottom = view.window(view.reach)
    fits, inside = [], [(np.zeros((0, 2)), np.zeros((0, 2)))]
    for here, there in found:
        close, marked = np.all((here >= (left, top)) & (here < (right, bottom)), axis=1), view.masked(here)
        for chosen in (marked, close, np.ones(len(here), bool)):
            spoilt = int((chosen & ~marked).sum()) < OUTSIDE
            made = _fits(here[chosen], there[chosen], view, rigid=spoilt)
            fits += [(matrix, "learned") for matrix, _ in made]
        inside.append((here[marked], there[marked]))
    view.learned = (np.concatenate([a for a, _ in inside]), np.concatenate([b for _, b in inside]))
    return fits


def find_pose(
    view: View, found: Sequence[Matches] = (), also: Sequence[tuple[Matrix, str]] = (), *, sure: float
) -> Pose:
    """The best of all hypotheses, polished; the boxes are always one.

    Args:
        view: the pictures.
        found: sets of a network's matches between them. A pose that they give has to be backed clearly more by them
            than the best one without, to have the higher score as well, and with a box to be believed.
        also: further hypotheses, with where they came from.
        sure: plain score from which a pose is believed; one that is, is not given up for one far below it.
    """
    start = [view.judge(*each) for each in (*from_keypoints(view), *also, (from_boxes(view), "box"))]
    best = max(start, key=lambda p: p.score)
    if best.matches < 15 or best.inside < 0.7:
        start += [view.judge(m, "template") for m in from_template(view)]
    start.sort(key=lambda p: -p.score)
    best = max((polish(view, p) for p in start[:3]), key=lambda p: p.score)
    if not found:
        return best
    learned = sorted((view.judge(*each) for each in from_matches(view, found)), key=lambda p: -p.score)
    best = view.judge(best.matrix, best.source)  # with what the matches say of it
    backed = [polish(view, p) for p in learned[:3] if p.support >= best.support + CLEARLY]
    lowest = best.plain - WORSE if best.plain >= sure else -np.inf
    backed = [
        p for p in backed if p.cover >= KEPT * best.cover and p.plain >= lowest and (p.backed or not view.has_box)
    ]
    return max((best, *backed), key=lambda p: p.score)
