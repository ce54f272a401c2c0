"""Other papers' protocols: their columns, measured on a run, so that a table can stand beside the published one.

``refineeval`` (arXiv 2604.06870): inside the object's box against the truth, and the rest against the input;
``fidelitybench`` (arXiv 2602.21402): gain in matched keypoints (AKI, KGain) and likeness to the reference;
``hifi-inpaint`` (arXiv 2603.02210): likeness to the reference, SSIM and SSIM of the high-passed region.
The numbers lie in ``protocol-<name>.json`` of the run and enter no score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refbench.devices import resolve
from refbench.errors import unknown_name
from refbench.images import Image, mask_box
from refbench.runs.folder import RunFolder
from refbench.runs.suites import suite_of
from refbench.runs.suitewide import pictures, state_of
from refbench.schema import Truth

if TYPE_CHECKING:
    from refbench.metrics.measurer import Measurer
    from refbench.tasks.suite import Suite

Place = Literal["box", "rest", "region"]
"""Where a column looks: the object's box against the target, the rest against the draft, or as the metric does."""
SMALLEST = 64
"""Shortest side of an object's box in px: a smaller one is grown, as the networks need it."""
TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a metric, where it looks, and how samples make one number."""

    title: str
    metric: str
    place: Place
    higher_is_better: bool
    fold: Literal["mean", "share above 0"] = "mean"


@dataclass(frozen=True, slots=True)
class Protocol:
    """A table of another paper."""

    name: str
    paper: str
    columns: tuple[Column, ...]
    note: str
    published: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Method -> the paper's own numbers, measured on the paper's own cases."""


_REFINEEVAL = Protocol(
    "refineeval",
    "arXiv 2604.06870",
    (
        Column("MSE", "mse", "box", False),
        Column("LPIPS", "lpips_alex", "box", False),
        Column("VGG", "vgg_distance", "box", False),
        Column("DINO", "dinov2_target", "box", True),
        Column("CLIP", "clip_target", "box", True),
        Column("SSIM", "ssim", "box", True),
        Column("MSE bg", "background_mse", "rest", False),
        Column("LPIPS bg", "background_lpips", "rest", False),
        Column("SSIM bg", "background_ssim", "rest", True),
    ),
    "the box is the mask's, at least 64 px a side; RefineEval's cases and scripts are not public: its LPIPS trunk, VGG "
    "layers and the scale of its background MSE (it prints 2.094, more than an MSE in [0, 1] can be) are not known, so "
    "columns compare by order, not digit by digit",
    {
        "Gemini 2.5": (0.049, 0.250, 0.592, 0.717, 0.817, 0.423, 0.201, 0.103, 0.7662),
        "Gemini 3": (0.031, 0.178, 0.431, 0.771, 0.855, 0.510, 0.029, 0.052, 0.9061),
        "GPT-4o": (0.083, 0.370, 0.918, 0.620, 0.801, 0.302, 0.815, 0.309, 0.6001),
        "OmniGen2": (0.155, 0.602, 1.691, 0.384, 0.717, 0.219, 2.094, 0.624, 0.4300),
        "BAGEL": (0.045, 0.253, 0.611, 0.682, 0.803, 0.494, 0.033, 0.046, 0.9360),
        "FLUX.1 Kontext": (0.040, 0.264, 0.540, 0.685, 0.785, 0.538, 0.011, 0.019, 0.9660),
        "Qwen-Image-Edit": (0.049, 0.287, 0.676, 0.675, 0.807, 0.436, 0.454, 0.148, 0.7530),
        "RefineAnything": (0.020, 0.155, 0.401, 0.793, 0.885, 0.591, 0.000, 0.000, 0.9997),
    },
)
_FIDELITYBENCH = Protocol(
    "fidelitybench",
    "arXiv 2602.21402",
    (
        Column("AKI", "keypoint_gain", "region", True),
        Column("KGain", "keypoint_gain", "region", True, "share above 0"),
        Column("CLIP-I", "clip_i", "region", True),
        Column("DINO", "dinov2", "region", True),
    ),
    "KGain as a share of 1; FidelityBench does not name its keypoint detector (SIFT here)",
    {"FlowFixer over Nano Banana": (64.7, 0.792, 0.796, 0.711)},
)
_HIFI = Protocol(
    "hifi-inpaint",
    "arXiv 2603.02210",
    (
        Column("CLIP-I", "clip_i", "region", True),
        Column("DINO", "dinov2", "region", True),
        Column("SSIM", "ssim", "region", True),
        Column("SSIM-HF", "ssim_hf", "region", True),
    ),
    "SSIM-HF is SSIM of the picture minus its blur, as on the card of ssim_hf",
)
PROTOCOLS = {protocol.name: protocol for protocol in (_REFINEEVAL, _FIDELITYBENCH, _HIFI)}


def protocol_named(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        RefbenchError: unknown, with near names.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class Row:
    """What a protocol says of one run."""

    run: Path | str
    model: str
    protocol: Protocol
    values: Mapping[str, float | None]
    """Column title -> number; None where its metric is unavailable here, or undefined for every sample."""
    counts: Mapping[str, int]
    """Column title -> samples that it is the mean of."""
    samples: int
    failed: int
    unavailable: Mapping[str, str]
    """Metric -> why it could not be measured and what to do."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": str(self.run),
            "model": self.model,
            "protocol": self.protocol.name,
            "values": dict(self.values),
            "counts": dict(self.counts),
            "samples": self.samples,
            "failed": self.failed,
            "unavailable": dict(self.unavailable),
        }


def apply_protocol(
    name: str, run: str | Path, *, suite: str | None = None, device: str | None = None, cache: Path | None = None
) -> Row:
    """Measure a protocol's columns on a generated run; what is measured already is read.

    Args:
        name: of :data:`PROTOCOLS`.
        run: the run folder.
        suite: where its suite is, if not where the manifest says.
        device: where networks run; None takes the run's.
        cache: where features of truths are kept; None keeps none.

    Raises:
        RefbenchError: unknown protocol, no run there, another suite.
    """
    from refbench.metrics.registry import make_metrics
    from refbench.runs.api import metric_state

    protocol = protocol_named(name)
    folder, manifest = RunFolder.open(run)
    whole = suite_of(manifest, run, suite)
    metrics = make_metrics([column.metric for column in protocol.columns], resolve(device or manifest.device))
    _, unavailable = metric_state(list(metrics), whole.targets)
    definition = [name, {key: metric.hash for key, metric in metrics.items() if key not in unavailable}]
    state = state_of(folder, manifest, definition)
    file = f"protocol-{name}.json"
    found = folder.read_json(file)
    if found is None or found.get("state") != state:
        columns = [column for column in protocol.columns if column.metric not in unavailable]
        samples = _measured(columns, folder, whole, resolve(device or manifest.device), cache)
        found = {"state": state, "protocol": name, "definition": definition, "samples": samples}
        folder.write_json(file, found)
    return _row(protocol, folder, manifest.card.name, len(manifest.samples), found["samples"], unavailable)


def _row(
    protocol: Protocol,
    folder: RunFolder,
    model: str,
    planned: int,
    samples: Sequence[Mapping[str, Any]],
    unavailable: Mapping[str, str],
) -> Row:
    values: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for column in protocol.columns:
        numbers = [sample[_key(column)] for sample in samples if sample.get(_key(column)) is not None]
        counts[column.title] = len(numbers)
        if column.fold == "share above 0":
            numbers = [float(number > 0) for number in numbers]
        values[column.title] = sum(numbers) / len(numbers) if numbers else None
    return Row(folder.told, model, protocol, values, counts, len(samples), planned - len(samples), dict(unavailable))


def _key(column: Column) -> str:
    return f"{column.place}.{column.metric}"


def _measured(
    columns: Sequence[Column], folder: RunFolder, suite: Suite, device: str, cache: Path | None
) -> list[dict[str, Any]]:
    from refbench.metrics.features import FeatureStore
    from refbench.metrics.measurer import Measurer

    store = FeatureStore(None if cache is None else cache / "features", memory_mb=16.0)
    places: dict[Place, list[str]] = {}
    for column in columns:
        if column.metric not in places.setdefault(column.place, []):
            places[column.place].append(column.metric)
    measurers = {
        place: Measurer(names, device=device, batch_size=TOGETHER, features=store) for place, names in places.items()
    }
    rows: list[dict[str, Any]] = []
    batch: list[tuple[Truth, Image]] = []
    for pair in pictures(folder, folder.read_manifest(), suite):
        batch.append(pair)
        if len(batch) == TOGETHER:
            rows += _together(batch, measurers)
            batch = []
    return rows + (_together(batch, measurers) if batch else [])


def _together(batch: Sequence[tuple[Truth, Image]], measurers: Mapping[Place, Measurer]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"id": truth.id} for truth, _ in batch]
    for place, measurer in measurers.items():
        seen = [(row, *view) for row, pair in zip(rows, batch, strict=True) if (view := _seen(place, *pair))]
        scores = measurer.measure([truth for _, truth, _ in seen], [output for _, _, output in seen])
        for (row, _, _), found in zip(seen, scores, strict=True):
            row.update({f"{place}.{score.metric}": score.value for score in found})
    return rows


def _seen(place: Place, truth: Truth, output: Image) -> tuple[Truth, Image] | None:
    """What a place shows of a sample: a truth of its own and the part of the output; None where there is nothing."""
    if place == "region":
        return truth, output
    import numpy as np

    from refbench.metrics.regions import cut, grown_box

    assert truth.mask is not None
    assert truth.draft is not None
    frame = (truth.target.shape[0], truth.target.shape[1])
    box = grown_box(mask_box(truth.mask), frame, SMALLEST, 1)
    if place == "box":
        key = hashlib.sha256(f"{truth.key} {box}".encode()).hexdigest() if truth.key else ""
        target = np.ascontiguousarray(cut(truth.target, box))
        return Truth(truth.id, target, None, None, None, key=key), np.ascontiguousarray(cut(output, box))
    x, y, width, height = box
    inside = np.zeros(frame, dtype=bool)
    inside[y : y + height, x : x + width] = True
    if inside.all():
        return None
    return Truth(truth.id, truth.draft, None, None, inside), output


def table_of(rows: Iterable[Row], *, published: bool = False) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of text: one a run, below them (when asked) the paper's own numbers on its own cases."""
    rows = list(rows)
    protocol = rows[0].protocol
    marks = {True: "↑", False: "↓"}
    columns = ["", *(f"{c.title} {marks[c.higher_is_better]}" for c in protocol.columns), "samples"]
    lines = []
    for row in rows:
        numbers = [_shown(row.values[column.title], column.title) for column in protocol.columns]
        lines.append([row.model, *numbers, f"{row.samples}" + (f" ({row.failed} failed)" if row.failed else "")])
    for method, numbers_of in protocol.published.items() if published else ():
        shown = [_shown(v, c.title) for c, v in zip(protocol.columns, numbers_of, strict=True)]
        lines.append([f"{method} (published, on its own cases)", *shown, ""])
    return columns, lines


def _shown(value: float | None, title: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if title == "AKI" else f"{value:.4f}"
