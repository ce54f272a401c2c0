"""From pictures to latents and back: the rules of FLUX's frozen autoencoder, for any class with its interface."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def scale_factor(vae: Any) -> int:
    """Pixels a latent cell covers along a side."""
    patch = getattr(vae, "patch", None)  # the linear one's, see refbench.omnirefiner.tiny.autoencoder
    return int(patch or 2 ** (len(vae.config.block_out_channels) - 1))


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """(E1) Pixels (B, 3, H, W) in [-1, 1] -> latents (B, C, H/f, W/f): ``z = (mode - shift) * scale``."""
    latents = vae.encode(pixels).latent_dist.mode()
    found: Tensor = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return found


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Inverse of :func:`encode`: latents -> pixels (B, 3, H, W), about [-1, 1], not clipped."""
    image: Tensor = vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample
    return image
