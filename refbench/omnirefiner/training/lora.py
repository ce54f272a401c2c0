"""What a stage trains: LoRA adapters on a transformer, and parameters by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from refbench.omnirefiner.config import LORA_TARGETS

ADAPTER = "default"


def add_lora(transformer: Any, rank: int, alpha: int | None = None, name: str = ADAPTER, *, gates: bool = True) -> None:
    """Freeze the transformer and put a LoRA adapter (peft) on attention and feed-forward of all its blocks.

    A transformer with more outputs than latent numbers (a blend's gate) gets one on its last layer as well, because
    the base never saw a reference, so that there the gate's part is as it was at the start; and one on the layer that
    reads the prompt's pooled state, which says whether the draft is to be mended or replaced.

    Args:
        gates: False for a stage that brings a head of its own: the first layer in place of the last.
    """
    from peft import LoraConfig

    transformer.requires_grad_(False)
    targets = [
        path for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks." in path and path.endswith(LORA_TARGETS)
    ]  # fmt: skip
    if not gates:
        targets += ["x_embedder", "time_text_embed.text_embedder.linear_1"]
    elif transformer.config.out_channels and transformer.config.out_channels > transformer.config.in_channels:
        targets += ["proj_out", "time_text_embed.text_embedder.linear_1"]
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
