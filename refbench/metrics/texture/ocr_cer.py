"""Character error rate: can the refined text be read, and does it say the right thing?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask
from refbench.metrics.checks import Form, Second, boxes, lettered, masked
from refbench.metrics.contract import Metric, library, opencv
from refbench.metrics.regions import cut, region_box
from refbench.metrics.texture import reader
from refbench.metrics.view import Known, View
from refbench.schema import MetricCard, Truth

LEAST_INSIDE = 0.3
"""A line counts when at least this share of its area is masked."""


def plain(text: str) -> str:
    """Text as it is compared: compatibility forms folded, without case, spaces and soft marks."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def edit_distance(a: str, b: str) -> int:
    """Least number of insertions, deletions and substitutions from one string to the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def error_rate(read: str, right: str) -> float:
    """Edit distance over the length of the right text, at most 1; both :func:`plain`."""
    return min(edit_distance(read, right) / len(right), 1.0)


def lines_inside(lines: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """The lines that lie in the mask; where none does, the smallest rectangle around the mask, lying along x."""
    import cv2

    kept = []
    for line in lines:
        area = np.zeros(mask.shape, dtype=np.uint8)
        cv2.fillPoly(area, [np.rint(line).astype(np.int32)], 1)
        if area.any() and float(mask[area > 0].mean()) >= LEAST_INSIDE:
            kept.append(line)
    if kept:
        return np.stack(kept)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]], dtype=np.float32)


def _second(truth: Truth, output: Image) -> float | None:
    """onnxruntime, with the target read again for every output."""
    part, target = boxes(truth, output)
    box = region_box(truth.mask, truth.target.shape[:2])
    lines = lines_inside(reader.find_lines(target), np.ascontiguousarray(cut(masked(truth), box)))
    texts = [
        plain("".join(reader.read_strips([reader.straighten(image, line)])[0] for line in lines))
        for image in (part, target)
    ]
    right = plain(truth.text or "") or texts[1]
    return error_rate(texts[0], right) if right else None


def _scene() -> tuple[Truth, Image]:
    return Truth("", lettered("REFINE"), None, None, None, category="text"), lettered("REFUSE")


class CharacterErrorRate(Metric):
    """Edit distance between the text read in the output and the right text, over its length."""

    perfect = 0.0
    second = Second("onnxruntime, with the target read again for every output", _second, scene=_scene)
    batched = True
    smallest = 16

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="ocr_cer",
            definition="edit distance between the text read in the output and the right text, over the length of the "
            "right text, at most 1; without case and spaces (NFKC); the right text is the sample's own where it is "
            "known, else what is read in the target; undefined where that is empty",
            paper="Levenshtein 1966; PP-OCRv6 (PaddleOCR): DB, arXiv 1911.08947, and a recogniser with CTC after "
            "SVTR, arXiv 2205.00159",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="8-bit sRGB",
            region_rule="lines are found in the target, on the mask's box with 16 px margin, kept where 30 % of a "
            "line is masked (the mask's own box as one line where there is none), and the same quadrilaterals are "
            "read in the output composited over the target outside the mask",
            resize_rule="detector: long side 384 px; each line straightened by perspective, 48 px tall, padded to a "
            "multiple of 80 px and at least 320",
            backend=f"{library('onnxruntime')}, {opencv()}",
            weights="PP-OCRv6 small detector and recogniser, ONNX files of rapidocr 3.10",
            weights_sha256=reader.SHA256[reader.RECOGNISER],
            licence="Apache-2.0",
            categories=("text",),
            note="the reader itself errs on small or ornate letters, on the target too, which the recovery takes out; "
            "blind to everything but which letters they are",
            tolerance=1e-4,
            unit=0.7,
        )

    def missing(self) -> str | None:
        """See :meth:`Metric.missing`."""
        return reader.missing()

    def _truths(self, knowns: Sequence[Known]) -> None:
        """Lines and right text of the truths that are new, their targets read together where no text is given."""
        new = [known for known in knowns if not known.has("ocr_cer.lines", self.hash)]
        lines = [lines_inside(reader.find_lines(known.target), known.mask) for known in new]
        unread = [at for at, known in enumerate(new) if not plain(known.truth.text or "")]
        strips = [[reader.straighten(new[at].target, line) for line in lines[at]] for at in unread]
        texts = iter(reader.read_strips([strip for group in strips for strip in group]))
        read = {at: "".join(next(texts) for _ in group) for at, group in zip(unread, strips, strict=True)}
        for at, known in enumerate(new):
            right = plain(read.get(at, known.truth.text or ""))
            arrays: dict[str, NDArray[np.generic]] = {
                "lines": lines[at],
                "text": np.frombuffer(right.encode(), dtype=np.uint8),
            }
            known.feature("ocr_cer.lines", self.hash, lambda arrays=arrays: arrays)  # type: ignore[misc]

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        self._truths([view.known for view in views])
        truths = [view.known.feature("ocr_cer.lines", self.hash, dict) for view in views]
        strips = [
            [reader.straighten(view.image, line.astype(np.float32)) for line in truth["lines"]]
            for view, truth in zip(views, truths, strict=True)
        ]
        texts = iter(reader.read_strips([strip for group in strips for strip in group]))
        found: list[float | None] = []
        for truth, group in zip(truths, strips, strict=True):
            read = plain("".join(next(texts) for _ in group))
            right = truth["text"].tobytes().decode()
            found.append(error_rate(read, right) if right else None)
        return found

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        right, wrong = (lettered(word) for word in ("BENCHMARK", "BENCHMURK"))
        truth = Truth("", right, None, None, None, text="Benchmark", category="text")
        yield Form("a printed word", 0.0, self.number(truth, right), 0.0)
        yield Form("the same word with one of nine letters wrong", 1 / 9, self.number(truth, wrong), 1e-9)
