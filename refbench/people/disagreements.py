"""A page of the pairs in which score and votes differ most: one file, to look at, with no script and no network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refbench.images import Image, encode_webp, mask_box, resize, write_atomic
from refbench.metrics.regions import cut
from refbench.people.findings import Agreement, Apart
from refbench.plaintext import harmless
from refbench.report.grid import window
from refbench.results.resultset import RunSet

if TYPE_CHECKING:
    from refbench.schema import Sample

SIDE, QUALITY = 300, 85
"""Longest side of a picture in px; quality of WebP."""
TEMPLATE = Path(__file__).with_name("static") / "disagreements.html.j2"


def write_page(found: Agreement, results: RunSet, path: Path) -> None:
    """Write the page, atomically.

    Raises:
        RefbenchError: the file cannot be written, or an output is missing.
    """
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    rows = [_row(one, results) for one in found.apart]
    by = "the score" if results.by == "mean" else results.by_name
    write_atomic(
        path, template.render(rows=rows, votes=found.votes, suite=harmless(results.suite.name), by=by).encode()
    )


def _row(one: Apart, results: RunSet) -> dict[str, object]:
    sample = results.suite.sample(one.sample)
    box = window(sample.mask.shape, mask_box(sample.mask), 1.0, tight=True)
    height, width = sample.reference.shape[:2]
    boxed = sample.reference_box is not None
    there = window((height, width), sample.reference_box or (0, 0, width, height), 1.0, tight=boxed)

    def output(model: str) -> Image:
        run = results.run(model)
        return cut(run.folder.read_output(run.records[one.sample]), box)

    pictures = [
        ("Draft", "", cut(_outlined(sample), box)),
        ("Reference", "", cut(sample.reference, there)),
        (one.better, f"{one.points_better:.0f} points, {one.votes_better} for it", output(one.better)),
        (one.worse, f"{one.points_worse:.0f} points, {one.votes_worse} for it", output(one.worse)),
    ]
    if results.suite.targets:
        pictures.append(("Target", "", cut(results.suite.target(sample), box)))
    return {
        "sample": one.sample,
        "task": sample.meta.task,
        "apart": f"{one.points_worse - one.points_better:.0f}",
        "pictures": [(harmless(name), note, _data(image)) for name, note, image in pictures],
    }


def _outlined(sample: Sample) -> Image:
    import cv2

    image = sample.draft.copy()
    edges, _ = cv2.findContours(sample.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, (255, 0, 255), 1)
    return image


def _data(image: Image) -> str:
    scale = SIDE / max(image.shape[:2])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    data = encode_webp(resize(np.ascontiguousarray(image), (height, width)), QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(data).decode()
