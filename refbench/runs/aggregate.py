"""Stage 3: from score tables to axes, categories and metrics with 95 % intervals, written as summary.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from refbench import __version__
from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.runs.diagnostics import means
from refbench.runs.folder import RunFolder
from refbench.runs.jsontext import as_json, digest_of, read_json
from refbench.schema import SCORE_VERSION, MetricCard, Record, RunManifest

if TYPE_CHECKING:
    from pathlib import Path

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
    content = read_json(folder.summary)
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
            f"Expected numbers of score {SCORE_VERSION}, but those of {folder.path} are of score "
            f"{manifest.score_version or 1}; run 'refbench measure {folder.path}', which generates nothing anew."
        )


def aggregate(folder: RunFolder, suite: Suite, manifest: RunManifest, *, resamples: int = 2000) -> RunSummary:
    """Compute and write the summary of a measured run; one that is up to date is returned as it is.

    Args:
        folder: with ``scores.parquet`` and ``answers.parquet``.
        suite: for the metadata of the samples; no pixel is decoded.
        manifest: names the metrics that were measured, and those that could not be.
        resamples: of the bootstrap, seeded with the run's seed.

    Raises:
        RefbenchError: the run is not measured, or the folder cannot be written.
    """
    import pandas as pd

    from refbench.stats.gains import withheld
    from refbench.stats.recovery import summarise

    found = read_summary(folder)
    refused, cost = _of_records(folder, manifest)
    if found is not None and (found.refused, found.cost_usd) == (refused, cost):
        return found
    scores, answers = _frame(folder.scores), _frame(folder.answers)
    planned = set(manifest.samples)
    fields = ("id", "task", "category", "mode", "source_id")
    metas = pd.DataFrame(
        [[getattr(meta, name) for name in fields] for meta in suite.metas if meta.id in planned],
        columns=["sample", *fields[1:]],
    )
    cards, lacking = scoring(manifest)
    numbers: Summary = summarise(scores, answers, metas, cards, seed=0, resamples=resamples, unavailable=lacking)
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
    write_atomic(folder.summary, (as_json(summary.model_dump(mode="json")) + "\n").encode())
    return summary


def _of_records(folder: RunFolder, manifest: RunManifest) -> tuple[int, float | None]:
    """How many samples were refused, and what all samples cost in USD."""
    records = folder.read_records(manifest.samples).values()
    prices = [r.price_usd for r in records if r.price_usd is not None]
    return sum(r.status == "refused" for r in records), round(sum(prices), 6) if prices else None


def _inputs(folder: RunFolder) -> dict[str, str]:
    tables = {path.name: digest_of(path) or "missing" for path in (folder.scores, folder.answers)}
    return {**tables, "refbench": __version__, "score": str(SCORE_VERSION)}


def _frame(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    if not path.exists():
        raise RefbenchError(
            f"Expected measured scores at {path}, but there are none; run 'refbench measure' on the run."
        )
    frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame
