"""PP-OCRv6 on onnxruntime: where text is (DB, Liao et al. 2020, arXiv 1911.08947) and what it says (CTC).

The arithmetic before and after the networks follows rapidocr 3.10, whose model files are used; the package itself is
not imported, since it pads a line by the company it is read in. DB's outward offset of a rectangle is the same
rectangle grown on all sides, so that no polygon library is needed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refbench.errors import UnavailableError
from refbench.images import Image
from refbench.metrics.filters import Floats
from refbench.metrics.packages import checked_file, missing_files

if TYPE_CHECKING:
    import onnxruntime

PACKAGE = "rapidocr"
DETECTOR = ("models", "PP-OCRv6_det_small.onnx")
RECOGNISER = ("models", "PP-OCRv6_rec_small.onnx")
SHA256: dict[tuple[str, ...], str] = {
    DETECTOR: "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    RECOGNISER: "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
FETCH = "uv pip install 'rapidocr==3.10.*' onnxruntime"

LONG_SIDE = 384
"""The detector sees crops scaled to this long side."""
LINE_HEIGHT, LINE_STEP, LINE_SHORTEST = 48, 80, 320
"""The recogniser sees lines of 48 px, padded to a multiple of 80 px and at least 320 px wide."""


def missing() -> str | None:
    """None where text can be read here, else what to install."""
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None:
        return f"needs onnxruntime, which is not installed: run `{FETCH}`"
    return missing_files(PACKAGE, SHA256, FETCH)


def _session(path: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _detector() -> onnxruntime.InferenceSession:
    return _session(checked_file(PACKAGE, DETECTOR, SHA256[DETECTOR], FETCH))


@lru_cache(maxsize=1)
def _recogniser() -> tuple[onnxruntime.InferenceSession, tuple[str, ...]]:
    session = _session(checked_file(PACKAGE, RECOGNISER, SHA256[RECOGNISER], FETCH))
    listed = session.get_modelmeta().custom_metadata_map.get("character")
    if listed is None:
        raise UnavailableError(f"The PP-OCRv6 recogniser names no characters: run `{FETCH}`.")
    return session, ("", *listed.splitlines(), " ")


def _normalised(image: NDArray[Any]) -> NDArray[np.float32]:
    """RGB uint8 to BGR in [-1, 1], (3, h, w)."""
    return np.ascontiguousarray((image[..., ::-1].astype(np.float32) / 255.0 - 0.5) / 0.5).transpose(2, 0, 1)


def _ordered(corners: Floats) -> Floats:
    """Corners as top-left, top-right, bottom-right, bottom-left."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left = by_x[:2][np.argsort(by_x[:2, 1], kind="stable")]
    right = by_x[2:][np.argsort(by_x[2:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])


def find_lines(image: Image) -> NDArray[np.float32]:
    """Quadrilaterals (n, 4, 2) around lines of text in an RGB image, (x, y) in px, in reading order.

    Thresholds are rapidocr's: probability 0.3, box score 0.5, unclip ratio 1.6.
    """
    import cv2

    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = [max(round(side * scale / 32) * 32, 32) for side in (width, height)]
    scaled = cv2.resize(np.ascontiguousarray(image), (size[0], size[1]), interpolation=cv2.INTER_LINEAR)
    session = _detector()
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: _normalised(scaled)[None]})[0])
    probability = found[0, 0]
    bitmap = cv2.dilate((probability > 0.3).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    lines = []
    for contour in contours:
        (x, y), (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < 3:
            continue
        inside = np.zeros_like(bitmap)
        cv2.fillPoly(inside, [np.rint(cv2.boxPoints(((x, y), (w, h), angle))).astype(np.int32)], 1)
        if not inside.any() or float(probability[inside > 0].mean()) < 0.5:
            continue
        grow = 2.0 * (w * h * 1.6 / (2.0 * (w + h)))
        corners = cv2.boxPoints(((x, y), (w + grow, h + grow), angle)).astype(np.float64)
        corners *= np.array([width / size[0], height / size[1]])
        corners = np.clip(corners, 0.0, [width - 1.0, height - 1.0])
        lines.append(_ordered(corners))
    if not lines:
        return np.zeros((0, 4, 2), dtype=np.float32)
    return _reading_order(np.stack(lines)).astype(np.float32)


def _reading_order(lines: Floats) -> Floats:
    """Rows from top to bottom (a row: middles within half a line's height), each from left to right."""
    middle = lines.mean(axis=1)
    tall = np.linalg.norm(lines[:, 3] - lines[:, 0], axis=1)
    rows: list[list[int]] = []
    for at in np.argsort(middle[:, 1], kind="stable"):
        if rows and abs(middle[at, 1] - middle[rows[-1][0], 1]) < 0.5 * tall[rows[-1][0]]:
            rows[-1].append(int(at))
        else:
            rows.append([int(at)])
    return lines[[at for row in rows for at in sorted(row, key=lambda i: float(middle[i, 0]))]]


def straighten(image: Image, line: NDArray[np.float32]) -> Image:
    """The line's quadrilateral as an upright strip; a strip half as tall again as wide is turned by 90 degrees."""
    import cv2

    width = max(round(float(max(np.linalg.norm(line[0] - line[1]), np.linalg.norm(line[2] - line[3])))), 1)
    height = max(round(float(max(np.linalg.norm(line[0] - line[3]), np.linalg.norm(line[1] - line[2])))), 1)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    strip = cv2.warpPerspective(
        np.ascontiguousarray(image),
        cv2.getPerspectiveTransform(np.ascontiguousarray(line), corners),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    out: Image = np.ascontiguousarray(np.rot90(strip)) if height >= 1.5 * width else np.asarray(strip, dtype=np.uint8)
    return out


def read_strips(strips: list[Image]) -> list[str]:
    """What each upright strip says; strips are padded by their own width only, so that company changes nothing."""
    import cv2

    groups: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    for at, strip in enumerate(strips):
        width = max(math.ceil(LINE_HEIGHT * strip.shape[1] / strip.shape[0]), 1)
        padded = max(-(-width // LINE_STEP) * LINE_STEP, LINE_SHORTEST)
        scaled = cv2.resize(strip, (width, LINE_HEIGHT), interpolation=cv2.INTER_LINEAR)
        line = np.zeros((3, LINE_HEIGHT, padded), dtype=np.float32)
        line[:, :, :width] = _normalised(scaled)
        groups.setdefault(padded, []).append((at, line))
    texts = [""] * len(strips)
    for group in groups.values():
        session, characters = _recogniser()
        batch = np.stack([line for _, line in group])
        best = np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0]).argmax(axis=2)
        for (at, _), row in zip(group, best, strict=True):
            keep = (row != 0) & np.concatenate([[True], row[1:] != row[:-1]])
            texts[at] = "".join(characters[i] for i in row[keep])
    return texts
