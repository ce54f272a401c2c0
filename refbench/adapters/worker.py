"""The child's side of a contained class adapter: load it, answer requests until told to close.

Started as ``python -c "from refbench.adapters.worker import main; main()"``. Standard input and output carry
the messages of :mod:`refbench.adapters.wire`; whatever the adapter prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from refbench.adapters import sandbox, wire
from refbench.adapters.contract import Account, RefusedError, StopError, normalise_output, split_answer
from refbench.adapters.load import check_card, describe, load_class, resolve, set_up
from refbench.errors import RefbenchError, missing_package
from refbench.plaintext import one_line
from refbench.schema import Inputs

Reply = tuple[dict[str, Any], NDArray[Any] | None]


def plain_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts about a sample reduced to what fits a record: short names, numbers, booleans, short strings."""
    kept: dict[str, Any] = {}
    for key, value in list(facts.items())[:32]:
        if hasattr(value, "item") and getattr(value, "size", None) == 1:
            value = value.item()
        if isinstance(value, bool | int | float) or value is None:
            kept[one_line(key, 60)] = value
        elif isinstance(value, str):
            kept[one_line(key, 60)] = one_line(value)
    return kept


def _failure(error: BaseException) -> dict[str, Any]:
    error = missing_package(error, "for this model") or error
    facts = getattr(error, "facts", None)
    if isinstance(error, RefbenchError):
        failure = "refused" if isinstance(error, RefusedError) else "stop" if isinstance(error, StopError) else "error"
        kept = plain_facts(facts) if isinstance(facts, dict) else {}
        return {"ok": False, "failure": failure, "error": one_line(error, 500), "facts": kept}
    traceback.print_exception(error, limit=-8, file=sys.stderr)
    return {"ok": False, "failure": "error", "error": f"Expected an image from the adapter, but {describe(error)}."}


def _normalised(answer: Any, inputs: Inputs) -> Reply:
    value, facts = split_answer(answer)
    try:
        image = normalise_output(value, inputs)
    except RefbenchError as error:
        return {"ok": False, "failure": "invalid", "error": one_line(error, 500)}, None
    return {"ok": True, "facts": plain_facts(facts)}, image


def answer_one(adapter: Any, inputs: Inputs) -> Reply:
    """Refine one sample; whatever goes wrong becomes a reply."""
    try:
        answer = adapter.refine(inputs)
    except (Exception, SystemExit) as error:
        return _failure(error), None
    return _normalised(answer, inputs)


def answer_batch(adapter: Any, batch: Sequence[Inputs]) -> list[Reply]:
    """Refine several samples together where the adapter can; if that goes wrong, one by one."""
    together = getattr(adapter, "refine_batch", None)
    if callable(together) and len(batch) > 1:
        try:
            answers = together(list(batch))
            if len(answers) == len(batch):
                return [_normalised(a, i) for a, i in zip(answers, batch, strict=True)]
            sys.stderr.write(f"refine_batch returned {len(answers)} answers for {len(batch)} samples; one by one now\n")
        except (Exception, SystemExit) as error:
            _failure(error)
    return [answer_one(adapter, inputs) for inputs in batch]


def give_account(adapter: Any, account: dict[str, Any] | None) -> bool:
    """Hand the run's account to an adapter that takes one; whether it does."""
    use = getattr(adapter, "use_account", None)
    if not callable(use):
        return False
    if account is not None:
        use(Account(Path(account["folder"]), account["max_cost_usd"], account["ask_refused_again"]))
    return True


def _take_over() -> tuple[io.RawIOBase, io.RawIOBase]:
    """Keep the pipes to the parent for messages; the adapter gets an empty input, and its prints go to stderr."""
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def _listen(source: io.RawIOBase, requests: queue.SimpleQueue[Any]) -> None:
    """Read requests ahead; when the parent has gone, end at once, even in the middle of a sample."""
    while True:
        try:
            header, arrays = wire.receive(source)
        except (wire.ClosedError, wire.GarbageError):
            os._exit(0)
        requests.put((header, arrays))
        if header.get("type") == "close":
            return


def main() -> None:
    """Serve one adapter until told to close."""
    source, sink = _take_over()
    requests: queue.SimpleQueue[tuple[dict[str, Any], list[NDArray[Any]]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, requests), daemon=True).start()
    header, _ = requests.get()
    try:
        sandbox.watch(header["hide"], header["network"])
        spec = resolve(header["spec"])
        adapter = load_class(spec, header["device"], header["options"])
        pays = give_account(adapter, header.get("account"))
        set_up(adapter, spec.text)
        card = check_card(getattr(adapter, "card", None), spec.text)
    except RefbenchError as error:
        wire.send(sink, {"type": "refused", "error": one_line(error, 500)})
        return
    batch_able = callable(getattr(adapter, "refine_batch", None))
    with contextlib.suppress(wire.ClosedError):
        wire.send(sink, {"type": "ready", "card": card.model_dump(mode="json"), "batch": batch_able, "pays": pays})
        while True:
            header, arrays = requests.get()
            if header["type"] == "close":
                break
            replies = answer_batch(adapter, wire.unpack_inputs(header["items"], arrays))
            images = [image for _, image in replies if image is not None]
            results = {"type": "results", "items": [reply for reply, _ in replies], "touched": sandbox.touched[:3]}
            wire.send(sink, results, images)
            sandbox.touched.clear()
    close = getattr(adapter, "close", None)
    if callable(close):
        close()
