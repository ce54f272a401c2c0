"""Training scenes of stage 1: samples made by the suites' own code, their references placed as for a user's picture.

Each is a window of the whole picture around the mask: the draft, the draft with the reference laid in, the reference
through its pose, and the target. A scene whose reference is not trusted is left out: there the draft is what is given
back, and nothing is to be learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refbench.crops import cut
from refbench.errors import RefbenchError
from refbench.images import Mask, mask_box
from refbench.omnirefiner.tensors import to_tensor
from refbench.omnirefiner.training.prepared import Kind
from refbench.registration.placement import compose, view
from refbench.schema import Box
from refbench.tasks.drawing import Pool, draw_recipe, pool_of
from refbench.tasks.recipes import make_sample
from refbench.tasks.sources import Sources, Split
from refbench.tasks.writing import Question

WINDOW = 192
"""Side in px of what is kept of a scene. A mask that is larger is seen in part."""

KINDS: tuple[Kind, ...] = ("picture", "picture", "picture", "picture", "share", "share", "share")


@dataclass(slots=True)
class Opened:
    """What scenes are drawn from; the `generator` decides them."""

    sources: Sources
    pool: Pool
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class PlacedScenes:
    """(draft, placed, view, target, mask, other, kind) of windows; pictures (3, 192, 192) in [-1, 1], mask (1, 192,
    192) in {0, 1}; `other` () is 1 where the draft shows another thing than the reference, `kind` () is 0 for a
    composed print and 1 for a clip.

    Args:
        sources: the folder that ``refbench tasks fetch`` filled.
        split: whose assets are used.
    """

    sources: Path
    split: Split = "train"
    kinds: tuple[Kind, ...] = KINDS

    def recipe(self) -> dict[str, Any]:
        """What decides the scenes, beside the seed and the code."""
        return {"kind": "placed", "split": self.split, "window": WINDOW}

    def open(self) -> Opened:
        """The sources, and a generator."""
        sources = Sources(self.sources)
        return Opened(sources, pool_of(sources, self.split), torch.Generator())

    def samples(self, opened: Opened) -> Iterator[tuple[Tensor, ...]]:
        """Endless scenes."""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=opened.generator)))
        while True:
            recipe = draw_recipe(opened.pool, opened.sources, rng)
            if recipe is None:
                continue
            try:
                question = make_sample(recipe, opened.sources)
            except RefbenchError:  # its mask is too small or too large
                continue
            corner = rng.random(2)
            scene = place_scene(question, corner)
            if scene is not None:
                yield scene


def place_scene(question: Question, corner: NDArray[np.float64] | None = None) -> tuple[Tensor, ...] | None:
    """One scene of :class:`PlacedScenes`, or None where its reference is not placed with trust.

    Args:
        question: a whole sample.
        corner: (2,) in [0, 1], which part of a mask larger than the window is seen; its middle when None.
    """
    assert question.target is not None
    asked = question.draft, question.reference, question.mask, question.reference_box
    laid, found = compose(*asked, question.prompt, selected=False)
    if not found.confident:
        return None
    box = window(question.mask, np.full(2, 0.5) if corner is None else corner)
    mask = torch.from_numpy(cut(question.mask.astype(np.uint8)[..., None], box)[..., 0].astype(np.float32))[None]
    if mask.sum() < 200 or np.array_equal(laid, question.draft):
        return None
    pictures = cut(question.draft, box), cut(laid, box), view(question.reference, found.matrix, box)
    kind = torch.tensor(float(question.meta.view == "true"))
    return (
        *(to_tensor(p) for p in (*pictures, cut(question.target, box))), mask, torch.tensor(float(found.other)), kind,
    )  # fmt: skip


def window(mask: Mask, corner: NDArray[np.float64]) -> Box:
    """A square of :data:`WINDOW` px about the mask, or over a part of it (`corner`); it may leave the picture."""
    x, y, width, height = mask_box(mask)
    spare = np.array([width, height]) - (WINDOW - 24)
    shift = np.where(spare > 0, (corner - 0.5) * spare, 0)
    left, top = (round(float(v)) for v in np.array([x + width / 2, y + height / 2]) + shift - WINDOW / 2)
    return left, top, WINDOW, WINDOW
