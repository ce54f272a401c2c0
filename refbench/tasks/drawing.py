"""Draw recipes at random: endless training samples made by the suites' own code from the assets of one split.

What is drawn is as the validation suite has it: eight tasks in equal shares, their degradations and strengths, kinds of
mask, light and surfaces; only that nobody chose where a print lies and what of a clip is masked. Nothing is taken from
`core`, whose assets are another split's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, resize
from refbench.tasks.prints import PATTERNS
from refbench.tasks.sources import FONTS, Asset, Sources, Split, catalogue, split_of

Recipe = dict[str, Any]

TASKS = (
    "text-refine", "logo-refine", "pattern-refine", "object-refine", "face-refine", "text-replace", "logo-replace",
    "pattern-replace",
)  # fmt: skip
VIEWS = {"logo-refine": 0.25, "pattern-refine": 0.375, "object-refine": 1.0, "face-refine": 1.0}
"""Share of a task's samples that are two frames of a clip."""
SPOILT: dict[str, tuple[tuple[str, ...], tuple[float, float], float]] = {
    "text-refine": (("regenerate", "hallucinate", "latent-x2", "latent-x2"), (0.2, 0.5), 0.5),
    "logo-refine": (("lose", "melt", "melt", "hallucinate", "hallucinate", "hallucinate", "erase"), (0.6, 0.87), 1.0),
    "pattern-refine": (("regenerate", "regenerate", "melt", "melt", "smear", "latent-x4"), (0.62, 0.84), 1.0),
    "object-refine": (
        ("latent-x4", "erase", "regenerate", "regenerate", "melt", "latent-x8", "lose"), (0.68, 0.92), 1.0,
    ),
    "face-refine": (("hallucinate", "hallucinate", "smear", "wash", "erase", "regenerate", "lose"), (0.52, 0.8), 1.0),
    "text-replace": (("regenerate", "regenerate", "drift", "latent-x2", "jpeg"), (0.33, 0.52), 0.75),
    "logo-replace": (("latent-x2", "drift", "regenerate", "compress"), (0.33, 0.5), 0.62),
    "pattern-replace": (("regenerate", "regenerate", "smear"), (0.28, 0.44), 0.5),
}  # fmt: skip
"""Of each task: degradations (as often as they stand there), bounds of their strength, share of samples with one."""
KINDS, SHARES = ("box", "tight", "scribble"), (0.4, 0.37, 0.23)
SIDES = (224, 352)
"""Shorter side of the pictures in px."""
SYLLABLES = (
    "an", "ba", "cor", "del", "en", "fi", "gra", "ho", "in", "jo", "ka", "lu", "mer", "no", "os", "pra", "qui", "ri",
    "sto", "ta", "ul", "ve", "win", "yo", "zen",
)  # fmt: skip
TRACKED = 96
"""Side in px at which frames of a clip are followed."""
MOVED = (0.03, 0.3)
"""By how much two frames must differ where they are masked, as the root mean square of levels in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The assets of one split that recipes are drawn from."""

    surfaces: tuple[Asset, ...]
    clips: tuple[Asset, ...]
    logos: tuple[str, ...]
    objects: tuple[str, ...]
    fonts: tuple[str, ...]


def pool_of(sources: Sources, split: Split = "train") -> Pool:
    """All assets of a split; fonts of the training split stand in where it has none."""
    mine = [a for a in catalogue().values() if split_of(a.id) == split and min(a.width, a.height) >= SIDES[0]]
    fonts = [name for name in FONTS if FONTS[name][2] == split] or [n for n in FONTS if FONTS[n][2] == "train"]
    return Pool(
        tuple(mine), tuple(a for a in mine if a.frames >= 8),
        tuple(n for n in sources.logo_names() if split_of(f"logo:{n}") == split),
        tuple(n for n in sources.emoji_names() if split_of(f"emoji:{n}") == split), tuple(fonts),
    )  # fmt: skip


def draw_recipe(pool: Pool, sources: Sources, rng: np.random.Generator) -> Recipe | None:
    """One recipe, or None where the draw cannot be carried out (a clip that stands still, say); draw again then.

    Carrying it out (:func:`refbench.tasks.recipes.make_sample`) may still fail where its mask leaves 2 to 35 %.
    """
    task = TASKS[int(rng.integers(len(TASKS)))]
    category, _, mode = task.partition("-")
    recipe: Recipe = {"id": f"{task}-000", "task": task, "seed": int(rng.integers(1_000_000_000))}
    recipe["mask"] = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
    recipe["prompt"] = "Replace it by the reference's." if mode == "replace" else "Restore it from the reference."
    names, bounds, share = SPOILT[task]
    if rng.random() < share:
        recipe["degradation"] = {"name": _one(names, rng), "strength": round(float(rng.uniform(*bounds)), 2)}
    recipe["strength"] = recipe["degradation"]["strength"] if "degradation" in recipe else 1.0
    if rng.random() < VIEWS.get(task, 0.0):
        pair = _views(pool, sources, rng)
        return None if pair is None else {**recipe, "kind": "views", **pair}
    return {**recipe, "kind": "print", **_print(category, mode, pool, rng)}


def _one(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _colour(rng: np.random.Generator, dark: bool) -> str:
    levels = rng.uniform(0.0, 0.35, 3) if dark else rng.uniform(0.72, 1.0, 3)
    if rng.random() < 0.5:
        levels[int(rng.integers(3))] = rng.uniform(0.3, 0.7)
    return "#" + "".join(f"{round(255 * float(v)):02x}" for v in levels)


def _words(rng: np.random.Generator) -> list[str]:
    def word() -> str:
        made = "".join(_one(SYLLABLES, rng) for _ in range(int(rng.integers(1, 4))))
        return str(rng.integers(10, 2000)) if rng.random() < 0.12 else made

    lines = [word() for _ in range(1 if rng.random() < 0.55 else 2)]
    style = rng.random()
    return [line.upper() if style < 0.55 else line.capitalize() for line in lines]


def _print(category: str, mode: str, pool: Pool, rng: np.random.Generator) -> Recipe:
    """Print, wrong print and both views of a composed sample."""
    made: Recipe = {}
    panelled, dark = rng.random() < 0.8, rng.random() < 0.5
    panel, ink = _colour(rng, not dark), _colour(rng, dark)
    if category == "text":
        style = {"type": "text", "font": _one(pool.fonts, rng), "ink": ink, "rule": bool(rng.random() < 0.25)}
        style["panel"] = panel if panelled or style["rule"] else None
        made["print"] = {**style, "lines": _words(rng)}
        garble = round(float(rng.uniform(0.5, 0.95)), 2)
        made["text"] = " ".join(made["print"]["lines"])
        if mode == "replace":
            made["wrong"] = {**style, "lines": _words(rng)}
        else:
            made["wrong"] = {**style, "lines": _garbled(made["print"]["lines"], garble, rng), "garble": garble}
    elif category == "logo":
        plain = rng.random() < 0.25
        made["print"], other = ({"type": "mark", "asset": _mark(pool, rng)} for _ in range(2))
        if not plain:
            made["print"]["panel"] = other["panel"] = panel if rng.random() < 0.5 else "#f2efe6"
        if mode == "replace":
            made["wrong"] = other
    else:
        aspect = round(float(np.exp(rng.uniform(-0.45, 0.45))), 2)
        made["print"], other = (
            {"type": "pattern", "pattern": _one(PATTERNS, rng), "seed": int(rng.integers(1_000_000)),
             "cells": int(rng.integers(3, 8)), "aspect": aspect}
            for _ in range(2)
        )  # fmt: skip
        if mode == "replace":
            made["wrong"] = other
    if "wrong" in made:
        made["fault"] = "other-print" if mode == "replace" else "garbled-glyphs"
    made["target"], made["reference"] = _surface(pool, rng, False), _surface(pool, rng, True)
    return made


def _garbled(lines: Sequence[str], strength: float, rng: np.random.Generator) -> list[str]:
    from refbench.tasks.prints import wrong_text

    return [wrong_text(line, strength, rng) for line in lines]


def _mark(pool: Pool, rng: np.random.Generator) -> str:
    return f"logo:{_one(pool.logos, rng)}" if rng.random() < 0.75 else f"emoji:{_one(pool.objects, rng)}"


def _surface(pool: Pool, rng: np.random.Generator, lit: bool) -> Recipe:
    """A view of a still or a frame with a quad for a print somewhere on it."""
    asset: Asset = _one(pool.surfaces, rng)
    view: Recipe = {"asset": asset.id}
    if asset.frames > 1:
        view["frame"] = int(rng.integers(min(asset.frames, 60)))
    width, height = _sized(view, asset, rng)
    across = float(np.exp(rng.uniform(np.log(64), np.log(min(200, 0.75 * width)))))
    down = float(np.clip(across * np.exp(rng.uniform(-0.7, 0.2)), 36, 0.75 * height))
    half = np.array([[-across, -down], [across, -down], [across, down], [-across, down]]) / 2
    turn = np.deg2rad(rng.normal() * 6)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = half @ rotation.T + rng.normal(size=(4, 2)) * 0.05 * np.sqrt(across * down)
    room = np.ptp(corners, axis=0) / 2 + 6
    low, high = room, np.array([width, height]) - room
    if (low >= high).any():
        corners = corners * float(np.min((np.array([width, height]) - 14) / np.ptp(corners, axis=0)))
        low = high = np.array([width, height]) / 2
    centre = low + rng.random(2) * (high - low)
    middle = (corners.max(0) + corners.min(0)) / 2
    view["quad"] = (corners - middle + centre).round(1).tolist()
    shape = rng.random()
    if shape < 0.2:
        view |= {"wrap": round(float(rng.uniform(0.3, 0.9)), 2), "bow": round(float(rng.uniform(-0.1, 0.1)), 2)}
    elif shape < 0.45:
        view["cloth"] = round(float(rng.uniform(0.01, 0.035)), 3)
    view["opacity"] = round(float(rng.uniform(0.88, 0.96)), 2)
    if lit:
        tint = rng.uniform(0.88, 1.06, 3).round(2).tolist()
        view["light"] = {"gamma": round(float(rng.uniform(0.76, 1.24)), 2), "tint": tint}
    return view


def _sized(view: Recipe, asset: Asset, rng: np.random.Generator) -> tuple[int, int]:
    """Crop a large picture and scale it down: (width, height) in px."""
    width, height = asset.width, asset.height
    if max(width, height) > SIDES[1]:
        side = int(rng.integers(max(SIDES[0], min(width, height) // 2), min(width, height) + 1))
        view["crop"] = [int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1)), side, side]
        width = height = min(side, int(rng.integers(SIDES[0], SIDES[1] + 1)))
        view["size"] = [width, height]
    return width, height


@lru_cache(maxsize=400)
def _clip(root: str, asset: str) -> tuple[tuple[int, ...], tuple[Image, ...]]:
    """Some frames of a clip, up to 24 without a cut, small: their numbers and pictures."""
    from refbench.tasks.training_assets import steady

    count = catalogue()[asset].frames
    numbers = list(range(0, count, max(1, count // 24)))
    frames = Sources(root).frames(asset, numbers)
    start, stop = steady(frames)
    small = tuple(resize(f, (TRACKED, TRACKED)) for f in frames[start:stop])
    return tuple(numbers[start:stop]), small


def _views(pool: Pool, sources: Sources, rng: np.random.Generator) -> Recipe | None:
    """Two frames of a clip that differ, an ellipse over something in the first, and its box in the second."""
    asset: Asset = _one(pool.clips, rng)
    numbers, frames = _clip(str(sources.root), asset.id)
    if len(numbers) < 2:
        return None
    first, second = (int(v) for v in rng.choice(len(numbers), 2, replace=False))
    size = np.array([asset.width, asset.height])
    axes = np.exp(rng.uniform(np.log(70), np.log(190), 2)).clip(max=0.7 * size)
    axes[1] = np.clip(axes[1], axes[0] / 1.8, min(axes[0] * 1.8, 0.7 * size[1]))
    detail = np.abs(np.diff(frames[first].astype(np.float32).mean(2), axis=0, append=0))
    corners = [rng.random(2) * (size - axes - 8) + 4 for _ in range(4)]
    cells = [_cells(c, axes, size) for c in corners]
    best = int(np.argmax([detail[c].mean() for c in cells]))
    corner, cell = corners[best], cells[best]
    change = float(np.sqrt(np.square(frames[first][cell] / 255.0 - frames[second][cell] / 255.0).mean()))
    if not MOVED[0] <= change <= MOVED[1] or frames[first][cell].std() < 12:
        return None
    made: Recipe = {
        "target": {"asset": asset.id, "frame": numbers[first]},
        "reference": {"asset": asset.id, "frame": numbers[second]},
        "area": {"ellipse": [round(float(v)) for v in (*corner, *axes)]},
    }
    if rng.random() < 0.75:
        shift, scale = _followed(frames[first], frames[second], cell)
        centre = corner + axes / 2 + shift * size / TRACKED
        span = axes * scale * rng.uniform(1.0, 1.2)
        low, high = (centre - span / 2).clip(min=0), (centre + span / 2).clip(max=size)
        if (high - low < 40).any():
            return None
        made["reference_box"] = [round(float(v)) for v in (*low, *(high - low))]
    return made


def _cells(corner: NDArray[np.float64], axes: NDArray[np.float64], size: NDArray[np.int64]) -> tuple[slice, slice]:
    low = np.floor(corner / size * TRACKED).astype(int)
    high = np.ceil((corner + axes) / size * TRACKED).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _followed(first: Image, second: Image, cell: tuple[slice, slice]) -> tuple[NDArray[np.float64], float]:
    """By how much (x, y), in px of the small frames, what `cell` shows has moved, and how much larger it has become."""
    import cv2

    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (first, second)]
    flow = np.asarray(engine.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)))[cell]
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]]
    wider = float(np.polyfit(columns.ravel(), flow[..., 0].ravel(), 1)[0])
    taller = float(np.polyfit(rows.ravel(), flow[..., 1].ravel(), 1)[0])
    return np.median(flow.reshape(-1, 2), axis=0).astype(np.float64), float(np.clip(1 + (wider + taller) / 2, 0.7, 1.4))
