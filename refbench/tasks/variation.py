"""Vary recipes: the prints of a suite on each other's surfaces, spoilt in other ways, under other masks.

Sixty-four samples tell two settings of a refiner apart to some three points of its mean, their variations to a third of
one. A setting is chosen on more samples than a person can look at one by one; `core` itself is never varied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.tasks.recipes import make_sample
from refbench.tasks.sources import Sources

KINDS = ("box", "tight", "scribble")
SHARES = (0.4, 0.37, 0.23)
"""Share of each kind of mask, about that of `core`."""
TRIES = 25
"""Variations tried of a recipe for each that is wanted; one that leaves its picture, or its mask 2 to 35 %, is none."""
TURN, SCALE, SHIFT, SKEW = 4.0, 0.06, 0.06, 0.025
"""How a quad is moved (standard deviations): degrees, and shares of its size; each corner by SKEW of it."""

Recipe = dict[str, Any]


def vary(
    recipes: Sequence[Recipe],
    count: int,
    sources: Sources,
    seed: int = 7,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Recipe]:
    """Up to `count` variations of each recipe, in order; ids count up within each task.

    A print goes with surface and quad of another recipe of its task, moved a little, and to a third one's reference;
    a true view keeps its pair of pictures, a frame before or after where it is a clip. Degradations are exchanged
    within a task and the kind of mask is drawn. The result depends on nothing but the arguments.

    Args:
        recipes: of :func:`refbench.tasks.build.load_recipes`.
        count: of each recipe.
        sources: a variation is made once to see that it can be.
        seed: of all choices.
        progress: called with "recipes", variations found and those wanted.
    """
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[Recipe]] = {}
    spoilt: dict[str, list[Any]] = {}
    for recipe in recipes:
        groups.setdefault((recipe["task"], recipe["kind"]), []).append(recipe)
        if recipe.get("degradation"):
            spoilt.setdefault(recipe["task"], []).append(recipe["degradation"])
    found: list[Recipe] = []
    for recipe in recipes:
        done = 0
        for _ in range(TRIES):
            if done == count:
                break
            one = _varied(recipe, groups[recipe["task"], recipe["kind"]], spoilt.get(recipe["task"], []), rng)
            if one is None:
                continue
            try:
                make_sample(one, sources)
            except RefbenchError:
                continue
            found.append(one)
            done += 1
            if progress:
                progress("recipes", len(found), count * len(recipes))
    counts: dict[str, int] = {}
    for one in found:
        number = counts[one["task"]] = counts.get(one["task"], -1) + 1
        one["id"] = f"{one['task']}-{number:03d}"
    return found


def _varied(recipe: Recipe, group: Sequence[Recipe], spoilt: Sequence[Any], rng: np.random.Generator) -> Recipe | None:
    """One variation, or None where a print would lie on one picture twice."""
    one = copy.deepcopy(recipe)
    one["seed"] = int(rng.integers(1_000_000))
    if recipe["kind"] == "print":
        surface, shown = (group[int(rng.integers(len(group)))] for _ in range(2))
        one["target"], one["reference"] = copy.deepcopy(surface["target"]), copy.deepcopy(shown["reference"])
        if one["target"]["asset"] == one["reference"]["asset"]:
            return None
        for view in (one["target"], one["reference"]):
            if "quad" in view:
                view["quad"] = _moved(view["quad"], rng)
    if recipe.get("degradation"):
        one["degradation"] = copy.deepcopy(spoilt[int(rng.integers(len(spoilt)))])
    if recipe["kind"] != "print" and "frame" in one["target"] and not one.get("wrong"):
        one["target"]["frame"] = max(0, one["target"]["frame"] + int(rng.integers(-1, 2)))
    one["mask"] = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
    if one.get("degradation") and "strength" in recipe and not recipe.get("fault"):
        one["strength"] = one["degradation"]["strength"]
    return one


def _moved(quad: Sequence[Sequence[float]], rng: np.random.Generator) -> list[list[float]]:
    """A quad, four (x, y) in px, turned, scaled, shifted and skewed a little."""
    corners = np.array(quad, np.float64)
    centre, side = corners.mean(0), float(np.ptp(corners, axis=0).mean())
    turn, scale = np.deg2rad(rng.normal() * TURN), 1 + rng.normal() * SCALE
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = (corners - centre) @ rotation.T + centre
    moved = moved + rng.normal(size=2) * SHIFT * side + rng.normal(size=(4, 2)) * SKEW * side
    found: list[list[float]] = moved.round(1).tolist()
    return found
