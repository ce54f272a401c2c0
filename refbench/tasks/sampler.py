"""Training quadruplets on the fly: draft, reference, target, mask, vectorised on any device.

Every picture is what the refiner's focus crop sees: the mask's box with a margin, enlarged to the working
size. Half of the samples are prints (text, logos, patterns) composed on photographs, half are two frames
of a clip. `misalignment` moves the reference from the target's own pixels (0) to another view, light,
scale and background (1): the curriculum without which a small model never learns to read the reference.
"""

from __future__ import annotations

import io
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.tasks import lettering
from refbench.tasks.composition import compose, print_grid, rotate_quad
from refbench.tasks.degradations import DEGRADATIONS, blur, degrade_mixed, drift, sample, smooth_noise

REFINE = tuple(DEGRADATIONS)


def _unpack(arrays: dict[str, NDArray[np.uint8]], name: str, mode: str) -> Tensor:
    """(N, C, h, w) uint8 pictures of one kind."""
    from PIL import Image

    data, ends = arrays[f"{name}_data"], arrays[f"{name}_ends"]
    out = []
    for start, stop in pairwise(ends):
        with Image.open(io.BytesIO(data[start:stop].tobytes())) as picture:
            out.append(np.asarray(picture.convert(mode)))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous()


class QuadrupletSampler:
    """Endless batches of training quadruplets out of a folder of prepared assets.

    Args:
        assets_dir: made by :func:`refbench.tasks.training_assets.prepare_training_assets`.
        size: side of the square pictures in px (64 to 256).
        device: where the assets live and the batches are made.
        generator: of the same device; its state decides every batch.
        prints: share of composed prints, the rest are clip pairs.
        reach: smallest and largest half side of what is masked, as a share of the frame's. The default is
            a focus crop, in which the mask fills much of the frame; suites want less.
        most: largest masked share of the frame.
        strength: bounds of the degradations' strength.
        spare: px by which masks reach beyond a print, drawn between these for each batch; about a twentieth of the
            size when None. A suite's masks are drawn closer than a focus crop's.

    Raises:
        RefbenchError: the folder holds no prepared assets.
    """

    def __init__(
        self,
        assets_dir: str | Path,
        size: int,
        device: str | torch.device = "cpu",
        generator: torch.Generator | None = None,
        *,
        prints: float = 0.5,
        reach: tuple[float, float] = (0.5, 0.88),
        most: float = 0.8,
        strength: tuple[float, float] = (0.25, 0.95),
        spare: tuple[int, int] | None = None,
    ) -> None:
        path = Path(assets_dir) / "assets.npz"
        if not path.is_file():
            raise RefbenchError(
                f"Expected prepared training assets at {path}, but there is no such file; run `refbench tasks assets`."
            )
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        self.size = size
        self.device = torch.device(device)
        self.generator = generator if generator is not None else torch.Generator(self.device).manual_seed(0)
        self.share = prints
        self.reach, self.most, self.strength, self.spare = reach, most, strength, spare
        self._details: dict[str, list[Tensor]] = {}
        self._maps = False
        self.glyphs = (torch.from_numpy(arrays["glyphs"]).float() / 255).to(self.device)
        self.advances = torch.from_numpy(arrays["advances"]).to(self.device)
        self.prints = _unpack(arrays, "prints", "RGBA").to(self.device)
        self.kinds = torch.from_numpy(arrays["print_kinds"]).to(self.device)
        self.surfaces = _unpack(arrays, "surfaces", "RGB").to(self.device)
        frames = _unpack(arrays, "clips", "RGB")
        self.flows = torch.from_numpy(arrays["flows"]).float().div(2).to(self.device)
        self.clips = frames.view(self.flows.shape[0], -1, *frames.shape[1:]).to(self.device)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def _index(self, high: int, batch: int) -> Tensor:
        return torch.randint(0, max(high, 1), (batch,), generator=self.generator, device=self.device)

    @torch.no_grad()
    def batch(
        self, count: int, misalignment: float | Tensor = 1.0, details: bool = False, maps: bool = False
    ) -> dict[str, Tensor]:
        """One batch: `draft`, `reference`, `target` (B, 3, S, S) and `mask` (B, 1, S, S), floats in [0, 1].

        Draft equals target outside the mask. `misalignment` in [0, 1], one number or (B,): at 0 the
        reference is the target, at 1 it is another view under another light and scale, on another
        background for prints. The order within a batch is prints first.

        With `details` the batch also says, as (B,) int64 or float tensors, what was made: `kind` (-1 text, 0
        object print, 1 logo, 2 pattern, 3 clip), `fault` (0 none, 1 the print is wrong), `degradation` (index
        in :data:`REFINE` or -1), `strength`, `mask_kind` (0 tight, 1 box, 2 scribble), `source` (surface or clip), and
        `box` (B, 4), (x, y, width, height) in px of the print in the reference, all 0 for clips.

        With `maps` also, as (B, S, S, 2), where each pixel of target and reference falls on the print: `target_map`
        and `reference_map`, in [-1, 1] on the print itself, 9 where there is none (clips).
        """
        self._details = {}
        self._maps = maps
        level = torch.as_tensor(misalignment, device=self.device, dtype=torch.float32).expand(count)
        prints = round(count * self.share)
        if count == 1:
            prints = int(self._uniform(1).item() < self.share)
        parts = []
        if prints:
            parts.append(self._print_batch(level[:prints]))
        if count - prints:
            parts.append(self._clip_batch(level[prints:]))
        out = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if details or maps:
            out |= {name: torch.cat(values) for name, values in self._details.items()}
        return out

    def _note(self, **values: Tensor) -> None:
        for name, value in values.items():
            self._details.setdefault(name, []).append(value)

    __call__ = batch

    # ---------------------------------------------------------------- prints

    def _surface(self, index: Tensor) -> Tensor:
        """A random window of surface tiles at the working size."""
        tiles = self.surfaces[index].float() / 255
        batch = len(index)
        zoom = self._uniform(batch, low=0.45, high=1.0)
        shift = self._uniform(batch, 2, low=-1, high=1) * (1 - zoom).unsqueeze(1)
        flip = (self._uniform(batch) < 0.5).float() * 2 - 1
        return sample(tiles, _window(shift, zoom, zoom.new_zeros(batch), self.size, flip))

    def _colours(self, batch: int) -> tuple[Tensor, Tensor]:
        """Panel and ink colours (B, 3, 1, 1) that differ by 0.35 or more in luminance."""
        panel = self._uniform(batch, 3, 1, 1)
        grey = panel.mean(dim=1, keepdim=True)
        panel = grey + (panel - grey) * 0.8
        ink = self._uniform(batch, 3, 1, 1)
        dark = grey > 0.5
        away = torch.where(
            dark, grey - 0.35 - 0.3 * self._uniform(batch, 1, 1, 1), grey + 0.35 + 0.3 * self._uniform(batch, 1, 1, 1)
        )
        ink = (ink - ink.mean(dim=1, keepdim=True)) * 0.6 + away
        return panel.clamp(0, 1), ink.clamp(0, 1)

    def _text_prints(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Right prints, garbled prints (B, 4, P, P) and their aspect."""
        texts = lettering.random_texts(batch, self.glyphs.shape[0], self.generator, self.device)
        side = max(64, self.size)
        right, aspect = lettering.typeset(texts, self.glyphs, self.advances, side)
        strength = self._uniform(batch, low=0.3, high=1.0)
        wrong, tiles, squeeze = lettering.garble(texts, self.glyphs, strength, self.generator)
        spoilt, _ = lettering.typeset(wrong, self.glyphs, self.advances, side, tiles, squeeze)
        panel, ink = self._colours(batch)
        plain = (self._uniform(batch, 1, 1, 1) < 0.35).float()
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
        plain = (self._uniform(batch, 1, 1, 1) < 0.5).float()
        flat = (self.kinds[index] == 2).view(-1, 1, 1, 1)
        plain = torch.where(flat, torch.zeros_like(plain), plain)
        if like is not None:
            panel, plain = like[:, :3, :1, :1], 1 - like[:, 3:, :1, :1].round()
        inset = torch.where(flat, torch.ones_like(plain), torch.full_like(plain, 0.82)).flatten()
        grid = _window(inset.new_zeros(batch, 2), 1 / inset, inset.new_zeros(batch), side)
        alpha = marks[:, 3:]
        marks = sample(torch.cat([marks[:, :3] * alpha, alpha], dim=1), grid, padding="zeros")
        ground = panel * (1 - plain)
        colour = marks[:, :3] + ground * (1 - marks[:, 3:])
        cover = torch.maximum(marks[:, 3:], (1 - plain).expand_as(marks[:, 3:]))
        return torch.cat([(colour / cover.clamp(min=1e-3)).clamp(0, 1), cover], dim=1)

    def _print_batch(self, level: Tensor) -> dict[str, Tensor]:
        batch = len(level)
        texts = (batch + 1) // 2
        right, wrong, aspect = self._text_prints(texts)
        what = torch.full((texts,), -1, dtype=torch.int64, device=self.device)
        if batch > texts:
            index = self._index(len(self.prints), batch - texts)
            marks = self._mark_prints(index)
            others = self._mark_prints(self._other(index), like=marks)
            right, wrong = torch.cat([right, marks]), torch.cat([wrong, others])
            aspect = torch.cat([aspect, self._uniform(batch - texts, low=0.85, high=1.2)])
            what = torch.cat([what, self.kinds[index]])
        order = torch.randperm(batch, generator=self.generator, device=self.device)
        right, wrong, aspect = right[order], wrong[order], aspect[order]
        target, cover, draft_print, reference = self._print_views(right, wrong, aspect, level)
        mask = self._masks(cover, batch)
        kind = self._uniform(batch)
        # 45 %: the print is wrong; 20 %: wrong and degraded; 35 %: only degraded
        base = torch.where((kind < 0.65).view(-1, 1, 1, 1), draft_print, target)
        self._note(kind=what[order], fault=(kind < 0.65).long())
        return self._finish(base, target, reference, mask, kind >= 0.45)

    def _other(self, index: Tensor) -> Tensor:
        """For each print another one of the same kind."""
        other = self._index(len(self.prints), len(index))
        for _ in range(3):
            redo = self._index(len(self.prints), len(index))
            other = torch.where((self.kinds[other] != self.kinds[index]) | (other == index), redo, other)
        return torch.where(other == index, (index + 1) % len(self.prints), other)

    def _pose(self, aspect: Tensor) -> dict[str, Tensor]:
        batch = len(aspect)
        reach = self._uniform(batch, low=self.reach[0] * 1.1, high=self.reach[1] * 1.02)
        wide = reach * (aspect / 1.0).clamp(max=1).clamp(min=0.45)
        half = torch.stack(
            [torch.where(aspect >= 1, reach, wide), torch.where(aspect >= 1, reach / aspect.clamp(max=3.5), reach)],
            dim=1,
        )
        centre = self._uniform(batch, 2, low=-1, high=1) * (0.95 - half).clamp(min=0)
        angle = self._normal(batch).clamp(-2, 2) * 0.17
        tilt = self._uniform(batch, 2, low=-0.35, high=0.35)
        bent = (self._uniform(batch) < 0.35).float()
        soft = (self._uniform(batch) < 0.35).float() * (1 - bent)
        return {
            "quad": rotate_quad(centre, half, angle, tilt),
            "wrap": bent * self._uniform(batch, low=0.3, high=1.15),
            "bow": bent * self._uniform(batch, low=-0.25, high=0.25),
            "cloth": soft * self._uniform(batch, low=0.02, high=0.08),
        }

    def _print_views(
        self, right: Tensor, wrong: Tensor, aspect: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Target, its cover, the target with the wrong print, and the reference."""
        batch = len(aspect)
        ground = self._index(len(self.surfaces), batch)
        self._note(source=ground)
        surface = self._surface(ground)
        pose, other = self._pose(aspect), self._pose(aspect)
        folds = smooth_noise(surface, 2, 3, self.generator)
        moved = {k: v + (other[k] - v) * level.view(-1, *[1] * (v.dim() - 1)) for k, v in pose.items()}
        right, wrong = _legible(right, wrong, surface)
        opacity = self._uniform(batch, low=0.85, high=1.0)
        target, cover = _lay(surface, right, pose, folds, opacity)
        spoilt, spoilt_cover = _lay(surface, wrong, pose, folds, opacity)
        elsewhere = self._surface(self._index(len(self.surfaces), batch))
        change = (self._uniform(batch) < 3 * level).view(-1, 1, 1, 1)  # a near reference has another ground as well
        beneath = torch.where(change, elsewhere, surface)
        more = smooth_noise(surface, 2, 3, self.generator)
        column = level.view(-1, 1, 1, 1)
        moved_folds = folds + (more - folds) * column
        reference, seen = _lay(beneath, right, moved, moved_folds, opacity)
        self._note(box=_boxes(seen > 0.2, margin=max(1, self.size // 80)))
        if self._maps:
            self._note(target_map=_map(surface, pose, folds), reference_map=_map(beneath, moved, moved_folds))
        reference = drift(reference, level * self._uniform(batch) * 0.45, self.generator)
        return target, torch.maximum(cover, spoilt_cover), spoilt, reference

    # ----------------------------------------------------------------- clips

    def _clip_batch(self, level: Tensor) -> dict[str, Tensor]:
        batch = len(level)
        clips, frames = self.clips.shape[:2]
        side = self.clips.shape[-1]
        clip = self._index(clips, batch)
        first = self._index(frames, batch)
        reach = (level * self._uniform(batch) * 3.99).floor().long().clamp(max=2)
        sign = torch.where(self._uniform(batch) < 0.5, -1, 1)
        second = first + reach * sign
        second = torch.where((second < 0) | (second >= frames), first - reach * sign, second).clamp(0, frames - 1)
        least = min(0.95, 0.7 * self.size / side)
        zoom = self._uniform(batch, low=least, high=max(least + 0.05, min(0.95, 1.6 * self.size / side)))
        centre = self._busy_centre(clip, first, zoom)
        flip = (self._uniform(batch) < 0.5).float() * 2 - 1
        still = torch.zeros(batch, device=self.device)
        target = sample(self.clips[clip, first].float() / 255, _window(centre, zoom, still, self.size, flip))
        follow = self._follow(clip, first, second, centre)
        scale = torch.exp(self._normal(batch).clamp(-2, 2) * 0.16 * level + 0.12 * level)
        whole = (self._uniform(batch) < 0.12 * level).float()
        zoom_r = (zoom * scale).clamp(max=1) * (1 - whole) + whole
        jitter = self._normal(batch, 2).clamp(-2, 2) * 0.12 * (level * zoom).unsqueeze(1)
        limit = (1 - zoom_r).unsqueeze(1).clamp(min=0)
        loose = (level > 0).view(-1, 1)
        place = torch.where(loose, (follow + jitter).clamp(min=-limit, max=limit), follow)
        angle = self._normal(batch).clamp(-2, 2) * 0.1 * level
        reference = sample(self.clips[clip, second].float() / 255, _window(place, zoom_r, angle, self.size, flip))
        reference = drift(reference, level * self._uniform(batch) * 0.35, self.generator)
        mask = self._masks(None, batch)
        nothing = torch.zeros_like(clip)
        self._note(kind=nothing + 3, fault=nothing, source=clip, box=clip.new_zeros(batch, 4))
        if self._maps:
            nowhere = target.new_full((batch, self.size, self.size, 2), 9.0)
            self._note(target_map=nowhere, reference_map=nowhere)
        return self._finish(target, target, reference, mask, torch.ones(batch, dtype=torch.bool, device=self.device))

    def _busy_centre(self, clip: Tensor, frame: Tensor, zoom: Tensor) -> Tensor:
        """Of three random window centres (B, 2) the one with the most contrast: detail is what is to be restored."""
        batch = len(zoom)
        centres = self._uniform(3, batch, 2, low=-1, high=1) * (1 - zoom).view(1, -1, 1)
        small = self.clips[clip, frame, 1:2, ::4, ::4].float() / 255
        still = torch.zeros_like(zoom)
        contrast = torch.stack([sample(small, _window(c, zoom, still, 12)).std(dim=(1, 2, 3)) for c in centres])
        return centres.gather(0, contrast.argmax(dim=0).view(1, -1, 1).expand(1, batch, 2))[0]

    def _follow(self, clip: Tensor, first: Tensor, second: Tensor, centre: Tensor) -> Tensor:
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

    # ------------------------------------------------------- masks and drafts

    def _masks(self, cover: Tensor | None, batch: int) -> Tensor:
        """(B, 1, S, S) masks: the print's shape widened, its box, or a scribble over it; for clips free boxes,
        ellipses and scribbles."""
        size = self.size
        like = torch.empty((batch, 1, size, size), device=self.device)
        rows = (torch.arange(size, device=self.device) + 0.5) / size * 2 - 1
        if cover is not None:
            shape = (cover > 0.25).float()
            wide = 2 * self._spare() + 1
            shape = torch.nn.functional.max_pool2d(shape, wide, 1, wide // 2)
            span = [shape.amax(dim=d).flatten(1) > 0 for d in (2, 3)]  # columns, rows
            low = [torch.where(s, rows, rows.new_full((), 9.0)).amin(dim=1) for s in span]
            high = [torch.where(s, rows, rows.new_full((), -9.0)).amax(dim=1) for s in span]
            centre = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2], dim=1)
            half = torch.stack([(high[0] - low[0]) / 2, (high[1] - low[1]) / 2], dim=1)
            half = half + (0.04 if self.spare is None else 2 / size)
        else:
            shape = None
            half = self._uniform(batch, 2, low=self.reach[0] * 0.8, high=self.reach[1] * 0.93)
            centre = self._uniform(batch, 2, low=-1, high=1) * (0.9 - half).clamp(min=0)
        half = half.clamp(0.15, 0.88)
        dx = (rows.view(1, 1, 1, -1) - centre[:, 0].view(-1, 1, 1, 1)) / half[:, 0].view(-1, 1, 1, 1)
        dy = (rows.view(1, 1, -1, 1) - centre[:, 1].view(-1, 1, 1, 1)) / half[:, 1].view(-1, 1, 1, 1)
        box = ((dx.abs() <= 1) & (dy.abs() <= 1)).float()
        wobble = smooth_noise(like, 1, 3, self.generator) * 0.16
        blob = ((dx**2 + dy**2 + wobble) <= 1).float()
        stroke = torch.sin(dy * (3 + 2 * self._uniform(batch, 1, 1, 1)) * math.pi / 2 + dx * 1.3 + wobble * 4).abs()
        scribble = ((stroke > 0.45) & (dx.abs() <= 1) & (dy.abs() <= 1)).float()
        tight = shape if shape is not None else blob
        choice = self._uniform(batch, 1, 1, 1)
        mask = torch.where(
            choice < 0.4, tight, torch.where(choice < 0.8, box, torch.where(choice < 0.9, blob, scribble))
        )
        order = choice.flatten()
        self._note(mask_kind=torch.where(order >= 0.9, 2, torch.where((order >= 0.4) & (order < 0.8), 1, 0)))
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

    def _spare(self) -> int:
        if self.spare is None:
            return max(1, self.size // 24)
        low, high = self.spare
        return int(torch.randint(low, high + 1, (1,), generator=self.generator, device=self.device))

    def _finish(
        self, base: Tensor, target: Tensor, reference: Tensor, mask: Tensor, spoil: Tensor
    ) -> dict[str, Tensor]:
        """Degrade `base` where `spoil` says so and lay it into the target inside the mask, with a soft inner edge."""
        batch = len(target)
        choice = self._index(len(REFINE), batch)
        strength = self._uniform(batch, low=self.strength[0], high=self.strength[1])
        choice = torch.where(spoil, choice, torch.full_like(choice, -1))
        self._note(degradation=choice, strength=strength)
        spoilt = degrade_mixed(REFINE, choice, base, strength, self.generator)
        inner = (blur(mask, self.size / 64) * 2 - 1).clamp(0, 1) * mask
        draft = target + (spoilt - target) * inner
        return {"draft": draft.clamp(0, 1), "reference": reference.clamp(0, 1), "target": target, "mask": mask}


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


def _window(centre: Tensor, zoom: Tensor, angle: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Sampling grid (B, size, size, 2) of a turned square window: `centre` (B, 2) and half side `zoom` (B,) in
    [-1, 1]; `flip` (B,) of -1 mirrors the whole source."""
    axis = (torch.arange(size, device=zoom.device, dtype=zoom.dtype) * 2 + 1) / size - 1
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    step = zoom.view(-1, 1, 1)
    u = centre[:, 0].view(-1, 1, 1) + step * (x * cos - y * sin)
    v = centre[:, 1].view(-1, 1, 1) + step * (x * sin + y * cos)
    if flip is not None:
        # mirrored in the window, so that a followed point stays where it is in the source
        u = centre[:, 0].view(-1, 1, 1) + step * (flip.view(-1, 1, 1) * x * cos - y * sin)
    return torch.stack([u, v], dim=-1)
