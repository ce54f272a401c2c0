"""Adapters that are scripts in an environment of their own, speaking JSON lines over stdin and stdout.

The protocol is described, with an example, in docs/adapters.md. A script reads one JSON object a line and
answers with one JSON object a line; images travel as PNG files in a private folder that is removed at the end.
Lines on stdout that are not protocol messages (progress bars, prints) are ignored.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refbench.adapters.card import check_card
from refbench.adapters.child import Born, Child, Restarted, package_root
from refbench.adapters.contract import ChildError, failed, normalise_output, told
from refbench.adapters.sandbox import confine
from refbench.adapters.spec import Spec, script_dependencies
from refbench.errors import RefbenchError, UnavailableError
from refbench.images import Image, encode_png, load_image
from refbench.plaintext import one_line
from refbench.schema import Failure, Inputs, Isolation, Refinement

if TYPE_CHECKING:
    from numpy.typing import NDArray

Runner = Literal["auto", "uv", "python"]
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


class ScriptContained(Restarted):
    """A script adapter in its own process, started again whenever it dies, hangs or loses the thread.

    Args:
        spec: of kind "script".
        device: told to the script.
        options: told to the script; plain values.
        timeout_s: longest time for one sample, in seconds.
        start_timeout_s: longest time to start, in seconds (an environment may be made).
        hide: folders that the script must find empty.
        network: whether it may use the network.
        threads: CPU threads of its numeric libraries.
        runner: "auto" runs `uv run --script` when the header has dependencies, "uv" always, "python" the current
            interpreter.
        born: told of the child, and of each that follows it.

    Raises:
        RefbenchError: the script does not start.
        UnavailableError: there is no uv for its header.
    """

    isolation: Isolation = "process"

    def __init__(
        self,
        spec: Spec,
        *,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
        timeout_s: float = 600.0,
        start_timeout_s: float = 1800.0,
        hide: Sequence[Path] = (),
        network: bool = True,
        threads: int | None = None,
        runner: Runner = "auto",
        born: Born | None = None,
    ) -> None:
        assert spec.path is not None
        command = confine(script_command(spec.path, runner, network), hide, network, package_root())
        super().__init__("script", command, threads, born)
        self.spec, self.timeout_s, self.start_timeout_s = spec, timeout_s, start_timeout_s
        self._hello = {"type": "hello", "protocol": PROTOCOL, "device": device, "options": dict(options or {})}
        self._rest = bytearray()
        self._count = 0
        self._start()

    def _start(self) -> None:
        child = self._new_child()
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
        given = result.get("facts")
        price, facts = told(given) if isinstance(given, dict) else (None, {})

        def without(failure: Failure, why: str) -> Refinement:
            return failed(inputs, seconds, failure, why, price, facts)

        if result.get("ok") is not True:
            failure: Failure = (
                "refused" if result.get("refused") is True else "stop" if result.get("stop") is True else "error"
            )
            why = one_line(result.get("error") or "it gave no reason", 400)
            return without(failure, f"Expected an image, but the script said: {why}")
        if path.is_symlink() or not path.is_file():
            return without(
                "invalid",
                f"Expected the script to write the image of '{inputs.id}' to the path named 'output', but there is "
                "none; write it before answering ok.",
            )
        try:
            image = normalise_output(load_image(path), inputs)
        except RefbenchError as error:
            return without("invalid", str(error).replace(str(path), f"the output for '{inputs.id}'"))
        return Refinement(inputs.id, image, seconds, price_usd=price, seed=inputs.seed, facts=facts)

    def _say_close(self, child: Child) -> None:
        with contextlib.suppress(EOFError):
            self._say(child, {"type": "close"})
