"""A child process that can be waited for with a deadline, killed with all it started, and asked what it said last."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from refbench.adapters.contract import ChildError, answered
from refbench.errors import RefbenchError
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs, Refinement

TAIL_BYTES = 4096
"""How much of what a child wrote last is kept; the rest is read and dropped, so that no child blocks on it."""
STARTS = 3
"""After so many starts in a row that fail, the samples that are left fail without another try."""


def child_environment(environment: Mapping[str, str], private: Path) -> dict[str, str]:
    """The environment for foreign code: no REFBENCH_* variable (cache, suites), temporary files in `private`."""
    kept = {k: v for k, v in environment.items() if not k.startswith("REFBENCH_") and k not in ("PWD", "OLDPWD")}
    return {**kept, "TMPDIR": str(private), "PYTHONUNBUFFERED": "1"}


def thread_environment(threads: int | None) -> dict[str, str]:
    """Variables that hold the numeric libraries of a child to a number of threads; none when it is None."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    return {} if threads is None else dict.fromkeys(names, str(threads))


def package_root() -> Path:
    """The folder that holds the package ``refbench``, for a child that must import the same one."""
    return Path(__file__).resolve().parents[2]


class Child:
    """One child process in a session of its own and a private temporary folder, which is its working directory.

    A keyboard interrupt reaches only the parent, which then ends the child; a parent that is killed leaves a
    child that sees the end of its input.

    Args:
        command: program and arguments.
        environment: of the parent; scrubbed by :func:`child_environment`.
        extra_environment: set on top.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refbench-"))
        self.timed_out = False
        self._tail: collections.deque[bytes] = collections.deque()
        self._tail_size = 0
        self._lock = threading.Lock()
        env = {**child_environment(environment, self.folder), **(extra_environment or {})}
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                cwd=self.folder,
                env=env,
                pipesize=2**20 if sys.platform == "linux" else -1,
            )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.input = cast(io.RawIOBase, self._process.stdin)
        self.output = cast(io.RawIOBase, self._process.stdout)
        self._reader = threading.Thread(target=self._drain, daemon=True, name="refbench-stderr")
        self._reader.start()

    def _drain(self) -> None:
        stream = cast(io.RawIOBase, self._process.stderr)
        with contextlib.suppress(OSError, ValueError):
            while chunk := stream.read(65536):
                self.remember(chunk)

    def remember(self, chunk: bytes) -> None:
        """Add to the tail of what the child said."""
        chunk = chunk[-TAIL_BYTES:]
        self._tail.append(chunk)
        self._tail_size += len(chunk)
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())

    def last_words(self) -> str:
        """The last line the child wrote that says something, made printable; empty when it said nothing."""
        if self._process.poll() is not None:
            self._reader.join(timeout=0.5)
        text = b"".join(list(self._tail))[-TAIL_BYTES:].decode(errors="replace")
        lines = [line for line in map(one_line, text.splitlines()) if line]
        return lines[-1] if lines else ""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Kill the child when the body takes longer; then `timed_out` is true and its pipes are at their end."""
        over = False

        def strike() -> None:
            with self._lock:
                if not over:
                    self.timed_out = True
                    self.kill()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), strike)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                over = True
            timer.cancel()

    def kill(self) -> None:
        """End it and whatever it started, at once; from any thread."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def how_it_ended(self) -> str:
        """In words: exit code or signal, and the last thing it said."""
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
            how = f"it was ended by {name}" + (" (often: out of memory)" if name == "SIGKILL" else "")
        else:
            how = f"it exited with code {code}"
        words = self.last_words()
        return f"{how}, saying: {words}" if words else how

    def end(self, patience_s: float = 0.0) -> None:
        """End the child and whatever it started; wait `patience_s` for it to go by itself first."""
        try:
            if patience_s > 0:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=patience_s)
        finally:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError, ValueError):
                    if stream is not None:
                        stream.close()
            shutil.rmtree(self.folder, ignore_errors=True)


Born: TypeAlias = Callable[[Child], None]
"""Told of every child as soon as it runs, so that another thread can :meth:`Child.kill` it."""


class Restarted:
    """What is asked in a child process that is started again whenever it dies; subclasses say how it starts."""

    card: AdapterCard
    pays = False

    def __init__(self, what: str, command: Sequence[str], threads: int | None, born: Born | None) -> None:
        self._what, self._command, self._threads, self._born = what, command, threads, born
        self._child: Child | None = None
        self._failed_starts = 0

    def _new_child(self) -> Child:
        child = Child(self._command, os.environ, thread_environment(self._threads))
        if self._born is not None:
            self._born(child)
        return child

    def _start(self) -> None:
        """Start the child, wait until it is ready, and put it into ``self._child``.

        Raises:
            RefbenchError: it does not start.
        """
        raise NotImplementedError

    def _say_close(self, child: Child) -> None:
        """Ask a child that is alive to close by itself."""
        raise NotImplementedError

    def _one(self, inputs: Inputs) -> Refinement:
        """The refinement of one sample, never raised."""
        raise NotImplementedError

    def _ready(self) -> Child:
        if self._child is not None and self._child.alive:
            return self._child
        self._drop()
        if self._failed_starts >= STARTS:
            raise ChildError("start", f"The {self._what} could not be started again after {STARTS} tries.")
        try:
            self._start()
        except RefbenchError as error:
            self._failed_starts += 1
            raise ChildError("start", str(error)) from None
        self._failed_starts = 0
        assert self._child is not None
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.end()

    def refine(self, inputs: Inputs, /) -> Refinement:
        """The refinement of one sample; a failure is raised, see :func:`refbench.adapters.contract.answered`."""
        return answered(self._one(inputs))

    @staticmethod
    def remarks(every: Collection[str], planned: Collection[str]) -> list[str]:
        """None: a process has an answer to whatever it is asked."""
        return []

    def close(self) -> None:
        """Let the adapter close, then end the child and what it started."""
        child, self._child = self._child, None
        if child is not None:
            try:
                if child.alive:
                    with child.deadline(5):
                        self._say_close(child)
                with contextlib.suppress(OSError, ValueError):
                    child.input.close()
            finally:
                child.end(patience_s=5)
