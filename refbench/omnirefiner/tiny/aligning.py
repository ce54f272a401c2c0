"""Training of the aligner: scenes whose references went through the pose search, and the flow that was left to find.

For prints it is known exactly (:func:`refbench.omnirefiner.tiny.scenes.print_flow`). For clips dense inverse search
(Kroeger et al., ECCV 2016) finds it between the clean target and the reference, where both show the same. A random
smooth bend of the reference adds a flow that is known exactly to either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from refbench.crops import cut
from refbench.images import Image
from refbench.omnirefiner.config import AlignerConfig
from refbench.omnirefiner.models import Aligner
from refbench.omnirefiner.tensors import resize_crop, to_tensor
from refbench.omnirefiner.tiny.aligner import crop_inputs, even_light, flow_error, warp_by
from refbench.omnirefiner.tiny.scenes import Scene, SceneSource, draw_scenes, print_flow
from refbench.omnirefiner.training.data import Reservoir
from refbench.omnirefiner.training.loop import Learner, Settings, Values, sheet
from refbench.omnirefiner.training.prepared import Kind, Prepared
from refbench.omnirefiner.training.progress import Telling
from refbench.registration.opencv import cv2

if TYPE_CHECKING:
    from accelerate import Accelerator

FARTHEST = 20.0
"""Px beyond which a found flow is not believed."""
CHECK_SEED = 987
"""Of the scenes that are validated on."""


def known_flow(target: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (B, 2, S, S) in px from clean targets to references (B, 3, S, S), and where it is right (B, 1, S, S)."""
    grey = [((x.mean(1) + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu().numpy() for x in (target, reference)]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = np.stack([search.calc(a, b, None) for a, b in zip(*grey, strict=True)])
    flow = torch.from_numpy(found).permute(0, 3, 1, 2).to(target)
    apart = (even_light(target) - even_light(warp_by(reference, flow))).abs().mean(1, keepdim=True)
    apart = F.avg_pool2d(F.pad(apart, (2,) * 4, mode="reflect"), 5, 1)
    near = flow.square().sum(1, keepdim=True).sqrt() < FARTHEST
    return flow, torch.sigmoid((0.55 - apart) * 12) * near


def bend(reference: Tensor, flow: Tensor, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """References (B, 3, S, S) bent at random by up to about `most` px, and the flow (B, 2, S, S) that now leads there.

    With ``r'(x) = r(x - g(x))`` and smooth g, ``r'(x + f + g(x + f))`` is ``r(x + f)`` to first order.
    """
    batch, side = len(flow), flow.shape[-1]
    cells = int(torch.randint(2, 5, (1,), generator=generator, device=generator.device))
    size = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device).square() * most
    coarse = torch.randn(batch, 2, cells, cells, generator=generator, device=generator.device) * size
    bent = F.interpolate(coarse.to(flow), (side, side), mode="bicubic", align_corners=True)
    return warp_by(reference, -bent), flow + warp_by(bent, flow)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of crops at the aligner's size S: pictures (B, 3, S, S) in [-1, 1], masks (B, 1, S, S) in {0, 1}."""

    draft: Tensor
    reference: Tensor
    """On the crop's frame, as its pose has it."""
    target: Tensor
    mask: Tensor
    box: Tensor
    """Where the reference's box falls, 0 everywhere without one."""
    flow: Tensor
    """(B, 2, S, S) in px, from the target to the reference."""
    sure: Tensor
    """(B, 1, S, S) in [0, 1], where the flow is right."""

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of it, in order."""
        return self.draft, self.reference, self.target, self.mask, self.box, self.flow, self.sure


def pair_of(scene: Scene, size: int) -> tuple[Tensor, ...]:
    """One scene as a :class:`Pairs` of one, without the batch's axis."""
    draft, reference, mask, box = crop_inputs(
        scene.draft, scene.reference, scene.mask, scene.reference_box, scene.found.matrix, size
    )
    target = resize_crop(to_tensor(cut(scene.target, scene.box)), size).clamp(-1, 1)
    if scene.maps is not None:
        flow, sure = print_flow(scene, size)
    else:
        flow, sure = (x[0] for x in known_flow(target[None], reference[None]))
    return draft, reference, target, mask, box, flow, sure


class ScenePairs(IterableDataset[tuple[Tensor, ...]]):
    """Endless pairs, one at a time; each worker process draws its own.

    Args:
        scenes: opens a sampler of scenes (:func:`refbench.omnirefiner.tiny.scenes.open_scenes`) with a seed.
        config: of the aligner.
        seed: of the first worker; the others count on.
    """

    def __init__(self, scenes: Callable[[int], Any], config: AlignerConfig, seed: int) -> None:
        self.scenes, self.config, self.seed = scenes, config, seed

    kinds: tuple[Kind, ...] = ("picture", "picture", "picture", "share", "share", "offset", "share")

    def recipe(self) -> dict[str, Any]:
        """As :class:`refbench.omnirefiner.training.prepared.Drawing` has it; `scenes` is a ``SceneSource``."""
        settings = {"size": self.config.size, "levels": list(self.config.levels), "farthest": self.config.farthest}
        assert isinstance(self.scenes, SceneSource)
        return {"kind": "pairs", **settings, **self.scenes.recipe()}

    def open(self) -> Any:
        """A sampler of scenes."""
        return self.scenes(self.seed)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = get_worker_info()
        return self.samples(self.scenes(self.seed + (worker.id if worker else 0)))

    def samples(self, opened: Any) -> Iterator[tuple[Tensor, ...]]:
        """Pairs of the sampler's scenes, one after another without end."""
        while True:
            for scene in draw_scenes(opened, 8, self.config.levels):
                pair = pair_of(scene, self.config.size)
                mask, flow, sure = pair[3], pair[5], pair[6]
                weight = mask * sure
                far = float((flow.square().sum(0, keepdim=True).sqrt() * weight).sum() / weight.sum().clamp(min=1))
                if weight.sum() > 0.2 * mask.sum() and far < self.config.farthest:
                    yield pair


def turned(pairs: Pairs, generator: torch.Generator) -> Pairs:
    """The batch mirrored, stood on its side and recoloured at random: text in a mirror is aligned all the same."""

    def chance(p: float) -> bool:
        return float(torch.rand((), generator=generator, device=generator.device)) < p

    parts = list(pairs.parts)
    for axis in (-1, -2):
        if chance(0.5):
            parts = [p.flip(axis) for p in parts]
            sign = parts[5].new_tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0]).view(1, 2, 1, 1)
            parts[5] = parts[5] * sign
    if chance(0.5):
        parts = [p.transpose(-1, -2) for p in parts]
        parts[5] = parts[5].flip(1)
    if chance(0.3):
        order = torch.randperm(3, generator=generator, device=generator.device)
        parts[:3] = [p[:, order] for p in parts[:3]]
    return Pairs(*parts)


@torch.no_grad()
def validate_aligner(aligner: Aligner, batch: Pairs) -> dict[str, float]:
    """Inside the masks: endpoint error in px, before and after, and the distance of the evenly lit pictures.

    `apart` is of the moved reference, `apart_before` as it was, `apart_draft` the draft's own.
    """
    inputs = (batch.draft, batch.reference, batch.mask, batch.box)
    found = torch.cat([aligner(*(x[i : i + 16] for x in inputs))[-1] for i in range(0, len(batch.mask), 16)])
    weights = batch.sure * batch.mask

    def endpoint(guess: Tensor) -> float:
        return float(((guess - batch.flow).square().sum(1, keepdim=True).sqrt() * weights).sum() / weights.sum())

    def apart(picture: Tensor) -> float:
        off = (even_light(picture) - even_light(batch.target)).abs().mean(1, keepdim=True)
        return float((off * batch.mask).sum() / batch.mask.sum())

    return {
        "endpoint": endpoint(found), "endpoint_before": endpoint(torch.zeros_like(found)),
        "apart": apart(warp_by(batch.reference, found)), "apart_before": apart(batch.reference),
        "apart_draft": apart(batch.draft),
    }  # fmt: skip


class AlignerLearner(Learner):
    """The aligner on placed scenes.

    Args:
        aligner: trained in place.
        scenes, held_out: open samplers of training and validation scenes with a seed.
        prepared: pairs to learn from instead of scenes drawn meanwhile.
    """

    stage = "aligner"

    def __init__(
        self, aligner: Aligner, config: AlignerConfig, scenes: Callable[[int], Any], held_out: Callable[[int], Any], *,
        device: str = "cpu", seed: int = 0, prepared: Prepared | None = None,
    ) -> None:  # fmt: skip
        torch.nn.Module.to(aligner, device)
        aligner.train().requires_grad_(True)
        self.aligner, self.config, self.device, self.seed, self.prepared = aligner, config, device, seed, prepared
        self.scenes, self.held_out = scenes, held_out
        self.names = dict(aligner.named_parameters())
        self.settings = Settings(
            steps=config.steps, lr=config.lr, warmup=100, batch=config.batch, ema=config.ema, betas=(0.9, 0.98),
            log_every=config.validate_every, validate_every=config.validate_every,
        )  # fmt: skip
        # what is prepared costs nothing to draw
        self.first, reuse = min(4 * config.batch, config.capacity), config.reuse if prepared is None else 1
        self.reservoir = Reservoir(self._fresh, config.capacity, reuse, first=self.first)

    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Open the scenes, and draw those that are validated on."""
        rank = 1_000_003 * accelerator.process_index
        self.generator = torch.Generator(self.device).manual_seed(self.seed + 5 + step + rank)
        if self.prepared is None:
            telling.note(f"aligner: the first {self.first} pairs are placed")
            pairs = ScenePairs(self.scenes, self.config, 1000 * (self.seed + 1) + step + rank)
            workers = self.config.workers
            loader = DataLoader(pairs, batch_size=None, num_workers=workers, prefetch_factor=32 if workers else None)
            self.stream = iter(loader)
        checks, parts = iter(ScenePairs(self.held_out, self.config, CHECK_SEED)), []
        for number in range(self.config.validate_samples):
            telling.tick(f"aligner: {number} of {self.config.validate_samples} held-out pairs")
            parts.append(next(checks))
        self.check = Pairs(*(torch.stack(p).to(self.device) for p in zip(*parts, strict=True)))

    def _fresh(self, count: int) -> tuple[Tensor, ...]:
        if self.prepared is not None:
            return tuple(part.to(self.device) for part in self.prepared.draw(count, self.generator))
        drawn = (next(self.stream) for _ in range(count))
        return tuple(torch.stack(part).to(self.device) for part in zip(*drawn, strict=True))

    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """The flow's error on one batch, some of it bent."""
        del progress
        batch = turned(Pairs(*self.reservoir.draw(self.config.batch, self.generator)), self.generator)
        reference, flow = batch.reference, batch.flow
        if float(torch.rand((), generator=self.generator, device=self.device)) < self.config.bent:
            reference, flow = bend(reference, flow, self.config.bend, self.generator)
        found = self.aligner(batch.draft, reference, batch.mask, batch.box)
        aim = even_light(batch.target)
        loss = flow_error(found, even_light(reference), aim, batch.mask, flow, batch.sure).mean()
        values["loss"] = loss.detach()
        yield loss, True

    def validate(self) -> dict[str, float]:
        """:func:`validate_aligner`."""
        return validate_aligner(self.aligner, self.check)

    @torch.no_grad()
    def pictures(self) -> dict[str, Image]:
        """Reference, moved reference and target of the first held-out pairs."""
        check = self.check
        reference = check.reference[:4]
        flow = self.aligner(check.draft[:4], reference, check.mask[:4], check.box[:4])[-1]
        return {"moved": sheet(reference, warp_by(reference, flow), check.target[:4])}

    def facts(self) -> dict[str, Any]:
        """Scenes made, and the configuration."""
        return {"scenes": self.reservoir.made, "config": self.config.model_dump()}
