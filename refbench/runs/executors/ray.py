"""Workers as actors of a Ray cluster: each sets its model up once, and is given one job after the other.

An actor has at most two jobs, the one it is at and the next, so that nothing waits in the object store and a node that
dies takes little with it: its jobs go to others (:data:`refbench.runs.executors.contract.TRIES` times), and a new actor
is asked for. Ray Data's ``map_batches`` was measured beside it (docs/scale.md): it is no quicker, and it hands blocks
back late and drops those that failed.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refbench.errors import RefbenchError, missing_package
from refbench.runs.executors.contract import (
    TRIES,
    Hello,
    Job,
    LostError,
    Outcome,
    Placement,
    Setup,
    Worker,
    attempt,
    plainly,
)

AT_ONCE = 2
"""Jobs that an actor has at a time."""
WAIT_S = 0.5
"""How long the driver sleeps at once, in seconds, so that a signal is handled."""
PATIENCE_S = 10.0
"""After so many seconds without a worker the user is told what the cluster lacks."""
OPTIONS = ("cpus", "memory_gb")
STARTS = 3
"""Tries to start a cluster of this machine: on a busy one Ray gives up on its own agent after 15 s."""


def _ray() -> Any:
    """The package, whose decorators types cannot follow."""
    return importlib.import_module("ray")


class Ray:
    """The executor of a Ray cluster.

    Args:
        placement: with the cluster's address; without one a cluster of this machine is started, and ended after.

    Raises:
        RefbenchError: Ray is not installed, or an option is unknown.
    """

    def __init__(self, placement: Placement) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _ray()
        except ImportError as error:
            raise missing_package(error, "for --executor ray") or error from None
        unknown = [name for name in placement.options if name not in OPTIONS]
        if unknown:
            raise RefbenchError(
                f"Expected the options {' and '.join(OPTIONS)} with --executor ray, but {', '.join(unknown)} came."
            )
        self.placement = placement

    @contextlib.contextmanager
    def pool(self, setup: Setup, jobs: Sequence[Job], note: Callable[[str], None]) -> Iterator[ActorPool]:
        """As :class:`refbench.runs.executors.contract.Executor`; no more actors than jobs are started."""
        ray = _ray()
        mine = not ray.is_initialized()
        if mine:
            self._connect()
        gpus = self.placement.gpus(setup.device)
        pool = ActorPool(setup, jobs, self.placement, gpus, note)
        try:
            yield pool
        finally:
            pool.end()
            if mine:
                ray.shutdown()

    def _connect(self) -> None:
        import logging

        ray = _ray()
        address = self.placement.address
        _reached(address)
        local = {} if address else {"include_dashboard": False, "object_store_memory": 256 * 2**20}
        error: Exception = RuntimeError("nothing answers")
        for _ in range(1 if address else STARTS):
            try:
                ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
                return
            except Exception as raised:  # of many kinds, a bare Exception among them
                error = raised
        said = " ".join(str(error).split())[:300]
        raise RefbenchError(
            f"Expected a Ray cluster at {address or 'this machine'}, but {said}; start one with 'ray start --head', "
            "or name its address with --address."
        )


def _reached(address: str | None) -> None:
    """Refuse an address of host and port where nothing listens: Ray itself tries for many minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise RefbenchError(
            f"Expected a Ray cluster at {address}, but nothing answers there ({error}); start one with 'ray start "
            "--head', or check --address."
        ) from None


class Actor:
    """What runs in a process of the cluster."""

    def __init__(self, setup: Setup, number: int) -> None:
        self._setup, self._number = setup, number
        self._worker: Worker | None = None

    def start(self) -> Hello | RefbenchError:
        """Set up; what goes wrong is returned, as Ray wraps what is raised."""
        try:
            self._worker = self._setup(self._number)
            return self._worker.hello()
        except Exception as error:
            return plainly(error)

    def do(self, job: Job) -> Outcome:
        """Do one job."""
        assert self._worker is not None
        return attempt(self._worker, job, plain=True)

    def close(self) -> None:
        """End what the worker started."""
        if self._worker is not None:
            self._worker.close()


class ActorPool:
    """Actors at their jobs; made by :class:`Ray`."""

    def __init__(
        self, setup: Setup, jobs: Sequence[Job], placement: Placement, gpus: float, note: Callable[[str], None]
    ) -> None:
        self._setup, self._note = setup, note
        self._todo = collections.deque(jobs)
        self._tries: collections.Counter[str] = collections.Counter()
        self._resources = {"num_cpus": placement.cpus(), "num_gpus": gpus}
        if "memory_gb" in placement.options:
            self._resources["memory"] = int(float(placement.options["memory_gb"]) * 2**30)
        self._numbers, self._started = 0, time.monotonic()
        self._starting: dict[Any, Any] = {}
        """Reference of an actor's hello -> actor."""
        self._working: dict[Any, tuple[Any, Job]] = {}
        """Reference of an outcome -> actor and job."""
        self._ready: dict[Any, list[Job]] = {}
        """Actor that is set up -> its jobs."""
        self._suspects: set[str] = set()
        """Keys of jobs whose actor is gone; each then has an actor to itself, so that it is known which kills."""
        self._alone: dict[Any, bool] = {}
        """Actor that is gone -> whether it had one job only."""
        self._hello: Hello | None = None
        self._told = False
        for _ in range(max(min(placement.workers, len(jobs)), 1)):
            self._start()

    def _start(self) -> None:
        ray = _ray()
        made = ray.remote(Actor).options(max_restarts=0, max_concurrency=1, **self._resources)
        actor = made.remote(self._setup, self._numbers)
        self._numbers += 1
        self._starting[actor.start.remote()] = actor

    def _wait(self) -> list[Any]:
        ray = _ray()
        every = [*self._starting, *self._working]
        if not every:
            return []
        done, _ = ray.wait(every, num_returns=1, timeout=WAIT_S)
        if not done and not any(node["Alive"] for node in ray.nodes()):  # this process's own among them
            raise RefbenchError(
                "Expected the Ray cluster to go on, but its last node is gone; start the same command again, which "
                "goes on where this one stopped."
            )
        if not done and not self._ready and not self._told and time.monotonic() - self._started > PATIENCE_S:
            self._told = True
            has = {name: amount for name, amount in ray.cluster_resources().items() if name in ("CPU", "GPU", "memory")}
            self._note(f"No worker has started yet: each asks for {self._resources}, and the cluster has {has}.")
        return list(done)

    def _took(self, reference: Any) -> Outcome | None:
        """What has come: a worker that is ready, or the outcome of a job."""
        ray = _ray()
        lost = (ray.exceptions.RayActorError, ray.exceptions.RayTaskError, ray.exceptions.ObjectLostError)
        if reference in self._starting:
            actor = self._starting.pop(reference)
            try:
                hello = ray.get(reference)
            except lost as error:
                self._lost_start(error)
                return None
            if isinstance(hello, RefbenchError):
                raise hello
            self._hello = self._hello or self._same(hello)
            self._ready[actor] = []
            return None
        actor, job = self._working.pop(reference)
        try:
            found: Outcome = ray.get(reference)
        except lost as error:
            return self._lost(actor, job, error)
        if actor in self._ready:  # else it is gone, and this job was done before
            self._ready[actor].remove(job)
        self._suspects.discard(job.key)
        return found

    def _same(self, hello: Hello) -> Hello:
        from refbench import __version__

        theirs = hello.versions.get("refbench")
        if theirs != __version__:
            raise RefbenchError(
                f"Expected refbench {__version__} on every machine, but {hello.machine} has {theirs}; install the same."
            )
        return hello

    def _lost_start(self, error: Exception) -> None:
        self._tries[""] += 1
        if self._tries[""] >= TRIES * max(len(self._ready) + len(self._starting), 1):
            raise RefbenchError(
                f"Expected workers to start on the cluster, but {self._tries['']} died before they were set up "
                f"({' '.join(str(error).split())[:200]}); is refbench installed on every machine?"
            )
        self._start()

    def _lost(self, actor: Any, job: Job, error: Exception) -> Outcome | None:
        """A job that was lost with its actor goes to another one, which is started in its place."""
        if actor in self._ready:
            self._alone[actor] = len(self._ready.pop(actor)) == 1
            self._start()
        self._suspects.add(job.key)
        self._tries[job.key] += self._alone[actor]
        if self._tries[job.key] >= TRIES:
            why = f"Expected an answer, but {TRIES} workers died with this one ({type(error).__name__})."
            return Outcome(job, error=LostError(why))
        self._todo.appendleft(job)
        return None

    def hello(self) -> Hello:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        while self._hello is None:
            for reference in self._wait():
                self._took(reference)
        return self._hello

    def _hand_out(self) -> None:
        """Give each actor what it may have, one round after the other, so that the last jobs are spread."""
        for most in range(1, AT_ONCE + 1):
            for actor, mine in self._ready.items():
                if len(mine) < most and self._todo and not (mine and self._suspects & {mine[0].key, self._todo[0].key}):
                    mine.append(self._todo.popleft())
                    self._working[actor.do.remote(mine[-1])] = actor, mine[-1]

    def outcomes(self) -> Iterator[Outcome]:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        while True:
            self._hand_out()
            if not self._todo and not self._working:
                return
            for reference in self._wait():
                outcome = self._took(reference)
                if outcome is not None:
                    self._hand_out()
                    yield outcome

    def end(self) -> None:
        """End the actors, and what their workers started."""
        ray = _ray()
        actors = [*self._ready, *self._starting.values()]
        closing = [] if self._working else [actor.close.remote() for actor in self._ready]
        with contextlib.suppress(Exception):
            ray.wait(closing, num_returns=len(closing), timeout=10) if closing else None
        for actor in actors:
            with contextlib.suppress(Exception):
                ray.kill(actor)
