"""Training quadruplets on the fly: draft, reference, target, mask, vectorised on any device.

Every picture is what the refiner's focus crop sees: the mask's box with a margin, enlarged to the working
size. Half of the samples are prints (text, logos, patterns) composed on photographs, half are two frames
of a clip. `misalignment` moves the reference from the target's own pixels (0) to another view, light,
scale and background (1): the curriculum without which a small model never learns to read the reference.
"""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.tasks.degradations import blur, degrade_mixed, frozen
from refbench.tasks.sampling.clips import Clips
from refbench.tasks.sampling.draws import Draws, Scene
from refbench.tasks.sampling.masks import Masks
from refbench.tasks.sampling.prints import Prints


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
        degradations: version of the list that degradations are drawn from, see
            :data:`refbench.tasks.degradations.FROZEN`; a batch depends on it.

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
        degradations: int = 1,
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
        self.strength, self.degradations = strength, frozen(degradations)
        self.surfaces = _unpack(arrays, "surfaces", "RGB").to(self.device)
        frames = _unpack(arrays, "clips", "RGB")
        flows = torch.from_numpy(arrays["flows"]).float().div(2).to(self.device)
        self.clips = frames.view(flows.shape[0], -1, *frames.shape[1:]).to(self.device)
        self._draws = Draws(self.generator, self.device)
        masks = Masks(self._draws, size, reach, most, spare)
        glyphs = (torch.from_numpy(arrays["glyphs"]).float() / 255).to(self.device)
        advances, kinds = (torch.from_numpy(arrays[name]).to(self.device) for name in ("advances", "print_kinds"))
        prints_of = _unpack(arrays, "prints", "RGBA").to(self.device)
        self._prints = Prints(self._draws, masks, glyphs, advances, prints_of, kinds, self.surfaces)
        self._clips = Clips(self._draws, masks, self.clips, flows)

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
        in `degradations` or -1), `strength`, `mask_kind` (0 tight, 1 box, 2 scribble), `source` (surface or clip), and
        `box` (B, 4), (x, y, width, height) in px of the print in the reference, all 0 for clips.

        With `maps` also, as (B, S, S, 2), where each pixel of target and reference falls on the print: `target_map`
        and `reference_map`, in [-1, 1] on the print itself, 9 where there is none (clips).
        """
        self._draws.notes = {}
        self._draws.maps = maps
        level = torch.as_tensor(misalignment, device=self.device, dtype=torch.float32).expand(count)
        prints = round(count * self.share)
        if count == 1:
            prints = int(self._draws.uniform(1).item() < self.share)
        parts = []
        if prints:
            parts.append(self._finish(self._prints.draw(level[:prints])))
        if count - prints:
            parts.append(self._finish(self._clips.draw(level[prints:])))
        out = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if details or maps:
            out |= {name: torch.cat(values) for name, values in self._draws.notes.items()}
        return out

    __call__ = batch

    def _finish(self, scene: Scene) -> dict[str, Tensor]:
        """Degrade the scene's base where it says so and lay it into the target inside the mask, with a soft inner
        edge."""
        base, target, reference, mask, spoil = scene
        batch = len(target)
        choice = self._draws.index(len(self.degradations), batch)
        strength = self._draws.uniform(batch, low=self.strength[0], high=self.strength[1])
        choice = torch.where(spoil, choice, torch.full_like(choice, -1))
        self._draws.note(degradation=choice, strength=strength)
        spoilt = degrade_mixed(self.degradations, choice, base, strength, self.generator)
        inner = (blur(mask, self.size / 64) * 2 - 1).clamp(0, 1) * mask
        draft = target + (spoilt - target) * inner
        return {"draft": draft.clamp(0, 1), "reference": reference.clamp(0, 1), "target": target, "mask": mask}
