"""Batches of placed scenes: those that are like the suites' more often, cropped, mirrored and recoloured at random."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.images import mask_box
from refbench.omnirefiner.retouch.losses import rmse
from refbench.omnirefiner.retouch.scenes import KINDS
from refbench.omnirefiner.training.prepared import SHARD, Prepared
from refbench.registration.selection import differing
from refbench.tasks.working import cores

Made = TypeVar("Made")
THREADS = 6
"""That draw for a GPU at most."""
LEAST_WRONG, MOST_WORSE, CLIPS = 0.12, 1.35, 1.2
"""Least error of a draft, most of a placed reference in terms of it, and how much more often clips are drawn."""


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """A batch: pictures (B, 3, S, S) in [-1, 1], mask (B, 1, S, S) in {0, 1}, replaced (B,) in {0, 1}, and by how much
    the reference is let in, weight (B, 1, S, S) in [0, 1]."""

    draft: Tensor
    placed: Tensor
    warped: Tensor
    target: Tensor
    mask: Tensor
    weight: Tensor
    replaced: Tensor

    def to(self, device: str) -> SceneBatch:
        """The batch on a device."""
        return SceneBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


class SceneSampler:
    """Scenes of a folder of prepared shards, those that are like the suites' more often; see :func:`draw_weight`.

    Args:
        folder: of prepared scenes; shards that are added later are found by :meth:`refresh`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = torch.zeros(0)
        self.refresh()

    def refresh(self) -> None:
        """Take up the shards that have been added."""
        self.prepared = open_shards(self.folder)
        for start in range(len(self.weights), len(self.prepared), SHARD):
            rows = self.prepared.rows(torch.arange(start, start + SHARD))
            self.weights = torch.cat([self.weights, draw_weight(*rows)])

    def rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """`count` scenes as :class:`refbench.omnirefiner.retouch.scenes.PlacedScenes` made them, with replacement."""
        return self.prepared.rows(torch.multinomial(self.weights, count, replacement=True, generator=generator))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The same, and how far ``place-blend`` lets the reference in, in the order of :class:`SceneBatch`."""
        draft, placed, view, target, mask, other, kind = self.rows(count, generator)
        weight = torch.stack([blend_weight(*row) for row in zip(draft, placed, mask, kind, other, strict=True)])
        return draft, placed, view, target, mask, weight, other


def blend_weight(draft: Tensor, placed: Tensor, mask: Tensor, kind: Tensor, other: Tensor) -> Tensor:
    """Weights (1, S, S): 1 where the placed reference (3, S, S) differs from the draft, else 0
    (:mod:`refbench.registration.selection`; `other` () is 1 where the draft shows another thing); a clip (`kind` () is
    1), whose surroundings are the draft's own, is laid whole."""
    inside = mask[0].numpy() > 0.5
    if kind > 0.5 or not inside.any():
        return mask
    before, laid = (((p.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy() for p in (draft, placed))
    side = max(mask_box(inside)[2:])
    return torch.from_numpy(differing(before, laid, inside, side, other=bool(other > 0.5)) * inside)[None]


def draw_weight(
    draft: Tensor, placed: Tensor, view: Tensor, target: Tensor, mask: Tensor, other: Tensor, kind: Tensor
) -> Tensor:
    """How often scenes (B,) are drawn: 0 where the draft is hardly wrong or the reference placed much worse than it.

    Mild drafts beside bad poses teach a network to distrust the reference. What is left has the suites' error of draft
    and of placed reference, and their share of exchanges and of clips (reports/omnirefiner-stage1.md).
    """
    del view, other
    wrong, laid = rmse(draft, target, mask), rmse(placed, target, mask)
    return ((wrong > LEAST_WRONG) & (laid < MOST_WORSE * wrong)) * torch.where(kind > 0.5, CLIPS, 1.0)


def draw(prepared: SceneSampler, count: int, generator: torch.Generator, size: int) -> SceneBatch:
    """Random crops of `size` px with some mask in them; some mirrored, with other channels and another gamma."""
    rows: list[tuple[Tensor, ...]] = []
    while len(rows) < count:
        found = prepared.draw(count, generator)
        for k in range(count):
            room = found[0].shape[-1] - size
            top, left = torch.randint(room + 1, (2,), generator=generator).tolist()
            crop = [part[k, :, top : top + size, left : left + size] for part in found[:6]]
            if float(crop[4].sum()) >= 0.02 * size * size:
                rows.append((*crop, found[6][k]))
    parts = [torch.stack(part) for part in zip(*rows[:count], strict=True)]
    pictures = [(p + 1) / 2 for p in parts[:4]]
    flips = torch.rand(count, 3, generator=generator)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    order = torch.where(flips[:, :1] < 0.5, order, torch.arange(3).expand(count, 3))
    gamma = torch.exp(torch.randn(count, generator=generator) * 0.2).view(-1, 1, 1, 1)
    turned = [p.gather(1, order[:, :, None, None].expand_as(p)).clamp(0, 1) ** gamma * 2 - 1 for p in pictures]
    mirror = (flips[:, 1] < 0.5).view(-1, 1, 1, 1)
    upside = (flips[:, 2] < 0.2).view(-1, 1, 1, 1)
    made = [torch.where(mirror, p.flip(-1), p) for p in (*turned, *parts[4:6])]
    made = [torch.where(upside, p.flip(-2), p) for p in made]
    draft, placed, warped, target, mask, weight = made
    return SceneBatch(draft, placed, warped, target, (mask > 0.5).float(), weight, parts[6].round())


def open_shards(folder: Path) -> Prepared:
    """The shards that are there, up to the first that is missing.

    Raises:
        RefbenchError: there is none.
    """
    count = 0
    while (folder / f"shard-{count:05d}.safetensors").is_file():
        count += 1
    if not count:
        raise RefbenchError(f"Expected prepared scenes in {folder}, but there are none; run `refbench train prepare`.")
    return Prepared(folder, count, KINDS)


class Ahead(Generic[Made]):
    """What a GPU learns from, made by threads while it works; on a processor, made when it is asked for.

    A batch of 8 takes 0.03 s of a core to draw and 0.02 s to search for its motion.

    Args:
        make: one batch, of what a generator says.
        generator: decides every batch; the number of threads decides none.
        device: that learns.
    """

    def __init__(self, make: Callable[[torch.Generator], Made], generator: torch.Generator, device: str) -> None:
        self.make, self.generator = make, generator
        self.threads = 0 if device == "cpu" else max(1, min(THREADS, cores() - 1))
        self.seeds = torch.Generator().manual_seed(generator.initial_seed())
        self.pool = ThreadPoolExecutor(max(1, self.threads), thread_name_prefix="draw")
        self.waiting: deque[Future[Made]] = deque()

    def next(self) -> Made:
        """The next batch."""
        if not self.threads:
            return self.make(self.generator)
        while len(self.waiting) < 2 * self.threads:
            seed = int(torch.randint(1 << 62, (), generator=self.seeds))
            self.waiting.append(self.pool.submit(lambda s: self.make(torch.Generator().manual_seed(s)), seed))
        return self.waiting.popleft().result()
