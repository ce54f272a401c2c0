"""One call of the transformer: what every stage and the sampler share.

Flow matching with sigma from 1 (noise) to 0 (picture): ``x = (1 - sigma) x0 + sigma eps``, velocity ``eps - x0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.omnirefiner.method.tokens import Conditions, MaskMode, Prediction, assemble, pack, unpack

if TYPE_CHECKING:
    from torch.nn import Module

EVEN = 2
"""Radius in latent cells over which a gate is averaged before it is held."""


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``(1 - sigma) x0 + sigma eps`` for tokens (B, N, C) and levels (B,)."""
    level = sigma.view(-1, 1, 1)
    return (1 - level) * clean + level * noise


def velocity(
    transformer: Module, noisy: Tensor, sigma: Tensor, conditions: Conditions, prediction: Prediction, mode: MaskMode
) -> Tensor:
    """The predicted velocity (B, N, C) of the noisy stream in float32, as supervised training sees it; see
    :func:`predict`."""
    return predict(transformer, noisy, sigma, conditions, prediction, mode, held=False)[0]


def predict(
    transformer: Module, noisy: Tensor, sigma: Tensor, conditions: Conditions, prediction: Prediction, mode: MaskMode,
    boldness: float = 1.0, held: bool = True,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The predicted velocity (B, N, C) of the noisy stream in float32, and the gate (B, N, C) of a blend.

    Args:
        transformer: a diffusers ``FluxTransformer2DModel``.
        noisy: tokens x_sigma (B, N, C).
        sigma: noise levels (B,) in (0, 1].
        conditions: the other streams.
        prediction: "velocity" reads the output as eps - x0 (FLUX); "residual" reads it as x0 - draft, so that an
            untrained model already returns the draft, and turns it into a velocity. "blend" has twice the channels,
            a change c and a gate g, and reads x0 = draft + c + g (reference - draft): what lies right already in the
            reference need not pass through a narrow network. Without a reference the gate has nothing to let in.
        mode: how the mask enters, see :func:`assemble`.
        boldness: factor on a held gate, 1 as it was learned.
        held: in sampling the gate is evened (:func:`even_gate`) and held to [0, 1], and the change goes to what is left
            of the draft (:func:`hold`); training sees both as the network gave them.
    """
    output = outputs(transformer, noisy, sigma, conditions, mode)
    if prediction == "velocity":
        return output, None
    gate = None
    if prediction == "blend":
        output, gate = output.chunk(2, dim=-1)
        if conditions.reference is None:
            gate = None
        else:
            if held:
                output, gate = hold(output, even_gate(gate, conditions.size), boldness)
            output = blended(output, gate, conditions)
    clean = conditions.draft.float() + output
    return (noisy.float() - clean) / sigma.float().view(-1, 1, 1), gate


def outputs(transformer: Module, noisy: Tensor, sigma: Tensor, conditions: Conditions, mode: MaskMode) -> Tensor:
    """What the transformer says of the noisy stream (B, N, its channels), in float32; see :func:`predict`."""
    if mode == "position" and noisy.shape[0] > 1:
        return torch.cat([
            outputs(transformer, noisy[i : i + 1], sigma[i : i + 1], conditions.rows(slice(i, i + 1)), mode)
            for i in range(noisy.shape[0])
        ])  # fmt: skip
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


def hold(change: Tensor, gate: Tensor, boldness: float, shift: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Change and evened gate (B, N, C) as a picture is made of them: the gate times `boldness` plus `shift`, held to
    [0, 1], and the change in the share of the draft that the gate leaves."""
    held = (boldness * gate + shift).clamp(0, 1)
    return change * (1 - held), held


def blended(change: Tensor, gate: Tensor, conditions: Conditions) -> Tensor:
    """What a blend adds to the draft's tokens (B, N, C): its change, and the reference as far as the gate is open."""
    assert conditions.reference is not None
    assert conditions.reference_size == conditions.size, "a blend needs the reference on the draft's own grid"
    return change + gate * (conditions.reference - conditions.draft).float()


def even_gate(gate: Tensor, size: tuple[int, int], radius: int = EVEN) -> Tensor:
    """Gates (B, N, C) averaged over the latent cells around each, so that they show no tiles."""
    padded = F.pad(unpack(gate, *size), (radius,) * 4, mode="replicate")
    return pack(F.avg_pool2d(padded, 2 * radius + 1, 1))
