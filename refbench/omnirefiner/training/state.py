"""What a training keeps: its moving average, its budget, its log, and a state file to go on from."""

from __future__ import annotations

import json
import math
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refbench.errors import RefbenchError


class Average:
    """Exponential moving average of the trainable parameters, warmed up as (1 + n) / (10 + n)."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay, self.count = decay, 0
        self.shadow = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter]) -> None:
        """Move towards the current values; decay 0 copies them."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        shadows = [self.shadow[name] for name in parameters]
        torch._foreach_lerp_(shadows, [p.detach().float() for p in parameters.values()], 1 - decay)

    @torch.no_grad()
    def swap(self, parameters: dict[str, nn.Parameter]) -> None:
        """Exchange the averages with the parameters; calling it twice restores both."""
        for name, p in parameters.items():
            kept = p.detach().clone().float()
            p.copy_(self.shadow[name])
            self.shadow[name].copy_(kept)


class Budget:
    """Progress from 0 to 1 by steps or by minutes, whichever is nearer its end; resumes where it was."""

    def __init__(self, steps: int | None, minutes: float | None, start: float = 0.0) -> None:
        self.steps, self.minutes, self.start = steps, minutes, start
        self._clock = time.monotonic()

    @property
    def spent(self) -> float:
        """Minutes of this call."""
        return (time.monotonic() - self._clock) / 60

    def progress(self, step: int) -> float:
        """Share of the run that is done."""
        by_steps = 0.0 if self.steps is None else step / self.steps
        by_time = 0.0 if self.minutes is None else self.start + (1 - self.start) * self.spent / self.minutes
        return min(1.0, max(by_steps, by_time))


def learning_rate(step: int, progress: float, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to 5 % of the peak."""
    return peak * min(1.0, (step + 1) / max(warmup, 1)) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def append_log(path: Path, **values: Any) -> None:
    """One JSON line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        handle.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}) + "\n")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write training state so that a kill leaves the old file or the new one.

    Raises:
        RefbenchError: the disk is full or the folder cannot be written; the old file is kept.
    """
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        part.unlink(missing_ok=True)
        raise RefbenchError(
            f"Expected to write training state to {path}, but {str(error).splitlines()[0][:120]}; free some space and "
            "add --resume, what was saved before is kept."
        ) from None


def load_state(path: Path) -> dict[str, Any] | None:
    """Training state, or None where there is none.

    Raises:
        RefbenchError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise RefbenchError(
            f"Expected saved training state at {path}, but it is damaged ({said}); move it away and start from "
            "exported weights: of stage1 and stage2 with --init FOLDER and another --out, in the paper's stages with "
            "--resume."
        ) from None
    return state
