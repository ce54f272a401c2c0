"""Training scenes: whole pictures as in the suite, whose references are found and laid as for a user's picture.

What a pose search leaves is not what a random jitter gives: it errs where the draft misleads it and by as much. So the
aligner and the later stages learn on references that went through the very search of the focus. How the reference
really lies is known for prints, because the same print was put on both pictures: every pixel of either falls on a
known point of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from refbench.crops import Square, crop_box, cut
from refbench.images import Image, Mask
from refbench.omnirefiner.focus.crop import Laying, focus
from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
from refbench.omnirefiner.tensors import resize_crop, to_tensor
from refbench.omnirefiner.tiny.aligner import AlignerNet, crop_map
from refbench.omnirefiner.training.data import Quadruplets, exchanged
from refbench.omnirefiner.training.prepared import Kind
from refbench.registration.laying import Placement, asks_exchange, place
from refbench.registration.opencv import cv2
from refbench.schema import Box

SIZE = 192
"""Side in px of the pictures, that of the prepared assets."""
NEWTON = 8
"""Steps by which the point of the reference that shows the same point of the print is found."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture of a task with its reference placed; pictures (H, W, 3) uint8."""

    draft: Image
    target: Image
    reference: Image
    mask: Mask
    reference_box: Box | None
    prompt: str
    found: Placement
    maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """Where target and reference pixels (H, W, 2) fall on the print, [-1, 1]; None for clips."""

    @property
    def box(self) -> Square:
        """The crop around the mask."""
        return crop_box(self.mask)


def open_scenes(assets: Path, seed: int, strength: tuple[float, float], size: int = SIZE) -> Any:
    """The suite's sampler with masks as small and as close as a suite's."""
    from refbench.tasks.sampler import QuadrupletSampler

    generator = torch.Generator().manual_seed(seed)
    return QuadrupletSampler(
        assets, size, "cpu", generator, reach=(0.22, 0.56), most=0.33, strength=strength, spare=(1, 6)
    )


@dataclass(frozen=True, slots=True)
class SceneSource:
    """:func:`open_scenes` of one folder, for any seed; as a value it can be pickled and said in a recipe."""

    assets: Path
    strength: tuple[float, float]
    size: int = SIZE

    def __call__(self, seed: int) -> Any:
        """A sampler of scenes."""
        return open_scenes(self.assets, seed, self.strength, self.size)

    def recipe(self) -> dict[str, Any]:
        """What decides the scenes, beside the seed."""
        digest = hashlib.sha256((self.assets / "assets.npz").read_bytes()).hexdigest()
        return {"assets": digest, "strength": list(self.strength), "scene_size": self.size}


def draw_scenes(sampler: Any, count: int, levels: tuple[float, float] = (0.3, 1.0)) -> Iterator[Scene]:
    """`count` scenes whose references are `levels` away from the target; some of them may not be placed with trust.

    Args:
        sampler: of :func:`open_scenes`, or any with its ``batch(count, levels, maps=True)``.
    """
    low, high = levels
    level = torch.rand(count, generator=sampler.generator) * (high - low) + low
    made = sampler.batch(count, level, maps=True)

    def pictures(name: str) -> NDArray[np.uint8]:
        whole = (made[name] * 255).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(whole.permute(0, 2, 3, 1).numpy())

    replaced = exchanged(made)
    drafts, references, targets = pictures("draft"), pictures("reference"), pictures("target")
    masks = made["mask"][:, 0].numpy() > 0.5
    for k in range(count):
        if not masks[k].any():
            continue
        printed = int(made["kind"][k]) != 3
        prompt = REPLACE if replaced[k] else RESTORE
        x, y, w, h = (int(v) for v in made["box"][k])
        box: Box | None = (x, y, w, h) if w > 0 and h > 0 else None
        maps = (made["target_map"][k].numpy(), made["reference_map"][k].numpy()) if printed else None
        yield Scene(
            drafts[k], targets[k], references[k], masks[k], box, prompt,
            place(drafts[k], references[k], masks[k], box, prompt, thorough=True), maps,
        )  # fmt: skip


class SceneQuadruplets(IterableDataset[tuple[Tensor, ...]]):
    """Endless (draft, reference, target, mask, other) crops as the focus shows them; each worker draws its own.

    Scenes whose reference is not trusted are left out where a draft would stand in for it: nothing is learned there.

    Args:
        scenes: opens a sampler of scenes with a seed.
        size: side of the crops in px.
        laying, aligner: as :func:`refbench.omnirefiner.focus.crop.focus` takes them.
        seed: of the first worker; the others count on.
        levels: as :func:`draw_scenes` takes them.
    """

    def __init__(
        self, scenes: Callable[[int], Any], size: int, laying: Laying, aligner: AlignerNet | None, seed: int,
        levels: tuple[float, float] = (0.3, 1.0),
    ) -> None:  # fmt: skip
        self.scenes, self.size, self.laying, self.aligner = scenes, size, laying, aligner
        self.seed, self.levels = seed, levels

    kinds: tuple[Kind, ...] = ("picture", "picture", "picture", "share", "share")

    def recipe(self) -> dict[str, Any]:
        """As :class:`refbench.omnirefiner.training.prepared.Drawing` has it; `scenes` is a :class:`SceneSource`."""
        assert isinstance(self.scenes, SceneSource)
        weights = None if self.aligner is None else weights_digest(self.aligner)
        return {
            "kind": "quadruplets", "size": self.size, "laying": self.laying, "levels": list(self.levels),
            "aligner": weights, **self.scenes.recipe(),
        }  # fmt: skip

    def open(self) -> Any:
        """A sampler of scenes."""
        return self.scenes(self.seed)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = get_worker_info()
        return self.samples(self.scenes(self.seed + (worker.id if worker else 0)))

    def samples(self, opened: Any) -> Iterator[tuple[Tensor, ...]]:
        """Crops of the sampler's scenes, one after another without end."""
        while True:
            for scene in draw_scenes(opened, 8, self.levels):
                seen = focus(
                    scene.draft, scene.reference, scene.mask, self.size, reference_box=scene.reference_box,
                    prompt=scene.prompt, laying=self.laying, aligner=self.aligner, found=scene.found,
                )  # fmt: skip
                if seen.match == "none" or not seen.mask.any():
                    continue
                target = resize_crop(to_tensor(cut(scene.target, seen.box)), self.size).clamp(-1, 1)
                other = torch.tensor(float(asks_exchange(scene.prompt)))
                yield seen.draft, seen.reference, target, seen.mask, other


def weights_digest(module: torch.nn.Module) -> str:
    """SHA-256 over the names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def stream(dataset: SceneQuadruplets, workers: int) -> Callable[[int], Quadruplets]:
    """Batches of so many, made by `workers` processes ahead of time (0: when they are asked for)."""
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=32 if workers else None)
    drawn = iter(loader)
    return lambda count: Quadruplets(
        *(torch.stack(part) for part in zip(*(next(drawn) for _ in range(count)), strict=True))
    )


def print_flow(scene: Scene, size: int) -> tuple[Tensor, Tensor]:
    """The exact flow (2, size, size) in px from the target's crop to the placed reference's, and where it holds.

    For each pixel x of the crop the point of the reference's crop that shows the same point of the print: the root of
    ``reference_map(x + f) - target_map(x)``, by Newton's method with differences as derivatives. It holds (1, size,
    size) where both maps are on the print and the root was found.
    """
    assert scene.maps is not None
    here, there = crop_map(size, scene.box), scene.found.matrix @ crop_map(size, scene.box)
    aim, field = (_sampled(m, a, size) for m, a in zip(scene.maps, (here, there), strict=True))
    slope_x = F.pad((field[..., :, 2:] - field[..., :, :-2]) / 2, (1, 1, 0, 0), mode="replicate")
    slope_y = F.pad((field[..., 2:, :] - field[..., :-2, :]) / 2, (0, 0, 1, 1), mode="replicate")
    stacked = torch.cat([field, slope_x, slope_y])[None]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    start = torch.stack([columns, rows]).float()
    flow = torch.zeros(2, size, size)
    for _ in range(NEWTON):
        values = _at(stacked, start + flow)
        off, (a, c, b, d) = values[:2] - aim, values[2:]
        det = a * d - b * c
        det = torch.where(det.abs() < 1e-7, torch.full_like(det, 1e-7), det)
        step = torch.stack([d * off[0] - b * off[1], a * off[1] - c * off[0]]) / det
        flow = flow - step.clamp(-12, 12)
        flow = flow.clamp(-size / 2, size / 2)
    met = (_at(stacked, start + flow)[:2] - aim).abs().amax(0) < 0.02
    inside = aim.abs().amax(0) <= 1
    end = start + flow
    framed = ((end >= 0) & (end <= size - 1)).all(0)
    return flow, (met & inside & framed)[None].float()


def _sampled(field: NDArray[np.float32], matrix: NDArray[np.float64], size: int) -> Tensor:
    """(2, size, size) of a field (H, W, 2) where `matrix` takes a crop's pixels; outside its picture far off."""
    out = cv2.warpPerspective(
        np.asarray(field, np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(9.0, 9.0),
    )  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)


def _at(values: Tensor, places: Tensor) -> Tensor:
    """(C, H, W) of values (1, C, H, W) at (2, H, W) px."""
    height, width = values.shape[-2:]
    grid = torch.stack([(places[0] + 0.5) * 2 / width - 1, (places[1] + 0.5) * 2 / height - 1], -1)[None]
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
