"""Stage 3: from score tables to axes, categories and metrics with 95 % intervals, written as summary.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from refbench import __version__
from refbench.errors import RefbenchError
from refbench.runs.diagnostics import means
from refbench.runs.folder import ANSWERS, SCORES, SEEDS, SUMMARY, RunFolder
from refbench.schema import SCORE_VERSION, MetricCard, Record, RunManifest

if TYPE_CHECKING:
    import pandas as pd

    from refbench.stats.recovery import Summary
    from refbench.tasks.suite import Suite


NOT_MEASURED = "was not measured in this run: run `refbench measure` on it without --metrics"
"""Why a scoring metric has no values that nothing kept from being measured."""


class RunSummary(Record):
    """Content of ``summary.json``."""

    suite: str
    suite_version: str
    suite_hash: str
    model: str
    inputs: dict[str, str]
    """SHA-256 of the tables that the numbers come from, and refbench's version; others make the summary outdated."""
    numbers: dict[str, Any]
    """A refbench.stats.recovery.Summary."""
    targets: bool = True
    """Whether the suite has targets; without them there is no score, and axes are on another footing."""
    withheld: dict[str, str] = Field(default_factory=dict)
    """Axis or "mean" -> which scoring metrics could not be measured, and why, so that it has no number."""
    refused: int = 0
    """How many of the failed samples a safety filter declined."""
    diagnostics: dict[str, dict[str, Any]]
    """Diagnostic -> its mean over the samples that have it, and how many (refbench.runs.diagnostics)."""
    cost_usd: float | None = None
    """Sum of the prices that the samples' records name; None where none does."""

    def to_json(self, run: str) -> dict[str, Any]:
        """The result as ``refbench eval --json`` prints it. Values are recovery points, null where nothing is scored;
        `withheld` says why an axis or the mean is null for want of a scoring metric.

        Args:
            run: where the run folder is.
        """
        version = self.numbers["score_version"]
        return {
            "run": run,
            "suite": self.suite,
            "suite_hash": self.suite_hash,
            "model": self.model,
            "score_version": version if self.targets else f"{version} without targets",
            "targets": self.targets,
            "axes": self.numbers["axes"],
            "mean": self.numbers["mean"],
            "pixel_fidelity": self.numbers["pixel_fidelity"],
            "withheld": self.withheld,
            "categories": self.numbers["categories"],
            "diagnostics": self.diagnostics,
            "samples": self.numbers["samples"],
            "failed": self.numbers["failed"],
            "refused": self.refused,
            "cost_usd": self.cost_usd,
        }


def read_summary(folder: RunFolder) -> RunSummary | None:
    """The summary of a run, or None where there is none or its tables have changed since."""
    content = folder.read_json(SUMMARY)
    if content is None:
        return None
    try:
        summary = RunSummary.model_validate(content)
    except ValidationError:
        return None
    return summary if summary.inputs == _inputs(folder) else None


def scoring(manifest: RunManifest) -> tuple[dict[str, MetricCard], dict[str, str]]:
    """What a run's numbers are made of, the same on every installation.

    Returns:
        The cards of the metrics that make the score and of the others that were measured, and for each of the former
        that was not measured, why: the axis it belongs to, and the mean, have no number without it.
    """
    from refbench.metrics.registry import cards_of, score_metrics

    needed = score_metrics()
    lacking = {name: NOT_MEASURED for name in needed if name not in manifest.metric_cards}
    return cards_of([*needed, *manifest.metric_cards, *manifest.unavailable]), {**lacking, **manifest.unavailable}


def refuse_other_score(folder: RunFolder, manifest: RunManifest) -> None:
    """Numbers of two versions of the score never meet.

    Raises:
        RefbenchError: the run was measured for another version than this installation's.
    """
    if manifest.metric_cards and manifest.score_version != SCORE_VERSION:
        raise RefbenchError(
            f"Expected numbers of score {SCORE_VERSION}, but those of {folder.place} are of score "
            f"{manifest.score_version or 1}; run 'refbench measure {folder.place}', which generates nothing anew."
        )


def aggregate(folder: RunFolder, suite: Suite, manifest: RunManifest) -> RunSummary:
    """Compute and write the summary of a measured run; one that is up to date is returned as it is.

    Args:
        folder: with ``scores.parquet`` and ``answers.parquet``.
        suite: for the metadata of the samples; no pixel is decoded.
        manifest: names the metrics that were measured, and those that could not be.

    Raises:
        RefbenchError: the run is not measured, or the folder cannot be written.
    """
    from refbench.stats.gains import withheld
    from refbench.stats.recovery import summarise

    found = read_summary(folder)
    refused, cost = _of_records(folder, manifest)
    if found is not None and (found.refused, found.cost_usd) == (refused, cost):
        return found
    scores, answers = frame_of(folder, SCORES), frame_of(folder, ANSWERS)
    metas = _metas(suite, manifest)
    cards, lacking = scoring(manifest)
    numbers: Summary = summarise(scores, answers, metas, cards, unavailable=lacking)
    summary = RunSummary(
        suite=manifest.suite,
        suite_version=manifest.suite_version,
        suite_hash=manifest.suite_hash,
        model=manifest.card.name,
        inputs=_inputs(folder),
        numbers=numbers.model_dump(mode="json"),
        targets=suite.targets,
        withheld=withheld(cards, lacking),
        refused=refused,
        diagnostics=means(scores),
        cost_usd=cost,
    )
    folder.write_json(SUMMARY, summary.model_dump(mode="json"))
    return summary


def aggregate_seeds(runs: Sequence[RunFolder], suite: Suite) -> RunSummary:
    """The summary of a run and its repetitions with other seeds, written as ``seeds.json`` of the first.

    Intervals hold the spread between samples and between seeds (:mod:`refbench.stats.bootstrap`); `failed`, `refused`
    and the cost are of all together.

    Args:
        runs: each measured, by the same metrics.
        suite: for the metadata of the samples.

    Raises:
        RefbenchError: they were measured by different metrics.
    """
    from refbench.stats.recovery import summarise

    manifests = [run.read_manifest() for run in runs]
    first, manifest = read_summary(runs[0]), manifests[0]
    assert first is not None
    if any(other.metric_cards != manifest.metric_cards for other in manifests):
        raise RefbenchError(
            "Expected the same metrics in each repetition, but they differ; run 'refbench measure' on each run again."
        )
    cards, lacking = scoring(manifest)
    frames = [frame_of(run, SCORES) for run in runs]
    numbers = summarise(frames, frame_of(runs[0], ANSWERS), _metas(suite, manifest), cards, unavailable=lacking)
    of_each = [_of_records(run, one) for run, one in zip(runs, manifests, strict=True)]
    prices = [price for _, price in of_each if price is not None]
    diagnostics = {
        name: {**cell, "mean": sum(means(frame)[name]["mean"] for frame in frames) / len(frames)}
        for name, cell in first.diagnostics.items()
        if all(means(frame).get(name, {}).get("mean") is not None for frame in frames)
    }
    summary = first.model_copy(
        update={
            "numbers": numbers.model_dump(mode="json"),
            "refused": sum(refused for refused, _ in of_each),
            "diagnostics": diagnostics,
            "cost_usd": sum(prices) if prices else None,
        }
    )
    seeds = {"seeds": [one.seed for one in manifests], "runs": [run.name for run in runs]}
    runs[0].write_json(SEEDS, {**seeds, "numbers": summary.numbers})
    return summary


def _metas(suite: Suite, manifest: RunManifest) -> pd.DataFrame:
    import pandas as pd

    planned = set(manifest.samples)
    fields = ("id", "task", "category", "mode", "source_id")
    return pd.DataFrame(
        [[getattr(meta, name) for name in fields] for meta in suite.metas if meta.id in planned],
        columns=["sample", *fields[1:]],
    )


def _of_records(folder: RunFolder, manifest: RunManifest) -> tuple[int, float | None]:
    """How many samples were refused, and what all samples cost in USD."""
    records = folder.read_records(manifest.samples).values()
    prices = [r.price_usd for r in records if r.price_usd is not None]
    return sum(r.status == "refused" for r in records), round(sum(prices), 6) if prices else None


def _inputs(folder: RunFolder) -> dict[str, str]:
    tables = {}
    for name in (SCORES, ANSWERS):
        data = folder.storage.read(name)
        tables[name] = "missing" if data is None else hashlib.sha256(data).hexdigest()
    return {**tables, "refbench": __version__, "score": str(SCORE_VERSION)}


def frame_of(folder: RunFolder, name: str) -> pd.DataFrame:
    """A score table of a measured run.

    Raises:
        RefbenchError: it is not there, or broken.
    """
    import pyarrow.parquet as pq

    handle = folder.storage.opened(name)
    if handle is None:
        raise RefbenchError(
            f"Expected a measured run at {folder.place}, but it has no {name}; run 'refbench measure {folder.place}'."
        )
    try:
        with handle:
            frame: pd.DataFrame = pq.read_table(handle).to_pandas()
    except (OSError, ValueError) as error:
        raise RefbenchError(
            f"Expected scores in {name} at {folder.place}, but the file is broken ({error}); delete it and run "
            f"'refbench measure {folder.place}'."
        ) from None
    return frame
