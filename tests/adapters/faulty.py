"""An adapter that misbehaves in the way that a sample's id names; other samples get the draft, inverted."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from refbench.adapters.contract import RefusedError
from refbench.schema import AdapterCard, Inputs


class Faulty:
    card = AdapterCard(name="faulty", summary="Fails as the sample's id says.", licence="Apache-2.0")

    def __init__(self, *, device: str = "cpu", together: bool = False) -> None:
        self.count = 0
        if together:
            self.refine_batch = self._together

    def refine(self, inputs: Inputs) -> Any:
        self.count += 1
        kind = inputs.id.split("-", 1)[0]
        good = 255 - inputs.draft
        match kind:
            case "size":
                return good[:-3]
            case "nan":
                return np.where(np.arange(3) == 1, np.nan, good / 255)
            case "dtype":
                return good.astype(np.int64)
            case "range":
                return good.astype(np.float32)
            case "nothing":
                return None
            case "path":
                return "/tmp/answer.png"
            case "raises":
                raise ValueError("the weights\nare \x1b[31mmissing")
            case "memory":
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
            case "refuses":
                raise RefusedError("The safety filter declined.")
            case "late":
                time.sleep(60)
            case "dies":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), 9)
            case "exits":
                sys.exit("goodbye")
            case "noisy":
                sys.stdout.write("progress: 50%\n")
                os.write(1, b"\x00\xffnot a message" * 10)
                sys.stderr.write("warning\n" * 300_000)
            case "garbage":
                for descriptor in range(3, 20):  # the channel to refbench is one of them
                    try:
                        os.write(descriptor, b"garbage" * 100)
                    except OSError:
                        continue
                time.sleep(0.2)
            case "counts":
                return good, {"calls": self.count, "price_usd": np.float32(0.5), "secret": object()}
            case "environment":
                return good, {"cache": os.environ.get("REFBENCH_CACHE", "none"), "folder": str(Path.cwd())}
            case "spies":
                Path(inputs.prompt).read_bytes()
        return good

    def _together(self, batch: list[Inputs]) -> list[Any]:
        if any(i.id.startswith("few") for i in batch):
            return [255 - batch[0].draft]
        return [self.refine(i) for i in batch]
