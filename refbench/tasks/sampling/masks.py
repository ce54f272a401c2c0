"""Masks of training quadruplets: what is marked as wrong, drawn as people mark it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refbench.tasks.degradations import smooth_noise
from refbench.tasks.sampling.draws import Draws


class Masks:
    """Tight, boxed and scribbled masks of square pictures.

    Args:
        draws: what is drawn from.
        size: side of the pictures in px.
        reach: smallest and largest half side, as a share of the frame's.
        most: largest masked share of the frame.
        spare: px beyond a print, drawn between these for each batch; about a twentieth of the size when None.
    """

    def __init__(
        self, draws: Draws, size: int, reach: tuple[float, float], most: float, spare: tuple[int, int] | None
    ) -> None:
        self.draws, self.size, self.reach, self.most, self.spare = draws, size, reach, most, spare

    def draw(self, cover: Tensor | None, batch: int) -> Tensor:
        """(B, 1, S, S) masks: the print's shape widened, its box, or a scribble over it; for clips free boxes,
        ellipses and scribbles."""
        size = self.size
        like = torch.empty((batch, 1, size, size), device=self.draws.device)
        rows = (torch.arange(size, device=self.draws.device) + 0.5) / size * 2 - 1
        if cover is not None:
            shape = (cover > 0.25).float()
            wide = 2 * self._beyond() + 1
            shape = torch.nn.functional.max_pool2d(shape, wide, 1, wide // 2)
            span = [shape.amax(dim=d).flatten(1) > 0 for d in (2, 3)]  # columns, rows
            low = [torch.where(s, rows, rows.new_full((), 9.0)).amin(dim=1) for s in span]
            high = [torch.where(s, rows, rows.new_full((), -9.0)).amax(dim=1) for s in span]
            centre = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2], dim=1)
            half = torch.stack([(high[0] - low[0]) / 2, (high[1] - low[1]) / 2], dim=1)
            half = half + (0.04 if self.spare is None else 2 / size)
        else:
            shape = None
            half = self.draws.uniform(batch, 2, low=self.reach[0] * 0.8, high=self.reach[1] * 0.93)
            centre = self.draws.uniform(batch, 2, low=-1, high=1) * (0.9 - half).clamp(min=0)
        half = half.clamp(0.15, 0.88)
        dx = (rows.view(1, 1, 1, -1) - centre[:, 0].view(-1, 1, 1, 1)) / half[:, 0].view(-1, 1, 1, 1)
        dy = (rows.view(1, 1, -1, 1) - centre[:, 1].view(-1, 1, 1, 1)) / half[:, 1].view(-1, 1, 1, 1)
        box = ((dx.abs() <= 1) & (dy.abs() <= 1)).float()
        wobble = smooth_noise(like, 1, 3, self.draws.generator) * 0.16
        blob = ((dx**2 + dy**2 + wobble) <= 1).float()
        stroke = torch.sin(
            dy * (3 + 2 * self.draws.uniform(batch, 1, 1, 1)) * math.pi / 2 + dx * 1.3 + wobble * 4
        ).abs()
        scribble = ((stroke > 0.45) & (dx.abs() <= 1) & (dy.abs() <= 1)).float()
        tight = shape if shape is not None else blob
        choice = self.draws.uniform(batch, 1, 1, 1)
        mask = torch.where(
            choice < 0.4, tight, torch.where(choice < 0.8, box, torch.where(choice < 0.9, blob, scribble))
        )
        order = choice.flatten()
        self.draws.note(mask_kind=torch.where(order >= 0.9, 2, torch.where((order >= 0.4) & (order < 0.8), 1, 0)))
        edge = max(1, size // 32)
        frame = torch.zeros_like(mask)
        frame[..., edge:-edge, edge:-edge] = 1
        mask = mask * frame
        empty = mask.sum(dim=(1, 2, 3), keepdim=True) < 0.01 * size * size
        mask = torch.where(empty, box * frame, mask)
        full = mask.mean(dim=(1, 2, 3), keepdim=True) > self.most
        small = (self.most**0.5) * 0.98
        core = (
            (dx.abs() * half[:, 0].view(-1, 1, 1, 1) <= small) & (dy.abs() * half[:, 1].view(-1, 1, 1, 1) <= small)
        ).float()
        return torch.where(full, mask * core, mask)

    def _beyond(self) -> int:
        if self.spare is None:
            return max(1, self.size // 24)
        low, high = self.spare
        return int(torch.randint(low, high + 1, (1,), generator=self.draws.generator, device=self.draws.device))
