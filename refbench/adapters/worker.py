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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from refbench.adapters import sandbox, wire
from refbench.adapters.classes import ClassAdapter
from refbench.adapters.contract import Account
from refbench.adapters.spec import resolve
from refbench.errors import RefbenchError
from refbench.plaintext import one_line
from refbench.schema import Refinement


def packed(done: Sequence[Refinement]) -> tuple[list[dict[str, Any]], list[NDArray[Any]]]:
    """Refinements as plain values, and the images of those that have one."""
    items = [
        {"failure": one.failure, "error": one.error, "price_usd": one.price_usd, "facts": one.facts} for one in done
    ]
    return items, [one.image for one in done if one.image is not None]


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
        account = header["account"]
        adapter = ClassAdapter(
            resolve(header["spec"]),
            device=header["device"],
            options=header["options"],
            batch_size=sys.maxsize,  # the parent cuts the batches
            account=account and Account(**{**account, "folder": Path(account["folder"])}),
        )
    except RefbenchError as error:
        wire.send(sink, {"type": "refused", "error": one_line(error, 500)})
        return
    card = adapter.card.model_dump(mode="json")
    with contextlib.suppress(wire.ClosedError):
        wire.send(sink, {"type": "ready", "card": card, "batch": adapter.together, "pays": adapter.pays})
        while True:
            header, arrays = requests.get()
            if header["type"] == "close":
                break
            items, images = packed(adapter.refine_batch(wire.unpack_inputs(header["items"], arrays)))
            wire.send(sink, {"type": "results", "items": items, "touched": sandbox.touched[:3]}, images)
            sandbox.touched.clear()
    adapter.close()
