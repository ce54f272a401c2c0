"""What the embedded suites promise: size, views, masks, exactness, licences, and no asset shared with training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from refbench import images
from refbench.tasks.build import TASKS, VALIDATION, load_recipes
from refbench.tasks.masks import SHARES
from refbench.tasks.recipes import make_sample
from refbench.tasks.sources import FONTS, Sources, catalogue, group_of, recipe_assets, split_of
from refbench.tasks.suite import Suite, data_folder, load_suite, sample_digest


@pytest.fixture(scope="module")
def core() -> Suite:
    return load_suite("core")


def test_core_has_eight_tasks_of_twenty(core: Suite) -> None:
    assert core.tasks == TASKS
    assert Counter(m.task for m in core.metas) == dict.fromkeys(TASKS, 20)
    mini = load_suite("mini")
    assert Counter(m.task for m in mini.metas) == dict.fromkeys(TASKS, 4)
    assert set(mini.ids) < set(core.ids)
    assert mini.hash != core.hash


def test_objects_and_faces_are_true_views(core: Suite) -> None:
    assert sum(m.view == "true" for m in core.metas) >= 60
    assert all(m.view == "true" for m in core.metas if m.category in ("object", "face"))


def test_masks_have_three_kinds_and_sizes(core: Suite) -> None:
    kinds = Counter(m.mask_kind for m in core.metas)
    assert set(kinds) == {"tight", "box", "scribble"}
    assert min(kinds.values()) >= 25
    assert all(SHARES[0] <= m.mask_share <= SHARES[1] for m in core.metas)


def test_degradations_are_many_and_recorded(core: Suite) -> None:
    names = Counter(m.degradation for m in core.metas)
    assert len(names) >= 15
    assert max(names.values()) <= 40
    assert all(0 < m.strength <= 1 for m in core.metas)


def test_samples_are_exact_outside_wrong_inside(core: Suite) -> None:
    for sample in core:
        target = core.target(sample)
        assert target.shape == sample.draft.shape
        assert sample.mask.shape == target.shape[:2]
        assert np.array_equal(sample.draft[~sample.mask], target[~sample.mask]), sample.id
        wrong = np.abs(sample.draft[sample.mask].astype(float) - target[sample.mask]).mean()
        assert wrong > 2, f"{sample.id}: the draft differs by {wrong:.2f} levels only"
        assert 320 <= min(target.shape[:2]) <= 512, sample.id
        assert min(sample.reference.shape[:2]) >= 320, sample.id
        assert sample.meta.mask_share == pytest.approx(sample.mask.mean(), abs=1e-6)
        if sample.reference_box:
            x, y, width, height = sample.reference_box
            assert x >= 0
            assert y >= 0
            assert x + width <= sample.reference.shape[1]
            assert y + height <= sample.reference.shape[0]


def test_recorded_hash_is_the_pixels(core: Suite) -> None:
    core.verify()


def test_stored_pictures_stay_under_their_budget() -> None:
    folder = data_folder()
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 18_000_000
    assert sum(p.stat().st_size for p in (folder / "core" / "sheets").iterdir()) <= 2_000_000


def test_samples_name_licence_author_and_source(core: Suite) -> None:
    allowed = {
        "MIT",
        "CC0-1.0",
        "Public domain",
        "BSD-3-Clause",
        "Apache-2.0",
        "OFL-1.1",
        "CC-BY-4.0",
        "CC-BY-2.0",
        "CC-BY-3.0",
    }
    cards = {task: (data_folder() / "core" / task / "README.md").read_text("utf-8") for task in TASKS}
    for meta in core.metas:
        assert set(meta.licence.split(" AND ")) <= allowed, meta.id
        assert meta.attribution
        assert meta.source
        assert f"| {meta.id} |" in cards[meta.task]


def test_no_core_asset_is_in_training() -> None:
    used = set().union(*(recipe_assets(recipe) for recipe in load_recipes()))
    groups = {group_of(asset) for asset in used}
    assert len(groups) > 100
    assert all(split_of(asset) == "test" for asset in used)
    others = {a for a in catalogue() if split_of(a) != "test"} | {f"font:{f}" for f in FONTS if FONTS[f][2] != "test"}
    assert others
    assert groups.isdisjoint(group_of(asset) for asset in others)
    splits = Counter(split_of(asset) for asset in catalogue())
    assert splits["train"] > splits["val"] > 0


def test_recipe_rebuilds_its_sample(core: Suite, tmp_path: Path) -> None:
    """The stereo pair comes with scikit-image, so this one needs nothing fetched."""
    for folder in ("npm", "comfyui"):
        (tmp_path / folder).mkdir()
    recipe = next(r for r in load_recipes() if r["target"]["asset"].startswith("skimage:motorcycle"))
    made = make_sample(recipe, Sources(tmp_path))
    sample = core.sample(recipe["id"])
    assert made.meta == sample.meta
    assert made.prompt == sample.prompt
    assert np.array_equal(made.target, core.target(sample))
    assert np.array_equal(made.draft, sample.draft)
    assert np.array_equal(made.reference, sample.reference)
    assert np.array_equal(made.mask, sample.mask)
    found = sample_digest(
        made.meta, made.prompt, made.reference_box, made.draft, made.target, made.reference, made.mask
    )
    assert found == core._places[sample.id].sha256


def test_recipes_are_data_with_unique_ids() -> None:
    recipes = load_recipes()
    assert len({r["id"] for r in recipes}) == 160
    assert all(json.loads(json.dumps(r)) == r for r in recipes)


def test_pasting_or_sharpening_solves_nothing(core: Suite) -> None:
    """Neither the reference's box stretched into the mask's box nor an unsharp mask of the draft is right: inside the
    mask its root mean squared error stays above 11 levels (27 dB). Over a task neither halves the draft's error."""
    from scipy.ndimage import gaussian_filter

    errors: dict[str, list[tuple[float, float, float]]] = {}
    for sample in core:
        target, mask = core.target(sample).astype(float), sample.mask
        x, y, width, height = images.mask_box(mask)
        rx, ry, rw, rh = sample.reference_box or (0, 0, sample.reference.shape[1], sample.reference.shape[0])
        paste = sample.draft.astype(float)
        patch = np.ascontiguousarray(sample.reference[ry : ry + rh, rx : rx + rw])
        paste[y : y + height, x : x + width] = images.resize(patch, (height, width))
        draft = sample.draft.astype(float)
        sharp = np.clip(draft + 1.5 * (draft - gaussian_filter(draft, (1.5, 1.5, 0))), 0, 255)
        own, pasted, sharpened = (float(np.sqrt(((a - target)[mask] ** 2).mean())) for a in (draft, paste, sharp))
        assert min(pasted, sharpened) > 11, (
            f"{sample.id}: paste {pasted:.1f}, sharpen {sharpened:.1f} of {own:.1f} levels"
        )
        errors.setdefault(sample.meta.task, []).append((own, pasted, sharpened))
    for task, rows in errors.items():
        own, pasted, sharpened = np.mean(rows, axis=0)
        assert min(pasted, sharpened) > 0.5 * own, task


def test_validation_suite_shares_no_asset() -> None:
    recipes = load_recipes(VALIDATION)
    assert Counter(recipe["task"] for recipe in recipes) == dict.fromkeys(TASKS, 8)
    assert not {recipe["id"] for recipe in recipes} & {recipe["id"] for recipe in load_recipes()}
    used = set().union(*(recipe_assets(recipe) for recipe in recipes))
    fonts = {asset for asset in used if asset.startswith("font:")}
    assert {split_of(asset) for asset in used - fonts} == {"val"}
    assert {split_of(asset) for asset in fonts} == {"train"}  # the validation split has no fonts of its own
    core = set().union(*(recipe_assets(recipe) for recipe in load_recipes()))
    assert {group_of(asset) for asset in used}.isdisjoint(group_of(asset) for asset in core)
    pictures = {asset for asset in used if ":" not in asset}
    assert len(pictures) >= 20
