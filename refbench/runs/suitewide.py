"""FID and KID of a run: one number a run, in ``suite_scores.json``, apart from the table of samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.images import Image
from refbench.runs.folder import RunFolder
from refbench.schema import RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.schema import Truth
    from refbench.tasks.suite import Suite

FILE = "suite_scores.json"
TOGETHER = 8
"""Samples that are decoded and passed at once."""


def state_of(folder: RunFolder, manifest: RunManifest, definition: object) -> str:
    """16 hex digits of all that numbers of a whole run depend on: its outputs, its suite, and a definition."""
    records = folder.read_records(manifest.samples)
    shas = [(sample, records[sample].sha256 if sample in records else None) for sample in manifest.samples]
    text = json.dumps([manifest.suite_hash, shas, definition], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def answered(folder: RunFolder, manifest: RunManifest) -> list[SampleRecord]:
    """Records of the planned samples that have an output, in order."""
    records = folder.read_records(manifest.samples)
    found = (records.get(sample) for sample in manifest.samples)
    return [record for record in found if record is not None and record.status == "ok"]


def pictures(folder: RunFolder, manifest: RunManifest, suite: Suite) -> Iterator[tuple[Truth, Image]]:
    """(truth, output) of each answered sample, decoded one at a time."""
    for record in answered(folder, manifest):
        yield suite.truth(record.id), folder.read_output(record)


def read_suite_scores(folder: RunFolder, manifest: RunManifest, names: Sequence[str]) -> list[dict[str, Any]] | None:
    """The stored numbers, an empty list where none are asked for, None where they are missing or outdated."""
    if not names:
        return []
    found = folder.read_json(FILE)
    if found is None or found.get("state") != state_of(folder, manifest, _cards(names)):
        return None
    rows: list[dict[str, Any]] = found.get("scores", [])
    return rows


def measured_before(folder: RunFolder) -> list[str]:
    """Names of the metrics that this run as a whole was measured with before."""
    found = folder.read_json(FILE) or {}
    return [str(row["name"]) for row in found.get("scores", []) if isinstance(row, dict) and "name" in row]


def _cards(names: Sequence[str]) -> dict[str, str]:
    from refbench.metrics.registry import make_metrics

    return {name: metric.hash for name, metric in make_metrics(names).items()}


def measure_suite_level(
    folder: RunFolder,
    suite: Suite,
    manifest: RunManifest,
    names: Sequence[str],
    *,
    device: str,
    cache: Path | None,
) -> tuple[list[dict[str, Any]], bool]:
    """Measure FID and KID where they are asked for and not up to date.

    Returns:
        Rows (name, value, samples, higher_is_better, card), and whether anything was measured. The value is null where
        fewer than two samples have an output.
    """
    found = read_suite_scores(folder, manifest, names)
    if found is not None:
        return found, False
    import numpy as np

    from refbench.metrics.features import FeatureStore
    from refbench.metrics.learned.suitewide import FEWEST, SuiteMetric, output_features
    from refbench.metrics.registry import make_metrics
    from refbench.metrics.view import Known, View

    metrics = make_metrics(names, device)
    store = FeatureStore(None if cache is None else cache / "features", memory_mb=16.0)
    # The network's hash, not a metric's: both metrics read the same features.
    facts = sorted({f"{m.card_once.weights_sha256} {m.card_once.backend}" for m in metrics.values()})
    mark = hashlib.sha256(repr(facts).encode())
    mine, theirs = [], []
    views: list[View] = []
    pairs = list(range(len(answered(folder, manifest))))
    for place, (truth, output) in zip(pairs, pictures(folder, manifest, suite), strict=True):
        views.append(View(truth, output, Known(truth, store)))
        if len(views) == TOGETHER or place == len(pairs) - 1:
            a, b = output_features(views, mark.hexdigest()[:12], device)
            mine.append(a)
            theirs.append(b)
            views = []
    rows: list[dict[str, Any]] = []
    for name, metric in metrics.items():
        assert isinstance(metric, SuiteMetric)
        enough = len(pairs) >= FEWEST
        value = metric.distance(np.concatenate(mine), np.concatenate(theirs)) if enough else None
        rows.append(
            {"name": name, "value": value, "samples": len(pairs), "higher_is_better": False, "card": metric.hash}
        )
    content = {"state": state_of(folder, manifest, _cards(names)), "scores": rows}
    folder.write_json(FILE, content)
    return rows, True
