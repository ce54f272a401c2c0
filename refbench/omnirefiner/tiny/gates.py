"""The tiny scale's head: a change and a gate, so that what lies right already in the reference passes by the network.

The transformer answers with twice the latent channels, a change c and a gate g, read as
``x0 = draft + c + g (reference - draft)``. Without a reference the gate has nothing to let in. In sampling the gate is
evened, held to [0, 1], and the change goes to what it leaves of the draft; training sees both as the network gave them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from refbench.omnirefiner.method.tokens import Conditions, pack, unpack
from refbench.omnirefiner.method.velocity import to_velocity

EVEN = 2
"""Radius in latent cells over which a gate is averaged before it is held."""


class GateHead:
    """``x0 = draft + c + g (reference - draft)``."""

    def read(
        self, answer: Tensor, noisy: Tensor, sigma: Tensor, conditions: Conditions, *, sampling: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As :class:`refbench.omnirefiner.method.velocity.Head` has it."""
        change, gate = answer.chunk(2, dim=-1)
        if conditions.reference is None:
            return to_velocity(noisy, conditions.draft.float() + change, sigma), None
        if sampling:
            change, gate = self.hold(change, even_gate(gate, conditions.size))
        clean = conditions.draft.float() + blended(change, gate, conditions)
        return to_velocity(noisy, clean, sigma), gate

    def hold(self, change: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Change and evened gate (B, N, C) as a picture is made of them: the gate held to [0, 1], and the change in the
        share of the draft that the gate leaves."""
        held = gate.clamp(0, 1)
        return change * (1 - held), held


def blended(change: Tensor, gate: Tensor, conditions: Conditions) -> Tensor:
    """What is added to the draft's tokens (B, N, C): the change, and the reference as far as the gate is open."""
    assert conditions.reference is not None
    assert conditions.reference_size == conditions.size, "a gate needs the reference on the draft's own grid"
    return change + gate * (conditions.reference - conditions.draft).float()


def even_gate(gate: Tensor, size: tuple[int, int], radius: int = EVEN) -> Tensor:
    """Gates (B, N, C) averaged over the latent cells around each, so that they show no tiles."""
    padded = F.pad(unpack(gate, *size), (radius,) * 4, mode="replicate")
    return pack(F.avg_pool2d(padded, 2 * radius + 1, 1))


def openness(gate: Tensor, size: tuple[int, int]) -> Tensor:
    """How much of the reference's detail is let in (B, 1, h, w) in [0, 1]: the mean of the gates (B, N, C) over all
    latent channels but the first three, which carry the mean colour."""
    return unpack(gate, *size)[:, 3:].mean(1, keepdim=True).clamp(0, 1)
