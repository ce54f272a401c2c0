"""What an evaluation comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refbench.runs.aggregate import RunSummary
from refbench.schema import SampleRecord


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run."""

    folder: Path | str
    """A path of this machine, or an address."""
    summary: RunSummary
    fresh: bool
    """False when everything was there already and nothing was done."""
    failed: tuple[SampleRecord, ...] = ()
    """Records of the samples without an output."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metric -> why it could not be measured and what to do."""
    suite_level: tuple[Mapping[str, Any], ...] = ()
    """Metrics of the run as a whole (FID, KID): name, value, samples, card."""
    seeds: tuple[Result, ...] = ()
    """With several seeds, the result of each; this one's numbers are of all, its folder is the first one's."""
    passes: tuple[Result, ...] = ()
    """With several passes, the result after each; this is the last one's."""

    def __repr__(self) -> str:
        """The model, the suite and the mean with its interval, in a line."""
        data = self.to_json()
        cell = data["mean"] or {}
        mean, low, high = ("–" if cell.get(name) is None else f"{cell[name]:.1f}" for name in ("value", "low", "high"))
        failed = f", {data['failed']} failed" if data["failed"] else ""
        return f"<Result {data['model']} on {data['suite']}: {mean} [{low}, {high}], {data['samples']} samples{failed}>"

    def to_json(self) -> dict[str, Any]:
        """As ``refbench eval --json`` prints it."""
        more = {
            "suite_level": list(self.suite_level),
            "passes": [one.to_json() for one in self.passes],
            "seeds": [one.to_json() for one in self.seeds],
        }
        return self.summary.to_json(str(self.folder)) | {name: found for name, found in more.items() if found}
