"""What a paid service was asked in a run: every answer kept by the content of its request, and what was spent.

The folder (``responses`` in the run folder) holds for each request ``<key>.body``, the answer as it came, and
``<key>.json``, what is known about it; answers that could not be read lie beside them as ``<key>.fault-<n>.body``;
``ledger.jsonl`` has one line when a request goes out, with what it may cost at most, and one when its price is known.
A request whose end nobody saw (a kill, a broken connection) therefore stays counted at its highest price. Several
processes may work on one folder. There is no key in any of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.adapters.contract import Account, StopError
from refbench.errors import RefbenchError
from refbench.images import write_atomic

LEDGER = "ledger.jsonl"
PACE = "pace.json"
LOCK = "lock"
ROUNDING = 1e-9
"""Sums of prices in USD may differ by so much from what they are on paper."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was paid for."""

    body: bytes
    facts: dict[str, Any]
    """`status` (HTTP), `outcome` ("image" or "refused"), `price_usd`, `sample`, `received` ..."""


def content_key(parts: Mapping[str, Any], pictures: Mapping[str, NDArray[Any]]) -> str:
    """32 hex digits for a request: all that decides the answer, pictures by their pixels."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, picture in sorted(pictures.items()):
        digest.update(f"\n{name} {picture.dtype} {picture.shape}\n".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()[:32]


class Ledger:
    """The answers and the money of one run.

    Args:
        account: of the run; None outside one: nothing is kept, and nothing limits the cost.
    """

    def __init__(self, account: Account | None) -> None:
        self.account = account
        self._next_slot = 0.0

    # ---- answers

    def kept(self, key: str) -> Kept | None:
        """The answer to a request that was paid for before; a refusal only where it is not to be asked anew."""
        if self.account is None:
            return None
        try:
            facts = json.loads((self.account.folder / f"{key}.json").read_bytes())
            body = (self.account.folder / f"{key}.body").read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RefbenchError(
                f"Expected a kept answer at {self.account.folder / key}.json, but it cannot be read ({error}); remove "
                "it, and its sample is paid for again."
            ) from None
        if facts.get("outcome") == "refused" and self.account.ask_refused_again:
            return None
        return Kept(body, facts)

    def keep(self, key: str, kept: Kept) -> None:
        """Write an answer; from then on its request is not sent again."""
        if self.account is not None:
            write_atomic(self.account.folder / f"{key}.body", kept.body)
            write_atomic(
                self.account.folder / f"{key}.json", (json.dumps(kept.facts, indent=1, sort_keys=True) + "\n").encode()
            )

    def keep_fault(self, key: str, body: bytes) -> None:
        """Write an answer that could not be read, for whoever wants to know what came."""
        if self.account is not None:
            n = 1
            while (path := self.account.folder / f"{key}.fault-{n}.body").exists():
                n += 1
            write_atomic(path, body)

    # ---- money

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Path | None]:
        """The folder, made and held for this process; None outside a run."""
        if self.account is None:
            yield None
            return
        from filelock import FileLock

        self.account.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.account.folder / LOCK):
            yield self.account.folder

    def reserve(self, most_usd: float, sample: str, key: str) -> str:
        """Note that a request goes out which may cost so much; the name under which its price is settled later.

        Raises:
            StopError: it could exceed the run's limit; nothing is noted.
        """
        name = os.urandom(6).hex()
        with self._locked() as folder:
            if folder is None or self.account is None:
                return name
            limit, spent = self.account.max_cost_usd, _total(folder / LEDGER)
            if limit is not None and spent + most_usd > limit + ROUNDING:
                raise StopError(
                    f"Stopped before the sample '{sample}': ${spent:.4f} of --max-cost ${limit:g} is spent, and one "
                    f"more answer may cost ${most_usd:.4f}; what is paid for is kept, run the same command again with "
                    "a higher --max-cost to go on."
                )
            _append(folder / LEDGER, {"name": name, "sample": sample, "key": key, "most_usd": most_usd, **_now()})
        return name

    def settle(self, name: str, price_usd: float) -> None:
        """Note what a request has cost."""
        with self._locked() as folder:
            if folder is not None:
                _append(folder / LEDGER, {"name": name, "price_usd": price_usd, **_now()})

    # ---- pace

    def wait_for_slot(self, per_minute: float) -> float:
        """Seconds to wait so that all processes of the run together send at most `per_minute` requests a minute."""
        if per_minute <= 0:
            return 0.0
        now, gap = time.time(), 60 / per_minute
        with self._locked() as folder:
            before = self._next_slot
            if folder is not None:
                with contextlib.suppress(OSError, ValueError, TypeError):
                    before = float(json.loads((folder / PACE).read_bytes()))
            slot = max(now, min(before, now + 60 * gap))  # a clock that was set back stops nobody for long
            self._next_slot = slot + gap
            if folder is not None:
                write_atomic(folder / PACE, json.dumps(self._next_slot).encode())
        return slot - now


def _now() -> dict[str, str]:
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _append(path: Path, line: dict[str, Any]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(line) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _total(path: Path) -> float:
    """USD spent: the price of what is settled, the highest price of what is not."""
    sums: dict[str, float] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut by a kill; the line before it says that the request went out
            sums[entry["name"]] = float(entry.get("price_usd", entry.get("most_usd", 0.0)))
    return sum(sums.values())


def spent(folder: Path) -> float:
    """USD that a run's folder of answers says were spent, unknown ends at their highest price."""
    return _total(folder / LEDGER)
