"""The linear autoencoder as a diffusers model: what training makes, and ``save_pretrained`` folders hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from refbench.omnirefiner.tiny.autoencoder import PatchNet


class PatchAutoencoder(PatchNet, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """:class:`~refbench.omnirefiner.tiny.autoencoder.PatchNet` with a configuration, and the fit that makes it."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, patch: int = 4, latent_channels: int = 16, scaling_factor: float = 1.0, shift_factor: float = 0.0
    ) -> None:
        super().__init__(patch, latent_channels)

    if TYPE_CHECKING:
        config: Any
        register_to_config: Any

    def fit(self, pixels: Tensor) -> PatchAutoencoder:
        """Fit to pictures (B, 3, H, W) in [-1, 1]; afterwards latents of such pictures have unit variance overall."""
        patches = F.pixel_unshuffle(pixels.double(), self.patch).movedim(1, -1).flatten(0, -2)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        kept = slice(-self.config.latent_channels, None)
        basis, deviation = vectors[:, kept].flip(1), values[kept].flip(0).clamp(min=0).sqrt()
        deviation = deviation.clamp(min=1e-2 * float(deviation.max()))
        gain = deviation.rsqrt()
        self.mean.data = mean.float()
        self.analysis.data = (basis * gain).T.float().contiguous()
        self.synthesis.data = (basis / gain).float().contiguous()
        overall = float(((deviation * gain) ** 2).mean().sqrt())
        self.register_to_config(scaling_factor=round(1 / overall, 6))
        return self
