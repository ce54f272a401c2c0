"""What whoever started a training sees of it, and how it is stopped: lines of progress, and signals that save first."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Protocol, SupportsFloat


class Telling(Protocol):
    """Where progress goes."""

    def note(self, text: str) -> None:
        """One line of its own."""

    def tick(self, text: str) -> None:
        """How far it is; replaces the tick before, and may be left out."""


class Quiet:
    """Nowhere."""

    def note(self, text: str) -> None:
        """Nothing."""

    def tick(self, text: str) -> None:
        """Nothing."""


class Pace:
    """Says after the first step, and then every second, how far a stage is and how long it still takes.

    Args:
        telling: where it is said.
        stage: its name.
        steps: most steps of it, or None.
        step, progress: steps done and share of the run done at the start, as :meth:`step` takes them.
    """

    def __init__(self, telling: Telling, stage: str, steps: int | None, step: int = 0, progress: float = 0.0) -> None:
        self.telling, self.stage = telling, stage
        self._most = "" if steps is None else f" of at most {steps:,}"
        self._first = (step, progress)
        self._began = time.monotonic()
        self._last = -math.inf

    def step(self, step: int, progress: float, **numbers: SupportsFloat) -> None:
        """One step is done; `numbers` are read only when something is said.

        Args:
            step: steps done in all.
            progress: share of the run, in [0, 1].
        """
        now = time.monotonic()
        if now - self._last < 1:
            return
        self._last, spent = now, now - self._began
        done, share = step - self._first[0], progress - self._first[1]
        left = f", {clock(spent * (1 - progress) / share)} left" if share > 0 else ""
        values = "".join(f", {name} {float(value):.4g}" for name, value in numbers.items())
        self.telling.tick(
            f"{self.stage}: step {step:,}{self._most}, {progress:.0%}{values}, "
            f"{spent / max(done, 1):.2f} s a step{left}"
        )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rounds(
    progress: Callable[[], float], save: Callable[[float], None], agreed: Callable[[bool], bool] = bool
) -> Iterator[float]:
    """The progress before each step, until it is 1 or SIGINT or SIGTERM comes; either way the state is saved.

    Args:
        progress: share of the run that is done.
        save: writes the state with this progress.
        agreed: whether any process was asked to stop, where several train together.

    Raises:
        KeyboardInterrupt: a signal came, and the state is saved.
    """
    with Stop() as stop:
        while (done := progress()) < 1.0:
            yield done
            if agreed(stop.asked):
                save(min(progress(), 1.0))
                raise KeyboardInterrupt
        save(1.0)


class Stop:
    """While it is entered, the first SIGINT or SIGTERM sets `asked`, and a second one interrupts at once.

    A loop that looks at `asked` after each step can save what it has before it ends. Outside the main thread signals
    stay as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM):
                self._before[one] = signal.signal(one, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
