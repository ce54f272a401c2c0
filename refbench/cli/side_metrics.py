"""What ``eval`` and ``measure`` can add beside the score: a published protocol's columns, a judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from refbench.runs.judging import Judge
    from refbench.runs.protocols import Row


@dataclass
class SideMetrics:
    """The options as given; what is wrong with them is told before anything starts."""

    protocol: str | None
    url: str | None
    model: str | None
    votes: int
    suite: str | None
    device: str | None
    judge: Judge | None = None
    rows: list[Row] = field(default_factory=list)
    ratings: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.protocol is not None:
            from refbench.runs.protocols import protocol_named

            protocol_named(self.protocol)
        if (self.url is None) != (self.model is None):
            raise RefbenchError("Expected --judge and --judge-model together, but only one of them came.")
        if self.url is not None and self.model is not None:
            from refbench.runs.judging import Judge

            self.judge = Judge(self.url, self.model, self.votes)

    def measured(self, run: Path | str) -> dict[str, Any]:
        """Do what was asked for on one run; returns what JSON output adds."""
        from refbench.cache import cache_folder

        found: dict[str, Any] = {}
        if self.protocol is not None:
            from refbench.runs.protocols import apply_protocol

            row = apply_protocol(self.protocol, run, suite=self.suite, device=self.device, cache=cache_folder())
            self.rows.append(row)
            found["protocol"] = row.to_json()
        if self.judge is not None:
            from refbench.runs.judging import judge_run

            rated = judge_run(run, self.judge, suite=self.suite, cache=cache_folder())
            self.ratings.append(rated)
            found["judge"] = {key: value for key, value in rated.items() if key != "samples"}
        return found

    def show(self) -> None:
        """Print the tables."""
        from refbench.cli import show

        if self.rows:
            show.protocol(self.rows)
        for rated in self.ratings:
            show.judged(rated)
