"""Run an adapter so that nothing it does can hurt the run: a child process, deadlines, restarts.

A sample fails alone. An answer of the wrong size, NaN, nothing, an exception, a crash, a hang: each becomes a
:class:`~refbench.schema.Refinement` with one sentence in ``error`` and a word in ``extra["failure"]``
("invalid", "error", "refused", "died", "timeout", "garbage", "start", "missing", "forbidden"), and the next
sample finds a fresh child; "stop" says that no further sample can succeed. The child gets drafts, references, masks and
prompts; never a target, nor a path to one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from refbench.adapters import wire
from refbench.adapters.child import Child, package_root, thread_environment
from refbench.adapters.contract import Account, Contained
from refbench.adapters.load import Spec, check_card, load_class, resolve, set_up
from refbench.adapters.sandbox import can_confine, confine
from refbench.errors import RefbenchError, UnavailableError
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs, Refinement

Runner = Literal["auto", "uv", "python"]
STARTS = 3
"""After so many starts in a row that fail, the samples that are left fail without another try."""

_BOOT = "import sys; sys.path.insert(0, {root!r}); from refbench.adapters.worker import main; main()"


class ChildError(Exception):
    """The child cannot go on; `failure` is the word for the record, the message one sentence."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


def failed(
    inputs: Inputs, seconds: float, failure: str, error: str, facts: Mapping[str, Any] | None = None
) -> Refinement:
    """The refinement of a sample that has none."""
    return Refinement(inputs.id, None, seconds, one_line(error, 600), {**(facts or {}), "failure": failure})


class WorkerContained:
    """A class adapter in a child process that is started again whenever it dies or hangs."""

    isolation = "worker"
    card: AdapterCard

    def __init__(
        self,
        spec: Spec,
        *,
        device: str,
        batch_size: int,
        timeout_s: float,
        start_timeout_s: float,
        options: Mapping[str, Any],
        hide: Sequence[Path],
        network: bool,
        threads: int | None,
        account: Account | None = None,
    ) -> None:
        self._threads = threads
        self.pays = False
        self.spec, self.batch_size = spec, batch_size
        self.timeout_s, self.start_timeout_s = timeout_s, start_timeout_s
        target = str(spec.path) + (f":{spec.attribute}" if spec.attribute else "") if spec.path else spec.text
        self._hello = {
            "spec": target,
            "device": device,
            "options": dict(options),
            "hide": [str(h) for h in hide],
            "network": network,
            "account": None if account is None else {**dataclasses.asdict(account), "folder": str(account.folder)},
        }
        self._command = confine(
            [sys.executable, "-c", _BOOT.format(root=str(package_root()))], hide, network, package_root()
        )
        self._child: Child | None = None
        self._together = False
        self._failed_starts = 0
        self._start()

    def _start(self) -> None:
        """Start the child and wait until the adapter is ready.

        Raises:
            RefbenchError: the adapter cannot be loaded or set up.
        """
        child = Child(self._command, os.environ, thread_environment(self._threads))
        try:
            with child.deadline(self.start_timeout_s):
                wire.send(child.input, self._hello)
                header, _ = wire.receive(child.output, 0)
            if header.get("type") == "refused":
                raise RefbenchError(one_line(header.get("error"), 600))
            self.card = check_card(header.get("card"), self.spec.text)
            self._together = header.get("batch") is True
            self.pays = header.get("pays") is True
        except (wire.ClosedError, wire.GarbageError) as error:
            why = f"took longer than {self.start_timeout_s:g} s" if child.timed_out else child.how_it_ended()
            if isinstance(error, wire.GarbageError):
                why = "it wrote into the channel that is reserved for refbench"
            child.end()
            raise RefbenchError(f"Expected the model '{self.spec.text}' to start, but {why}.") from None
        except BaseException:
            child.end()
            raise
        self._child = child

    def _ready(self) -> Child:
        if self._child is not None and self._child.alive:
            return self._child
        self._drop()
        if self._failed_starts >= STARTS:
            raise ChildError("start", f"The model could not be started again after {STARTS} tries.")
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

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input, in order; never raises because of a sample."""
        size = self.batch_size if self._together else 1
        done: list[Refinement] = []
        for start in range(0, len(batch), size):
            done += self._chunk(batch[start : start + size])
        return done

    def _chunk(self, batch: Sequence[Inputs]) -> list[Refinement]:
        start = time.perf_counter()
        try:
            return self._exchange(batch)
        except ChildError as error:
            if len(batch) > 1 and error.failure != "start":
                return [r for inputs in batch for r in self._chunk([inputs])]
            seconds = time.perf_counter() - start
            return [failed(i, seconds, error.failure, str(error)) for i in batch]

    def _exchange(self, batch: Sequence[Inputs]) -> list[Refinement]:
        child = self._ready()
        items, arrays = wire.pack_inputs(batch)
        start = time.perf_counter()
        allowed = self.timeout_s * len(batch)
        try:
            with child.deadline(allowed):
                wire.send(child.input, {"type": "refine", "items": items}, arrays)
                header, images = wire.receive(child.output, sum(i.draft.nbytes for i in batch))
            seconds = (time.perf_counter() - start) / len(batch)
            return self._read(batch, header, images, seconds)
        except wire.ClosedError:
            if child.timed_out:
                error = ChildError(
                    "timeout",
                    f"Expected an image within {allowed:g} s, but the adapter was still busy and was ended; "
                    "give it more time with --timeout.",
                )
            else:
                how = child.how_it_ended()
                error = ChildError("died", f"Expected an image, but the adapter's process died: {how}.")
            self._drop()
            raise error from None
        except wire.GarbageError as garbage:
            self._drop()
            raise ChildError(
                "garbage",
                f"Expected an answer in the agreed form, but the adapter's process sent {one_line(garbage, 120)}.",
            ) from None
        except BaseException:
            self._drop()  # an answer is under way: this child cannot be used again
            raise

    def _read(
        self, batch: Sequence[Inputs], header: dict[str, Any], images: list[Any], seconds: float
    ) -> list[Refinement]:
        items = header.get("items")
        if header.get("type") != "results" or not isinstance(items, list) or len(items) != len(batch):
            raise wire.GarbageError("an answer that is not about the samples asked for")
        left = iter(images)
        done = []
        for inputs, item in zip(batch, items, strict=True):
            if not isinstance(item, dict):
                raise wire.GarbageError("an answer without fields")
            if item.get("ok") is True:
                image = next(left, None)
                if image is None or image.shape != inputs.draft.shape or image.dtype != inputs.draft.dtype:
                    raise wire.GarbageError("an answer without its image")
                facts = item.get("facts")
                done.append(Refinement(inputs.id, image, seconds, None, facts if isinstance(facts, dict) else {}))
            else:
                failure, facts = one_line(item.get("failure", "error"), 20), item.get("facts")
                kept = facts if isinstance(facts, dict) else None
                done.append(failed(inputs, seconds, failure, str(item.get("error")), kept))
        forbidden = header.get("touched")
        if forbidden:
            why = f"Expected the adapter to use its inputs only, but it tried to reach {one_line(forbidden, 200)}."
            return [failed(i, seconds, "forbidden", why) for i in batch]
        return done

    def close(self) -> None:
        """Let the adapter close, then end the child."""
        child, self._child = self._child, None
        if child is not None:
            try:
                with contextlib.suppress(wire.ClosedError):
                    if child.alive:
                        with child.deadline(5):
                            wire.send(child.input, {"type": "close"})
            finally:
                child.end(patience_s=5)


class InProcess:
    """A class adapter in this process: for debugging; it can neither be timed out nor survive a crash."""

    isolation = "in-process"

    def __init__(self, spec: Spec, *, device: str, batch_size: int, options: Mapping[str, Any]) -> None:
        self._adapter = load_class(spec, device, dict(options))
        set_up(self._adapter, spec.text)
        self.card = check_card(self._adapter.card, spec.text)
        self.batch_size = batch_size

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input, in order; exceptions are contained, crashes and hangs are not."""
        from refbench.adapters.worker import answer_batch

        done = []
        for first in range(0, len(batch), self.batch_size):
            chunk = batch[first : first + self.batch_size]
            start = time.perf_counter()
            replies = answer_batch(self._adapter, chunk)
            seconds = (time.perf_counter() - start) / len(chunk)
            for inputs, (reply, image) in zip(chunk, replies, strict=True):
                if image is None:
                    done.append(failed(inputs, seconds, reply["failure"], reply["error"], reply.get("facts")))
                else:
                    done.append(Refinement(inputs.id, image, seconds, None, reply["facts"]))
        return done

    def close(self) -> None:
        """Let the adapter close."""
        close = getattr(self._adapter, "close", None)
        if callable(close):
            close()


def absolute_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose value is a path with a separator in it that exists here, made absolute.

    The child works in a folder of its own, so ``weights=./last.safetensors`` would mean nothing there.
    """

    def absolute(value: Any) -> Any:
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if text is None:
            return value
        return str(Path(text).expanduser().resolve()) if os.sep in text and Path(text).expanduser().exists() else text

    return {key: absolute(value) for key, value in options.items()}


@contextlib.contextmanager
def open_contained(
    spec: str | os.PathLike[str] | Spec,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    timeout_s: float = 600.0,
    start_timeout_s: float = 1800.0,
    options: Mapping[str, Any] | None = None,
    hide: Sequence[Path] = (),
    network: bool = True,
    threads: int | None = None,
    runner: Runner = "auto",
    in_process: bool = False,
    account: Account | None = None,
) -> Iterator[Contained]:
    """Open an adapter behind a wall: ``.card``, ``.isolation``, ``.refine_batch(inputs)``.

    Args:
        spec: a registered name, file.py, file.py:Class, a folder of PNGs, or what one of these was resolved to.
        device: passed to the adapter, e.g. "cpu" or "cuda".
        batch_size: most samples given to the adapter together, where it has ``refine_batch``.
        timeout_s: longest time for one sample in seconds (times the samples in a batch).
        start_timeout_s: longest time to load and set up, in seconds (weights may be downloaded).
        options: keyword arguments of the adapter; plain values.
        hide: folders that the adapter must find empty, e.g. the suite's; enforced by the system where it can
            (:func:`refbench.adapters.sandbox.can_confine`), and watched in class adapters everywhere.
        network: False closes the network in the same way.
        threads: CPU threads of the child's numeric libraries; None leaves them to the environment.
        runner: for scripts: "auto" runs `uv run --script` when the header has dependencies, "uv" always,
            "python" the current interpreter.
        in_process: run a class adapter here, without a wall, for debugging.
        account: what a run gives to an adapter that costs money; class adapters in a child process alone can take it.

    Raises:
        RefbenchError: unknown name, no such file, the adapter does not load or its card is incomplete.
        UnavailableError: hiding was asked for a script and the system cannot do it.
    """
    if not (0 < timeout_s < math.inf and 0 < start_timeout_s < math.inf) or batch_size < 1:
        raise RefbenchError(
            f"Expected a finite timeout above 0 s and a batch size of at least 1, but they are "
            f"{timeout_s:g} s and {batch_size}."
        )
    found = spec if isinstance(spec, Spec) else resolve(spec)
    chosen = absolute_options(options or {})
    contained: Contained
    if found.kind == "folder":
        from refbench.adapters.folder import FolderAdapter, FolderContained

        assert found.path is not None
        if chosen:
            raise RefbenchError(f"Expected no options for a folder of PNGs, but there are: {', '.join(chosen)}.")
        contained = FolderContained(FolderAdapter(found.path), timeout_s)
    elif found.kind == "script":
        from refbench.adapters.process import ScriptContained

        if (hide or not network) and not can_confine():
            raise UnavailableError(
                "Expected Linux user namespaces to hide folders or the network from a script, but this system has "
                "none or forbids them; run it in a container without the suite's data."
            )
        contained = ScriptContained(
            found,
            device=device,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            options=chosen,
            hide=hide,
            network=network,
            threads=threads,
            runner=runner,
        )
    elif in_process:
        if hide or not network:
            raise RefbenchError(
                "Expected a child process in order to hide folders or the network, but in_process is set."
            )
        contained = InProcess(found, device=device, batch_size=batch_size, options=chosen)
    else:
        contained = WorkerContained(
            found,
            device=device,
            batch_size=batch_size,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            options=chosen,
            hide=hide,
            network=network,
            threads=threads,
            account=account,
        )
    try:
        yield contained
    finally:
        contained.close()
