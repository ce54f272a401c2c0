"""A drawing that costs nothing, in a module of its own that other processes import in no time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from refbench.omnirefiner.training.prepared import Kind


@dataclass(frozen=True)
class Counting:
    """Random pictures, a mask, and shares."""

    size: int = 4
    kinds: tuple[Kind, ...] = ("picture", "share", "share")

    def recipe(self) -> dict[str, Any]:
        return {"kind": "counting", "size": self.size}

    def open(self) -> Any:
        return SimpleNamespace(generator=torch.Generator())

    def samples(self, opened: Any) -> Iterator[tuple[Tensor, ...]]:
        while True:
            picture = torch.rand(3, self.size, self.size, generator=opened.generator) * 2 - 1
            yield picture, (picture[:1] > 0).float(), (picture[:2] + 1) / 2
