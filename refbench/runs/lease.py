"""Who writes at an address: a note that is renewed, in place of a lock that such a place does not have."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from refbench.errors import RefbenchError
from refbench.runs.storage import Remote

LEASE_S = 60.0
"""How long the note holds, in seconds; it is renewed three times as often."""


@contextlib.contextmanager
def alone(storage: Remote, name: str) -> Iterator[None]:
    """Hold a place by a note of this process.

    Args:
        storage: the place.
        name: of the note.

    Raises:
        RefbenchError: another process holds it; one of this machine that is gone, or that is silent, does not.
    """
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    _refuse_other(storage, name)

    def note() -> None:
        storage.once(name, json.dumps({**mine, "time": time.time()}).encode())

    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_S / 3):
            with contextlib.suppress(RefbenchError):  # the next one may come through
                note()

    note()
    threading.Thread(target=renew, daemon=True, name="refbench-writer").start()
    try:
        yield
    finally:
        done.set()
        storage.remove(name)


def _refuse_other(storage: Remote, name: str) -> None:
    found = storage.read(name)
    try:
        note = json.loads(found or b"{}")
        age = time.time() - float(note["time"])
        dead = note["host"] == socket.gethostname() and not _alive(int(note["pid"]))
    except (ValueError, KeyError, TypeError):
        return
    if age < LEASE_S and not dead:
        raise RefbenchError(
            f"Expected to be alone at {storage.where}, but a refbench on {note['host']} wrote there {age:.0f} s ago; "
            f"wait for it (a dead one is forgotten after {LEASE_S:.0f} s) or name another address with --out."
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
