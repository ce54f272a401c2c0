"""The prompt's bit: without text encoders a prompt says only whether it asks for another thing than the draft shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refbench.registration.wording import asks_exchange

ASKED = 20.0
"""What stands in the pooled state of a prompt of exchange: large, because a LoRA of few steps hears it in proportion
(with a single 1 in it, 47 iterations of stage 2 learned nothing of it)."""


def embed_bits(transformer: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """States (B, 1, D), all zero, and pooled states (B, P): :data:`ASKED` where a prompt asks for something else than
    what the draft shows (:func:`refbench.registration.wording.asks_exchange`), else 0."""
    config, place = transformer.config, {"device": transformer.device, "dtype": transformer.dtype}
    states = torch.zeros(len(prompts), 1, config.joint_attention_dim, **place)
    pooled = torch.zeros(len(prompts), config.pooled_projection_dim, **place)
    pooled += ASKED * torch.tensor([[float(asks_exchange(prompt))] for prompt in prompts]).to(pooled)
    return states, pooled
