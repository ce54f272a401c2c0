"""Work in other processes that a kill ends well: what runs is finished, what waits is dropped, nothing is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from refbench.errors import RefbenchError

Job = TypeVar("Job")
Made = TypeVar("Made")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int) -> None:
    """Refuse a number of processes that is no number of processes.

    Raises:
        RefbenchError: less than 1 or more than 1024.
    """
    if not 1 <= workers <= 1024:
        raise RefbenchError(f"Expected 1 to 1024 worker processes, got {workers}; correct --workers.")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ready(start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def in_processes(
    make: Callable[[Job], Made],
    jobs: Iterable[Job],
    workers: int,
    start: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[Job, Made]]:
    """Each job with its result, in the order in which they end.

    When the caller stops (an interrupt, an error), jobs that run are waited for and the others are dropped.

    Raises:
        RefbenchError: a process was killed.

    Args:
        make: a function of a module, called in another process.
        jobs: what can be pickled.
        workers: processes, each started anew.
        start: called once in each process, with `arguments`.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ready, initargs=(start, arguments)) as pool:
        try:
            left = iter(jobs)
            running = {pool.submit(make, job): job for job in islice(left, workers)}
            while running:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(done)
                    running |= {pool.submit(make, more): more for more in islice(left, 1)}
                    yield job, done.result()
        except BrokenProcessPool:
            raise RefbenchError(
                "Expected worker processes to do their work, but one ended early (killed, or out of memory); what is "
                "finished is kept, go on with fewer --workers."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
