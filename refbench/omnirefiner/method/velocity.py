"""One call of the transformer, and the *head* that reads its answer: one of the two seams between the scales.

Flow matching with sigma from 1 (noise) to 0 (picture): ``x = (1 - sigma) x0 + sigma eps``, velocity ``eps - x0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from refbench.omnirefiner.method.tokens import Conditions, MaskMode, assemble

if TYPE_CHECKING:
    from torch.nn import Module


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(E3) ``x_sigma = (1 - sigma) x0 + sigma eps`` for tokens (B, N, C) and levels (B,)."""
    level = sigma.view(-1, 1, 1)
    return (1 - level) * clean + level * noise


def to_velocity(noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """(E4) ``v = (x_sigma - x0) / sigma``, the velocity (B, N, C) that leads from noisy to clean tokens, in float32."""
    return (noisy.float() - clean) / sigma.float().view(-1, 1, 1)


class Head(Protocol):
    """Reads the transformer's answer for the noisy stream as a velocity."""

    def read(self, answer: Tensor, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """The velocity (B, N, C).

        Args:
            answer: what :func:`call` returned.
            noisy: tokens x_sigma (B, N, C).
            sigma: noise levels (B,) in (0, 1].
        """
        ...


class VelocityHead:
    """The paper's and FLUX's: the answer is the velocity."""

    def read(self, answer: Tensor, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """The answer."""
        del noisy, sigma, conditions
        return answer


def call(transformer: Module, noisy: Tensor, sigma: Tensor, conditions: Conditions, mode: MaskMode) -> Tensor:
    """What a ``FluxTransformer2DModel`` says of the noisy stream (B, N, its channels), in float32.

    Args:
        noisy: tokens x_sigma (B, N, C).
        sigma: noise levels (B,) in (0, 1].
        conditions: the other streams.
        mode: how the mask enters, see :func:`refbench.omnirefiner.method.tokens.assemble`.
    """
    sequence, ids = assemble(noisy, conditions, mode)
    dtype = conditions.prompt_embeds.dtype
    guidance = conditions.guidance
    found: Tensor = transformer(
        hidden_states=sequence.to(dtype),
        timestep=sigma.to(dtype),
        guidance=None if guidance is None else torch.full((noisy.shape[0],), guidance, device=noisy.device),
        pooled_projections=conditions.pooled,
        encoder_hidden_states=conditions.prompt_embeds,
        txt_ids=torch.zeros(conditions.prompt_embeds.shape[1], 3, device=noisy.device, dtype=dtype),
        img_ids=ids,
        return_dict=False,
    )[0]
    return found[:, : noisy.shape[1]].float()
