"""Weight files: a diffusers folder in half precision, LoRA adapters beside it, and a card for each.

Layout: ``model_index.json``, ``scheduler/``, ``vae/``, ``transformer/`` (the base editor) and
``adapters/<name>/pytorch_lora_weights.safetensors``, which stock diffusers loads with ``load_lora_weights``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.omnirefiner.config import LORA_FILE
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.training.lora import ADAPTER, add_lora

CARD = "card.json"
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""An adapter's files as peft names them."""


def write_card(folder: Path, **facts: Any) -> None:
    """What a reader must know of a weight file: data, steps, time, hardware, seed, command."""
    write_atomic(folder / CARD, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a weight folder, empty where there is none."""
    path = folder / CARD
    card: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return card


def save_autoencoder(vae: Any, folder: Path, card: Mapping[str, Any]) -> None:
    """Half-precision autoencoder with its card."""
    dtype = vae.dtype
    vae.to(torch.float16).save_pretrained(folder)
    vae.to(dtype)
    write_card(folder, **card)


def save_base(pipeline: OmniRefinerPipeline, folder: Path, card: Mapping[str, Any]) -> None:
    """The whole pipeline without adapters, the transformer in half precision; rounding is left in `pipeline`."""
    dtype = pipeline.dtype
    vae_card = read_card(folder / "vae")
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder)
    pipeline.to(dtype)
    write_card(folder / "transformer", **card)
    if vae_card:
        write_card(folder / "vae", **vae_card)


def save_adapter(
    weights: Mapping[str, Tensor], transformer: Any, name: str, folder: Path, card: Mapping[str, Any]
) -> None:
    """A LoRA adapter in half precision as stock diffusers reads it.

    Args:
        weights: state of the adapter's parameters by the transformer's own names.
        transformer: carries the adapter's configuration.
        name: the adapter's name in `transformer`.
    """
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(transformer, state_dict=dict(weights), adapter_name=name)
    config = transformer.peft_config[name].to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    OmniRefinerPipeline.save_lora_weights(
        folder, {k: v.detach().cpu().to(torch.float16).contiguous() for k, v in state.items()},
        transformer_lora_adapter_metadata=config,
    )  # fmt: skip
    write_card(folder, **card)


def take_up_adapter(transformer: Any, folder: Path, rank: int, alpha: int | None = None) -> None:
    """Put a trainable adapter on a transformer that goes on from saved half-precision weights (:func:`save_adapter`).

    Layers that the file has none for start anew.

    Raises:
        RefbenchError: the file holds another rank, or not this transformer's layers.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    add_lora(transformer, rank, alpha)
    state = {k.removeprefix("transformer."): v.float() for k, v in load_file(folder / LORA_FILE).items()}
    expected = {
        k.replace(f".{ADAPTER}.", "."): tuple(p.shape) for k, p in transformer.named_parameters() if p.requires_grad
    }
    found = {k: tuple(v.shape) for k, v in state.items()}
    if not found or not found.items() <= expected.items():
        held = next((v[0] for k, v in found.items() if k.endswith("lora_A.weight")), 0)
        raise RefbenchError(
            f"Expected an adapter of rank {rank} for this transformer at {folder / LORA_FILE}, but it has rank {held} "
            "or other layers; set lora_rank to its rank, or leave --resume out to start a new one."
        )
    set_peft_model_state_dict(transformer, state, adapter_name=ADAPTER)


def open_checkpoint(folder: str | Path) -> Path:
    """The folder of a checkpoint; one that does not exist may be a hub id, two names with one slash, and is fetched.

    Raises:
        RefbenchError: a local folder that is not a checkpoint, nothing there that can be a hub id, or a hub that cannot
            give it.
    """
    path = Path(folder)
    if not path.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(folder)):
        path = _fetched(str(folder))
    brings = any((path / name).is_file() for name in ("model_index.json", "stage1.safetensors", "stage2.safetensors"))
    if not brings and not adapters_of(path):
        raise RefbenchError(
            "Expected an OmniRefiner checkpoint (model_index.json, stage1.safetensors, or a LoRA adapter in "
            f"{LORA_FILE} or {PEFT_FILE}) at {path}, but there is none; train one with `refbench train`, or leave the "
            "option out to use the shipped one."
        )
    return path


def adapters_of(folder: Path) -> list[Path]:
    """Folders of the LoRA adapters of a checkpoint that brings no base: stages 1 and 2 as training exports them, or
    the folder itself."""
    stages = [folder / "adapters" / stage for stage in ("sft", "grpo")]
    return [place for place in (stages if stages[0].is_dir() else [folder]) if lora_file(place)]


def lora_file(folder: Path) -> Path | None:
    """The file of a LoRA adapter: diffusers' or peft's name, or the only safetensors of the folder."""
    named = [folder / name for name in (LORA_FILE, PEFT_FILE) if (folder / name).is_file()]
    others = sorted(folder.glob("*.safetensors"))
    return named[0] if named else others[0] if len(others) == 1 else None


def base_of(folder: Path) -> str | None:
    """Folder or hub id of the model that a LoRA adapter was trained on: by its own card, by peft's configuration, or
    by the front matter of a README."""
    own = read_card(folder).get("base")
    if own:
        return str(own)
    config, readme = folder / PEFT_CONFIG, folder / "README.md"
    named = json.loads(config.read_text()).get("base_model_name_or_path") if config.is_file() else None
    if not named and readme.is_file():
        from huggingface_hub import ModelCard

        found = getattr(ModelCard(readme.read_text("utf-8")).data, "base_model", None)
        named = found[0] if isinstance(found, list) and found else found
    return str(named) if named else None


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RefbenchError(
            f"Expected an OmniRefiner checkpoint in the folder or hub repository '{name}', but there is no such "
            f"folder, and the hub cannot give it ({reason}); check the name and the network, or give a local folder."
        ) from None


def load_pipeline(folder: str | Path, adapters: Sequence[str] = (), *, device: str = "cpu") -> OmniRefinerPipeline:
    """Load a checkpoint folder (or a hub id) with adapters by name, merged into the weights in order.

    Raises:
        RefbenchError: a local folder that is not a checkpoint, or an adapter it does not hold.
    """
    path = open_checkpoint(folder)
    pipeline: OmniRefinerPipeline = OmniRefinerPipeline.from_pretrained(path, dtype=torch.float32)
    for name in adapters:
        where = path / "adapters" / name
        if not (where / LORA_FILE).is_file():
            raise RefbenchError(
                f"Expected the adapter '{name}' at {where / LORA_FILE}, but there is no such file; train it with "
                f"`refbench train {name}`."
            )
        merge_lora(pipeline, where)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def merge_lora(pipeline: OmniRefinerPipeline, folder: Path) -> None:
    """Add an adapter to the transformer's weights; one at a time, because peft warns of a second one beside a first.

    Read are what diffusers and peft save, and what diffusers converts (kohya's and other names of the layers).

    Raises:
        RefbenchError: there is no adapter, or it is another network's.
    """
    path = lora_file(folder)
    if path is None:
        raise RefbenchError(
            f"Expected a LoRA adapter ({LORA_FILE}) in {folder}, but there is none; correct the folder."
        )
    try:
        state, alphas, settings = _lora_state(pipeline, path)
        held = dict(pipeline.transformer.named_modules())
        layers = {key.removeprefix("transformer.").rsplit(".lora_", 1)[0] for key in state if "transformer" in key}
        unknown = sorted(name for name in layers if name not in held) if layers else ["no layer at all"]
        if unknown:
            raise ValueError(f"it has {unknown[0]}")
        # not the pipeline's load_lora_weights, which looks for a text encoder's part too and warns that there is none
        pipeline.transformer.load_lora_adapter(
            state, adapter_name=ADAPTER, network_alphas=alphas or None, metadata=settings or None
        )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RefbenchError(
            f"Expected a LoRA adapter of this base model's transformer in {path}, but it is another network's or "
            f"damaged ({reason}); choose another checkpoint, or the base that it was trained on."
        ) from None
    pipeline.fuse_lora(components=["transformer"], adapter_names=[ADAPTER])
    pipeline.unload_lora_weights()  # type: ignore[no-untyped-call]


def _lora_state(pipeline: OmniRefinerPipeline, path: Path) -> tuple[dict[str, Tensor], Any, Any]:
    """Weights by the pipeline's names (``transformer.``...), alphas of the layers, and peft's settings."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    if any(key.startswith("base_model.model.") and "transformer_blocks." in key for key in keys):
        state = {key.replace("base_model.model.", "transformer.", 1): v for key, v in load_file(path).items()}
        config = path.with_name(PEFT_CONFIG)
        settings = json.loads(config.read_text()) if config.is_file() else {}
        return state, None, {f"transformer.{name}": value for name, value in settings.items()}
    if any(key.startswith(("transformer_blocks.", "single_transformer_blocks.")) for key in keys):
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get("lora_adapter_metadata")
        settings = {f"transformer.{name}": value for name, value in json.loads(written or "{}").items()}
        return {f"transformer.{key}": value for key, value in load_file(path).items()}, None, settings
    found: tuple[dict[str, Tensor], Any, Any] = pipeline.lora_state_dict(
        str(path.parent), weight_name=path.name, return_alphas=True, return_lora_metadata=True
    )
    return found
