"""Put a print on a photographed surface: perspective, cylinder or cloth, shading and grain of the surface.

Everything is batched torch: images (B, 3, H, W) and prints (B, 4, h, w) are floats in [0, 1], prints
carry alpha in the fourth channel. Corner points are (x, y) in [-1, 1] over the frame, in the order top
left, top right, bottom right, bottom left of the print.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.tasks.degradations import blur, pixel_grid, sample, smooth_noise


def square_to_quad(quads: Tensor) -> Tensor:
    """Homographies (B, 3, 3) that take the print's square [-1, 1]^2 to corner points (B, 4, 2).

    Closed form after Heckbert, "Fundamentals of Texture Mapping" (1989), section 2.2.3.
    """
    x, y = quads[..., 0], quads[..., 1]
    dx1, dx2 = x[:, 1] - x[:, 2], x[:, 3] - x[:, 2]
    dy1, dy2 = y[:, 1] - y[:, 2], y[:, 3] - y[:, 2]
    sx, sy = x[:, 0] - x[:, 1] + x[:, 2] - x[:, 3], y[:, 0] - y[:, 1] + y[:, 2] - y[:, 3]
    det = dx1 * dy2 - dx2 * dy1
    det = torch.where(det.abs() < 1e-9, torch.full_like(det, 1e-9), det)
    g = (sx * dy2 - dx2 * sy) / det
    h = (dx1 * sy - sx * dy1) / det
    unit = torch.stack(
        [
            torch.stack([x[:, 1] - x[:, 0] + g * x[:, 1], x[:, 3] - x[:, 0] + h * x[:, 3], x[:, 0]], dim=-1),
            torch.stack([y[:, 1] - y[:, 0] + g * y[:, 1], y[:, 3] - y[:, 0] + h * y[:, 3], y[:, 0]], dim=-1),
            torch.stack([g, h, torch.ones_like(g)], dim=-1),
        ],
        dim=1,
    )
    to_unit = quads.new_tensor([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])
    return unit @ to_unit


def warp_points(points: Tensor, homographies: Tensor) -> tuple[Tensor, Tensor]:
    """Apply (B, 3, 3) to (B, ..., 2) points; also returns the denominator (<= 0 lies behind the camera)."""
    flat = points.reshape(points.shape[0], -1, 2)
    lifted = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1) @ homographies.transpose(1, 2)
    depth = lifted[..., 2:]
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    moved = (lifted[..., :2] / safe).reshape(points.shape)
    return moved, depth.reshape(points.shape[:-1])


def print_grid(
    quads: Tensor,
    like: Tensor,
    wrap: Tensor | None = None,
    bow: Tensor | None = None,
    cloth: Tensor | None = None,
    folds: Tensor | None = None,
) -> Tensor:
    """Where each pixel of the frame falls on the print: a sampling grid (B, H, W, 2).

    Args:
        quads: (B, 4, 2) corners of the print in the frame.
        like: (B, *, H, W), gives size, dtype and device.
        wrap: (B,) half angle in radians by which the print goes around an upright cylinder, 0 is flat.
        bow: (B,) how far the middle of the cylinder's rim sags, in half heights of the print.
        cloth: (B,) amplitude of the folds, in half sizes of the print.
        folds: (B, 2, H, W) smooth fields that the cloth moves by; required with `cloth`.
    """
    inverse = torch.linalg.inv(square_to_quad(quads))
    points, depth = warp_points(pixel_grid(like), inverse)
    orientation = torch.sign(warp_points(quads.mean(dim=1, keepdim=True), inverse)[1])
    behind = depth * orientation.view(-1, 1, 1) <= 0
    u, v = points[..., 0], points[..., 1]
    if wrap is not None:
        angle = wrap.to(u).clamp(min=1e-3).view(-1, 1, 1)
        inside = (u * torch.sin(angle)).clamp(-1, 1)
        bent = torch.asin(inside) / angle
        u = torch.where(u.abs() <= 1, bent, u)
    if bow is not None:
        v = v - bow.to(v).view(-1, 1, 1) * (1 - points[..., 0].clamp(-1, 1) ** 2)
    if cloth is not None and folds is not None:
        amount = cloth.to(u).view(-1, 1, 1)
        u, v = u + folds[:, 0] * amount, v + folds[:, 1] * amount
    grid = torch.stack([u, v], dim=-1)
    return torch.where(behind.unsqueeze(-1), torch.full_like(grid, 9.0), grid)


def luminance(images: Tensor) -> Tensor:
    """Rec. 601 luma (B, 1, H, W) of RGB in [0, 1]."""
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def lay_on(
    surface: Tensor,
    layer: Tensor,
    opacity: Tensor | float = 0.95,
    shading: Tensor | float = 0.9,
    grain: Tensor | float = 1.0,
    sigma: float | None = None,
    softness: float = 0.0,
) -> Tensor:
    """Compose a warped print (B, 4, H, W) over the surface (B, 3, H, W) as if it had been photographed there.

    The print is multiplied by the surface's low-frequency light, relative to its mean under the print,
    and takes on the surface's high-frequency grain; its exposure follows the surface's.

    Args:
        opacity, shading, grain: (B,) or numbers in [0, 1].
        sigma: px that separate light from grain; a twentieth of the short side when None.
        softness: px of blur that match the print to the photograph's resolution.
    """

    def column(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=surface.dtype, device=surface.device).view(-1, 1, 1, 1)

    light = luminance(surface)
    short = min(surface.shape[-2:])
    low = blur(light, sigma if sigma is not None else max(1.5, short / 40))
    layer = blur(layer, softness)
    colour, alpha = layer[:, :3], layer[:, 3:]
    weight = alpha.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
    mean = ((low * alpha).sum(dim=(1, 2, 3), keepdim=True) / weight).clamp(min=0.03)
    shade = 1 + ((low / mean).clamp(0.35, 1.6) - 1) * column(shading)
    exposure = (mean / 0.62).clamp(0.45, 1.15) ** 0.6
    fine = light - blur(light, 1.1)
    printed = colour * shade * exposure + fine * column(grain)
    cover = alpha * column(opacity)
    return (surface * (1 - cover) + printed.clamp(0, 1) * cover).clamp(0, 1)


def cloth_folds(like: Tensor, generator: torch.Generator, cells: int = 3) -> Tensor:
    """Smooth fields (B, 2, H, W) for the folds of cloth."""
    return smooth_noise(like, 2, cells, generator)


def compose(
    surface: Tensor,
    prints: Tensor,
    quads: Tensor,
    *,
    wrap: Tensor | None = None,
    bow: Tensor | None = None,
    cloth: Tensor | None = None,
    folds: Tensor | None = None,
    supersample: int = 1,
    opacity: Tensor | float = 0.95,
    shading: Tensor | float = 0.9,
    grain: Tensor | float = 1.0,
    softness: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Put prints on surfaces; returns the picture (B, 3, H, W) and the print's cover (B, 1, H, W).

    `supersample` 2 or 3 warps at that multiple and averages, which is what anti-aliases a sharp print.
    The other arguments are those of :func:`print_grid` and :func:`lay_on`.
    """
    height, width = surface.shape[-2:]
    frame = surface
    if supersample > 1:
        frame = surface.new_empty((surface.shape[0], 1, height * supersample, width * supersample))
        if folds is not None:
            folds = F.interpolate(folds, frame.shape[-2:], mode="bilinear", align_corners=False)
    grid = print_grid(quads, frame, wrap, bow, cloth, folds)
    alpha = prints[:, 3:]
    layer = sample(torch.cat([prints[:, :3] * alpha, alpha], dim=1), grid, padding="zeros")
    if supersample > 1:
        layer = F.avg_pool2d(layer, supersample)
    colour = (layer[:, :3] / layer[:, 3:].clamp(min=1e-4)).clamp(0, 1)
    layer = torch.cat([colour, layer[:, 3:]], dim=1)
    picture = lay_on(surface, layer, opacity, shading, grain, softness=softness)
    return picture, blur(layer[:, 3:], softness)


def rotate_quad(centre: Tensor, half: Tensor, angle: Tensor, tilt: Tensor) -> Tensor:
    """Corner points (B, 4, 2) of a print of half size (B, 2) at `centre` (B, 2), turned by `angle` (B,)
    radians and seen under perspective: `tilt` (B, 2) in (-0.6, 0.6) makes the right and the bottom edge nearer."""
    corners = half.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]).unsqueeze(0)
    depth = 1 + (corners * tilt.unsqueeze(1)).sum(dim=-1, keepdim=True) * 0.5
    points = corners * half.unsqueeze(1) * depth
    cos, sin = torch.cos(angle).view(-1, 1), torch.sin(angle).view(-1, 1)
    x, y = points[..., 0], points[..., 1]
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)
    return turned + centre.unsqueeze(1)
