"""A class adapter in a child process, so that nothing it does can hurt the run: deadlines, restarts, no unpickling.

A sample fails alone. An answer of the wrong size, NaN, nothing, an exception, a crash, a hang: each becomes a
:class:`~refbench.schema.Refinement` with one sentence in ``error`` and a word in ``failure``, and the next sample finds
a fresh child. The child gets drafts, references, masks and prompts; never a target, nor a path to one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from refbench.adapters import wire
from refbench.adapters.card import check_card
from refbench.adapters.child import Born, Child, Restarted, package_root
from refbench.adapters.contract import Account, ChildError, failed
from refbench.adapters.sandbox import confine
from refbench.adapters.spec import Spec
from refbench.errors import RefbenchError
from refbench.plaintext import one_line
from refbench.schema import Failure, Inputs, Isolation, Refinement

_BOOT = "import sys; sys.path.insert(0, {root!r}); from refbench.adapters.worker import main; main()"


class WorkerContained(Restarted):
    """A class adapter in a child process that is started again whenever it dies or hangs.

    Args:
        spec: of kind "registered" or "class".
        device: given to the adapter.
        options: keyword arguments of the adapter; plain values.
        batch_size: most samples given to the adapter together, where it has ``refine_batch``.
        timeout_s: longest time for one sample, in seconds.
        start_timeout_s: longest time to start, in seconds.
        hide: folders that the adapter must find empty.
        network: whether it may use the network.
        threads: CPU threads of its numeric libraries.
        account: of the run, for an adapter that costs money.
        born: told of the child, and of each that follows it.

    Raises:
        RefbenchError: the adapter cannot be loaded or set up.
    """

    isolation: Isolation = "worker"

    def __init__(
        self,
        spec: Spec,
        *,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        timeout_s: float = 600.0,
        start_timeout_s: float = 1800.0,
        hide: Sequence[Path] = (),
        network: bool = True,
        threads: int | None = None,
        account: Account | None = None,
        born: Born | None = None,
    ) -> None:
        boot = [sys.executable, "-c", _BOOT.format(root=str(package_root()))]
        super().__init__("model", confine(boot, hide, network, package_root()), threads, born)
        self.spec, self.batch_size = spec, batch_size
        self.timeout_s, self.start_timeout_s = timeout_s, start_timeout_s
        self._hello = {
            "spec": spec.target,
            "device": device,
            "options": dict(options or {}),
            "hide": [str(h) for h in hide],
            "network": network,
            "account": None if account is None else {**dataclasses.asdict(account), "folder": str(account.folder)},
        }
        self._together = False
        self._start()

    def _start(self) -> None:
        child = self._new_child()
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
            return [failed(one, seconds, error.failure, str(error)) for one in batch]

    def _one(self, inputs: Inputs) -> Refinement:
        return self._chunk([inputs])[0]

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
            facts, price = item.get("facts"), item.get("price_usd")
            facts = facts if isinstance(facts, dict) else {}
            price = price if isinstance(price, float) else None
            if item.get("failure") is not None:
                failure: Failure = item["failure"] if item["failure"] in get_args(Failure) else "error"
                done.append(failed(inputs, seconds, failure, str(item.get("error")), price, facts))
                continue
            image = next(left, None)
            if image is None or image.shape != inputs.draft.shape or image.dtype != inputs.draft.dtype:
                raise wire.GarbageError("an answer without its image")
            done.append(Refinement(inputs.id, image, seconds, price_usd=price, seed=inputs.seed, facts=facts))
        forbidden = header.get("touched")
        if forbidden:
            why = f"Expected the adapter to use its inputs only, but it tried to reach {one_line(forbidden, 200)}."
            return [failed(one, seconds, "forbidden", why) for one in batch]
        return done

    def _say_close(self, child: Child) -> None:
        with contextlib.suppress(wire.ClosedError):
            wire.send(child.input, {"type": "close"})
