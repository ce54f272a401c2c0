"""What a stage trains: LoRA adapters on a transformer, and parameters by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from refbench.omnirefiner.config import LORA_TARGETS

ADAPTER = "default"


def add_lora(transformer: Any, rank: int, alpha: int | None = None, name: str = ADAPTER, *, ends: bool = False) -> None:
    """Freeze the transformer and put a LoRA adapter (peft) on attention and feed-forward of all its blocks.

    Args:
        ends: on the first layer and on the one that reads the prompt's pooled state too, for a stage that brings a
            head of its own.
    """
    from peft import LoraConfig

    transformer.requires_grad_(False)
    targets = [
        path for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks." in path and path.endswith(LORA_TARGETS)
    ]  # fmt: skip
    if ends:
        targets += ["x_embedder", "time_text_embed.text_embedder.linear_1"]
    transformer.add_adapter(
        LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=targets, init_lora_weights="gaussian"), name
    )
    for parameter in trainable(transformer).values():
        parameter.data = parameter.data.float()


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters a stage may change, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


@torch.no_grad()
def copy_into(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Set parameters by name; every one must be there."""
    for name, p in parameters.items():
        p.copy_(values[name].to(p))
