"""Recipes drawn at random: what they are made of, and that they can be carried out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from refbench.tasks import drawing, sources
from refbench.tasks.build import VALIDATION, load_recipes
from refbench.tasks.degradations import DEGRADATIONS
from refbench.tasks.sources import FONTS, catalogue, recipe_assets, split_of


class Stub:
    """Names of logos and objects without the fetched packages."""

    root = Path("nowhere")

    def logo_names(self) -> list[str]:
        return [f"made-{k}" for k in range(60)] + sorted(g[5:] for g in sources.test_groups() if g.startswith("logo:"))

    def emoji_names(self) -> list[str]:
        return [f"1f{k:03x}" for k in range(40)]


@pytest.fixture
def pool() -> drawing.Pool:
    return drawing.pool_of(Stub())  # type: ignore[arg-type]


def prints(pool: drawing.Pool, count: int) -> list[drawing.Recipe]:
    rng = np.random.default_rng(0)
    found: list[drawing.Recipe] = []
    while len(found) < count:
        recipe = drawing.draw_recipe(pool, Stub(), rng)  # type: ignore[arg-type]
        if recipe is not None:
            found.append(recipe)
    return found


def test_a_pool_holds_one_split_only(pool: drawing.Pool) -> None:
    assert {split_of(a.id) for a in pool.surfaces} == {"train"}
    assert {split_of(f"logo:{n}") for n in pool.logos} == {"train"}
    assert {FONTS[f][2] for f in pool.fonts} == {"train"}
    held = drawing.pool_of(Stub(), "val")  # type: ignore[arg-type]
    assert not {a.group for a in held.surfaces} & {a.group for a in pool.surfaces}
    assert held.fonts == pool.fonts


def test_drawn_recipes_name_training_assets(pool: drawing.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "VIEWS", {})
    recipes = prints(pool, 200)
    assert json.dumps(recipes) == json.dumps(prints(pool, 200))
    assert {split_of(asset) for r in recipes for asset in recipe_assets(r)} == {"train"}
    for recipe in recipes:
        for view in (recipe["target"], recipe["reference"]):
            asset = catalogue()[view["asset"]]
            width, height = view.get("size", (asset.width, asset.height))
            corners = np.array(view["quad"])
            assert (corners >= 0).all()
            assert (corners <= [width, height]).all()
        if recipe["task"] == "text-refine":
            right, wrong = recipe["print"]["lines"], recipe["wrong"]["lines"]
            assert [len(line) for line in right] == [len(line) for line in wrong]
            assert right != wrong


def test_tasks_and_masks_are_validation_suites(pool: drawing.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "VIEWS", {})
    recipes = prints(pool, 800)
    tasks = Counter(r["task"] for r in recipes)
    assert set(tasks) == {r["task"] for r in load_recipes(VALIDATION)}
    assert all(70 < n < 130 for n in tasks.values())  # 100 each; 3 standard deviations are 28
    theirs = {(r["task"], r["degradation"]["name"]) for r in load_recipes(VALIDATION) if r.get("degradation")}
    mine = {(r["task"], r["degradation"]["name"]) for r in recipes if "degradation" in r}
    assert mine == {pair for pair in theirs if pair[1] in DEGRADATIONS}


def test_what_a_clip_shows_is_followed() -> None:
    import cv2

    rng = np.random.default_rng(3)
    first = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 2.0)
    first = cv2.normalize(first, None, 0, 255, cv2.NORM_MINMAX)
    moved = np.array([[1.1, 0, 3.0], [0, 1.1, -2.0]])
    second = cv2.warpAffine(first, moved, (96, 96), borderMode=cv2.BORDER_REFLECT)
    cell = (slice(20, 60), slice(24, 64))
    shift, scale = drawing._followed(first, second, cell)
    # the middle of the cell, (44, 40), goes to 1.1 x + 3 and 1.1 y - 2
    assert shift == pytest.approx([7.4, 2.0], abs=1.0)
    assert scale == pytest.approx(1.1, abs=0.03)
