"""Face identity: is the refined face the person of the reference?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.metrics.checks import Second, inside
from refbench.metrics.contract import Metric, library
from refbench.metrics.features import Arrays
from refbench.metrics.filters import Floats
from refbench.metrics.packages import checked_file, missing_files
from refbench.metrics.regions import MARGIN, cut
from refbench.metrics.view import View
from refbench.schema import Box, MetricCard, Truth

PACKAGE = "face_recognition_models"
EMBEDDING = ("models", "dlib_face_recognition_resnet_model_v1.dat")
LANDMARKS = ("models", "shape_predictor_5_face_landmarks.dat")
SHA256: dict[tuple[str, ...], str] = {
    EMBEDDING: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    LANDMARKS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
FETCH = "uv pip install dlib-bin 'face-recognition-models==0.3.*'"


_DLIB = threading.Lock()
"""dlib's objects hold their activations and must not be used from two threads at once."""


@lru_cache(maxsize=1)
def _models() -> tuple[Any, Any, Any]:
    """dlib's HOG face detector, five-point landmarks and ResNet embedding."""
    import dlib

    paths = [str(checked_file(PACKAGE, parts, SHA256[parts], FETCH)) for parts in (LANDMARKS, EMBEDDING)]
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(paths[0]),
        dlib.face_recognition_model_v1(paths[1]),
    )


def find_face(image: Image) -> NDArray[np.int64] | None:
    """(left, top, right, bottom) of the largest frontal face of at least 80 px, else of at least 40 px, or None."""
    detector, _, _ = _models()
    image = np.ascontiguousarray(image)
    with _DLIB:
        found = detector(image, 0) or detector(image, 1)
    if not found:
        return None
    box = max(found, key=lambda face: face.area())
    return np.array([box.left(), box.top(), box.right(), box.bottom()])


def embed_face(image: Image, box: NDArray[np.generic]) -> Floats:
    """The 128-d embedding of the face at `box`, aligned by its five landmarks; distances below 0.6 are one person."""
    import dlib

    _, landmarks, network = _models()
    image = np.ascontiguousarray(image)
    with _DLIB:
        shape = landmarks(image, dlib.rectangle(*(int(v) for v in box)))
        return np.array(network.compute_face_descriptor(image, shape))


def _second(truth: Truth, output: Image) -> float | None:
    return face_distance(truth, inside(truth, output), find_faces(truth))


class FaceIdentity(Metric):
    """Distance of dlib face embeddings."""

    second = Second("dlib", _second)
    target_free = True
    needs = frozenset({"reference"})
    smallest = 64

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="face_id",
            definition="Euclidean distance of dlib's 128-d face embeddings of output and reference; below 0.6 is one "
            "person",
            paper="King 2017, dlib face recognition with deep metric learning (He et al. 2016, arXiv 1512.03385, with "
            "29 layers)",
            axis="reference_alignment",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="8-bit sRGB",
            region_rule="the largest frontal face in the target (on the mask's box with half its longer side around "
            "it), of which a tenth is masked, says where to look; the same place is embedded in the output, composited "
            "over the target outside the mask, so that an output with no face left has a large distance; the "
            "reference's largest face in its box widened alike, else in all of it; undefined where target or reference "
            "show no face",
            resize_rule="aligned by five landmarks to 150 x 150 px",
            backend=library("dlib", "dlib-bin", "dlib"),
            weights="dlib_face_recognition_resnet_model_v1, shape_predictor_5_face_landmarks, of "
            "face-recognition-models 0.3.0",
            weights_sha256=SHA256[EMBEDDING],
            licence="CC0-1.0 (weights), BSL-1.0 (dlib)",
            categories=("face",),
            note="for photographs of people; near-frontal faces only",
            tolerance=1e-4,
            unit=0.19,
        )

    def missing(self) -> str | None:
        """See :meth:`Metric.missing`."""
        if find_spec("dlib") is None:
            return f"needs dlib, which is not installed: run `{FETCH}`"
        return missing_files(PACKAGE, SHA256, FETCH)

    def value(self, view: View) -> float | None:
        """The number for one output."""
        truth = view.truth
        known = view.known.feature("face_id.reference", self.hash, lambda: find_faces(truth))
        image = truth.target.copy()
        x, y, width, height = view.box
        image[y : y + height, x : x + width] = view.image
        return face_distance(truth, image, known)


def find_faces(truth: Truth, embed: Callable[[Image, NDArray[np.generic]], Floats] = embed_face) -> Arrays:
    """Where the face is in the target (`box`), the embedding of the reference's (`reference`); empty without one."""
    nothing = {"box": np.zeros(0, dtype=np.int64), "reference": np.zeros(0)}
    assert truth.reference is not None
    frame = truth.target.shape[:2]
    around = (0, 0, frame[1], frame[0]) if truth.mask is None else widened(mask_box(truth.mask), frame)
    place = find_face(cut(truth.target, around))
    if place is None:
        return nothing
    place = place + np.array([around[0], around[1]] * 2)
    if not _masked(place, truth.mask):
        return nothing
    reference = truth.reference
    face = None
    if truth.reference_box is not None:
        part = cut(reference, widened(truth.reference_box, reference.shape[:2]))
        face = find_face(part)
        reference = part if face is not None else reference
    if face is None:
        face = find_face(reference)
    return nothing if face is None else {"box": place, "reference": embed(reference, face)}


def face_distance(truth: Truth, image: Image, known: Arrays) -> float | None:
    """Distance of the embeddings of `image` at the target's face and of the reference; None where there is no face."""
    if not known["box"].size:
        return None
    return float(np.linalg.norm(embed_face(image, known["box"]) - known["reference"].astype(np.float64)))


def widened(box: Box, frame: tuple[int, int]) -> Box:
    """A box with half its longer side, at least 16 px, added on all sides, inside a frame (height, width)."""
    x, y, width, height = box
    grow = max(MARGIN, max(width, height) // 2)
    left, top = max(x - grow, 0), max(y - grow, 0)
    return left, top, min(x + width + grow, frame[1]) - left, min(y + height + grow, frame[0]) - top


def _masked(face: NDArray[np.int64], mask: Mask | None) -> bool:
    """Whether at least a tenth of the face is masked."""
    if mask is None:
        return True
    left, top, right, bottom = (max(int(v), 0) for v in face)
    part = mask[top : bottom + 1, left : right + 1]
    return bool(part.size) and float(part.mean()) >= 0.1
