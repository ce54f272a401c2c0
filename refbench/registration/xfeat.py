"""XFeat (Potje et al., CVPR 2024, arXiv 2404.19174): a small network's keypoints and their descriptors.

The sparse path of the authors' code: keypoints are the peaks of a heatmap, ranked by how reliable the network takes
them for. The weights (weights/README.md) ship in half precision, every batch
normalisation folded into the convolution before it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.images import Image
from refbench.shipped import read_shipped

FILE = Path(__file__).parent / "weights" / "xfeat.safetensors"
SHA256 = "8da28af5d4e922fa7541f09a72c1596156104413cf0b77378a84bd1c4de3efe0"
"""What the shipped file hashes to."""

MULTIPLE = 32
"""The sides of a picture must be multiples of so many px."""
PEAK = 0.05
"""Least value of the heatmap at a keypoint."""


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU(inplace=True))


class XFeat(nn.Module):
    """Module names are the authors', a layer's normalisation folded in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(1)
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(_layer(1, 4), _layer(4, 8, 3, 2), _layer(8, 8), _layer(8, 24, 3, 2))
        self.block2 = nn.Sequential(_layer(24, 24), _layer(24, 24))
        self.block3 = nn.Sequential(_layer(24, 64, 3, 2), _layer(64, 64), _layer(64, 64, 1))
        self.block4 = nn.Sequential(_layer(64, 64, 3, 2), _layer(64, 64), _layer(64, 64))
        self.block5 = nn.Sequential(_layer(64, 128, 3, 2), _layer(128, 128), _layer(128, 128), _layer(128, 64, 1))
        self.block_fusion = nn.Sequential(_layer(64, 64), _layer(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(_layer(64, 64, 1), _layer(64, 64, 1), nn.Conv2d(64, 1, 1), nn.Sigmoid())
        self.keypoint_head = nn.Sequential(*(_layer(64, 64, 1) for _ in range(3)), nn.Conv2d(64, 65, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Descriptors (B, 64, H/8, W/8), logits of keypoints (B, 65, ...) and reliability (B, 1, ...).

        Args:
            pictures: (B, C, H, W) in [0, 1].
        """
        x = self.norm(pictures.mean(1, keepdim=True))
        third = self.block3(self.block2(self.block1(x) + self.skip1(x)))
        fourth = self.block4(third)
        fifth = self.block5(fourth)
        coarse = (F.interpolate(each, third.shape[-2:], mode="bilinear") for each in (fourth, fifth))
        features = self.block_fusion(sum(coarse, third))
        return features, self.keypoint_head(F.pixel_unshuffle(x, 8)), self.heatmap_head(features)

    @torch.inference_mode()
    def detect(self, picture: Image, most: int) -> tuple[Tensor, Tensor]:
        """The `most` most reliable keypoints of a picture, best first.

        Args:
            picture: (H, W, 3) uint8; H and W multiples of :data:`MULTIPLE`.

        Returns:
            Positions (n, 2) in px as (x, y), and descriptors (n, 64) of unit length.
        """
        height, width = picture.shape[:2]
        features, logits, reliable = self(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        heat = F.pixel_shuffle(F.softmax(logits, 1)[:, :64], 8)
        peaks = (heat == F.max_pool2d(heat, 5, 1, 2)) & (heat > PEAK)
        points = peaks[0, 0].nonzero().flip(-1)
        grid = (2 * points / torch.tensor([width - 1, height - 1]) - 1)[None, None]

        def at(values: Tensor, mode: str) -> Tensor:
            return F.grid_sample(values, grid, mode=mode, align_corners=False)[0, :, 0].T

        scores = (at(heat, "nearest") * at(reliable, "bilinear"))[:, 0]
        scores[(points == 0).all(-1)] = -1
        order = torch.argsort(-scores)[:most]
        order = order[scores[order] > 0]
        described = F.normalize(at(F.normalize(features, dim=1), "bicubic"), dim=-1)
        return points[order], described[order]


@lru_cache(maxsize=1)
def load_xfeat() -> XFeat:
    """The shipped network on the CPU; the same object every time.

    Raises:
        RefbenchError: the file of the weights is missing, or another one.
    """
    network = XFeat()
    network.load_state_dict(read_shipped(FILE, SHA256))
    return network.eval().requires_grad_(False)
