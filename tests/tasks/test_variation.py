"""Variations of recipes: deterministic, of the same pictures, within the task."""

from __future__ import annotations

from typing import Any

import pytest

from refbench.errors import RefbenchError
from refbench.tasks import variation
from refbench.tasks.build import VALIDATION, load_recipes
from refbench.tasks.sources import recipe_assets

RECIPES = load_recipes(VALIDATION)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Recipes that were made to see whether they can be."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(variation, "make_sample", lambda recipe, sources: seen.append(recipe))
    return seen


def test_variations_depend_on_the_seed(made: list[dict[str, Any]]) -> None:
    first, again = (variation.vary(RECIPES, 3, sources=None) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    assert first != variation.vary(RECIPES, 3, sources=None, seed=8)  # type: ignore[arg-type]
    ids = [one["id"] for one in first]
    assert len(set(ids)) == len(ids) == 3 * len(RECIPES)
    for task in {recipe["task"] for recipe in RECIPES}:
        assert [i for i in ids if i.startswith(task)] == [f"{task}-{n:03d}" for n in range(24)]


def test_variations_use_their_recipes_pictures(made: list[dict[str, Any]]) -> None:
    given = {asset for recipe in RECIPES for asset in recipe_assets(recipe)}
    found = variation.vary(RECIPES, 2, sources=None)  # type: ignore[arg-type]
    assert {asset for one in found for asset in recipe_assets(one)} <= given
    for one in found:
        if one["kind"] == "print":
            assert one["target"]["asset"] != one["reference"]["asset"]


def test_impossible_variation_is_tried_then_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: dict[str, int] = {}

    def make(recipe: dict[str, Any], sources: Any) -> None:
        tries[recipe["task"]] = tries.get(recipe["task"], 0) + 1
        if recipe["task"] == "face-refine" or tries[recipe["task"]] % 2:
            raise RefbenchError("its mask covers too much")

    monkeypatch.setattr(variation, "make_sample", make)
    views = [recipe for recipe in RECIPES if recipe["task"] in ("face-refine", "object-refine")]
    told: list[tuple[str, int, int]] = []
    found = variation.vary(
        views,
        2,
        sources=None,
        progress=lambda *state: told.append(state),  # type: ignore[arg-type]
    )
    assert told == [("recipes", n, 32) for n in range(1, 17)]
    assert {one["task"] for one in found} == {"object-refine"}
    assert len(found) == 16
    assert tries["object-refine"] == 32
    assert tries["face-refine"] == 8 * variation.TRIES


def test_committed_recipes_stay(made: list[dict[str, Any]]) -> None:
    variation.vary(RECIPES, 1, sources=None)  # type: ignore[arg-type]
    assert load_recipes(VALIDATION) == RECIPES
