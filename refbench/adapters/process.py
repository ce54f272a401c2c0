"""Adapters that are scripts in an environment of their own, speaking JSON lines over stdin and stdout.

The protocol is described, with an example, in docs/adapters.md. A script reads one JSON object a line and
answers with one JSON object a line; images travel as PNG files in a private folder that is removed at the end.
Lines on stdout that are not protocol messages (progress bars, prints) are ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.adapters.child import Child, package_root, thread_environment
from refbench.adapters.contained import STARTS, ChildError, Runner, failed
from refbench.adapters.contract import RefusedError, normalise_output
from refbench.adapters.load import Spec, check_card, script_dependencies
from refbench.adapters.sandbox import confine
from refbench.adapters.worker import plain_facts
from refbench.errors import RefbenchError, UnavailableError
from refbench.images import Image, encode_png, load_image
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs, Refinement

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROTOCOL = 1
MAX_LINE = 2**20
"""Longest line of stdout that is looked at; longer ones are noise."""


def find_uv() -> str | None:
    """The uv program: on the path, or beside this Python."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def script_command(path: Path, runner: Runner, network: bool) -> list[str]:
    """The command that runs a script, in the environment that its header asks for.

    Raises:
        UnavailableError: the header has dependencies and there is no uv to install them.
    """
    declared = script_dependencies(path) or []
    if runner == "python" or (runner == "auto" and not declared):
        return [sys.executable, str(path)]
    uv = find_uv()
    if uv is None:
        raise UnavailableError(
            f"Expected uv to make the environment of {path.name} ({len(declared)} dependencies), but it is not "
            "installed: `pip install uv`, or install them here and choose the runner 'python'."
        )
    return [uv, "run", *([] if network else ["--offline"]), "--quiet", "--no-project", "--script", str(path)]


class ScriptContained:
    """A script adapter in its own process, started again whenever it dies, hangs or loses the thread."""

    isolation = "process"
    card: AdapterCard

    def __init__(
        self,
        spec: Spec,
        *,
        device: str = "cpu",
        timeout_s: float = 600.0,
        start_timeout_s: float = 1800.0,
        options: Mapping[str, Any] | None = None,
        hide: Sequence[Path] = (),
        network: bool = True,
        threads: int | None = None,
        runner: Runner = "auto",
    ) -> None:
        assert spec.path is not None
        self.spec, self.timeout_s, self.start_timeout_s = spec, timeout_s, start_timeout_s
        self._hello = {"type": "hello", "protocol": PROTOCOL, "device": device, "options": dict(options or {})}
        self._command = confine(script_command(spec.path, runner, network), hide, network, package_root())
        self._child: Child | None = None
        self._rest = bytearray()
        self._failed_starts = 0
        self._count = 0
        self._threads = threads
        self._start()

    def _start(self) -> None:
        child = Child(self._command, os.environ, thread_environment(self._threads))
        self._rest = bytearray()
        try:
            with child.deadline(self.start_timeout_s):
                self._say(child, self._hello)
                ready = self._hear(child, "ready")
            if "error" in ready:
                raise RefbenchError(
                    f"Expected the model '{self.spec.text}' to start, but it said: {one_line(ready['error'], 400)}"
                )
            self.card = check_card(ready.get("card"), self.spec.text)
        except EOFError:
            why = f"took longer than {self.start_timeout_s:g} s" if child.timed_out else child.how_it_ended()
            child.end()
            raise RefbenchError(f"Expected the script '{self.spec.text}' to start, but {why}.") from None
        except BaseException:
            child.end()
            raise
        self._child = child

    @staticmethod
    def _say(child: Child, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[child.input.write(data) or 0 :]
        except (OSError, ValueError):
            raise EOFError from None

    def _hear(self, child: Child, kind: str, sample: str | None = None) -> dict[str, Any]:
        """The next message of a kind (about a sample); every other line is remembered as noise.

        Raises:
            EOFError: the script closed its output.
        """
        skipping = False
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if not newline:
                if len(self._rest) > MAX_LINE:
                    child.remember(bytes(self._rest))
                    self._rest, skipping = bytearray(), True
                try:
                    chunk = child.output.read(65536)
                except (OSError, ValueError):
                    raise EOFError from None
                if not chunk:
                    raise EOFError
                self._rest += chunk
                continue
            self._rest = rest
            if skipping:
                skipping = False
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            about = isinstance(message, dict) and message.get("type") == kind
            if about and (sample is None or message.get("id") == sample):
                return dict(message)
            child.remember(bytes(line) + b"\n")

    def _ready(self) -> Child:
        if self._child is not None and self._child.alive:
            return self._child
        self._drop()
        if self._failed_starts >= STARTS:
            raise ChildError("start", f"The script could not be started again after {STARTS} tries.")
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
        """One refinement for each input, one after the other; never raises because of a sample."""
        return [self._one(inputs) for inputs in batch]

    def _one(self, inputs: Inputs) -> Refinement:
        start = time.perf_counter()
        try:
            return self._exchange(inputs)
        except ChildError as error:
            return failed(inputs, time.perf_counter() - start, error.failure, str(error))

    def _exchange(self, inputs: Inputs) -> Refinement:
        child = self._ready()
        self._count += 1
        folder = child.folder / f"sample-{self._count}"
        folder.mkdir()
        try:
            request = self._request(inputs, folder)
            start = time.perf_counter()
            with child.deadline(self.timeout_s):
                self._say(child, request)
                result = self._hear(child, "result", inputs.id)
            seconds = time.perf_counter() - start
            return self._read(inputs, result, folder / "output.png", seconds)
        except EOFError:
            if child.timed_out:
                words = child.last_words()
                raised = ChildError(
                    "timeout",
                    f"Expected an answer within {self.timeout_s:g} s, but the script was still busy and was ended"
                    f"{f' (it said last: {words})' if words else ''}; give it more time with --timeout.",
                )
            else:
                raised = ChildError("died", f"Expected an answer, but the script ended: {child.how_it_ended()}.")
            self._drop()
            raise raised from None
        except BaseException:
            self._drop()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _request(inputs: Inputs, folder: Path) -> dict[str, Any]:
        def put(name: str, image: Image | NDArray[Any]) -> str:
            path = folder / f"{name}.png"
            path.write_bytes(encode_png(image, compress_level=1))
            return str(path)

        return {
            "type": "refine",
            "id": inputs.id,
            "draft": put("draft", inputs.draft),
            "reference": put("reference", inputs.reference),
            "mask": put("mask", inputs.mask),
            "prompt": inputs.prompt,
            "reference_box": inputs.reference_box and list(inputs.reference_box),
            "seed": inputs.seed,
            "output": str(folder / "output.png"),
        }

    @staticmethod
    def _read(inputs: Inputs, result: dict[str, Any], path: Path, seconds: float) -> Refinement:
        if result.get("ok") is not True:
            failure = "refused" if result.get("refused") is True else "stop" if result.get("stop") is True else "error"
            facts = result.get("facts")
            why = one_line(result.get("error") or "it gave no reason", 400)
            kept = plain_facts(facts) if isinstance(facts, dict) else {}
            return failed(inputs, seconds, failure, f"Expected an image, but the script said: {why}", kept)
        if path.is_symlink() or not path.is_file():
            return failed(
                inputs,
                seconds,
                "invalid",
                f"Expected the script to write the image of '{inputs.id}' to the path named 'output', but there is "
                "none; write it before answering ok.",
            )
        try:
            image = normalise_output(load_image(path), inputs)
        except RefbenchError as error:
            return failed(inputs, seconds, "invalid", str(error).replace(str(path), f"the output for '{inputs.id}'"))
        facts = result.get("facts")
        return Refinement(inputs.id, image, seconds, None, plain_facts(facts) if isinstance(facts, dict) else {})

    def close(self) -> None:
        """Tell the script to close, then end it and what it started."""
        child, self._child = self._child, None
        if child is not None:
            try:
                with contextlib.suppress(EOFError):
                    if child.alive:
                        with child.deadline(5):
                            self._say(child, {"type": "close"})
                with contextlib.suppress(OSError, ValueError):
                    child.input.close()
            finally:
                child.end(patience_s=5)


class ScriptAdapter:
    """A script as an adapter to call directly; failures are raised. Call :meth:`close` at the end."""

    def __init__(self, spec: Spec, *, device: str = "cpu", options: Mapping[str, Any] | None = None) -> None:
        self._contained = ScriptContained(spec, device=device, options=options)
        self.card = self._contained.card

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The script's image for one sample and the facts it gave.

        Raises:
            RefbenchError: it failed; a refusal is a :class:`~refbench.adapters.contract.RefusedError`.
        """
        (done,) = self._contained.refine_batch([inputs])
        if done.image is None:
            kind = RefusedError if done.extra.get("failure") == "refused" else RefbenchError
            raise kind(done.error or "")
        return done.image, done.extra

    def close(self) -> None:
        """End the script."""
        self._contained.close()
