"""A measured run as pandas tables: a row a sample, the metrics in long form, and the summary."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.runs.aggregate import frame_of, read_summary, refuse_other_score, scoring
from refbench.runs.diagnostics import diagnostics_of
from refbench.runs.folder import ANSWERS, SCORES, RunFolder
from refbench.runs.suites import suite_of
from refbench.schema import AXES, PIXEL, RunManifest

if TYPE_CHECKING:
    import pandas as pd

    from refbench.runs.aggregate import RunSummary
    from refbench.tasks.suite import Suite


@dataclass(frozen=True)
class LoadedRun:
    """What :func:`load_run` returns."""

    folder: RunFolder
    manifest: RunManifest
    suite: Suite

    def __repr__(self) -> str:
        count = len(self.manifest.samples)
        return f"LoadedRun({self.manifest.card.name!r} on {self.manifest.suite!r}, {count} samples)"

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
    def scores(self) -> pd.DataFrame:
        """Long form, a row a sample and metric: sample, task, metric, axis, region, value, higher_is_better, card."""
        return frame_of(self.folder, SCORES)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row a planned sample: sample, task, category, mode, axes, mean, pixel_fidelity, status, diagnostics.

        The axes, `mean` (the score) and `pixel_fidelity` are recovery points of the sample, 0 trivial and 100 as good
        as the truth, NaN where a sample has no such number. Failed samples count as the draft does; `status` says
        "failed" or "refused". Diagnostics are in units of their own, NaN where undefined (`refbench list metrics`).
        """
        import numpy as np
        import pandas as pd

        from refbench.stats.gains import MEASURES, gains

        metas = {meta.id: meta for meta in self.suite.metas}
        planned = list(self.manifest.samples)
        cards, lacking = scoring(self.manifest)
        table = gains(self.scores, frame_of(self.folder, ANSWERS), planned, cards, lacking)
        points = pd.DataFrame(np.where(table.could > 0, 100.0 * table.won, np.nan), columns=list(MEASURES))
        records = self.folder.read_records(planned)
        diagnostics = diagnostics_of(self.scores).reindex(planned).reset_index(drop=True)
        facts = pd.DataFrame(
            [(sample, metas[sample].task, metas[sample].category, metas[sample].mode) for sample in planned],
            columns=["sample", "task", "category", "mode"],
        )
        status = [records[sample].status if sample in records else "failed" for sample in planned]
        columns = points[[*AXES, "mean", PIXEL]].assign(status=status)
        return pd.concat([facts, columns, diagnostics], axis=1)


def load_run(run: str | os.PathLike[str], *, suite: str | os.PathLike[str] | None = None) -> LoadedRun:
    """Open a measured run.

    Args:
        run: the run folder.
        suite: where its suite is, if not where the manifest says.

    Raises:
        RefbenchError: no run there, not measured, measured for another version of the score, or another suite.
    """
    folder = RunFolder.open(run)
    manifest = folder.read_manifest()
    refuse_other_score(folder, manifest)
    frame_of(folder, SCORES)
    whole = suite_of(manifest, run, None if suite is None else os.fspath(suite))
    return LoadedRun(folder, manifest, whole)
