"""The latent space: autoencoders, their training, and the encode and decode rules.

Twelve-fold compression is what loses a small logo before any diffusion starts, so the tiny scale uses a fine
latent: f4 with 16 channels (3 to 1), which packed 2x2 gives FLUX's own 64 numbers a token. Two classes share one
interface: diffusers' ``AutoencoderKL`` (FLUX's, or a small one trained here), and :class:`PatchNet`, the
optimal linear one in closed form. Inside the masks of 48 validation samples (64 px) the linear one reconstructs at
34.0 dB; a 0.67 M ``AutoencoderKL`` after 7 minutes on one CPU thread at 22.8 dB, no better than the drafts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.images import Image
from refbench.omnirefiner.tensors import Placed
from refbench.omnirefiner.training.progress import Pace, Quiet, Telling


@dataclass(frozen=True, slots=True)
class _Distribution:
    """The interface of diffusers' latent distributions, for a deterministic encoder."""

    mean: Tensor

    def mode(self) -> Tensor:
        return self.mean


@dataclass(frozen=True, slots=True)
class _Encoded:
    latent_dist: _Distribution


@dataclass(frozen=True, slots=True)
class _Decoded:
    sample: Tensor


class PatchNet(Placed):
    """Principal components of square patches as a frozen autoencoder: the best linear one, fitted in a second.

    Latent channel k of a patch is its k-th component divided by the square root of that component's standard
    deviation: half-way to white, so that fine detail counts in the loss without ruling it.
    """

    def __init__(self, patch: int = 4, latent_channels: int = 16) -> None:
        super().__init__()
        self.patch = patch
        numbers = 3 * patch * patch
        self.mean = nn.Parameter(torch.zeros(numbers), requires_grad=False)
        self.analysis = nn.Parameter(torch.eye(numbers)[:latent_channels], requires_grad=False)
        self.synthesis = nn.Parameter(torch.eye(numbers)[:, :latent_channels], requires_grad=False)

    def encode(self, pixels: Tensor) -> _Encoded:
        """(B, 3, H, W) -> ``.latent_dist.mode()`` (B, C, H/p, W/p)."""
        patches = F.pixel_unshuffle(pixels, self.patch) - self.mean.view(1, -1, 1, 1)
        return _Encoded(_Distribution(torch.einsum("ck,bkhw->bchw", self.analysis, patches)))

    def decode(self, latents: Tensor) -> _Decoded:
        """Inverse of :meth:`encode` up to the dropped components: ``.sample`` (B, 3, H, W)."""
        patches = torch.einsum("kc,bchw->bkhw", self.synthesis, latents) + self.mean.view(1, -1, 1, 1)
        return _Decoded(F.pixel_shuffle(patches, self.patch))


def scale_factor(vae: Any) -> int:
    """Pixels a latent cell covers along a side."""
    if isinstance(vae, PatchNet):
        return vae.patch
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] -> normalised latents (B, C, H/f, W/f): ``(mode - shift) * scale``."""
    latents = vae.encode(pixels).latent_dist.mode()
    found: Tensor = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return found


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Inverse of :func:`encode`: latents -> pixels (B, 3, H, W), about [-1, 1], not clipped."""
    image: Tensor = vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample
    return image


def crops(images: Sequence[Image], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random square crops (count, 3, size, size) in [-1, 1]: side 1 to 2.5 times `size`, scaled down by area."""
    out = torch.empty(count, 3, size, size)
    for i in range(count):
        image = images[int(torch.randint(len(images), (1,), generator=generator))]
        height, width = image.shape[:2]
        factor = 1.0 + 1.5 * float(torch.rand((), generator=generator)) ** 2
        side = min(int(size * factor), height, width)
        top = int(torch.randint(height - side + 1, (1,), generator=generator))
        left = int(torch.randint(width - side + 1, (1,), generator=generator))
        patch = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side])).permute(2, 0, 1)
        patch = F.interpolate(patch[None].float() / 127.5 - 1, (size, size), mode="area")
        out[i] = patch[0].flip(-1) if torch.rand((), generator=generator) < 0.5 else patch[0]
    return out


def autoencoder_loss(vae: Any, pixels: Tensor, generator: torch.Generator, noise: float = 0.03) -> Tensor:
    """L1 and squared error of pixels, L1 of their differences, and a light pull of the latents to N(0, 1).

    The latents are decoded with a little noise, so that the decoder bears what a sampler leaves; the predicted
    variance of ``AutoencoderKL`` stays unused (a sampled posterior starts at unit noise and cost ten dB here).
    """
    latents = vae.encode(pixels).latent_dist.mode()
    rough = latents + noise * torch.randn(latents.shape, generator=generator).to(latents)
    output = vae.decode(rough).sample
    loss = F.l1_loss(output, pixels) + 2 * F.mse_loss(output, pixels)
    for axis in (-1, -2):
        loss = loss + 0.5 * F.l1_loss(output.diff(dim=axis), pixels.diff(dim=axis))
    spread = latents.square().mean()
    total: Tensor = loss + 1e-3 * (spread - 1).abs()
    return total


@torch.no_grad()
def reconstruction_psnr(vae: Any, pixels: Tensor) -> float:
    """Mean PSNR in dB over a batch, of decode(encode(x)) clipped to the range."""
    output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    mse = ((output - pixels) / 2).square().flatten(1).mean(1)
    return float((-10 * mse.log10()).mean())


@torch.no_grad()
def normalise(vae: Any, pixels: Tensor) -> None:
    """Set the config's shift and scale so that latents of `pixels` have mean 0 and standard deviation 1."""
    mode = vae.encode(pixels).latent_dist.mode()
    vae.register_to_config(shift_factor=round(float(mode.mean()), 4), scaling_factor=round(1 / float(mode.std()), 4))


def train_autoencoder(
    vae: Any,
    images: Sequence[Image],
    held_out: Sequence[Image],
    out: Path,
    *,
    minutes: float,
    steps: int = 4000,
    batch: int = 16,
    size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
    telling: Telling | None = None,
) -> dict[str, float]:
    """Train for at most `steps` or `minutes` (the cosine follows whichever is nearer its end); saves to `out`.

    Returns:
        ``{"psnr", "steps", "minutes"}``, the PSNR on crops of `held_out`.
    """
    generator = torch.Generator().manual_seed(seed)
    check = crops(held_out, 48, size, torch.Generator().manual_seed(10_000)).to(device)
    vae.to(device).train()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    pace = Pace(telling or Quiet(), "autoencoder", steps)
    psnr = 0.0
    for step in range(steps + 1):
        spent = (time.monotonic() - start) / 60
        progress = min(1.0, max(step / steps, spent / minutes))
        if step % 100 == 0 or progress >= 1.0:
            psnr = reconstruction_psnr(vae, check)
            normalise(vae, check)
            vae.save_pretrained(out)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "minutes": round(spent, 2), "psnr": round(psnr, 3)}) + "\n")
        if progress >= 1.0:
            break
        pace.step(step, progress, psnr=psnr)
        rate = lr * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))
        optimiser.param_groups[0]["lr"] = rate
        loss = autoencoder_loss(vae, crops(images, batch, size, generator).to(device), generator)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
    vae.eval()
    return {"psnr": psnr, "steps": step, "minutes": (time.monotonic() - start) / 60}
