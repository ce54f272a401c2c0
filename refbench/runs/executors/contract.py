"""What an executor is: it sets workers up somewhere, gives them jobs, and hands back what each job came to.

Jobs are plain values and say what is to be done, never how far the run is; what they come to goes to the one process
that started them, which alone writes the run folder. No exception of a job's ends the others: it is a row like any
result, and the caller decides. So the order of the jobs, the number of workers, where they are and how often one dies
cannot be seen in what a run holds.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args

from refbench.devices import AUTO, count, resolve, spread
from refbench.errors import RefbenchError, unknown_name
from refbench.plaintext import one_line
from refbench.runs import environment

Name: TypeAlias = Literal["local", "ray", "slurm"]
NAMES: tuple[Name, ...] = get_args(Name)
TRIES = 3
"""How often a job is given out whose worker is lost with it (a node that dies, a job that is pre-empted)."""


class LostError(RefbenchError):
    """The worker is gone, and what it was doing with it."""


COUNTED: dict[str, type[int] | type[float]] = {"cpus": int, "time": int, "memory_gb": float}
"""Options of executors that are numbers."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how wide a run is spread, as the user asked for it."""

    executor: Name = "local"
    workers: int = 1
    gpus_per_worker: float | None = None
    """Part of a GPU that each worker gets; None is 1 on "cuda" and else none."""
    address: str | None = None
    """Of a Ray cluster; "auto" is the one that this machine belongs to, None starts one on this machine."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the executor: ``cpus`` and ``memory_gb`` of a worker; with Slurm ``folder``, ``partition``, ``time`` in
    minutes and every other option of sbatch."""

    def __post_init__(self) -> None:
        if self.executor not in NAMES:
            raise unknown_name("executor", self.executor, NAMES)
        if self.workers < 1:
            raise RefbenchError(f"Expected at least one worker, but {self.workers} came; leave --workers out for one.")
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker < 1024:
            raise RefbenchError(
                f"Expected 0 GPUs a worker or more, but {self.gpus_per_worker} came; e.g. --gpus-per-worker 0.5."
            )
        if self.executor == "local" and (self.gpus_per_worker or 0) > 1:
            raise RefbenchError(
                f"Expected at most one GPU a worker with --executor local, but {self.gpus_per_worker:g} came."
            )
        if self.address is not None and self.executor != "ray":
            raise RefbenchError(f"Expected --address with --executor ray, but the executor is {self.executor}.")
        if self.options and self.executor == "local":
            raise RefbenchError(
                f"Expected no --executor-option with --executor local, but {', '.join(self.options)} came."
            )
        for name, kind in COUNTED.items():
            self._check_number(name, kind)

    def _check_number(self, name: str, kind: type[int] | type[float]) -> None:
        """Refuse an option of the executor that is not a number above 0."""
        if name not in self.options:
            return
        value = self.options[name]
        try:
            good = 0 < kind(value) < math.inf and (kind is float or float(value) == kind(value))
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            what = "a whole number above 0" if kind is int else "a number above 0"
            raise RefbenchError(f"Expected {what} for --executor-option {name}, but '{value}' came; e.g. {name}=4.")

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines than this one."""
        return self.executor != "local"

    def gpus(self, device: str) -> float:
        """Part of a GPU that each worker gets on a device."""
        return (1.0 if device.startswith("cuda") else 0.0) if self.gpus_per_worker is None else self.gpus_per_worker

    def devices(self, device: str) -> tuple[str, ...]:
        """The device of each worker; elsewhere the executor hands GPUs out, and all have the same name for theirs."""
        if self.elsewhere:
            return (device,)
        part = self.gpus_per_worker
        if part is None or device != "cuda":
            return tuple(spread(device, self.workers))
        return tuple(f"cuda:{int(worker * part) % max(count(), 1)}" for worker in range(self.workers))

    def cpus(self) -> int:
        """Processor cores of a worker elsewhere."""
        return max(int(self.options.get("cpus", 1)), 1)


def placed(device: str, placement: Placement) -> str:
    """The device that is meant where the work is done: only that of this machine can be looked at from here.

    Raises:
        RefbenchError: no name of a device, or one that is not there, or GPUs asked for with another device.
    """
    if not placement.elsewhere:
        found = resolve(device)
        if placement.gpus_per_worker and not found.startswith("cuda"):
            raise RefbenchError(
                f"Expected a CUDA device with --gpus-per-worker {placement.gpus_per_worker:g}, but the work is done on "
                f"{found}; leave --gpus-per-worker out."
            )
        return found
    if device == AUTO:
        return "cuda" if placement.gpus_per_worker else "cpu"
    if device not in ("cpu", "cuda"):
        raise RefbenchError(
            f"Expected --device auto, cpu or cuda with --executor {placement.executor}, which hands out the GPUs, but "
            f"'{device}' came; choose one of these."
        )
    if device == "cpu" and placement.gpus_per_worker:
        raise RefbenchError("Expected --device cuda with --gpus-per-worker, but --device cpu came; leave one out.")
    return device


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker tells once it is set up."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of its work."""
    machine: str = field(default_factory=socket.gethostname)
    versions: Mapping[str, str] = field(default_factory=environment.versions)
    hardware: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do."""

    key: str
    """A file name that is the same for the same job in every start."""
    content: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to: rows, or why there are none."""

    job: Job
    rows: Any = None
    error: Exception | None = None


class Worker(Protocol):
    """One that is set up, such as a model that is loaded."""

    def hello(self) -> Hello:
        """What there is to tell once."""

    def do(self, content: Any, /) -> Any:
        """Do one job; what it returns can be pickled."""

    def close(self) -> None:
        """End it; may be called from another thread in the middle of a job."""


class Setup(Protocol):
    """How workers are set up; can be pickled."""

    @property
    def in_thread(self) -> bool:
        """Whether the work is done in child processes of the worker's own or waits, so that threads will do."""

    @property
    def identity(self) -> str:
        """Digits that are the same only for what does the same work for the same run."""

    @property
    def device(self) -> str:
        """Where models or metrics run: "cpu", "cuda", ..."""

    def __call__(self, number: int, /) -> Worker:
        """Set worker `number` up, counted from 0.

        Raises:
            RefbenchError: it cannot be, and no other could.
        """


class Pool(Protocol):
    """Workers at their jobs."""

    def hello(self) -> Hello:
        """Of the first worker that is ready; waits for it.

        Raises:
            RefbenchError: a worker cannot be set up.
        """

    def outcomes(self) -> Iterator[Outcome]:
        """What each job came to, in any order; jobs begin when this is asked for, or earlier."""


class Executor(Protocol):
    """Opens pools."""

    def pool(self, setup: Setup, jobs: Sequence[Job], note: Callable[[str], None]) -> AbstractContextManager[Pool]:
        """Workers for some jobs; when the context is left they are ended, whatever they are at.

        Args:
            setup: of a worker.
            jobs: to be done.
            note: called with a line that the user should read.
        """


def attempt(worker: Worker, job: Job, *, plain: bool = False) -> Outcome:
    """Do a job; what is raised becomes the outcome.

    Args:
        worker: set up.
        job: to do.
        plain: make the error one that any process can read.
    """
    try:
        return Outcome(job, worker.do(job.content))
    except Exception as error:
        return Outcome(job, error=plainly(error) if plain else error)


def plainly(error: BaseException) -> RefbenchError:
    """An error that a process without the classes of this one can read."""
    if isinstance(error, RefbenchError):
        return RefbenchError(str(error))
    from refbench.adapters.classes import describe

    return RefbenchError(f"Expected the worker on {socket.gethostname()} to go on, but {one_line(describe(error))}.")
