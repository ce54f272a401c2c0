"""One measured run: its tables, its summary, what each sample won, and where its pictures lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.results.comparable import Facts
from refbench.runs.aggregate import RunSummary, frame_of, read_summary, refuse_other_score, scoring
from refbench.runs.diagnostics import diagnostics_of
from refbench.runs.folder import ANSWERS, SCORES, RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import AXES, PIXEL, MetricCard, RunManifest, SampleMeta, SampleRecord
from refbench.stats.gains import MEASURES, Gains, clipped, gains
from refbench.stats.recovery import Summary, summarise

if TYPE_CHECKING:
    import pandas as pd

    from refbench.tasks.suite import Suite

META_COLUMNS = ("sample", "task", "category", "mode", "source_id", "view", "degradation", "strength", "mask_share")


def meta_table(metas: Iterable[SampleMeta]) -> pd.DataFrame:
    """A row a sample with :data:`META_COLUMNS`, as the statistics take them."""
    import pandas as pd

    rows = [[meta.id, *(getattr(meta, name) for name in META_COLUMNS[1:])] for meta in metas]
    return pd.DataFrame(rows, columns=list(META_COLUMNS))


@dataclass(frozen=True)
class RunResult:
    """A measured run on its suite, as :func:`refbench.load_run` opens it; tables are read when they are asked for."""

    folder: RunFolder
    manifest: RunManifest
    suite: Suite
    name: str
    """The card's name; something is added where two runs share it."""
    cards: Mapping[str, MetricCard]
    lacking: Mapping[str, str]
    """Metric that was not measured -> why."""
    resamples: int = 2000
    """Of the bootstrap behind the intervals where the run's summary is missing or outdated."""

    def __repr__(self) -> str:
        count = len(self.manifest.samples)
        return f"RunResult({self.name!r} on {self.manifest.suite!r}, {count} samples)"

    @property
    def facts(self) -> Facts:
        """What decides with which results it may be compared."""
        return Facts.of(self.manifest)

    @cached_property
    def metas(self) -> dict[str, SampleMeta]:
        """The planned samples in order.

        Raises:
            RefbenchError: the plan names a sample that the suite does not have.
        """
        known = {meta.id: meta for meta in self.suite.metas}
        strange = [sample for sample in self.manifest.samples if sample not in known]
        if strange:
            raise RefbenchError(
                f"Expected samples of suite '{self.suite.name}' in {self.folder.place}, but '{strange[0]}' is not in "
                "it; evaluate the model again."
            )
        return {sample: known[sample] for sample in self.manifest.samples}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Long form, a row a sample and metric: sample, task, metric, axis, region, value, higher_is_better, card."""
        return frame_of(self.folder, SCORES)

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """The same of the baselines and the truth, with a column `answer`."""
        return frame_of(self.folder, ANSWERS)

    @cached_property
    def records(self) -> Mapping[str, SampleRecord]:
        """Sample -> what happened to it."""
        return self.folder.read_records(self.manifest.samples)

    @cached_property
    def gains(self) -> Gains:
        """What each sample won and could win."""
        return gains(self.scores, self.baselines, self.manifest.samples, self.cards, self.lacking)

    @property
    def withheld(self) -> Mapping[str, str]:
        """Axis or "mean" -> why it has no number for want of a scoring metric."""
        return self.gains.withheld

    @cached_property
    def summary(self) -> RunSummary:
        """Axes, score, categories, tasks, modes and metrics with intervals; ``.numbers`` holds them as plain values."""
        found = read_summary(self.folder)
        if found is None:
            raise RefbenchError(
                f"Expected an up-to-date summary at {self.folder.place}, but there is none; run 'refbench measure "
                f"{self.folder.place}'."
            )
        return found

    @cached_property
    def numbers(self) -> Summary:
        """The summary's numbers, computed where the run's own are missing or outdated."""
        stored = read_summary(self.folder)
        if stored is not None:
            return Summary.model_validate(stored.numbers)
        metas = meta_table(self.metas.values())
        return summarise(
            self.scores, self.baselines, metas, self.cards, resamples=self.resamples, unavailable=self.lacking
        )

    @cached_property
    def points(self) -> pd.DataFrame:
        """Sample (index) x :data:`refbench.stats.gains.MEASURES` in recovery points, NaN where there is no number."""
        import pandas as pd

        values = np.where(self.gains.could > 0, 100.0 * self.gains.won, np.nan)
        return pd.DataFrame(values, index=list(self.gains.samples), columns=list(MEASURES))

    @cached_property
    def recoveries(self) -> pd.DataFrame:
        """Sample (index) x metric: recovery clipped to [-100, 100], NaN where a sample has no gap; failed ones as the
        draft."""
        import pandas as pd

        values = clipped(self.gains, self.cards)
        return pd.DataFrame(values, index=list(self.gains.samples), columns=list(self.gains.metrics))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row a planned sample: sample, task, category, mode, axes, mean, pixel_fidelity, status, diagnostics.

        The axes, `mean` (the score) and `pixel_fidelity` are recovery points of the sample, 0 trivial and 100 as good
        as the truth, NaN where a sample has no such number. Failed samples count as the draft does; `status` says
        "failed" or "refused". Diagnostics are in units of their own, NaN where undefined (`refbench list metrics`).
        """
        import pandas as pd

        planned = list(self.manifest.samples)
        facts = meta_table(self.metas.values())[["sample", "task", "category", "mode"]]
        status = [self.records[sample].status if sample in self.records else "failed" for sample in planned]
        columns = self.points[[*AXES, "mean", PIXEL]].reset_index(drop=True).assign(status=status)
        diagnostics = diagnostics_of(self.scores).reindex(planned).reset_index(drop=True)
        return pd.concat([facts, columns, diagnostics], axis=1)

    @cached_property
    def seconds(self) -> float | None:
        """Median seconds a refined sample took; None when none worked."""
        times = [record.seconds for record in self.records.values() if record.status == "ok"]
        return float(np.median(times)) if times else None

    @cached_property
    def price(self) -> float | None:
        """US dollars an image: the mean of what the adapter reported, else what its card says; None when unknown."""
        told = [record.price_usd for record in self.records.values() if record.price_usd is not None]
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


def measured(run: str | os.PathLike[str]) -> tuple[RunFolder, RunManifest]:
    """A run folder that has scores of this installation's version of the score.

    Raises:
        RefbenchError: no run there, not measured, or measured for another version of the score.
    """
    folder, manifest = RunFolder.open(run)
    refuse_other_score(folder, manifest)
    there = folder.storage.names()
    for name in (SCORES, ANSWERS):
        if not manifest.metric_cards or name not in there:
            raise RefbenchError(
                f"Expected a measured run at {folder.place}, but it has no {name}; run 'refbench measure "
                f"{folder.place}'."
            )
    return folder, manifest


def load_run(run: str | os.PathLike[str], *, suite: str | os.PathLike[str] | None = None) -> RunResult:
    """Open a measured run.

    Args:
        run: the run folder.
        suite: where its suite is, if not where the manifest says.

    Raises:
        RefbenchError: no run there, not measured, measured for another version of the score, or another suite.
    """
    folder, manifest = measured(run)
    whole = suite_of(manifest, run, None if suite is None else os.fspath(suite))
    return RunResult(folder, manifest, whole, manifest.card.name, *scoring(manifest))
