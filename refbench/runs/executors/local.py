"""Workers on this machine: threads that each feed a model's process, or processes for what computes in Python."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refbench.errors import RefbenchError
from refbench.runs.executors.contract import (
    TRIES,
    Hello,
    Job,
    LostError,
    Outcome,
    Setup,
    Worker,
    attempt,
    plainly,
)

WAIT_S = 0.5
"""How long the main thread sleeps at once, in seconds, so that a signal is handled on every platform."""


class LocalProcesses:
    """The executor of this machine.

    Args:
        workers: at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @contextlib.contextmanager
    def pool(self, setup: Setup, jobs: Sequence[Job], note: Callable[[str], None]) -> Iterator[Here | Crew]:
        """As :class:`refbench.runs.executors.contract.Executor`; no more workers than jobs are set up."""
        workers = max(min(self.workers, len(jobs)), 1)
        pool = Here(setup, jobs) if workers == 1 and not setup.in_thread else Crew(setup, jobs, workers)
        try:
            yield pool
        finally:
            pool.end()


class Here:
    """One worker in the calling thread."""

    def __init__(self, setup: Setup, jobs: Sequence[Job]) -> None:
        self._jobs, self._worker = jobs, setup(0)

    def hello(self) -> Hello:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        return self._worker.hello()

    def outcomes(self) -> Iterator[Outcome]:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        return (attempt(self._worker, job) for job in self._jobs)

    def end(self) -> None:
        """Close the worker."""
        self._worker.close()


class Crew:
    """Several workers, each a thread; those whose work is done in Python get a process each."""

    def __init__(self, setup: Setup, jobs: Sequence[Job], workers: int) -> None:
        self._jobs, self._taking = iter(jobs), threading.Lock()
        self._events: queue.Queue[Hello | Outcome | BaseException | None] = queue.Queue(maxsize=2 * workers + 8)
        self._begin, self._stop = threading.Event(), threading.Event()
        self._crew: list[Worker] = []
        self._waiting: list[Hello | Outcome | BaseException | None] = []
        self._threads = [
            threading.Thread(target=self._serve, args=(setup, n), daemon=True, name=f"refbench-worker-{n}")
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def _put(self, event: Hello | Outcome | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._events.put(event, timeout=WAIT_S)

    def _next(self) -> Job | None:
        with self._taking:
            return None if self._stop.is_set() else next(self._jobs, None)

    def _serve(self, setup: Setup, number: int) -> None:
        worker: Worker | None = None
        try:
            worker = setup(number) if setup.in_thread else OwnProcess(setup, number)
            self._crew.append(worker)
            self._put(worker.hello())
            self._begin.wait()
            while (job := self._next()) is not None:
                outcome = attempt(worker, job)
                for _ in range(TRIES - 1):
                    if not isinstance(outcome.error, LostError) or self._stop.is_set():
                        break
                    worker = self._anew(worker, setup, number)
                    outcome = attempt(worker, job)
                self._put(outcome)
                if isinstance(outcome.error, LostError):
                    worker = self._anew(worker, setup, number)
        except BaseException as error:  # handed to the main thread, which raises it
            self._put(error)
        finally:
            if worker is not None:
                with contextlib.suppress(Exception):
                    worker.close()
            self._put(None)

    def _anew(self, lost: Worker, setup: Setup, number: int) -> Worker:
        """Another process in the place of one that died."""
        lost.close()
        worker = OwnProcess(setup, number)
        self._crew[self._crew.index(lost)] = worker
        return worker

    def _event(self) -> Hello | Outcome | BaseException | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=WAIT_S)

    def hello(self) -> Hello:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        while True:
            event = self._event()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Hello):
                return event
            self._waiting.append(event)

    def outcomes(self) -> Iterator[Outcome]:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        self._begin.set()
        running = len(self._threads)
        while running:
            event = self._waiting.pop() if self._waiting else self._event()
            if event is None:
                running -= 1
            elif isinstance(event, Outcome):
                yield event
            elif isinstance(event, BaseException):
                raise event

    def end(self) -> None:
        """End all workers, whatever they are at."""
        self._stop.set()
        self._begin.set()
        for worker in list(self._crew):
            with contextlib.suppress(Exception):
                worker.close()
        for thread in self._threads:
            thread.join(timeout=10)


class OwnProcess:
    """A worker in a process of its own, which ends with this one and leaves Ctrl-C to it."""

    def __init__(self, setup: Setup, number: int) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, setup, number), daemon=True)
        self._process.start()
        theirs.close()
        self._hello = self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise LostError(
                "Expected the processes that measure to finish, but one died (often: out of memory); run the same "
                "command again with fewer --workers, what is measured is kept."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def hello(self) -> Hello:
        """As :class:`refbench.runs.executors.contract.Worker`."""
        found: Hello = self._hello
        return found

    def do(self, content: Any, /) -> Any:
        """As :class:`refbench.runs.executors.contract.Worker`."""
        with contextlib.suppress(OSError):  # one that has died is told by the answer that does not come
            self._pipe.send(content)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join(timeout=5)


def _serve(pipe: Any, setup: Setup, number: int) -> None:
    """The process's side of :class:`OwnProcess`."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        worker = setup(number)
        pipe.send(worker.hello())
    except Exception as error:
        pipe.send(error if isinstance(error, RefbenchError) else plainly(error))
        return
    while True:
        outcome = attempt(worker, Job("", pipe.recv()), plain=True)
        pipe.send(outcome.rows if outcome.error is None else outcome.error)
