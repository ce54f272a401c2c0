"""The full scale: FLUX.1-Kontext-dev loaded into the OmniRefiner pipeline, and what it needs.

Nothing here differs from the tiny scale but the numbers: the same classes, tokens, losses and stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import ModelConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline, no_bar
from refbench.omnirefiner.training.weights import merge_lora


def load_kontext(
    model: ModelConfig, *, adapters: Sequence[Path] = (), dtype: torch.dtype = torch.bfloat16
) -> OmniRefinerPipeline:
    """Load a FLUX.1-Kontext pipeline (folder or hub id) with its text encoders as an OmniRefiner.

    Args:
        model: its `pretrained` names the pipeline; prediction, mask and sizes are taken from it.
        adapters: folders of LoRA files, merged in order.
        dtype: of all components.

    Raises:
        RefbenchError: the pipeline cannot be loaded.
    """
    from diffusers import FluxKontextPipeline

    assert model.pretrained is not None
    try:
        with no_bar():
            stock: Any = FluxKontextPipeline.from_pretrained(  # type: ignore[no-untyped-call]
                model.pretrained, dtype=dtype
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RefbenchError(
            f"Expected a FLUX.1-Kontext pipeline at '{model.pretrained}', but it cannot be loaded ({reason}); accept "
            "its licence on the hub and log in, or give a local folder."
        ) from None
    pipeline = OmniRefinerPipeline(
        stock.scheduler, stock.vae, stock.transformer, stock.text_encoder, stock.tokenizer, stock.text_encoder_2,
        stock.tokenizer_2, mask_mode=model.mask, working_size=model.working_size,
        default_steps=model.steps, guidance=model.guidance,
    )  # fmt: skip
    for folder in adapters:
        merge_lora(pipeline, folder)
    return pipeline


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory and time of the full scale, computed and not measured."""

    tokens: int
    """Image tokens a sample: three streams."""
    weights_gb: float
    """Transformer, T5, CLIP and autoencoder in bfloat16."""
    lora_gb: float
    """Adapter in float32 with its gradients and AdamW's two moments."""
    activations_gb: float
    """Checkpointed block inputs of one sample and the live block, bfloat16."""
    teraflop_step: float
    """One training step of one sample with recomputation: 4 x the forward pass."""
    seconds_step: float
    """At `tflops` sustained."""


def estimate(size: int = 512, text_tokens: int = 512, rank: int = 64, tflops: float = 350.0) -> Estimate:
    """What FLUX.1-Kontext-dev needs at a working size.

    From its published shapes: width 3072, 19 double and 38 single blocks, 11.9 B parameters; T5-XXL encoder 4.76 B,
    CLIP-L 0.12 B, autoencoder 0.08 B. Adapters sit on the Linears of :data:`refbench.omnirefiner.config.LORA_TARGETS`.
    """
    width, double, single = 3072, 19, 38
    image = 3 * (size // 16) ** 2
    tokens = image + text_tokens
    square = width * width
    matrices = double * 12 * square + single * 12 * square
    forward = 2 * tokens * matrices + 4 * tokens**2 * width * (double + single)
    pairs = double * 2 * (4 * 2 + 2 * 5) + single * (3 * 2 + 5 + 6)
    lora = rank * width * pairs
    live = tokens * width * 2 * 30
    kept = tokens * width * 2 * (double + single)
    return Estimate(
        tokens=image, weights_gb=round((11.9 + 4.76 + 0.12 + 0.08) * 2, 1), lora_gb=round(lora * 16 / 1e9, 1),
        activations_gb=round((live + kept) / 1e9, 1), teraflop_step=round(4 * forward / 1e12, 1),
        seconds_step=round(4 * forward / 1e12 / tflops, 2),
    )  # fmt: skip
