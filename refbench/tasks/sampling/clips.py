"""Two frames of a clip as target and reference: the same thing seen again."""

from __future__ import annotations

import torch
from torch import Tensor

from refbench.tasks.degradations import drift, sample
from refbench.tasks.sampling.draws import Draws, Scene, window
from refbench.tasks.sampling.masks import Masks


class Clips:
    """Windows of clips.

    Args:
        draws: what is drawn from.
        masks: of the same size.
        clips: (N, F, 3, h, h) uint8 frames.
        flows: (N, F - 1, c, c, 2) px from each frame to the next, in c x c cells.
    """

    def __init__(self, draws: Draws, masks: Masks, clips: Tensor, flows: Tensor) -> None:
        self.draws, self.masks, self.size, self.clips, self.flows = draws, masks, masks.size, clips, flows

    def draw(self, level: Tensor) -> Scene:
        """A part of a batch; `level` (B,) is the misalignment."""
        batch = len(level)
        clips, frames = self.clips.shape[:2]
        side = self.clips.shape[-1]
        clip = self.draws.index(clips, batch)
        first = self.draws.index(frames, batch)
        reach = (level * self.draws.uniform(batch) * 3.99).floor().long().clamp(max=2)
        sign = torch.where(self.draws.uniform(batch) < 0.5, -1, 1)
        second = first + reach * sign
        second = torch.where((second < 0) | (second >= frames), first - reach * sign, second).clamp(0, frames - 1)
        least = min(0.95, 0.7 * self.size / side)
        zoom = self.draws.uniform(batch, low=least, high=max(least + 0.05, min(0.95, 1.6 * self.size / side)))
        centre = self._busy_centre(clip, first, zoom)
        flip = (self.draws.uniform(batch) < 0.5).float() * 2 - 1
        still = torch.zeros(batch, device=self.draws.device)
        target = sample(self.clips[clip, first].float() / 255, window(centre, zoom, still, self.size, flip))
        follow = self.follow(clip, first, second, centre)
        scale = torch.exp(self.draws.normal(batch).clamp(-2, 2) * 0.16 * level + 0.12 * level)
        whole = (self.draws.uniform(batch) < 0.12 * level).float()
        zoom_r = (zoom * scale).clamp(max=1) * (1 - whole) + whole
        jitter = self.draws.normal(batch, 2).clamp(-2, 2) * 0.12 * (level * zoom).unsqueeze(1)
        limit = (1 - zoom_r).unsqueeze(1).clamp(min=0)
        loose = (level > 0).view(-1, 1)
        place = torch.where(loose, (follow + jitter).clamp(min=-limit, max=limit), follow)
        angle = self.draws.normal(batch).clamp(-2, 2) * 0.1 * level
        reference = sample(self.clips[clip, second].float() / 255, window(place, zoom_r, angle, self.size, flip))
        reference = drift(reference, level * self.draws.uniform(batch) * 0.35, self.draws.generator)
        mask = self.masks.draw(None, batch)
        nothing = torch.zeros_like(clip)
        self.draws.note(kind=nothing + 3, fault=nothing, source=clip, box=clip.new_zeros(batch, 4))
        if self.draws.maps:
            nowhere = target.new_full((batch, self.size, self.size, 2), 9.0)
            self.draws.note(target_map=nowhere, reference_map=nowhere)
        return Scene(target, target, reference, mask, torch.ones(batch, dtype=torch.bool, device=self.draws.device))

    def _busy_centre(self, clip: Tensor, frame: Tensor, zoom: Tensor) -> Tensor:
        """Of three random window centres (B, 2) the one with the most contrast: detail is what is to be restored."""
        batch = len(zoom)
        centres = self.draws.uniform(3, batch, 2, low=-1, high=1) * (1 - zoom).view(1, -1, 1)
        small = self.clips[clip, frame, 1:2, ::4, ::4].float() / 255
        still = torch.zeros_like(zoom)
        contrast = torch.stack([sample(small, window(c, zoom, still, 12)).std(dim=(1, 2, 3)) for c in centres])
        return centres.gather(0, contrast.argmax(dim=0).view(1, -1, 1).expand(1, batch, 2))[0]

    def follow(self, clip: Tensor, first: Tensor, second: Tensor, centre: Tensor) -> Tensor:
        """Where the window's centre (B, 2) in [-1, 1] goes from one frame to another, by the stored flow."""
        point = centre.clone()
        steps = self.flows.shape[1]
        cells = self.flows.shape[2]
        side = self.clips.shape[-1]
        for step in range(3):
            left = second - first
            direction = torch.sign(left)
            active = (left.abs() > step).float().unsqueeze(1)
            at = first + direction * step
            field = torch.where(direction >= 0, at, at - 1).clamp(0, steps - 1)
            cell = ((point + 1) / 2 * cells).long().clamp(0, cells - 1)
            flow = self.flows[clip, field, cell[:, 1], cell[:, 0]] * 2 / side
            point = point + flow * direction.unsqueeze(1) * active
        return point
