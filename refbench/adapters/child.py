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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from refbench.plaintext import one_line

TAIL_BYTES = 4096
"""How much of what a child wrote last is kept; the rest is read and dropped, so that no child blocks on it."""


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
                    self._signal()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), strike)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                over = True
            timer.cancel()

    def _signal(self) -> None:
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
            self._signal()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError, ValueError):
                    if stream is not None:
                        stream.close()
            shutil.rmtree(self.folder, ignore_errors=True)
