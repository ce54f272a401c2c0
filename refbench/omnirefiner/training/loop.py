"""The one training loop: every stage is a :class:`Learner`, and :func:`train` does all that they share.

It resumes from the state file, follows the budget of steps and minutes, clips, steps, averages, validates with the
average, logs, saves, and stops on a signal. Processes that ``accelerate launch`` started draw batches of their own and
share their gradients.
"""

from __future__ import annotations

import ctypes
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.omnirefiner.training.lora import copy_into
from refbench.omnirefiner.training.progress import Pace, Quiet, Telling, rounds
from refbench.omnirefiner.training.state import (
    Average,
    Budget,
    append_log,
    learning_rate,
    load_state,
    save_state,
)  # fmt: skip
from refbench.trackers import Tracker, Tracking, Untracked, untracked

if TYPE_CHECKING:
    from accelerate import Accelerator

Values = dict[str, float | Tensor]
"""What a step is logged with; the log has means over the steps since its line before."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the loop trains a learner."""

    steps: int | None
    """Most steps; None for a run that only its minutes end, at a constant rate after the warm-up."""
    lr: float
    warmup: int
    batch: int
    """Samples a step."""
    ema: float = 0.0
    """Decay of the moving average; 0 keeps the weights themselves."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradients."""
    log_every: int = 50
    validate_every: int | None = None
    validate_first: bool = False
    """Validate before the first step as well."""
    save_minutes: float = 3.0


class Learner(ABC):
    """What the loop trains.

    Attributes:
        stage: its name in the log.
        names: the trained weights by name.
        device: where they are.
        settings: how the loop trains them.
        shown: values of a step that are told while it runs.
    """

    stage: str
    names: dict[str, nn.Parameter]
    device: str
    settings: Settings
    shown: tuple[str, ...] = ("loss",)

    @abstractmethod
    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Seed what is random, and open the data, for a run whose next step is `step`."""

    @abstractmethod
    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """The losses of one step.

        Args:
            progress: share of the run that is done.
            values: filled with what is to be logged.

        Yields:
            A loss () whose gradient is added to those before, and whether the optimiser steps then.
        """

    def validate(self) -> dict[str, float]:
        """Named values on held-out data, under the averaged weights."""
        return {}

    def pictures(self) -> dict[str, Image]:
        """What a tracker shows of held-out samples under the averaged weights, by name; see :func:`sheet`."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What else the card says; its numbers stand in the log as well."""
        return {}

    def state(self) -> dict[str, Any]:
        """What the state file holds beside the loop's own."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        del state

    def saved(self, out: Path, average: dict[str, Tensor]) -> None:
        """Called when the state file has been written."""
        del out, average


def sheet(*columns: Tensor) -> Image:
    """The first four samples of equally large pictures (B, 3, H, W) in [-1, 1], one a row: (4 H, columns x W, 3)."""
    shown = torch.cat([column[:4].float().clamp(-1, 1) for column in columns], dim=3)
    picture = torch.cat(list((shown + 1) * 127.5), dim=1).round().to(torch.uint8)
    return picture.permute(1, 2, 0).cpu().numpy()


def bfloat16(device: str | torch.device) -> torch.autocast:
    """Autocast to bfloat16, disabled on a processor that has no instructions for it.

    There torch emulates it: a step of stage 1 (batch 8 of 128 px, one thread) took 20 s of a processor with AVX2 alone,
    and 2.9 s in float32.
    """
    kind = torch.device(device).type
    able = kind != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast(kind, torch.bfloat16, enabled=able)


def keep_heap() -> None:
    """Let glibc keep large freed blocks for the next step; elsewhere nothing.

    By default it maps blocks of 32 MB or more from the kernel and gives them back, and trims the heap's end. A step of
    the retouching U-Net (batch 8 of 128 px, one thread) has 10,134 page faults so and 1,066 with this; the kernel's
    share of its processor time falls from 3 to 1 %.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    library.mallopt(mmap_max, 0)
    library.mallopt(trim_threshold, 2**31 - 1)


def train(
    learner: Learner,
    out: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    telling: Telling | None = None,
    track: Tracking = untracked,
) -> dict[str, Any]:
    """Train until the settings' steps or `minutes`; the learner ends as its moving average.

    Args:
        learner: trained in place.
        out: folder for ``log.jsonl`` and ``state.pt``.
        minutes: the learning rate's cosine ends with them, or with the steps.
        resume: go on from the state file, if there is one.
        telling: where progress goes.
        track: opens what is told each line of the log, and pictures with each validation or, without one, each save.

    Returns:
        Facts for the card: steps, samples, minutes, last validation, and the learner's own.

    Raises:
        RefbenchError: a state of other weights.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
    """
    from accelerate import Accelerator

    keep_heap()
    cuda = learner.device.startswith("cuda")
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    settings = learner.settings
    facts = {"steps": settings.steps, "lr": settings.lr, "batch": settings.batch, "minutes": minutes}
    opened = (track if accelerator.is_main_process else untracked)(
        f"{out.resolve().parent.name}-{learner.stage}", out, facts
    )
    with closing(opened) as tracker:
        return _train(learner, out, accelerator, tracker, minutes, resume, telling or Quiet())


def _train(
    learner: Learner,
    out: Path,
    accelerator: Accelerator,
    tracker: Tracker,
    minutes: float | None,
    resume: bool,
    telling: Telling,
) -> dict[str, Any]:
    settings, names, stage = learner.settings, learner.names, learner.stage
    together = accelerator.num_processes
    optimiser = torch.optim.AdamW(
        names.values(), settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    average = Average(names, settings.ema)
    step, samples, spent, start = 0, 0, 0.0, 0.0
    state = load_state(out / "state.pt") if resume else None
    if state is not None:
        if set(state["weights"]) != set(names):
            raise RefbenchError(
                f"Expected the state of this {stage} network in {out / 'state.pt'}, but it is another's; choose "
                "another --out, or the network it is of."
            )
        copy_into(names, state["weights"])
        average.shadow = {k: v.to(learner.device) for k, v in state["average"].items()}
        average.count = state.get("count", 0)
        optimiser.load_state_dict(state["optimiser"])
        learner.restore(state)
        step, spent = state["step"], state["minutes"]
        samples, start = state.get("samples", step * settings.batch), state.get("progress", 0.0)
    learner.begin(step, accelerator, telling)
    budget = Budget(settings.steps, minutes, start if start < 1 else 0.0)
    last: dict[str, float] = {}
    shows = not isinstance(tracker, Untracked)

    def save(progress: float) -> None:
        if accelerator.is_main_process:
            save_state(out / "state.pt", {
                "weights": {k: p.detach().cpu() for k, p in names.items()},
                "average": {k: v.cpu() for k, v in average.shadow.items()}, "count": average.count,
                "optimiser": optimiser.state_dict(), "step": step, "samples": samples, "progress": progress,
                "minutes": spent + budget.spent, **learner.state(),
            })  # fmt: skip
            learner.saved(out, average.shadow)

    def log(progress: float, **values: float) -> None:
        if accelerator.is_main_process:
            counts = {k: v for k, v in learner.facts().items() if isinstance(v, int | float)}
            append_log(
                out / "log.jsonl", stage=stage, step=step, samples=samples, minutes=spent + budget.spent,
                progress=progress, **counts, **values,
            )  # fmt: skip
            tracker.scalars(step, {f"{stage}/{name}": value for name, value in (counts | values).items()})

    def show() -> None:
        """Pictures for the tracker; the caller has swapped the average in."""
        if shows and (found := learner.pictures()):
            tracker.pictures(step, {f"{stage}/{name}": picture for name, picture in found.items()})

    def check(progress: float) -> dict[str, float]:
        telling.tick(f"{stage}: step {step:,}, validation")
        average.swap(names)
        found = learner.validate()
        show()
        average.swap(names)
        if found:
            log(progress, **found)
        return found

    def done() -> float:
        return budget.progress(step)

    def agreed(asked: bool) -> bool:
        if together == 1:
            return asked
        return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device)) > 0)

    first = last = check(start) if settings.validate_first else {}
    pace = Pace(telling, stage, settings.steps, step, done())
    saved = window = time.monotonic()
    totals: dict[str, Any] = {}
    seen = 0
    for progress in rounds(done, save, agreed):
        if settings.steps is None:
            rate = settings.lr * min(1.0, (step + 1) / settings.warmup)
        else:
            rate = learning_rate(step, progress, settings.lr, settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        values: Values = {}
        gradient = torch.zeros(())
        for loss, last_part in learner.losses(progress, values):
            torch.autograd.backward(loss)
            if last_part:
                if together > 1:
                    _share(accelerator, names)
                gradient = torch.nn.utils.clip_grad_norm_(names.values(), settings.clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        average.update(names)
        step, samples, seen = step + 1, samples + settings.batch * together, seen + 1
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
        if step % settings.log_every == 0:
            now = time.monotonic()
            log(
                progress, lr=rate, gradient=float(gradient), seconds_a_step=(now - window) / seen,
                **{name: float(total) / seen for name, total in totals.items()},
            )  # fmt: skip
            totals, seen, window = {}, 0, now
        pace.step(step, done(), **{name: values[name] for name in learner.shown})
        if settings.validate_every and step % settings.validate_every == 0:
            last = check(progress)
        if time.monotonic() - saved > 60 * settings.save_minutes:
            save(progress)
            saved = time.monotonic()
            if shows and not settings.validate_every:
                average.swap(names)
                show()
                average.swap(names)
    if settings.validate_every:
        last = check(1.0)
    average.swap(names)
    if not settings.validate_every:
        show()
    before = {"validation_before": first} if settings.validate_first else {}
    return {
        "steps": step, "samples": samples, "minutes": round(spent + budget.spent, 1), **before, "validation": last,
        **learner.facts(),
    }  # fmt: skip


def _share(accelerator: Accelerator, names: dict[str, nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes; one that had none counts as zero."""
    for p in names.values():
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        p.grad = accelerator.reduce(gradient, "mean")
