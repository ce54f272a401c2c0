"""Workers as the tasks of a Slurm job array, sent by submitit: each has a share of the jobs, and the driver waits.

What a job comes to is a file in a folder that all machines share (``-x folder=DIR``, by default ``slurm`` where the
command is given). The driver takes the files as they come, and leaves a mark for each; a task that is pre-empted and
queued again does what has neither file nor mark. A driver that is started again ends the array of the one before, takes
what that has left, and sends the rest.
"""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refbench.errors import RefbenchError, missing_package
from refbench.images import write_atomic
from refbench.runs.executors.contract import TRIES, Hello, Job, LostError, Outcome, Placement, Setup, plainly
from refbench.runs.executors.local import LocalProcesses

ROWS, DONE, HELLO, SENT = ".rows", ".done", "hello.pickle", "sent.json"
POLL_S = 1.0
"""How often the driver looks for new rows, in seconds."""
ENDING_S = 10.0
"""How long tasks whose jobs are done may take to end by themselves, in seconds."""
MINUTES = 240
"""Time limit of a task where none is given; one that reaches it is queued again."""
OWN = ("cluster", "folder", "cpus", "memory_gb", "time")
NAMED = (
    "partition", "qos", "account", "constraint", "exclude", "gres", "nodelist", "dependency", "comment", "exclusive",
    "mail_type", "mail_user", "setup",
)  # fmt: skip
"""Options that submitit knows by name; every other one is written as ``#SBATCH --NAME=VALUE``."""


class Slurm:
    """The executor of a Slurm cluster.

    Args:
        placement: with the options of :data:`OWN`; ``cluster`` "local" lets the tasks run on this machine.

    Raises:
        RefbenchError: submitit is not installed.
    """

    def __init__(self, placement: Placement) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise missing_package(error, "for --executor slurm") or error from None
        self.placement = placement

    @contextlib.contextmanager
    def pool(self, setup: Setup, jobs: Sequence[Job], note: Callable[[str], None]) -> Iterator[Array]:
        """As :class:`refbench.runs.executors.contract.Executor`; the tasks are sent at once."""
        pool = Array(setup, jobs, self.placement, note)
        finished = False
        try:
            yield pool
            finished = True
        finally:
            pool.end(finished)

    def submitter(self, folder: Path, gpus: float) -> Any:
        """submitit's executor with the parameters that were asked for.

        Raises:
            RefbenchError: there is no Slurm here, or an option means nothing to it.
        """
        import submitit

        given = dict(self.placement.options)
        cluster = str(given.get("cluster", "slurm"))
        parameters: dict[str, Any] = {
            "name": "refbench",
            "timeout_min": int(given.get("time", MINUTES)),
            "cpus_per_task": self.placement.cpus(),
        }
        if gpus:
            parameters["gpus_per_node"] = math.ceil(gpus)
        if "memory_gb" in given:
            parameters["mem_gb"] = float(given["memory_gb"])
        if cluster == "slurm":
            parameters |= {f"slurm_{name}": given[name] for name in NAMED if name in given}
            other = {k: v for k, v in given.items() if k not in (*OWN, *NAMED)}
            parameters["slurm_additional_parameters"] = other
            parameters["slurm_array_parallelism"] = self.placement.workers
        try:
            found = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=100)
            found.update_parameters(**parameters)
        except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
            none = cluster == "slurm" and shutil.which("srun") is None
            said = "srun is not found" if none else "it says: " + " ".join(str(error).split())[:300].rstrip("?.!; ")
            raise RefbenchError(
                f"Expected to send jobs to Slurm from here, but {said}; run this where sbatch and srun are, and check "
                "the values of --executor-option."
            ) from None
        return found


@dataclass
class Shard:
    """One task of the array: its jobs, and where what they come to goes."""

    setup: Setup
    jobs: Sequence[Job]
    spool: Path
    together: int
    """Workers that share the task's GPU."""

    def __call__(self) -> int:
        """Do the jobs that are neither done nor taken; returns how many."""
        there = {path.name for path in self.spool.iterdir()}
        left = [job for job in self.jobs if not {job.key + ROWS, job.key + DONE} & there]
        if left:
            try:
                self._do(left)
            except Exception as error:
                write_atomic(self.spool / HELLO, pickle.dumps(plainly(error)))
        return len(left)

    def _do(self, left: Sequence[Job]) -> None:
        with LocalProcesses(self.together).pool(self.setup, left, lambda text: None) as pool:
            hello = pool.hello()
            if not (self.spool / HELLO).exists():
                write_atomic(self.spool / HELLO, pickle.dumps(hello))
            for outcome in pool.outcomes():
                error = None if outcome.error is None else plainly(outcome.error)
                write_atomic(self.spool / (outcome.job.key + ROWS), pickle.dumps((outcome.rows, error)))

    def checkpoint(self) -> Any:
        """What submitit queues again after a time limit or a pre-emption: the same, as the files tell what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Array:
    """Tasks at their jobs; made by :class:`Slurm`."""

    def __init__(self, setup: Setup, jobs: Sequence[Job], placement: Placement, note: Callable[[str], None]) -> None:
        self._setup, self._placement, self._note = setup, placement, note
        self._todo = {job.key: job for job in jobs}
        self._sent: list[Any] = []
        self._times = 0
        root = Path(str(placement.options.get("folder", "slurm"))).expanduser().resolve()
        self._spool = root / setup.identity
        self._logs = root / "logs"
        self._gpus = placement.gpus(setup.device)
        self._submitter = Slurm(placement).submitter(self._logs, self._gpus)
        self._spool.mkdir(parents=True, exist_ok=True)
        self._end_former()
        (self._spool / HELLO).unlink(missing_ok=True)
        for path in self._spool.glob(f"*{DONE}"):  # whether it was written down, the plan says
            path.unlink()
        self._send()

    def _end_former(self) -> None:
        """End the tasks of a driver that is gone: what they have not written down is sent again."""
        with contextlib.suppress(OSError, ValueError):
            for number in json.loads((self._spool / SENT).read_text()):
                former = self._submitter.job_class(folder=self._logs, job_id=str(number))
                with contextlib.suppress(Exception):  # long gone
                    former.cancel(check=False)

    def _send(self) -> None:
        """Send what is left of the jobs as an array."""
        there = {path.name for path in self._spool.glob(f"*{ROWS}")}
        left = [job for key, job in self._todo.items() if key + ROWS not in there]
        if not left:
            return
        together = max(int(1 / self._gpus), 1) if 0 < self._gpus < 1 else 1
        tasks = max(min(math.ceil(self._placement.workers / together), len(left)), 1)
        shards = [Shard(self._setup, left[n::tasks], self._spool, together) for n in range(tasks)]
        self._times += 1
        self._sent = self._submitter.submit_array(shards)
        write_atomic(self._spool / SENT, json.dumps([job.job_id for job in self._sent]).encode())
        self._note(
            f"Sent to Slurm: {len(left)} jobs in {tasks} tasks ({self._sent[0].job_id.partition('_')[0]}); "
            f"logs in {self._logs}."
        )

    def _running(self) -> bool:
        return any(not job.done() for job in self._sent)

    def hello(self) -> Hello:
        """As :class:`refbench.runs.executors.contract.Pool`."""
        while True:
            running = self._running()  # asked before the look, so that what was written last is seen
            if (self._spool / HELLO).exists():
                found = pickle.loads((self._spool / HELLO).read_bytes())
                if isinstance(found, Exception):
                    raise found
                hello: Hello = found
                return hello
            if not running:
                self._again()
            time.sleep(POLL_S)

    def _again(self) -> None:
        """Send what the tasks have left behind when they ended.

        Raises:
            LostError: that was done often enough.
        """
        if self._times >= TRIES:
            raise LostError(
                f"Expected the tasks to finish their jobs, but they ended {self._times} times without; look at the "
                f"logs in {self._logs}."
            )
        if self._sent:
            self._note("The tasks ended before their jobs; what is left is sent again.")
        self._send()

    def outcomes(self) -> Iterator[Outcome]:
        """As :class:`refbench.runs.executors.contract.Pool`; when the next is asked for, the one before is written."""
        while self._todo:
            running, took = self._running(), False
            for path in sorted(self._spool.glob(f"*{ROWS}")):
                job = self._todo.pop(path.name.removesuffix(ROWS), None)
                if job is not None:
                    rows, error = pickle.loads(path.read_bytes())
                    took = True
                    yield Outcome(job, rows, error)
                    (self._spool / (job.key + DONE)).touch()
                path.unlink()
            if self._todo and not running and not took:
                try:
                    self._again()
                except LostError as error:
                    for key in list(self._todo):
                        yield Outcome(self._todo.pop(key), error=error)
            if self._todo and not took:
                time.sleep(POLL_S)

    def end(self, finished: bool) -> None:
        """End the tasks; where all went well, the marks go too."""
        until = time.monotonic() + (ENDING_S if finished else 0.0)
        while time.monotonic() < until and self._running():
            time.sleep(0.1)
        for job in self._sent:
            with contextlib.suppress(Exception):
                if not job.done():
                    job.cancel(check=False)
        if finished:
            for path in self._spool.iterdir():
                path.unlink()
            self._spool.rmdir()
