"""``refbench report``: a static page that shows every sample of one or more runs, from disk, with no network.

The page is one HTML file with its own style and script inside; data is one JSON block; pictures are WebP files
beside it,
or data URIs in a single file. A refined picture is stored as what differs from the target (from the draft where the
suite has no targets), with transparency where
it does
not, so that the page is small and its difference map is exactly black where nothing was changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, encode_webp, load_image, mask_box, resize, write_atomic
from refbench.plaintext import harmless
from refbench.report.grid import window
from refbench.report.style import colours
from refbench.results.resultset import RunSet, open_results
from refbench.results.run import RunResult
from refbench.runs.diagnostics import DIAGNOSTICS, diagnostics_of
from refbench.runs.progress import Progress
from refbench.schema import ORDER, SCORE_VERSION, Sample
from refbench.stats.gains import MEASURES

if TYPE_CHECKING:
    import pandas as pd

QUALITY, THUMB_QUALITY, SINGLE_QUALITY = 90, 72, 80
"""WebP qualities of pictures, of thumbnails, and of pictures inside a single file."""
EFFORT = 4
"""WebP method: 6 saves 5 % more but takes fifty times as long where there is transparency."""
THUMB = (96, 128)
"""Height and width of a thumbnail: the region with some room around it."""
Values = dict[str, dict[str, float]]
"""Sample -> metric -> value, of one run."""
SCRIPTS = ("view.js", "core.js", "summary.js", "list.js", "stage.js", "detail.js", "main.js")


@dataclass(frozen=True)
class Page:
    """What was written."""

    index: Path
    samples: int
    runs: int
    size: int
    """Bytes of the page and its pictures."""


class _Store:
    """Puts pictures beside the page, or into it."""

    def __init__(self, out: Path, single: bool) -> None:
        self.out, self.single, self.size = out, single, 0
        if not single:
            try:
                (out / "images").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RefbenchError(
                    f"Expected to write a report into {out}, but {error.strerror}; choose another folder with --out."
                ) from None

    def put(self, name: str, data: bytes) -> str:
        """A picture's address as the page names it."""
        if self.single:
            return "data:image/webp;base64," + base64.b64encode(data).decode()
        path = self.out / "images" / name
        try:
            # Thousands of small files that can be made again: no fsync each; the page is written last, atomically.
            path.write_bytes(data)
        except OSError as error:
            raise RefbenchError(
                f"Expected to write {path}, but {error.strerror}; choose another folder with --out."
            ) from None
        self.size += len(data)
        return f"images/{name}"

    def image(self, name: str, image: Image) -> str:
        return self.put(name, encode_webp(image, SINGLE_QUALITY if self.single else QUALITY, method=EFFORT))

    def thumb(self, name: str, image: Image) -> str:
        return self.put(name, encode_webp(image, THUMB_QUALITY, method=EFFORT))


def build_report(
    runs: Sequence[str | os.PathLike[str]] | RunSet,
    out: str | os.PathLike[str],
    *,
    single_file: bool = False,
    title: str | None = None,
    suite: str | None = None,
    progress: Progress | None = None,
) -> Page:
    """Write the page.

    Args:
        runs: run folders of one suite and plan, or a set of results that is open already.
        out: folder for ``index.html`` and ``images/``; made if missing, files of the same names are replaced.
        single_file: put the pictures into the page.
        title: of the page.
        suite: where the runs' suite is, if not where their manifest says.
        progress: told of every sample written.

    Raises:
        RefbenchError: runs that do not belong together, an output that is broken, or a folder that cannot be written.
    """
    results = runs if isinstance(runs, RunSet) else open_results(runs, suite=suite)
    folder = Path(out)
    if folder.is_file():
        raise RefbenchError(
            f"Expected a folder for the report at {folder}, but that is a file; name another with --out."
        )
    store = _Store(folder, single_file)
    samples = []
    diagnostics = _diagnostics(results)
    if progress is not None:
        progress.start("report", len(results.metas), 0)
    raw: list[Values] = []
    for run in results.models:
        raw.append({})
        for one, metric, value in zip(run.scores["sample"], run.scores["metric"], run.scores["value"], strict=True):
            raw[-1].setdefault(one, {})[metric] = value
    for number, sample_id in enumerate(results.metas):
        samples.append(_sample(results, store, raw, diagnostics, number, sample_id))
        if progress is not None:
            progress.advance()
    several = ", ".join(results.names) if len(results.models) <= 2 else f"{len(results.models)} runs"
    heading = title or f"{results.suite.name}: {several}"
    data = {
        "title": harmless(heading),
        "suite": {"name": results.suite.name, "version": str(results.suite.version), "hash": results.suite.hash},
        "targets": results.suite.targets,
        "score": SCORE_VERSION if results.suite.targets else results.score,
        "by": results.by,
        "axes": MEASURES,
        "metrics": [_metric(results, name) for name in _metrics(results)],
        "diagnostics": [{"name": name, **DIAGNOSTICS[name]._asdict()} for name in diagnostics[0].columns],
        "runs": [_run(results, run, table) for run, table in zip(results.models, diagnostics, strict=True)],
        "samples": samples,
    }
    page = render(data).encode()
    write_atomic(folder / "index.html", page)
    return Page(folder / "index.html", len(samples), len(results.models), store.size + len(page))


def render(data: dict[str, Any]) -> str:
    """The page around its data. Scripts and style run by their hashes only, so that no text in the data ever can."""
    from jinja2 import Environment, StrictUndefined

    here = files("refbench.report") / "static"
    style = (here / "viewer.css").read_text()
    script = '"use strict";\n(() => {\n' + "\n".join((here / name).read_text() for name in SCRIPTS) + "\n})();\n"
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string((here / "viewer.html.j2").read_text())
    return template.render(
        title=data["title"],
        style=style,
        script=script,
        data=embed_json(data),
        style_hash=_csp(style),
        script_hash=_csp(script),
    )


def _csp(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embed_json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element or open another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _number(value: Any, digits: int = 6) -> float | None:
    """A finite number, rounded to so many significant digits; None otherwise."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{float(value):.{digits}g}")


def _metrics(results: RunSet) -> list[str]:
    seen = dict.fromkeys(name for run in results.models for name in run.recoveries.columns)
    return sorted(seen, key=lambda name: ORDER.index(results.cards[name].axis))


def _metric(results: RunSet, name: str) -> dict[str, Any]:
    card = results.cards[name]
    return {
        "name": name, "axis": card.axis, "region": card.region, "higher": card.higher_is_better,
        "definition": harmless(card.definition), "scored": name not in results.models[0].numbers.unscored,
    }  # fmt: skip


def _cell(found: Any) -> list[float | None] | None:
    return (
        None if found is None or found.value is None else [_number(v, 5) for v in (found.value, found.low, found.high)]
    )


def _diagnostics(results: RunSet) -> list[pd.DataFrame]:
    """For each run sample id (index) x the diagnostics that any run has, in the units they are shown in."""
    tables = [diagnostics_of(run.scores).reindex(list(results.metas)) for run in results.models]
    there = [name for name in DIAGNOSTICS if any(table[name].notna().any() for table in tables)]
    return [table[there] * [DIAGNOSTICS[name].scale for name in there] for table in tables]


def _run(results: RunSet, run: RunResult, diagnostics: pd.DataFrame) -> dict[str, Any]:
    summary, card = run.numbers, run.manifest.card
    return {
        "name": harmless(run.name), "about": harmless(card.summary), "licence": harmless(card.licence),
        "colour": colours(results.names)[run.name],
        "axes": [_cell(run.numbers.cell(a)) for a in MEASURES],
        "categories": {
            name: [_cell(by.get(a)) for a in MEASURES] for name, by in summary.categories.items()
        },
        "metrics": [_cell(summary.metrics.get(name)) for name in _metrics(results)],
        "withheld": [harmless(run.withheld.get(a, "")) for a in MEASURES],
        "diagnostics": [_number(value, 4) for value in diagnostics.mean()],
        "samples": summary.samples, "failed": summary.failed, "seconds": _number(run.seconds, 3),
        "price": _number(run.price, 3),
    }  # fmt: skip


def _sample(
    results: RunSet,
    store: _Store,
    raw: Sequence[Values],
    diagnostics: Sequence[pd.DataFrame],
    number: int,
    sample_id: str,
) -> dict[str, Any]:
    held = results.suite.sample(sample_id)
    target, meta = results.suite.target(sample_id) if results.suite.targets else held.draft, held.meta
    near = window(held.mask.shape, mask_box(held.mask), THUMB[1] / THUMB[0], tight=True)
    at = f"{number:05d}"
    images: dict[str, str | None] = {
        "target": store.image(f"{at}-target.webp", target),
        "reference": store.image(f"{at}-reference.webp", held.reference),
    }
    thumbs = {
        "target": _thumb(store, f"{at}-t-target.webp", target, near),
        "reference": _reference_thumb(store, at, held),
    }
    images["draft"] = _overlay(store, f"{at}-draft.webp", held.draft, target)
    thumbs["draft"] = _thumb(store, f"{at}-t-draft.webp", held.draft, near)
    outputs: list[str | None] = []
    small: list[str | None] = []
    failed: list[str | None] = []
    values, recoveries, scores, seconds = [], [], [], []
    names = _metrics(results)
    for k, run in enumerate(results.models):
        image, why = _output(run, held)
        outputs.append(None if image is None else _overlay(store, f"{at}-run{k}.webp", image, target))
        small.append(None if image is None else _thumb(store, f"{at}-t-run{k}.webp", image, near))
        failed.append(None if why is None else harmless(why))
        mine = raw[k].get(sample_id, {})
        values.append([_value(mine.get(name)) for name in names])
        recoveries.append(
            [_number(run.recoveries[name].get(sample_id) if name in run.recoveries else None, 4) for name in names]
        )
        scores.append([_number(run.points.loc[sample_id, a], 4) for a in MEASURES])
        record = run.records.get(sample_id)
        seconds.append(_number(record.seconds, 3) if record is not None else None)
    return {
        "id": sample_id,
        "task": meta.task,
        "category": meta.category,
        "mode": meta.mode,
        "source": harmless(meta.source_id),
        "view": meta.view,
        "degradation": harmless(meta.degradation),
        "strength": _number(meta.strength, 3),
        "share": _number(held.mask.mean(), 3),
        "prompt": harmless(held.prompt),
        "licence": harmless(meta.licence),
        "attribution": harmless(meta.attribution),
        "text": None if meta.text is None else harmless(meta.text),
        "size": [target.shape[1], target.shape[0]],
        "referenceSize": [held.reference.shape[1], held.reference.shape[0]],
        "box": list(mask_box(held.mask)),
        "referenceBox": list(held.reference_box) if held.reference_box else None,
        "outline": outline(held.mask),
        "images": images,
        "thumbs": thumbs,
        "outputs": outputs,
        "small": small,
        "failed": failed,
        "values": values,
        "recoveries": recoveries,
        "scores": scores,
        "diagnostics": [[_number(value, 4) for value in table.loc[sample_id]] for table in diagnostics],
        "seconds": seconds,
    }


def _value(value: Any) -> float | str | None:
    if value is not None and np.isposinf(value):
        return "inf"
    return _number(value)


def _output(run: RunResult, held: Sample) -> tuple[Image | None, str | None]:
    why = run.failed(held.id)
    if why is not None:
        return None, why
    path = run.output(held.meta)
    if not path.exists():
        return None, "the output is missing from the run folder"
    image = load_image(path)
    if image.shape != held.draft.shape:
        return None, f"the output is {image.shape[1]} x {image.shape[0]} px, not the draft's size"
    return image, None


def _overlay(store: _Store, name: str, image: Image, target: Image) -> str | None:
    """What differs from the target, transparent elsewhere; None where nothing does."""
    differs = (image != target).any(axis=2)
    if not differs.any():
        return None
    return store.image(name, np.dstack([image, np.where(differs, 255, 0).astype(np.uint8)]))


def _thumb(store: _Store, name: str, image: Image, near: tuple[int, int, int, int]) -> str:
    x, y, w, h = near
    return store.thumb(name, resize(np.ascontiguousarray(image[y : y + h, x : x + w]), THUMB))


def _reference_thumb(store: _Store, at: str, held: Sample) -> str:
    height, width = held.reference.shape[:2]
    box = held.reference_box or (0, 0, width, height)
    near = window((height, width), box, THUMB[1] / THUMB[0], tight=held.reference_box is not None)
    return _thumb(store, f"{at}-t-reference.webp", held.reference, near)


def outline(mask: Mask) -> str:
    """The mask's border as an SVG path in px, true to about a pixel."""
    import cv2

    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in found:
        points = cv2.approxPolyDP(contour, 0.8, True).reshape(-1, 2)
        if len(points) > 2:
            parts.append("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in points) + "Z")
    return "".join(parts)
