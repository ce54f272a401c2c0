"""What a training needs, looked at before torch is loaded: settings, folders, checkpoints, packages, disk."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refbench.errors import RefbenchError, UnavailableError
from refbench.images import write_atomic
from refbench.omnirefiner.config import LORA_FILE, Config
from refbench.tasks.writing import check_free, check_writable

STAGES = ("autoencoder", "base", "sft", "grpo")
PACKAGES = ("diffusers", "transformers", "accelerate", "peft")
FRESH_MB, PRETRAINED_MB = 600, 8_000
"""Free disk in MB that a stage wants: its state twice (the old file stays until the new one is whole) and the export.
A tiny model's state is under 250 MB, that of rank 64 over FLUX.1-Kontext about 3.5 GB."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, and where."""

    stage: str
    """One of :data:`STAGES`."""
    config: Config
    assets: Path
    """Folder of prepared training assets."""
    out: Path
    """Working folder; later stages find the earlier ones there."""
    held_out: Path | None = None
    """Folder of prepared validation assets; by default validation is drawn from `assets`."""
    minutes: float | None = None
    """Time budget; the learning rate's schedule ends with it."""
    device: str = "cpu"
    """"cpu", "cuda", "cuda:1", "mps"."""
    resume: bool = False
    """Go on from the stage's state in `out`; without it from the half-precision weights of the stage in `out` or
    `init`, with a fresh optimiser."""
    init: Path | None = None
    """Checkpoint folder (the shipped one, say) to start from where `out` has no earlier stage."""
    seed: int = 0
    """Of weights and data."""

    @property
    def state(self) -> Path:
        """The stage's state file."""
        return self.out / self.stage / "state.pt"

    def check(self) -> None:
        """Refuse what would end the training later.

        Raises:
            RefbenchError: the first thing that is wrong.
        """
        stage, config = self.stage, self.config
        if stage not in STAGES:
            raise RefbenchError(f"Expected a stage {', '.join(STAGES)}, but got '{stage}'; choose one of these.")
        check_numbers(self.minutes, self.device, self.seed)
        for name in PACKAGES:
            if find_spec(name) is None:
                raise UnavailableError(
                    f"Expected the package {name} to train, but it is not installed; run pip install "
                    "'refbench[models]'."
                )
        if stage == "base" and config.base is None:
            raise RefbenchError(
                f"Expected a section 'base' in the configuration '{config.name}', but it adapts a trained editor; "
                "leave the stage out or add the section."
            )
        for folder in (self.assets, self.held_out):
            if folder is not None:
                check_assets(folder)
        check_start(stage, config, self.out, self.init)
        if self.resume and self.state.is_file() and not zipfile.is_zipfile(self.state):
            raise RefbenchError(
                f"Expected saved training state at {self.state}, but it is damaged; move it away, and --resume "
                "goes on from the stage's exported weights."
            )
        check_free(check_writable(self.out), PRETRAINED_MB if config.model.pretrained else FRESH_MB)


def check_numbers(minutes: float | None, device: str, seed: int) -> None:
    """Refuse a budget, device or seed that is none.

    Raises:
        RefbenchError: naming it.
    """
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise RefbenchError(f"Expected a budget of more than 0 minutes, got {minutes}; correct --minutes.")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise RefbenchError(f"Expected a device cpu, cuda, cuda:N or mps, got '{device}'; correct --device.")
    if not 0 <= seed < 2**32:
        raise RefbenchError(f"Expected a seed from 0 to {2**32 - 1}, got {seed}; correct --seed.")


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        UnavailableError: naming it.
    """
    import torch

    kind, _, number = device.partition(":")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind != "cpu" and int(number or 0) >= there[kind]:
        raise UnavailableError(
            f"Expected the device {device} to train on, but torch sees {there[kind]} of its kind here; choose another "
            "with --device."
        )


def check_stage1(
    out: Path, minutes: float | None, network: str, init: Path | None, without: Sequence[str], seed: int
) -> Path | None:
    """The weights that a stage 1 of the shipped network starts from, None where it starts from nothing.

    Args:
        out, minutes, network, init, without: as :func:`refbench.omnirefiner.retouch.training.run_stage1` has them.
        seed: of the scenes and of what learns from them.

    Raises:
        RefbenchError: what would end the training later, or would part stages that belong together.
    """
    check_run(out / network, minutes)
    if network == "streams" and init is None:
        raise RefbenchError(
            "Expected a base editor for the streams, but --init is missing; train one with `refbench train base` and "
            "add --init runs/train/model."
        )
    first = first_stage(init) if network == "unet" and init is not None else None
    if network == "unet":
        check_exported(out, "stage2", None)
    check_going_on(out / network, init=digest_of(first), without=sorted(without), seed=seed)
    return first


def check_stage2(out: Path, minutes: float | None, init: Path | None, constant: bool, seed: int) -> Path:
    """The stage 1 that a stage 2 of the shipped network, or its constant, starts from; else as :func:`check_stage1`."""
    name = "constant" if constant else "stage2"
    check_run(out / name, minutes)
    first = first_stage(init or out / "model")
    if not constant:
        check_exported(out, "stage1", first)
    check_going_on(out / name, init=digest_of(first), seed=seed)
    return first


def check_run(out: Path, minutes: float | None) -> None:
    """Refuse a training of the shipped network without minutes, or whose folder cannot be written.

    Raises:
        RefbenchError: as said.
    """
    if not (minutes is not None and 0 < minutes < math.inf):
        came = "there is none" if minutes is None else f"{minutes:g} came"
        raise RefbenchError(f"Expected a budget of minutes to train, above 0, but {came}; add e.g. --minutes 60.")
    check_free(check_writable(out), FRESH_MB)


def first_stage(folder: Path) -> Path:
    """The weights of stage 1 in a folder.

    Raises:
        RefbenchError: there are none.
    """
    first = folder / "stage1.safetensors"
    if not first.is_file():
        raise RefbenchError(
            f"Expected the weights of stage 1 at {first}, but there are none; run `refbench train stage1` first "
            "(of a stopped one `refbench train export --of stage1`), or start from another folder with --init."
        )
    return first


def export(average: Path, out: Path, stage: str) -> Path:
    """Copy averaged weights to ``out/model/STAGE.safetensors``, what ``--checkpoint out/model`` refines with; the
    folder."""
    write_atomic(out / "model" / f"{stage}.safetensors", average.read_bytes())
    return out / "model"


def export_saved(out: Path, stage: str, network: str = "unet") -> Path:
    """Export what a running or stopped stage of the shipped network has saved; the folder.

    Raises:
        RefbenchError: it has saved nothing, or stage 2 has no stage 1 beside it.
    """
    folder = out / (network if stage == "stage1" else stage)
    saved = folder / "average.safetensors"
    if not saved.is_file() or (stage == "stage1" and network != "unet"):
        raise RefbenchError(
            f"Expected saved weights of the U-Net at {saved}, but there are none to export; run `refbench train "
            f"{stage}` first."
        )
    if stage == "stage2":
        first_stage(out / "model")
    else:
        check_exported(out, "stage2", None)
    return export(saved, out, stage)


def check_going_on(folder: Path, **start: Any) -> None:
    """Refuse to go on with a state that was started otherwise; of a new one it is noted how it starts.

    Args:
        folder: of the state.
        start: what decides it, as JSON has it; None is not asked for.

    Raises:
        RefbenchError: naming the first that differs.
    """
    path = folder / "start.json"
    if not (folder / "state.pt").is_file():
        write_atomic(path, json.dumps(start).encode())
    elif path.is_file():
        known = json.loads(path.read_bytes())
        for name, value in start.items():
            if value is not None and known.get(name) != value:
                raise RefbenchError(
                    f"Expected the training in {folder} to go on as it was started, with {name} {known.get(name)}, but "
                    f"{name} {value} came; choose another --out."
                )


def check_exported(out: Path, stage: str, weights: Path | None) -> None:
    """Refuse a training whose export would part two stages that belong together.

    Args:
        out: working folder, in whose ``model`` the export lies.
        stage: whose export is there.
        weights: that it may be; None where none may be there.

    Raises:
        RefbenchError: it is another.
    """
    there = out / "model" / f"{stage}.safetensors"
    if there.is_file() and (weights is None or digest_of(there) != digest_of(weights)):
        raise RefbenchError(
            f"Expected {'no' if weights is None else 'the same'} {stage} in {out / 'model'}, but {there} is of another "
            "training, which this one would replace or spoil; choose another --out, or move it away."
        )


def digest_of(path: Path | None) -> str | None:
    """12 hex digits of a file's content; None of none."""
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def check_assets(folder: Path) -> None:
    """Refuse a folder without prepared training assets.

    Raises:
        RefbenchError: there are none, or they are damaged.
    """
    path = folder / "assets.npz"
    if not path.is_file():
        raise RefbenchError(
            f"Expected prepared training assets at {path}, but there is no such file; run `refbench tasks assets`."
        )
    wanted = {f"{name}.npy" for name in ("glyphs", "advances", "flows", "print_kinds", "prints_data", "clips_data")}
    try:
        with zipfile.ZipFile(path) as archive:
            lacking = sorted(wanted - set(archive.namelist()))
    except (OSError, zipfile.BadZipFile) as error:
        raise RefbenchError(
            f"Expected prepared training assets at {path}, but the file is damaged ({error}); run `refbench tasks "
            "assets` again."
        ) from None
    if lacking:
        raise RefbenchError(
            f"Expected prepared training assets at {path}, but {lacking[0].removesuffix('.npy')} is not in it; run "
            "`refbench tasks assets` again."
        )


def check_start(stage: str, config: Config, out: Path, init: Path | None) -> None:
    """Refuse a stage whose earlier stage is not there.

    Raises:
        RefbenchError: naming what is missing, and the command that makes it.
    """
    if stage == "autoencoder":
        if init is not None and not init.is_dir():
            raise RefbenchError(f"Expected a checkpoint folder at {init}, but there is none; correct --init.")
        return
    if init is not None and not (init / "model_index.json").is_file():
        raise RefbenchError(
            f"Expected a checkpoint folder with model_index.json at {init}, but there is none; correct --init."
        )
    if stage == "base":
        if init is None and not (out / "vae" / "config.json").is_file():
            raise RefbenchError(
                f"Expected a trained autoencoder at {out / 'vae'}, but there is none; run `refbench train autoencoder` "
                "first, or start from a checkpoint with --init."
            )
        return
    model = out / "model"
    trained = (model / "model_index.json").is_file()
    if not trained and init is None and config.model.pretrained is None:
        raise RefbenchError(
            f"Expected a trained base editor at {model}, but there is none; run `refbench train base` first, or start "
            "from a checkpoint with --init."
        )
    source = model if trained or init is None else init
    if stage == "grpo" and not (source / "adapters" / "sft" / LORA_FILE).is_file():
        raise RefbenchError(
            f"Expected the adapter of stage 1 at {source / 'adapters' / 'sft'}, but there is none; run `refbench train "
            "sft` first."
        )
