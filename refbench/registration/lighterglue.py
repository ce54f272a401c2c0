"""LighterGlue: which of XFeat's keypoints in two pictures show the same (Potje et al., CVPR 2024, arXiv 2404.19174).

The matcher of LightGlue (Lindenberger et al., ICCV 2023, arXiv 2306.13643) at the size that XFeat's authors trained:
six layers of self and cross attention with rotary positions over descriptors of 96, one head, and a double softmax. It
sees all keypoints together, so that a repeated or spoilt detail is matched by where it lies. The weights
(weights/README.md) ship as 8-bit integers with a scale for each row.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.shipped import read_shipped

FILE = Path(__file__).parent / "weights" / "lighterglue.safetensors"
SHA256 = "6405564f4acd970e44f14428a56717782dff58b1c376000857815e5469ec441c"
WIDTH, LAYERS, DESCRIPTOR = 96, 6, 64
SURE = 0.1
"""Least probability of a match, the authors' value."""


class Positions(nn.Module):
    """Rotary positions: learned frequencies of a keypoint's place."""

    def __init__(self) -> None:
        super().__init__()
        self.Wr = nn.Linear(2, WIDTH // 2, bias=False)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (n, WIDTH) of places (n, 2) in [-1, 1]."""
        angles = self.Wr(places).repeat_interleave(2, -1)
        return angles.cos(), angles.sin()


def turned(values: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """Values (n, WIDTH) turned by their positions, pair by pair."""
    first, second = values[:, ::2], values[:, 1::2]
    return values * positions[0] + torch.stack([-second, first], -1).flatten(1) * positions[1]


def _mixing() -> nn.Sequential:
    wide = 2 * WIDTH
    return nn.Sequential(nn.Linear(wide, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, WIDTH))


class SelfAttention(nn.Module):
    """Keypoints of one picture look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.Wqkv, self.out_proj, self.ffn = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), _mixing()

    def forward(self, x: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
        """(n, WIDTH) to the same."""
        query, key, value = self.Wqkv(x).unflatten(-1, (WIDTH, 3)).unbind(-1)
        alike = turned(query, positions) @ turned(key, positions).T / math.sqrt(WIDTH)
        mixed: Tensor = self.ffn(torch.cat([x, self.out_proj(alike.softmax(1) @ value)], -1))
        return x + mixed


class CrossAttention(nn.Module):
    """Keypoints of either picture look at the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qk, self.to_v, self.to_out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.ffn = _mixing()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(n, WIDTH) and (m, WIDTH) to the same."""
        alike = self.to_qk(x) @ self.to_qk(y).T / math.sqrt(WIDTH)
        seen = alike.softmax(1) @ self.to_v(y), alike.T.softmax(1) @ self.to_v(x)
        first, second = (
            own + self.ffn(torch.cat([own, self.to_out(s)], -1)) for own, s in zip((x, y), seen, strict=True)
        )
        return first, second


class Layer(nn.Module):
    """Self, then cross attention."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = SelfAttention(), CrossAttention()


class Assignment(nn.Module):
    """The probability of every pair."""

    def __init__(self) -> None:
        super().__init__()
        self.matchability, self.final_proj = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logarithms (n, m)."""
        alike = self.final_proj(x) @ self.final_proj(y).T / math.sqrt(WIDTH)
        sure = F.logsigmoid(self.matchability(x)) + F.logsigmoid(self.matchability(y)).T
        return torch.as_tensor(alike.log_softmax(1) + alike.log_softmax(0) + sure)


class LighterGlue(nn.Module):
    """Module names are the authors'."""

    def __init__(self) -> None:
        super().__init__()
        self.input_proj, self.posenc = nn.Linear(DESCRIPTOR, WIDTH), Positions()
        self.transformers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.log_assignment = Assignment()

    @torch.inference_mode()
    def match(
        self,
        first: tuple[Tensor, Tensor],
        second: tuple[Tensor, Tensor],
        sizes: tuple[tuple[int, int], tuple[int, int]],
    ) -> Tensor:
        """Pairs (n, 2) of rows that are each other's likeliest, with a probability of :data:`SURE` at least.

        Args:
            first, second: keypoints (k, 2) in px and descriptors (k, 64), as :meth:`XFeat.detect` gives them.
            sizes: (width, height) of the pictures they were found in.
        """
        if not len(first[0]) or not len(second[0]):
            return torch.zeros(0, 2, dtype=torch.long)
        features, positions = [], []
        for (points, described), size in zip((first, second), sizes, strict=True):
            middle = torch.tensor(size) / 2
            positions.append(self.posenc((points - middle) / middle.max()))
            features.append(self.input_proj(described))
        x, y = features
        for layer in self.transformers:
            x, y = layer.self_attn(x, positions[0]), layer.self_attn(y, positions[1])  # type: ignore[operator]
            x, y = layer.cross_attn(x, y)  # type: ignore[operator]
        table = self.log_assignment(x, y)
        best, there = table.max(1)
        chosen = (table.argmax(0)[there] == torch.arange(len(x))) & (best.exp() > SURE)
        return torch.stack([chosen.nonzero()[:, 0], there[chosen]], 1)


@lru_cache(maxsize=1)
def load_lighterglue() -> LighterGlue:
    """The shipped network on the CPU; the same object every time.

    Raises:
        RefbenchError: the file of the weights is missing, or another one.
    """
    network = LighterGlue()
    network.load_state_dict(read_shipped(FILE, SHA256))
    return network.eval().requires_grad_(False)
