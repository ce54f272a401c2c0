"""Stage 1's head on the transformer: for the cell of each token of the noisy stream, how the placed reference is
retouched.

Untrained it gives the placed reference back. With the retouched picture y the prediction is ``x0 = E(y)``, its latents,
and the velocity at noise level sigma is ``(x_sigma - x0) / sigma``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from refbench.omnirefiner.method.tokens import Conditions
from refbench.omnirefiner.method.velocity import outputs
from refbench.omnirefiner.retouch.edit import NUMBERS, Retouch, read


class RetouchHead(nn.Linear):
    """(B, N, width) -> (B, N, 8): the numbers of a token's cell."""

    def __init__(self, width: int) -> None:
        super().__init__(width, NUMBERS)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def retouching(transformer: Any, noisy: Tensor, sigma: Tensor, conditions: Conditions, mode: Any) -> Retouch:
    """One call of a transformer whose output layer is a :class:`RetouchHead`.

    Args:
        noisy: tokens x_sigma (B, N, C).
        sigma: noise levels (B,) in (0, 1].
        conditions: with the placed reference on the draft's own grid.
        mode: how the mask enters, see :func:`refbench.omnirefiner.method.tokens.assemble`.
    """
    said = outputs(transformer, noisy, sigma, conditions, mode)
    height, width = conditions.size
    return read(said.transpose(1, 2).reshape(len(said), NUMBERS, height // 2, width // 2))
