"""Stage 1's head: for the cell of each token of the noisy stream, how the placed reference is retouched.

Untrained it gives the placed reference back. With the retouched picture y the prediction is ``x0 = E(y)``, its latents.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from refbench.omnirefiner.method.latents import encode
from refbench.omnirefiner.method.tokens import Conditions, pack
from refbench.omnirefiner.method.velocity import to_velocity
from refbench.omnirefiner.retouch.data import SceneBatch
from refbench.omnirefiner.retouch.edit import NUMBERS, Retouch, composite, from_numbers


class RetouchLayer(nn.Linear):
    """The transformer's last layer: (B, N, width) -> (B, N, 8), the numbers of a token's cell."""

    def __init__(self, width: int) -> None:
        super().__init__(width, NUMBERS)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class RetouchHead:
    """Reads the answer of a :class:`RetouchLayer` for a batch of scenes.

    Args:
        scenes: whose placed references are retouched.
        vae: the frozen autoencoder.
    """

    def __init__(self, scenes: SceneBatch, vae: Any) -> None:
        self.scenes, self.vae = scenes, vae

    def retouch(self, answer: Tensor, conditions: Conditions) -> Retouch:
        """The numbers of the picture's cells."""
        height, width = conditions.size
        return from_numbers(answer.transpose(1, 2).reshape(len(answer), NUMBERS, height // 2, width // 2))

    def read(self, answer: Tensor, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """As :class:`refbench.omnirefiner.method.velocity.Head` has it."""
        picture = composite(self.retouch(answer, conditions), self.scenes)
        clean = pack(encode(self.vae, picture.to(self.vae.dtype)))
        return to_velocity(noisy, clean.float(), sigma)
