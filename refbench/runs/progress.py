"""How a stage tells how far it is: a protocol, silence, and a bar with rate and time left on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from refbench.plaintext import harmless, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichBar
    from rich.progress import ProgressColumn, TaskID


class Progress(Protocol):
    """What a stage calls. All counts are samples."""

    def start(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` samples begins, `done` of which are there from an earlier start."""

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        """Some samples are finished, `failed` of them without an output."""

    def note(self, text: str) -> None:
        """Say one thing once."""


class Silent:
    """No progress."""

    def start(self, stage: str, total: int, done: int) -> None:
        """Nothing."""

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Bar:
    """A rich progress bar on stderr; where stderr is no terminal, one line at the end of a stage.

    Args:
        lines: where stderr is no terminal, also a line when a stage begins and every 20 seconds of it.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self.lines, self._told = lines, 0.0
        self._console: Console | None = None
        self._rich: RichBar | None = None
        self._task: TaskID | None = None
        self._stage, self._total, self._done, self._failed, self._fresh, self._since = "", 0, 0, 0, 0, 0.0

    @property
    def console(self) -> Console:
        """Where it is shown, made when there is something to show."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._console

    def _bar(self) -> RichBar:
        if self._rich is not None:
            return self._rich
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns: list[ProgressColumn] = [
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[red]{task.fields[failed]}"),
        ]
        self._rich = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._rich.start()
        return self._rich

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_stage()
        if self._rich is not None:
            self._rich.stop()

    def start(self, stage: str, total: int, done: int) -> None:
        """Begin a stage, with a line of its own."""
        import time

        self._close_stage()
        self._stage, self._total, self._done, self._failed, self._fresh = stage, total, done, 0, 0
        self._since = time.monotonic()
        self._task = self._bar().add_task(printable(stage), total=total, completed=done, rate="", left="", failed="")
        self._told = self._since
        if not self.console.is_terminal and self.lines:
            self.note(f"{stage}: {done}/{total}")

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        """Count finished samples; rate and time left come from this start alone, not from resumed samples."""
        import time

        self._done += samples
        self._fresh += samples
        self._failed += failed
        rate = self._fresh / max(time.monotonic() - self._since, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        if self.lines and not self.console.is_terminal and time.monotonic() - self._told >= 20:
            self._told = time.monotonic()
            self.note(f"{self._stage}: {self._done}/{self._total}, {_clock(left)} left")
        if self._task is not None:
            self._bar().update(
                self._task,
                completed=self._done,
                rate=f"{rate:.2f}/s" if rate >= 0.1 else f"{1 / max(rate, 1e-9):.0f} s each",
                left=f"{_clock(left)} left",
                failed=f"{self._failed} failed" if self._failed else "",
            )

    def note(self, text: str) -> None:
        """One line on stderr."""
        from rich.text import Text

        self.console.print(Text(harmless(text)))

    def _close_stage(self) -> None:
        import time

        if self._task is None:
            return
        seconds = time.monotonic() - self._since
        if not self.console.is_terminal:
            failed = f", {self._failed} failed" if self._failed else ""
            self.note(f"{self._stage}: {self._done}/{self._total} samples in {_clock(seconds)}{failed}")
        else:
            self._bar().update(self._task, left="")
        self._task = None


@contextlib.contextmanager
def showing(progress: bool | Progress) -> Iterator[Progress]:
    """A bar on stderr for True, silence for False, else what is given."""
    if progress is True:
        with Bar() as bar:
            yield bar
    else:
        yield Silent() if progress is False else progress


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def steps(progress: Progress, stage: str | None = None) -> Callable[[str, int, int], None]:
    """The same as a function of (what, done, total), as the rooms to the left of runs call it.

    Args:
        stage: one name for all steps; None begins a stage whenever `what` changes.
    """
    current, before = "", 0

    def step(what: str, done: int, total: int) -> None:
        nonlocal current, before
        name = stage or what
        if name != current or done < before:
            progress.start(name, total, 0 if stage else done)
            before = 0 if stage else done
        if done > before:
            progress.advance(done - before)
        current, before = name, done

    return step
