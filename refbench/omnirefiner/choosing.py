"""Stage 1's head: the transformer chooses for every latent cell between draft and placed reference, and adds a change.

Untrained it gives the placed reference back. With z_d and z_p the latents of draft and placed reference, g in {0, 1}
the choice and c the change, the predicted picture's latents are ``x0 = z_p + g (z_d - z_p) + c``, and the velocity at
noise level sigma is ``(x_sigma - x0) / sigma``. In pixels nothing is lost to the autoencoder but of the change: the
picture is the chosen pixels plus ``D(x0) - D(x0 - c)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.omnirefiner.autoencoder import decode
from refbench.omnirefiner.mender import CHANGE, SHUT, Mended, decided
from refbench.omnirefiner.tokens import Conditions, unpack
from refbench.omnirefiner.velocity import outputs

CELLS = 4
"""Latent cells of a token."""


class ChoiceHead(nn.Linear):
    """(B, N, width) -> (B, N, C + 4): the change of a token's latent numbers, and a logit for each of its cells."""

    def __init__(self, width: int, latents: int) -> None:
        super().__init__(width, latents + CELLS)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the transformer says of a batch."""

    clean: Tensor
    """x0 (B, N, C)."""
    mended: Mended


def choose(
    transformer: Any, vae: Any, noisy: Tensor, sigma: Tensor, conditions: Conditions, draft: Tensor, placed: Tensor,
    mode: Any,
) -> Chosen:  # fmt: skip
    """One call of a transformer whose output layer is a :class:`ChoiceHead`.

    Args:
        noisy: tokens x_sigma (B, N, C).
        sigma: noise levels (B,) in (0, 1].
        conditions: with the placed reference on the draft's own grid.
        draft, placed: pictures (B, 3, H, W) in [-1, 1].
        mode: how the mask enters, see :func:`refbench.omnirefiner.tokens.assemble`.
    """
    assert conditions.reference is not None
    said = outputs(transformer, noisy, sigma, conditions, mode)
    change = unpack(said[..., :-CELLS] * CHANGE, *conditions.size)
    logits = unpack(said[..., -CELLS:], *conditions.size) * 4 + SHUT
    soft = torch.sigmoid(logits)
    hard = (logits > 0).to(soft)
    gate = soft + (hard - soft).detach()
    drafted, laid = (unpack(t.float(), *conditions.size) for t in (conditions.draft, conditions.reference))
    chosen = laid + gate * (drafted - laid)
    both = decode(vae, torch.cat([chosen + change, chosen]).to(vae.dtype)).float()
    added = both[: len(draft)] - both[len(draft) :]
    wide = F.interpolate(logits, draft.shape[-2:], mode="nearest")
    edge = decided(wide)
    picture = placed + edge * (draft - placed) + added
    return Chosen(chosen + change, Mended(picture, wide, added))
