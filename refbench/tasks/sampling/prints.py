"""Prints composed on surfaces: text, logos and patterns that are wrong in the draft and right in the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from refbench.tasks import lettering
from refbench.tasks.composition import compose, print_grid, rotate_quad
from refbench.tasks.degradations import drift, sample, smooth_noise
from refbench.tasks.sampling.draws import Draws, Scene, window
from refbench.tasks.sampling.masks import Masks


class Prints:
    """Text, logos, patterns and objects on photographs.

    Args:
        draws: what is drawn from.
        masks: of the same size and reach.
        glyphs: (fonts, characters, h, w) coverage in [0, 1], and `advances` of each in px.
        prints: (N, 4, h, w) uint8 RGBA, and `kinds` of each: 0 object, 1 logo, 2 pattern.
        surfaces: (N, 3, h, w) uint8.
    """

    def __init__(
        self, draws: Draws, masks: Masks, glyphs: Tensor, advances: Tensor, prints: Tensor, kinds: Tensor,
        surfaces: Tensor,
    ) -> None:  # fmt: skip
        self.draws, self.masks, self.size, self.reach = draws, masks, masks.size, masks.reach
        self.glyphs, self.advances = glyphs, advances
        self.prints, self.kinds, self.surfaces = prints, kinds, surfaces

    def _surface(self, index: Tensor) -> Tensor:
        """A random window of surface tiles at the working size."""
        tiles = self.surfaces[index].float() / 255
        batch = len(index)
        zoom = self.draws.uniform(batch, low=0.45, high=1.0)
        shift = self.draws.uniform(batch, 2, low=-1, high=1) * (1 - zoom).unsqueeze(1)
        flip = (self.draws.uniform(batch) < 0.5).float() * 2 - 1
        return sample(tiles, window(shift, zoom, zoom.new_zeros(batch), self.size, flip))

    def _colours(self, batch: int) -> tuple[Tensor, Tensor]:
        """Panel and ink colours (B, 3, 1, 1) that differ by 0.35 or more in luminance."""
        panel = self.draws.uniform(batch, 3, 1, 1)
        grey = panel.mean(dim=1, keepdim=True)
        panel = grey + (panel - grey) * 0.8
        ink = self.draws.uniform(batch, 3, 1, 1)
        dark = grey > 0.5
        away = torch.where(
            dark,
            grey - 0.35 - 0.3 * self.draws.uniform(batch, 1, 1, 1),
            grey + 0.35 + 0.3 * self.draws.uniform(batch, 1, 1, 1),
        )
        ink = (ink - ink.mean(dim=1, keepdim=True)) * 0.6 + away
        return panel.clamp(0, 1), ink.clamp(0, 1)

    def _text_prints(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Right prints, garbled prints (B, 4, P, P) and their aspect."""
        texts = lettering.random_texts(batch, self.glyphs.shape[0], self.draws.generator, self.draws.device)
        side = max(64, self.size)
        right, aspect = lettering.typeset(texts, self.glyphs, self.advances, side)
        strength = self.draws.uniform(batch, low=0.3, high=1.0)
        wrong, tiles, squeeze = lettering.garble(texts, self.glyphs, strength, self.draws.generator)
        spoilt, _ = lettering.typeset(wrong, self.glyphs, self.advances, side, tiles, squeeze)
        panel, ink = self._colours(batch)
        plain = (self.draws.uniform(batch, 1, 1, 1) < 0.35).float()
        out = []
        for cover in (right, spoilt):
            colour = panel * (1 - cover) + ink * cover
            colour = colour * (1 - plain) + ink * plain
            out.append(torch.cat([colour, torch.maximum(cover, 1 - plain.expand_as(cover))], dim=1))
        return out[0], out[1], aspect

    def _mark_prints(self, index: Tensor, like: Tensor | None = None) -> Tensor:
        """Prints by index at the working size, objects and logos on a panel in half of the cases."""
        marks = self.prints[index].float() / 255
        batch = len(index)
        side = max(64, self.size)
        if marks.shape[-1] != side:
            marks = torch.nn.functional.interpolate(
                marks, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
        panel, _ = self._colours(batch)
        plain = (self.draws.uniform(batch, 1, 1, 1) < 0.5).float()
        flat = (self.kinds[index] == 2).view(-1, 1, 1, 1)
        plain = torch.where(flat, torch.zeros_like(plain), plain)
        if like is not None:
            panel, plain = like[:, :3, :1, :1], 1 - like[:, 3:, :1, :1].round()
        inset = torch.where(flat, torch.ones_like(plain), torch.full_like(plain, 0.82)).flatten()
        grid = window(inset.new_zeros(batch, 2), 1 / inset, inset.new_zeros(batch), side)
        alpha = marks[:, 3:]
        marks = sample(torch.cat([marks[:, :3] * alpha, alpha], dim=1), grid, padding="zeros")
        ground = panel * (1 - plain)
        colour = marks[:, :3] + ground * (1 - marks[:, 3:])
        cover = torch.maximum(marks[:, 3:], (1 - plain).expand_as(marks[:, 3:]))
        return torch.cat([(colour / cover.clamp(min=1e-3)).clamp(0, 1), cover], dim=1)

    def draw(self, level: Tensor) -> Scene:
        """A part of a batch; `level` (B,) is the misalignment."""
        batch = len(level)
        texts = (batch + 1) // 2
        right, wrong, aspect = self._text_prints(texts)
        what = torch.full((texts,), -1, dtype=torch.int64, device=self.draws.device)
        if batch > texts:
            index = self.draws.index(len(self.prints), batch - texts)
            marks = self._mark_prints(index)
            others = self._mark_prints(self._other(index), like=marks)
            right, wrong = torch.cat([right, marks]), torch.cat([wrong, others])
            aspect = torch.cat([aspect, self.draws.uniform(batch - texts, low=0.85, high=1.2)])
            what = torch.cat([what, self.kinds[index]])
        order = torch.randperm(batch, generator=self.draws.generator, device=self.draws.device)
        right, wrong, aspect = right[order], wrong[order], aspect[order]
        target, cover, draft_print, reference = self._views(right, wrong, aspect, level)
        mask = self.masks.draw(cover, batch)
        kind = self.draws.uniform(batch)
        # 45 %: the print is wrong; 20 %: wrong and degraded; 35 %: only degraded
        base = torch.where((kind < 0.65).view(-1, 1, 1, 1), draft_print, target)
        self.draws.note(kind=what[order], fault=(kind < 0.65).long())
        return Scene(base, target, reference, mask, kind >= 0.45)

    def _other(self, index: Tensor) -> Tensor:
        """For each print another one of the same kind."""
        other = self.draws.index(len(self.prints), len(index))
        for _ in range(3):
            redo = self.draws.index(len(self.prints), len(index))
            other = torch.where((self.kinds[other] != self.kinds[index]) | (other == index), redo, other)
        return torch.where(other == index, (index + 1) % len(self.prints), other)

    def _pose(self, aspect: Tensor) -> dict[str, Tensor]:
        batch = len(aspect)
        reach = self.draws.uniform(batch, low=self.reach[0] * 1.1, high=self.reach[1] * 1.02)
        wide = reach * (aspect / 1.0).clamp(max=1).clamp(min=0.45)
        half = torch.stack(
            [torch.where(aspect >= 1, reach, wide), torch.where(aspect >= 1, reach / aspect.clamp(max=3.5), reach)],
            dim=1,
        )
        centre = self.draws.uniform(batch, 2, low=-1, high=1) * (0.95 - half).clamp(min=0)
        angle = self.draws.normal(batch).clamp(-2, 2) * 0.17
        tilt = self.draws.uniform(batch, 2, low=-0.35, high=0.35)
        bent = (self.draws.uniform(batch) < 0.35).float()
        soft = (self.draws.uniform(batch) < 0.35).float() * (1 - bent)
        return {
            "quad": rotate_quad(centre, half, angle, tilt),
            "wrap": bent * self.draws.uniform(batch, low=0.3, high=1.15),
            "bow": bent * self.draws.uniform(batch, low=-0.25, high=0.25),
            "cloth": soft * self.draws.uniform(batch, low=0.02, high=0.08),
        }

    def _views(
        self, right: Tensor, wrong: Tensor, aspect: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Target, its cover, the target with the wrong print, and the reference."""
        batch = len(aspect)
        ground = self.draws.index(len(self.surfaces), batch)
        self.draws.note(source=ground)
        surface = self._surface(ground)
        pose, other = self._pose(aspect), self._pose(aspect)
        folds = smooth_noise(surface, 2, 3, self.draws.generator)
        moved = {k: v + (other[k] - v) * level.view(-1, *[1] * (v.dim() - 1)) for k, v in pose.items()}
        right, wrong = _legible(right, wrong, surface)
        opacity = self.draws.uniform(batch, low=0.85, high=1.0)
        target, cover = _lay(surface, right, pose, folds, opacity)
        spoilt, spoilt_cover = _lay(surface, wrong, pose, folds, opacity)
        elsewhere = self._surface(self.draws.index(len(self.surfaces), batch))
        change = (self.draws.uniform(batch) < 3 * level).view(
            -1, 1, 1, 1
        )  # a near reference has another ground as well
        beneath = torch.where(change, elsewhere, surface)
        more = smooth_noise(surface, 2, 3, self.draws.generator)
        column = level.view(-1, 1, 1, 1)
        moved_folds = folds + (more - folds) * column
        reference, seen = _lay(beneath, right, moved, moved_folds, opacity)
        self.draws.note(box=_boxes(seen > 0.2, margin=max(1, self.size // 80)))
        if self.draws.maps:
            self.draws.note(target_map=_map(surface, pose, folds), reference_map=_map(beneath, moved, moved_folds))
        reference = drift(reference, level * self.draws.uniform(batch) * 0.45, self.draws.generator)
        return target, torch.maximum(cover, spoilt_cover), spoilt, reference


def _legible(right: Tensor, wrong: Tensor, surface: Tensor) -> tuple[Tensor, Tensor]:
    """Move the colours of prints without a panel away from the surface's mean luminance."""
    open_share = 1 - right[:, 3:].mean(dim=(1, 2, 3), keepdim=True)
    tone = (right[:, :3] * right[:, 3:]).mean(dim=(1, 2, 3), keepdim=True) / right[:, 3:].mean(
        dim=(1, 2, 3), keepdim=True
    ).clamp(min=1e-3)
    ground = surface.mean(dim=(1, 2, 3), keepdim=True)
    near = ((tone - ground).abs() < 0.3) & (open_share > 0.35)
    push = torch.where(ground > 0.5, (ground - 0.4).clamp(min=0) - tone, (ground + 0.4).clamp(max=1) - tone) * near.to(
        tone
    )
    return tuple(torch.cat([(p[:, :3] + push).clamp(0, 1), p[:, 3:]], dim=1) for p in (right, wrong))  # type: ignore[return-value]


def _lay(
    surface: Tensor, layer: Tensor, pose: dict[str, Tensor], folds: Tensor, opacity: Tensor
) -> tuple[Tensor, Tensor]:
    return compose(
        surface,
        layer,
        pose["quad"],
        wrap=pose["wrap"],
        bow=pose["bow"],
        cloth=pose["cloth"],
        folds=folds,
        opacity=opacity,
    )


def _map(like: Tensor, pose: dict[str, Tensor], folds: Tensor) -> Tensor:
    return print_grid(pose["quad"], like, pose["wrap"], pose["bow"], pose["cloth"], folds)


def _boxes(cover: Tensor, margin: int) -> Tensor:
    """Upright boxes (B, 4) int64, (x, y, width, height) in px, of covers (B, 1, S, S) bool, grown by `margin`."""
    side = cover.shape[-1]
    cells = torch.arange(side, device=cover.device)
    ends = []
    for across in (cover.any(dim=2)[:, 0], cover.any(dim=1).any(dim=2)):  # columns, rows
        low = torch.where(across, cells, side).amin(dim=1)
        high = torch.where(across, cells, -1).amax(dim=1)
        ends.append(((low - margin).clamp(min=0), (high + margin).clamp(max=side - 1)))
    (left, right), (top, bottom) = ends
    box = torch.stack([left, top, right - left + 1, bottom - top + 1], dim=1)
    return torch.where((right >= left)[:, None], box, torch.zeros_like(box))
