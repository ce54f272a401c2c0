"""The full scale: FLUX.1-Kontext-dev loaded into the OmniRefiner pipeline, and what it needs.

Nothing here differs from the tiny scale but the numbers: the same classes, tokens, losses and stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import ModelConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline, no_bar
from refbench.omnirefiner.training.weights import merge_lora

TRANSFORMER: dict[str, Any] = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
"""The published shapes: 11.9 B parameters."""
ENCODERS = 4.76 + 0.12 + 0.08
"""Billions of parameters of T5-XXL's encoder, CLIP-L and the autoencoder."""


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
    """Memory and time of a full scale, computed from the shapes and not measured; see ``benchmarks/full_scale.py``."""

    tokens: int
    """Image tokens a sample: three streams."""
    weights_gb: float
    """Transformer, T5, CLIP and autoencoder in bfloat16."""
    lora_gb: float
    """Adapter in float32 with its gradients and AdamW's two moments."""
    activations_gb: float
    """Checkpointed block inputs of one sample and the live block, bfloat16."""
    teraflop_forward: float
    """One call of the transformer on one sample."""
    teraflop_step: float
    """One training step of one sample: the call, its recomputation, and the gradient. The frozen weights have none."""
    seconds_step: float
    """At `tflops` sustained."""


def estimate(
    size: int = 512, text_tokens: int = 512, rank: int = 64, tflops: float = 350.0,
    transformer: Mapping[str, Any] = TRANSFORMER,
) -> Estimate:  # fmt: skip
    """What FLUX.1-Kontext-dev, or a model of the same class and other shapes, needs at a working size; not measured.

    Adapters sit on the Linears of :data:`refbench.omnirefiner.config.LORA_TARGETS`. Operations are those of matrix
    products and attention, a multiplication and an addition counted as two.

    Args:
        size: side of the crop in px.
        text_tokens: of the prompt, padding with them.
        rank: of the adapter.
        tflops: sustained, in 10^12 operations a second.
        transformer: arguments of ``FluxTransformer2DModel``.
    """
    width = transformer["attention_head_dim"] * transformer["num_attention_heads"]
    double, single = transformer["num_layers"], transformer["num_single_layers"]
    image = 3 * (size // 16) ** 2
    tokens = image + text_tokens
    weights = width * (width * (36 * double + 15 * single + 5) + transformer["joint_attention_dim"])
    lora = rank * width * (double * 2 * (4 * 2 + 2 * 5) + single * (3 * 2 + 5 + 6))
    matrices = 2 * tokens * 12 * width**2 * (double + single)
    attention = 4 * tokens**2 * width * (double + single)
    step = 3 * matrices + 4 * attention + 4 * 2 * tokens * lora
    live = tokens * width * 2 * 30
    kept = tokens * width * 2 * (double + single)
    return Estimate(
        tokens=image, weights_gb=round((weights / 1e9 + ENCODERS) * 2, 1), lora_gb=round(lora * 16 / 1e9, 1),
        activations_gb=round((live + kept) / 1e9, 1), teraflop_forward=round((matrices + attention) / 1e12, 4),
        teraflop_step=round(step / 1e12, 4), seconds_step=round(step / 1e12 / tflops, 2),
    )  # fmt: skip
