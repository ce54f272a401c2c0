"""Configurations: one YAML file per scale says what the model is and how each stage trains.

The same fields serve the tiny model and FLUX.1-Kontext. Shipped files are in ``configs/``; a number that none of them
sets is a ``ClassVar``, and a control that needs another one subclasses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, ValidationError

from refbench.errors import RefbenchError
from refbench.schema import Record

Stage: TypeAlias = Literal["base", "sft", "grpo"]

LORA_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out",
)  # fmt: skip
"""Attention and feed-forward of the double and single blocks."""
LORA_FILE = "pytorch_lora_weights.safetensors"
"""An adapter's file in its folder, named as diffusers does."""


class ModelConfig(Record):
    """What the model is."""

    pretrained: str | None = None
    """Folder or hub id of a trained base pipeline; None builds `transformer` and `autoencoder` fresh."""
    transformer: dict[str, Any] = Field(default_factory=dict)
    """Arguments of ``FluxTransformer2DModel``."""
    autoencoder: dict[str, Any] = Field(default_factory=dict)
    """Arguments of ``AutoencoderKL``."""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    """Arguments of ``FlowMatchEulerDiscreteScheduler``."""
    mask: Literal["none", "channels"] = "none"
    working_size: int = 512
    """Side in px of the focus crop at which `refine` works."""
    steps: int = 28
    guidance: float | None = None


class SupervisedConfig(Record):
    """How the base editor or the SFT adapter trains."""

    steps: int = 4000
    batch: int = 16
    size: int = 64
    """Side of the training crops in px."""
    lr: float = 1e-3
    warmup: int = 100
    ema: float = 0.999
    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    sigma_shift: float = 1.0
    sigma_floor: float = 0.0
    mask_cap: float | None = None
    band: int = 0
    """Radius of the boundary band in latent cells, 0 for none."""
    misalignment: tuple[float, float] = (0.0, 1.0)
    """Share of the run at which the reference's misalignment starts to grow, and at which it is full."""
    largest: float = 1.0
    """The full misalignment of this run. After the focus has laid the reference onto the draft's frame little is left
    of it, so a short run does better to stop at 0.3."""
    wild: float = 0.0
    """Share of references that are misaligned anywhere up to 1, once the curriculum is over: the ones no focus lays."""
    light: float = 0.0
    """Further colour and light drift of the reference, 0 to 1, once the curriculum is over."""
    strength: tuple[float, float] = (0.25, 0.95)
    """Bounds of the drafts' degradations."""
    drop_reference: float = 0.1
    lora_rank: int | None = None
    """None trains all weights (base)."""
    lora_alpha: int | None = None
    checkpointing: bool = False
    validate_every: int = 250
    save_minutes: float = 3.0


class GRPOConfig(Record):
    """How stage 2 trains."""

    iterations: int = 200
    conditions: int = 6
    """Questions an iteration."""
    group: int = 8
    size: int = 64
    steps: int = 6
    window: tuple[int, int] = (0, 2)
    """First stochastic step and the number of them; the others are Euler steps."""
    clip_range: float = 1e-4
    kl: float = 0.02
    anchor: float = 0.5
    """Weight of the supervised loss on the ground truth."""
    updates: int = 1
    """Optimiser steps a rollout; its samples are split among them."""
    lr: float = 3e-5
    warmup: int = 20
    std_floor: float = 0.02
    misalignment: float = 1.0
    patch: int = 16
    """Side in px of the reward's patches."""
    perceptual: str = "auto"
    """Backbone of the perceptual reward: "dreamsim", "efficientnet", "squeezenet", or "auto"."""
    micro_batch: int = 16
    validate_every: int = 20

    eta: ClassVar[float] = 0.8
    """Noise level of the stochastic steps."""
    advantage_cap: ClassVar[float] = 5.0
    weights: ClassVar[dict[str, float]] = {"perceptual": 0.5, "pixel": 0.5}
    """Each part's share of the reward."""
    lora_rank: ClassVar[int] = 8
    validate_samples: ClassVar[int] = 24
    """Of each validation batch."""


class Config(Record):
    """One scale: the model and its stages."""

    name: str
    model: ModelConfig
    base: SupervisedConfig | None = None
    sft: SupervisedConfig
    grpo: GRPOConfig


def shipped() -> tuple[str, ...]:
    """Names of the shipped configurations."""
    return tuple(sorted(p.stem for p in (Path(__file__).parent / "configs").glob("*.yaml")))


def load_config(name_or_path: str | Path) -> Config:
    """Read a configuration by shipped name ("tiny", "flux-kontext") or from a YAML file.

    Raises:
        RefbenchError: there is no such file, or a field is unknown or of the wrong type.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(__file__).parent / "configs" / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RefbenchError(
            f"Expected a training configuration, one of {', '.join(shipped())} or a YAML file, "
            f"but got '{name_or_path}'; check the name."
        )
    try:
        return Config.model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValidationError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else None
        told = f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}" if reason else str(error).replace("\n", " ")
        raise RefbenchError(f"Expected a training configuration at {path}, but {told}; correct the file.") from None
