"""What a tracker sees of a run: how far each stage is, and what it came to by axis, task and metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refbench.runs.aggregate import RunSummary
from refbench.runs.progress import Progress
from refbench.trackers import Tracker

TELLINGS = 200
"""A stage is told of about so often."""


class Tracked:
    """Progress that a tracker is told of too; its steps are samples, those of one stage after those before.

    Args:
        shown: what is told of everything.
        opened: opens the tracker when there is something to say, so that the run folder is there before its files.
    """

    def __init__(self, shown: Progress, opened: Callable[[], Tracker]) -> None:
        self.shown, self._opened = shown, opened
        self._tracker: Tracker | None = None
        self._step = 0
        self._stage, self._total, self._done, self._failed, self._told = "", 0, 0, 0, 0

    def tell(self, values: dict[str, float]) -> None:
        """Numbers at the step that was reached."""
        if self._tracker is None:
            self._tracker = self._opened()
        self._tracker.scalars(self._step, values)

    def close(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.close()

    def start(self, stage: str, total: int, done: int) -> None:
        """Go on where the stage before ended."""
        self.shown.start(stage, total, done)
        self._stage, self._total, self._done, self._failed, self._told = stage, total, done, 0, done
        self._step += done

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        """Tell the tracker from time to time, and at the end of a stage."""
        self.shown.advance(samples, failed)
        self._step, self._done, self._failed = self._step + samples, self._done + samples, self._failed + failed
        if self._done - self._told >= max(1, self._total // TELLINGS) or self._done == self._total:
            self._told = self._done
            self.tell({f"{self._stage}/samples": self._done, f"{self._stage}/failed": self._failed})

    def note(self, text: str) -> None:
        """Nothing of it for the tracker."""
        self.shown.note(text)


def scores_of(summary: RunSummary) -> dict[str, float]:
    """A run's recovery points by name: "score", axes, "task/NAME" (its score), "metric/NAME", and failed samples."""
    numbers: dict[str, Any] = summary.numbers
    cells = {"score": numbers["mean"], **numbers["axes"], "pixel_fidelity": numbers["pixel_fidelity"]}
    cells |= {f"task/{name}": row["mean"] for name, row in numbers["tasks"].items()}
    cells |= {f"metric/{name}": cell for name, cell in numbers["metrics"].items()}
    known = {name: cell["value"] for name, cell in cells.items() if cell["value"] is not None}
    return {**known, "failed": float(numbers["failed"])}
