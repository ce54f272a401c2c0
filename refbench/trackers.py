"""Where numbers and pictures of a training or an evaluation are shown beside its JSON lines: a tracker by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from refbench.errors import missing_package, unknown_name
from refbench.images import Image

PROJECT = "refbench"
"""The project that runs are filed under."""


class Tracker(Protocol):
    """What every tracker is told, always in the order of the steps."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, as in "validation/psnr"."""

    def pictures(self, step: int, values: Mapping[str, Image]) -> None:
        """Pictures (H, W, 3) uint8 by name."""

    def close(self) -> None:
        """Write what is left."""


class Untracked:
    """Nowhere."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def pictures(self, step: int, values: Mapping[str, Image]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorBoard:
    """Event files in ``<folder>/tensorboard``, for `tensorboard --logdir`."""

    def __init__(self, run: str, folder: Path, facts: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        if facts:
            rows = "\n".join(f"| {name} | `{value}` |" for name, value in facts.items())
            self._writer.add_text(run, f"| | |\n|---|---|\n{rows}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def pictures(self, step: int, values: Mapping[str, Image]) -> None:
        """One picture of each name."""
        for name, value in values.items():
            self._writer.add_image(name, value, step, dataformats="HWC")

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases below ``<folder>/wandb``; WANDB_MODE=offline keeps it here."""

    def __init__(self, run: str, folder: Path, facts: Mapping[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._library: Any = wandb
        self._run: Any = wandb.init(project=PROJECT, name=run, dir=str(folder), config=dict(facts), reinit="create_new")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, values: Mapping[str, Image]) -> None:
        """One picture of each name."""
        self._run.log({name: self._library.Image(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class Trackio:
    """A run of Trackio, in TRACKIO_DIR or its default folder, for `trackio show`."""

    def __init__(self, run: str, folder: Path, facts: Mapping[str, Any]) -> None:
        import trackio

        del folder  # Trackio keeps all runs of this machine in one
        self._library: Any = trackio
        with redirect_stdout(sys.stderr):  # it says where it logs, and stdout is for results
            trackio.init(project=PROJECT, name=run, config=dict(facts), resume="allow", embed=False)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        self._library.log(dict(values), step=step)

    def pictures(self, step: int, values: Mapping[str, Image]) -> None:
        """One picture of each name."""
        self._library.log({name: self._library.Image(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Finish the run."""
        with redirect_stdout(sys.stderr):
            self._library.finish()


TRACKERS: dict[str, Callable[[str, Path, Mapping[str, Any]], Tracker]] = {
    "trackio": Trackio,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
}

Tracking: TypeAlias = Callable[[str, Path, Mapping[str, Any]], Tracker]
"""Opens a tracker for a run's name, its folder, and facts of it."""


def untracked(run: str, folder: Path, facts: Mapping[str, Any]) -> Tracker:
    """No tracker."""
    del run, folder, facts
    return Untracked()


def tracking(name: str | None) -> Tracking:
    """What opens trackers of a kind; nothing is tracked where `name` is None.

    Raises:
        RefbenchError: an unknown name.
        UnavailableError: its package is not installed.
    """
    if name is None:
        return untracked
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS)
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise missing_package(name, "to log to") or ModuleNotFoundError(name)
    return TRACKERS[name]
