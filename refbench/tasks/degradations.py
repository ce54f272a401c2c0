"""The family of degradations that turns a right picture into a draft: named, seeded, with a strength.

Every degradation is one function ``f(images, strength, generator) -> images``: images are (B, 3, H, W)
floats in [0, 1] on any device, `strength` is (B,) in [0, 1] (0 leaves the picture as it is, 1 leaves
next to nothing of the detail), and all randomness comes from the `generator`, which lives on the images'
device. The suite builder calls them with B = 1 in double precision, training calls them with large batches
on the GPU: it is one code. They follow what spoils detail in published drafts: the autoencoder's
bottleneck at several scales (FlowFixer, arXiv 2602.21402, finds several scales essential), one step of
another generator (smear, melt), and the drift of colour and light after editing. Wrong glyphs and other
logos happen to the print before it is put on its surface, in :mod:`refbench.tasks.prints`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.errors import unknown_name

Degradation: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def _rand(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def _randn(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _per_sample(strength: Tensor, images: Tensor) -> Tensor:
    return strength.to(images).view(-1, 1, 1, 1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W) with reflected borders; `sigma` in px, 0 returns the input."""
    if sigma <= 0:
        return images
    radius = max(1, math.ceil(2.5 * sigma))
    radius = min(radius, images.shape[-1] - 1, images.shape[-2] - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    padded = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def smooth_noise(like: Tensor, channels: int, cells: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields (B, channels, H, W), about N(0, 1), with `cells` bumps along a side."""
    batch, _, height, width = like.shape
    coarse = _randn(like, batch, channels, cells + 3, cells + 3, generator=generator)
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return field * 1.4


def pixel_grid(like: Tensor) -> Tensor:
    """Identity sampling grid (B, H, W, 2) of (x, y) in [-1, 1], for ``grid_sample(align_corners=False)``."""
    batch, _, height, width = like.shape
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)
    return grid.unsqueeze(0).expand(batch, height, width, 2)


def sample(images: Tensor, grid: Tensor, padding: str = "reflection") -> Tensor:
    """Bilinear sampling of (B, C, h, w) at a (B, H, W, 2) grid in [-1, 1]."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


_DCT_CACHE: dict[tuple[int, torch.dtype, str], Tensor] = {}


def dct_matrix(size: int, like: Tensor) -> Tensor:
    """Orthonormal DCT-II matrix (size, size): rows are the basis, ``D @ D.T == I``."""
    key = (size, like.dtype, str(like.device))
    if key not in _DCT_CACHE:
        k = torch.arange(size, dtype=torch.float64).unsqueeze(1)
        n = torch.arange(size, dtype=torch.float64).unsqueeze(0)
        matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
        matrix[0] /= math.sqrt(2)
        _DCT_CACHE[key] = matrix.to(device=like.device, dtype=like.dtype)
    return _DCT_CACHE[key]


def _blocks(images: Tensor, size: int) -> tuple[Tensor, int, int]:
    """DCT coefficients (B, C, h, w, size, size) of the blocks, and the padded height and width."""
    height, width = images.shape[-2:]
    down, right = -height % size, -width % size
    padded = F.pad(images, (0, right, 0, down), mode="replicate")
    batch, channels, tall, wide = padded.shape
    tiles = padded.view(batch, channels, tall // size, size, wide // size, size).permute(0, 1, 2, 4, 3, 5)
    basis = dct_matrix(size, images)
    return basis @ tiles @ basis.T, tall, wide


def _unblocks(tiles: Tensor, tall: int, wide: int, height: int, width: int) -> Tensor:
    size = tiles.shape[-1]
    basis = dct_matrix(size, tiles)
    pixels = (basis.T @ tiles @ basis).permute(0, 1, 2, 4, 3, 5)
    return pixels.reshape(tiles.shape[0], tiles.shape[1], tall, wide)[..., :height, :width]


def _latent(images: Tensor, strength: Tensor, generator: torch.Generator, factor: int) -> Tensor:
    """Through a fixed latent and back: 8 x 8 overlapped DCT latents keep the (8 / factor)^2 lowest
    coefficients, with noise on what is kept; the higher ones fade with `strength`. Two passes at
    shifted block borders hide the block grid as a learned decoder does."""
    level = _per_sample(strength, images)
    size, keep = 8, 8 // factor
    height, width = images.shape[-2:]
    index = torch.arange(size, device=images.device)
    radius = torch.maximum(index.unsqueeze(0), index.unsqueeze(1)).to(images)
    outside = (radius - keep + 1).clamp(0, 1)
    total = torch.zeros_like(images)
    for shift in (0, size // 2):
        moved = F.pad(images, (shift, 0, shift, 0), mode="replicate") if shift else images
        tiles, tall, wide = _blocks(moved, size)
        noise = _randn(images, *tiles.shape, generator=generator) * (0.015 + 0.012 * math.log2(factor))
        gain = 1 - outside * (level.unsqueeze(-1).unsqueeze(-1) * 1.6).clamp(max=1)
        rough = tiles * gain + noise * (1 - outside) * level.unsqueeze(-1).unsqueeze(-1) * 4
        total = total + _unblocks(rough, tall, wide, height + shift, width + shift)[..., shift:, shift:]
    passed = total / 2
    return (images + (passed - images) * (2 * level).clamp(max=1)).clamp(0, 1)


def latent_x2(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Autoencoder-like loss at 1/2 scale: the finest octave is gone, the rest slightly noisy."""
    return _latent(images, strength, generator, 2)


def latent_x4(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Autoencoder-like loss at 1/4 scale."""
    return _latent(images, strength, generator, 4)


def latent_x8(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Autoencoder-like loss at 1/8 scale: smooth patches of colour remain."""
    level = _per_sample(strength, images)
    passed = _latent(images, strength, generator, 8)
    return passed + (blur(passed, 0.8) - passed) * (2 * level).clamp(max=1)


def smear(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Smeared texture: every pixel is averaged along a smooth random direction field, up to H / 12 px long."""
    level = _per_sample(strength, images)
    height, width = images.shape[-2:]
    angle = smooth_noise(images, 1, 2, generator) * math.pi * 0.6 + _rand(
        images, images.shape[0], 1, 1, 1, generator=generator
    ) * (2 * math.pi)
    length = level * min(height, width) / 12
    grid = pixel_grid(images)
    step = torch.stack([torch.cos(angle[:, 0]) * 2 / width, torch.sin(angle[:, 0]) * 2 / height], dim=-1)
    total = torch.zeros_like(images)
    taps = 9
    for tap in range(taps):
        offset = (tap / (taps - 1) - 0.5) * length[:, 0].unsqueeze(-1)
        total = total + sample(images, grid + step * offset)
    return total / taps


def melt(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Melted geometry: an elastic warp at two scales moves points by up to about H / 14 px."""
    level = _per_sample(strength, images).permute(0, 2, 3, 1)
    coarse = smooth_noise(images, 2, 4, generator).permute(0, 2, 3, 1)
    fine = smooth_noise(images, 2, 11, generator).permute(0, 2, 3, 1)
    field = (coarse * 0.045 + fine * 0.028) * level
    return sample(images, pixel_grid(images) + field)


def drift(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Colour and light drift: channel gains, gamma, saturation and a smooth light field that was not there."""
    level = _per_sample(strength, images)
    batch = images.shape[0]

    def sign() -> Tensor:
        return (_rand(images, batch, 1, 1, 1, generator=generator) < 0.5).to(images) * 2 - 1

    gamma = torch.exp(sign() * (0.3 + 0.3 * _rand(images, batch, 1, 1, 1, generator=generator)) * level)
    tint = 1 + _randn(images, batch, 3, 1, 1, generator=generator).clamp(-1.5, 1.5) * 0.16 * level
    light = 1 + smooth_noise(images, 1, 2, generator).clamp(-2, 2) * 0.16 * level
    grey = images.mean(dim=1, keepdim=True)
    pull = sign() * 0.5 * level
    out = grey + (images - grey) * (1 + pull)
    return (out.clamp(1e-4, 1) ** gamma * tint * light).clamp(0, 1)


def erase(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Erased parts: blobs, up to 60 % of the area, are filled from their surroundings, as a weak inpainter does."""
    level = _per_sample(strength, images)
    noise = smooth_noise(images, 1, 5, generator)
    share = (level * 0.6).view(-1)
    flat = noise.flatten(1)
    rank = flat.argsort(dim=1).argsort(dim=1).to(images) / flat.shape[1]
    hole = (rank < share.unsqueeze(1)).to(images).view_as(noise)
    sigma = max(1.0, min(images.shape[-2:]) / 10)
    hole = blur(hole, max(0.6, min(images.shape[-2:]) / 150))
    known = 1 - hole
    fill = blur(images * known, sigma) / blur(known, sigma).clamp(min=1e-3)
    wide = blur(images, sigma)
    weight = blur(known, sigma).clamp(0, 1)
    fill = fill * weight.sqrt() + wide * (1 - weight.sqrt())
    return images + (fill.clamp(0, 1) - images) * hole


_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


def jpeg(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """JPEG-like loss: YCbCr, 8 x 8 DCT, quantised by the standard's luminance table, up to 1/16 of its quality."""
    del generator
    level = _per_sample(strength, images)
    table = torch.tensor(_LUMA, device=images.device, dtype=images.dtype) / 255
    forward = images.new_tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    inverse = images.new_tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])
    ycc = torch.einsum("ij,bjhw->bihw", forward, images)
    tiles, tall, wide = _blocks(ycc, 8)
    scale = images.new_tensor([1.0, 1.6, 1.6]).view(1, 3, 1, 1, 1, 1)
    step = (table * scale * (0.1 + 5 * level.unsqueeze(-1).unsqueeze(-1))).expand_as(tiles)
    tiles = torch.round(tiles / step) * step
    rgb = torch.einsum("ij,bjhw->bihw", inverse, _unblocks(tiles, tall, wide, *images.shape[-2:]))
    keep = (level > 0).to(images)
    return (images + (rgb - images) * keep).clamp(0, 1)


def _chain(*parts: tuple[Degradation, float]) -> Degradation:
    def run(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
        for part, share in parts:
            images = part(images, strength * share, generator)
        return images

    return run


regenerate = _chain((melt, 0.7), (latent_x2, 1.0), (smear, 0.25), (drift, 0.3))
"""One careless denoising step: melted, re-encoded, a little smeared, slightly off in colour."""
hallucinate = _chain((melt, 1.0), (latent_x4, 0.8), (drift, 0.4))
"""A generator that remembers the layout alone: strongly melted and re-encoded at 1/4."""
wash = _chain((smear, 0.7), (latent_x2, 0.7), (drift, 0.6))
"""Smeared and pale."""
compress = _chain((latent_x2, 0.5), (jpeg, 0.8))
"""Re-encoded, then saved as a poor JPEG."""
lose = _chain((erase, 0.8), (melt, 0.4), (latent_x2, 0.6))
"""Parts erased, the rest melted."""

DEGRADATIONS: dict[str, Degradation] = {
    "latent-x2": latent_x2,
    "latent-x4": latent_x4,
    "latent-x8": latent_x8,
    "smear": smear,
    "melt": melt,
    "drift": drift,
    "erase": erase,
    "jpeg": jpeg,
    "regenerate": regenerate,
    "hallucinate": hallucinate,
    "wash": wash,
    "compress": compress,
    "lose": lose,
}
"""All image degradations by name; the last five are compositions."""
FROZEN: dict[int, tuple[str, ...]] = {
    1: (
        "latent-x2", "latent-x4", "latent-x8", "smear", "melt", "drift", "erase", "jpeg", "regenerate", "hallucinate",
        "wash", "compress", "lose",
    ),
}  # fmt: skip
"""Version -> what training batches draw from. A new degradation enters a new version, and old batches stay."""


def frozen(version: int) -> tuple[str, ...]:
    """Names of a version of :data:`FROZEN`.

    Raises:
        RefbenchError: there is no such version.
    """
    if version not in FROZEN:
        raise unknown_name("version of the degradations", str(version), map(str, FROZEN))
    return FROZEN[version]


def degrade(name: str, images: Tensor, strength: Tensor | float, generator: torch.Generator) -> Tensor:
    """Apply one degradation by name to (B, 3, H, W) images in [0, 1].

    Args:
        name: a key of :data:`DEGRADATIONS`.
        images: floats in [0, 1]; the result has the same shape, dtype and device.
        strength: 0 to 1, one number or (B,).
        generator: on the images' device; equal state, equal result.

    Raises:
        RefbenchError: the name is unknown.
    """
    if name not in DEGRADATIONS:
        raise unknown_name("degradation", name, DEGRADATIONS)
    level = torch.as_tensor(strength, dtype=images.dtype, device=images.device).expand(images.shape[0])
    return DEGRADATIONS[name](images, level, generator).clamp(0, 1)


def degrade_mixed(
    names: tuple[str, ...], choice: Tensor, images: Tensor, strength: Tensor, generator: torch.Generator
) -> Tensor:
    """Apply to each image i of the batch the degradation ``names[choice[i]]`` at ``strength[i]``.

    Images of one kind are gathered and spoilt together, so the cost is one pass over the batch.
    `choice` is (B,) int64; -1 leaves the image as it is.
    """
    out = images.clone()
    where = choice.cpu()
    for number, name in enumerate(names):
        rows = torch.nonzero(where == number).flatten().to(images.device)
        if len(rows):
            out[rows] = degrade(name, images[rows], strength[rows], generator)
    return out
