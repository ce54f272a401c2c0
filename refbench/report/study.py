"""Runs laid side by side: read from their folders, refused where they do not belong together.

Figures, tables and the viewer all start from a :class:`Study`. Nothing here runs a model or measures an
image; what a run folder holds is enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.runs.aggregate import read_summary, refuse_other_score, scoring
from refbench.runs.folder import RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import MetricCard, RunManifest, SampleMeta, SampleRecord
from refbench.stats.gains import MEASURES, clipped, gains, withheld
from refbench.stats.recovery import Summary, summarise

if TYPE_CHECKING:
    import pandas as pd

    from refbench.tasks.suite import Suite


@dataclass(frozen=True)
class Run:
    """One run as the report sees it."""

    name: str
    """The card's name; the folder's name is added where two runs share it."""
    folder: RunFolder
    manifest: RunManifest
    records: Mapping[str, SampleRecord]
    scores: pd.DataFrame
    """Long form: sample, task, metric, axis, region, value, higher_is_better, card."""
    summary: Summary
    withheld: Mapping[str, str]
    """Axis or "mean" -> why it has no number for want of a scoring metric."""
    recoveries: pd.DataFrame
    """Sample id (index) x metric: recovery clipped to [-100, 100], NaN where a sample has no gap; failed ones
    as the draft."""
    samples: pd.DataFrame
    """Sample id (index) x :data:`refbench.stats.gains.MEASURES` in recovery points, NaN where there is no number."""

    @cached_property
    def seconds(self) -> float | None:
        """Median seconds a refined sample took; None when none worked."""
        times = [r.seconds for r in self.records.values() if r.status == "ok"]
        return float(np.median(times)) if times else None

    @cached_property
    def price(self) -> float | None:
        """US dollars an image: the mean of what the adapter reported, else what its card says; None when unknown."""
        told = [r.price_usd for r in self.records.values() if r.price_usd is not None]
        return float(np.mean(told)) if told else self.manifest.card.price_per_image_usd

    def failed(self, sample: str) -> str | None:
        """Why there is no output for a sample; None when there is one."""
        record = self.records.get(sample)
        if record is None:
            return "not generated yet"
        return None if record.status == "ok" else record.error or "failed without a reason"

    def output(self, meta: SampleMeta) -> Path:
        """Where the refined image of a sample lies."""
        return self.folder.output(meta.task, meta.id)


@dataclass(frozen=True)
class Study:
    """Runs of one plan on one suite, measured with the same metric cards."""

    suite: Suite
    metas: Mapping[str, SampleMeta]
    """Planned samples in order."""
    runs: tuple[Run, ...]
    """In the order given."""
    answers: pd.DataFrame
    cards: Mapping[str, MetricCard]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs, in order."""
        return tuple(run.name for run in self.runs)

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises:
            RefbenchError: there is none.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise RefbenchError(f"Expected one of the runs {', '.join(self.names)}, but '{name}' came; name one of these.")

    @cached_property
    def ranked(self) -> tuple[Run, ...]:
        """The runs by mean score, best first."""
        return tuple(
            sorted(self.runs, key=lambda r: -(r.summary.mean.value if r.summary.mean.value is not None else -1e9))
        )

    def sample_scores(self, axis: str = "mean") -> pd.DataFrame:
        """Sample id x run: the score of each sample, NaN where nothing can be scored."""
        import pandas as pd

        return pd.DataFrame({run.name: run.samples[axis] for run in self.runs}).reindex(list(self.metas))


def open_study(
    folders: Sequence[str | os.PathLike[str]],
    *,
    suite: str | Suite | None = None,
    cards: Mapping[str, MetricCard] | None = None,
    resamples: int = 2000,
) -> Study:
    """Read run folders for figures, tables and the viewer.

    Args:
        folders: run folders, at least one.
        suite: the suite of the runs or where it is; None takes the one that the first manifest names.
        cards: metric definitions; None takes those of this installation, and withholds what lacks a scoring metric.
        resamples: of the bootstrap behind the intervals of runs whose summary is missing or outdated.

    Raises:
        RefbenchError: no folder, not a run, not measured, or runs that differ in suite, samples or metric cards;
            the message lists what differs.
    """
    if not folders:
        raise RefbenchError("Expected at least one run folder, but none came; name the runs to show.")
    opened = [RunFolder.open(path) for path in folders]
    manifests = [folder.read_manifest() for folder in opened]
    for folder, manifest in zip(opened, manifests, strict=True):
        refuse_other_score(folder, manifest)
    _refuse_unequal([f.path for f in opened], manifests)
    first = manifests[0]
    suite = suite_of(first, opened[0].path, suite)
    metas = {meta.id: meta for meta in suite.metas}
    unknown = [sample for sample in first.samples if sample not in metas]
    if unknown:
        raise RefbenchError(
            f"Expected samples of suite '{suite.name}' in {opened[0].path}, but '{unknown[0]}' is not in it."
        )
    planned = {sample: metas[sample] for sample in first.samples}
    lacking: list[dict[str, str]] = [{} for _ in manifests]
    if cards is None:
        found = [scoring(manifest) for manifest in manifests]
        cards = {name: card for its_cards, _ in found for name, card in its_cards.items()}
        lacking = [why for _, why in found]
    answers = _answers(opened)
    names = _names([m.card.name for m in manifests], [f.path for f in opened])
    runs = tuple(
        _run(name, folder, manifest, planned, answers, cards, why, resamples)
        for name, folder, manifest, why in zip(names, opened, manifests, lacking, strict=True)
    )
    return Study(suite, planned, runs, answers, cards)


def _names(cards: Sequence[str], paths: Sequence[Path]) -> list[str]:
    names = [
        card if cards.count(card) == 1 else f"{card} ({path.name})" for card, path in zip(cards, paths, strict=True)
    ]
    for number, name in enumerate(names):
        if name in names[:number]:
            names[number] = f"{name} #{names[: number + 1].count(name)}"
    return names


def _refuse_unequal(paths: Sequence[Path], manifests: Sequence[RunManifest]) -> None:
    first, differences = manifests[0], []
    for path, other in zip(paths[1:], manifests[1:], strict=True):
        if other.suite_hash != first.suite_hash:
            differences.append(
                f"{path} ran suite {other.suite} {other.suite_hash[:12]}, not {first.suite} {first.suite_hash[:12]}"
            )
        elif set(other.samples) != set(first.samples):
            odd = len(set(other.samples) ^ set(first.samples))
            differences.append(f"{path} planned {len(other.samples)} samples, {odd} of them not shared")
        shared = first.metric_cards.keys() & other.metric_cards.keys()
        unequal = sorted(m for m in shared if first.metric_cards[m] != other.metric_cards[m])
        if unequal:
            differences.append(f"{path} was measured with other cards of {', '.join(unequal)}")
    if differences:
        raise RefbenchError(
            f"Expected runs of one suite, one plan and one set of metric cards, but compared with {paths[0]}: "
            f"{'; '.join(differences)}; run or measure them again alike."
        )


def _table(path: Path, run: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise RefbenchError(
            f"Expected a measured run at {run}, but it has no {path.name}; run 'refbench measure {run}' first."
        ) from None
    except (OSError, ValueError) as error:
        raise RefbenchError(
            f"Expected scores at {path}, but the file is broken ({error}); delete it and run 'refbench measure {run}'."
        ) from None


def _answers(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """The answers of all runs, each metric's once: runs may have been measured with different metrics."""
    import pandas as pd

    found = pd.concat([_table(folder.answers, folder.path) for folder in folders], ignore_index=True)
    return found.drop_duplicates(["sample", "metric", "answer"], ignore_index=True)


def _run(
    name: str,
    folder: RunFolder,
    manifest: RunManifest,
    planned: Mapping[str, SampleMeta],
    answers: pd.DataFrame,
    cards: Mapping[str, MetricCard],
    unavailable: Mapping[str, str],
    resamples: int,
) -> Run:
    import pandas as pd

    scores = _table(folder.scores, folder.path)
    scores = scores[scores["sample"].isin(list(planned)) & scores["metric"].isin(list(cards))]
    table = gains(scores, answers, list(planned), cards, unavailable)
    stored = read_summary(folder)
    if stored is not None:
        summary = Summary.model_validate(stored.numbers)
    else:
        metas = meta_table(planned.values())
        summary = summarise(scores, answers, metas, cards, resamples=resamples, unavailable=unavailable)
    points = np.where(table.could > 0, 100.0 * table.won, np.nan)
    samples = pd.DataFrame(points, index=list(planned), columns=list(MEASURES))
    recoveries = pd.DataFrame(clipped(table, cards), index=list(planned), columns=list(table.metrics))
    records, lacking = folder.read_records(manifest.samples), withheld(cards, unavailable)
    return Run(name, folder, manifest, records, scores, summary, lacking, recoveries, samples)


def meta_table(metas: Iterable[SampleMeta]) -> pd.DataFrame:
    """DataFrame[sample, task, category, mode, source_id], as the statistics take it."""
    import pandas as pd

    return pd.DataFrame(
        [(m.id, m.task, m.category, m.mode, m.source_id) for m in metas],
        columns=["sample", "task", "category", "mode", "source_id"],
    )
