"""The supervised loss: flow matching, weighted by the mask.

From the sister work ImageCritic (arXiv 2511.20614): with e the squared error of the velocity and M the mask on the
latent grid, ``L = mean(e (1 - M)) + rho mean(e M)``, ``rho = h w / |M|``. The second term becomes the average error
inside the mask however small that is, the first stays a plain mean. A full mask gives plain flow matching.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.omnirefiner.method.tokens import pack

BAND = 9.0
"""How much more errors in the boundary band count."""


def mask_weights(mask: Tensor, cap: float | None = None) -> Tensor:
    """Weights (B, 1, h, w) of a latent mask (B, 1, h, w): 1 outside, rho inside; `cap` bounds rho for tiny masks."""
    share = mask.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1 / mask[0].numel())
    rho = 1 / share
    if cap is not None:
        rho = rho.clamp(max=cap)
    return 1 - mask + rho * mask


def boundary_band(mask: Tensor, radius: int) -> Tensor:
    """``dilate(M, r) - erode(M, r)`` on the grid of `mask`: RefineAnything's band (arXiv 2604.06870)."""
    size = 2 * radius + 1
    dilated = F.max_pool2d(mask, size, stride=1, padding=radius)
    eroded = -F.max_pool2d(-mask, size, stride=1, padding=radius)
    return dilated - eroded


def flow_loss(
    predicted: Tensor,
    clean: Tensor,
    noise: Tensor,
    mask: Tensor,
    *,
    sigma: Tensor | None = None,
    cap: float | None = None,
    floor: float = 0.0,
    band: int = 0,
) -> Tensor:
    """(E5) Masked flow-matching loss per sample (B,): ``e = |v - (eps - x0)|^2``, weighted by :func:`mask_weights`.

    Args:
        predicted: velocity (B, N, C).
        clean, noise: tokens x0 and eps (B, N, C).
        mask: latent mask (B, 1, h, w).
        sigma: (B,), needed with `floor`.
        cap: upper bound of rho.
        floor: errors at sigma below it are weighted by (sigma / floor)^2. A model that predicts the picture has
            velocity error |x0 error|^2 / sigma^2; low noise would rule it, and never needs the reference.
        band: radius in latent cells of the boundary band, 0 for none; its errors count 1 + :data:`BAND` times.
    """
    error = (predicted - (noise - clean)).square()
    weights = mask_weights(mask, cap)
    if band:
        weights = weights * (1 + BAND * boundary_band(mask, band))
    # a token is (channel, row, column) of 2 x 2 cells, the cell running fastest
    tokens = pack(weights).repeat(1, 1, predicted.shape[-1] // 4)
    loss = (error * tokens).flatten(1).mean(1)
    if floor > 0:
        assert sigma is not None
        loss = loss * (sigma / floor).clamp(max=1).square()
    return loss


def draw_sigma(count: int, mean: float, std: float, shift: float, generator: torch.Generator) -> Tensor:
    """(E6) Noise levels (count,) from a shifted logit-normal, kept inside [0.01, 1] (SD3, arXiv 2403.03206)."""
    sigma = torch.sigmoid(mean + std * torch.randn(count, generator=generator, device=generator.device))
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    return sigma.clamp(0.01, 1.0)
