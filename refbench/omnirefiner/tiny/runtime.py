"""A small checkpoint with torch alone: what the shipped refiners run on, without diffusers, transformers or peft.

The folder is diffusers' own layout (``training/weights.py``). What this module cannot read (text encoders, another
autoencoder, a scheduler with tricks, quantised or unusual adapters) is for the diffusers pipeline.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import LORA_FILE
from refbench.omnirefiner.flux.transformer import FluxTransformer
from refbench.omnirefiner.method.latents import scale_factor
from refbench.omnirefiner.method.refiner import Refiner, head_of
from refbench.omnirefiner.tiny.aligner import AlignerNet
from refbench.omnirefiner.tiny.autoencoder import PatchNet

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
TRICKS = (
    "invert_sigmas", "shift_terminal", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
    "stochastic_sampling",
)  # fmt: skip
"""Settings of diffusers' scheduler that :class:`EulerSchedule` has not."""
VARIANTS = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save")
"""Settings of an adapter that :func:`merge_adapter` has not."""


RETIRED = {"boldness": 1.0, "largest_size": None}
"""Options that stand in the shipped ``model_index.json``, with the values that change nothing."""


class Settings(dict[str, Any]):
    """A ``config.json`` by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def checkpoints() -> Path:
    """Folder of the shipped tiny checkpoint."""
    return Path(__file__).parents[1] / "checkpoints" / "tiny"


def checkpoint(folder: str | Path) -> Path:
    """The path of a checkpoint; one that does not exist may be a hub id, two names with one slash.

    Raises:
        RefbenchError: a local folder that is not a checkpoint, one that wants an option that there is not, or nothing
            there that can be a hub id.
    """
    path = Path(folder)
    hub = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(folder))
    if (path.exists() or not hub) and not (path / "model_index.json").is_file():
        raise RefbenchError(
            f"Expected an OmniRefiner checkpoint (model_index.json) at {path}, but there is none; train one with "
            "`refbench train base`, or leave the option out to use the shipped one."
        )
    asked = _json(path / "model_index.json") if path.exists() else {}
    for name, harmless in RETIRED.items():
        if asked.get(name, harmless) != harmless:
            raise RefbenchError(
                f"Expected a checkpoint without the option {name}, but {path / 'model_index.json'} has it as "
                f"{asked[name]}; train its model with this version."
            )
    return path


class EulerSchedule:
    """Euler steps of a flow: the part of diffusers' ``FlowMatchEulerDiscreteScheduler`` that FLUX uses."""

    def __init__(self, config: Settings) -> None:
        self.config = config

    def set_timesteps(self, *, sigmas: Any, mu: float | None, device: torch.device) -> None:
        """Noise levels (steps,) from 1 on, shifted as the configuration says; the last step ends at 0."""
        levels: Any = np.asarray(sigmas).astype(np.float32)
        if mu is not None:
            grown = math.exp(mu) if self.config.get("time_shift_type", "exponential") == "exponential" else mu
            levels = grown / (grown + (1 / levels - 1) ** 1.0)
        else:
            shift = self.config.shift
            levels = shift * levels / (1 + (shift - 1) * levels)
        found = torch.from_numpy(levels).to(dtype=torch.float32, device=device)
        self.timesteps = found * self.config.num_train_timesteps
        self.sigmas = torch.cat([found, torch.zeros(1, device=device)])

    def set_begin_index(self, index: int) -> None:
        """Start at a step."""
        self.at = index

    def step(self, found: Tensor, _: Tensor, tokens: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        """One step along the velocity `found` (B, N, C)."""
        sample = tokens.to(torch.float32)
        sample = sample + (self.sigmas[self.at + 1] - self.sigmas[self.at]) * found
        self.at += 1
        return (sample.to(found.dtype),)


class TorchRefiner(Refiner):
    """The components that :func:`load_torch` read."""

    def __init__(
        self, config: Settings, scheduler: EulerSchedule, vae: PatchNet, transformer: FluxTransformer,
        aligner: AlignerNet | None,
    ) -> None:  # fmt: skip
        self.config, self.scheduler, self.vae, self.transformer = config, scheduler, vae, transformer
        self.aligner = aligner
        self.vae_scale_factor = scale_factor(vae)
        self.head = head_of(config.prediction)


def _json(path: Path) -> Settings:
    return Settings(json.loads(path.read_text(encoding="utf-8")))


def readable(folder: Path, adapters: Sequence[str] = ()) -> bool:
    """Whether :func:`load_torch` can load a checkpoint with these adapters; told from its JSON files alone."""
    from safetensors import safe_open

    index = _json(folder / "model_index.json")
    kinds = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1] is not None}
    wanted = {"vae": "PatchAutoencoder", "transformer": "FluxTransformer2DModel"}
    wanted |= {"scheduler": "FlowMatchEulerDiscreteScheduler"} | ({"aligner": "Aligner"} if "aligner" in kinds else {})
    if kinds != wanted or not all((folder / part / WEIGHTS_FILE).is_file() for part in kinds if part != "scheduler"):
        return False
    if any(_json(folder / "scheduler" / "scheduler_config.json").get(trick) for trick in TRICKS):
        return False
    for name in adapters:
        file = folder / "adapters" / name / LORA_FILE
        if not file.is_file():
            continue
        with safe_open(file, "pt") as opened:
            keys = list(opened.keys())
            settings = _adapter_settings(opened.metadata())
        if not settings or any(settings.get(variant) for variant in VARIANTS):
            return False
        if not all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys):
            return False
    return True


def _adapter_settings(metadata: dict[str, str] | None) -> Settings:
    """What the adapter's file says of it: r, lora_alpha, ...; empty where it says nothing."""
    found = json.loads((metadata or {}).get("lora_adapter_metadata", "{}"))
    return Settings({key.removeprefix("transformer."): value for key, value in found.items()})


def no_adapter(name: str, where: Path) -> RefbenchError:
    """The error for an adapter that a checkpoint does not hold."""
    return RefbenchError(
        f"Expected the adapter '{name}' at {where / LORA_FILE}, but there is no such file; train it with "
        f"`refbench train {name}`."
    )


def merge_adapter(transformer: FluxTransformer, file: Path) -> None:
    """Add a LoRA adapter to the weights it is for: ``W + alpha / r (B A)``."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        settings = _adapter_settings(opened.metadata())
        state = {key.removeprefix("transformer."): opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    for key, down in state.items():
        name, inner, _ = key.rpartition(".lora_A.weight")
        if inner:
            up = state[f"{name}.lora_B.weight"].float()
            weight = transformer.get_submodule(name).weight
            weight.data += up @ down.float() * (settings.lora_alpha / settings.r)


def _filled(network: torch.nn.Module, folder: Path, dtype: torch.dtype) -> Any:
    """A network with the weights of a folder, which it carries the configuration of."""
    from safetensors.torch import load_file

    state = {name: value.to(dtype) for name, value in load_file(folder / WEIGHTS_FILE).items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def load_torch(folder: Path, adapters: Sequence[str] = (), *, device: str = "cpu") -> TorchRefiner:
    """Load a checkpoint that is :func:`readable`, in float32, with adapters merged in order.

    Raises:
        RefbenchError: it does not hold an adapter.
    """
    parts = [part for part in ("vae", "transformer", "aligner") if (folder / part / "config.json").is_file()]
    configs = {part: _json(folder / part / "config.json") for part in parts}
    given = {
        part: {key: value for key, value in config.items() if not key.startswith("_")}
        for part, config in configs.items()
    }
    scaled = ("scaling_factor", "shift_factor")
    with torch.random.fork_rng(devices=[]):  # the values drawn here are replaced; torch's "meta" would import sympy
        networks: dict[str, Any] = {
            "vae": PatchNet(**{key: value for key, value in given["vae"].items() if key not in scaled}),
            "transformer": FluxTransformer(**given["transformer"]),
        }
        if "aligner" in parts:
            networks["aligner"] = AlignerNet(**given["aligner"])
    for part, network in networks.items():
        network.config = configs[part]
        _filled(network, folder / part, torch.float32)
    for name in adapters:
        where = folder / "adapters" / name
        if not (where / LORA_FILE).is_file():
            raise no_adapter(name, where)
        merge_adapter(networks["transformer"], where / LORA_FILE)
    schedule = EulerSchedule(_json(folder / "scheduler" / "scheduler_config.json"))
    for network in networks.values():
        network.to(device)
    return TorchRefiner(
        _json(folder / "model_index.json"), schedule, networks["vae"], networks["transformer"], networks.get("aligner")
    )
