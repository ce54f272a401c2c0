"""Refining one picture, and the shipped checkpoint's promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refbench.crops import box_mask
from refbench.errors import RefbenchError
from refbench.images import save_png
from refbench.omnirefiner.refine import VARIANTS, load_refiner, refine
from refbench.omnirefiner.tiny.procedural import plate
from refbench.omnirefiner.tiny.runtime import checkpoints
from refbench.omnirefiner.training.weights import load_pipeline, read_card

FACTS = {"stage", "data", "hardware", "seed", "command", "licence"}


def _shipped(name: str) -> bool:
    return all((checkpoints() / "adapters" / a).is_dir() for a in VARIANTS[name])


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import cv2

    target = plate(np.random.default_rng(3), 120)
    mask = box_mask((40, 40, 44, 36), (120, 120))
    draft = target.copy()
    draft[mask] = cv2.GaussianBlur(target, (0, 0), 2.5)[mask]
    return draft, target, mask


@pytest.mark.parametrize("variant", [v for v in VARIANTS if _shipped(v)])
def test_every_variant_changes_only_the_mask(variant: str, scene: tuple[np.ndarray, ...]) -> None:
    draft, reference, mask = scene
    first = refine(draft, reference, mask, variant=variant)
    assert np.array_equal(first[~mask], draft[~mask])
    assert not np.array_equal(first[mask], draft[mask])
    assert np.array_equal(first, refine(draft, reference, mask, variant=variant))


def test_the_base_sees_no_reference(scene: tuple[np.ndarray, ...]) -> None:
    draft, reference, mask = scene
    other = plate(np.random.default_rng(9), 120)
    assert np.array_equal(*(refine(draft, r, mask, variant="omnirefiner-base") for r in (reference, other)))
    assert not np.array_equal(*(refine(draft, r, mask, variant="omnirefiner-sft") for r in (reference, other)))


def test_stage_two_opens_further_to_replace() -> None:
    rng = np.random.default_rng(11)
    mask = box_mask((40, 40, 44, 36), (120, 120))
    pipeline = load_refiner("omnirefiner")
    opened: dict[str, list[float]] = {"Restore the label.": [], "Replace the label with the reference's.": []}
    for _ in range(3):
        draft, reference = plate(rng, 120), plate(rng, 120)
        for prompt, least in opened.items():
            seen = pipeline.focus(draft, reference, mask, reference_box=(40, 40, 44, 36), prompt=prompt)
            conditions = pipeline.conditions(seen.draft[None], seen.reference[None], seen.mask[None], [prompt])
            noise = pipeline.noise(conditions, torch.Generator().manual_seed(0))
            _, gate = pipeline.denoise_gated(noise, conditions)
            assert gate is not None
            inside = torch.nn.functional.adaptive_max_pool2d(seen.mask[None], gate.shape[-2:]) > 0
            least.append(float(gate[inside].min()))
    mended, replaced = opened.values()
    # where a gate is half open the draft's own print shines through
    assert min(replaced) > 0.75
    assert sum(mended) < sum(replaced) - 0.1


def test_each_shipped_file_has_its_card() -> None:
    files = list(checkpoints().rglob("*.safetensors"))
    assert files
    assert sum(f.stat().st_size for f in files) <= 14e6
    for file in files:
        assert set(read_card(file.parent)) >= FACTS, file.parent


def test_a_mask_or_a_box_but_not_both(scene: tuple[np.ndarray, ...]) -> None:
    draft, reference, mask = scene
    with pytest.raises(RefbenchError, match="either a mask or a box, but got neither"):
        refine(draft, reference)
    with pytest.raises(RefbenchError, match="got both"):
        refine(draft, reference, mask, box=(0, 0, 9, 9))
    with pytest.raises(RefbenchError, match="inside the draft of 120 x 120"):
        refine(draft, reference, box=(100, 0, 40, 9))
    with pytest.raises(RefbenchError, match="inside the reference of"):
        refine(draft, reference, mask, reference_box=(0, 0, 9999, 9))
    with pytest.raises(RefbenchError, match="all black"):
        refine(draft, reference, np.zeros((120, 120), bool))
    with pytest.raises(RefbenchError, match="a variant"):
        load_refiner("omnirefiner-huge")


def test_a_wrong_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match=r"model_index\.json"):
        load_refiner("omnirefiner-base", checkpoint=tmp_path)
    for nowhere in (tmp_path / "no" / "such", "./nowhere", "nowhere"):
        with pytest.raises(RefbenchError, match=r"model_index\.json"):
            load_refiner("omnirefiner-base", checkpoint=nowhere)


def test_paths_and_pil_images_refine_alike(tmp_path: Path, scene: tuple[np.ndarray, ...]) -> None:
    draft, reference, mask = scene
    for name, array in zip(("d", "r", "m"), scene, strict=True):
        save_png(tmp_path / f"{name}.png", array)
    pipeline = load_refiner()
    expected = refine(draft, reference, mask, pipeline=pipeline)
    paths = [tmp_path / f"{name}.png" for name in ("d", "r", "m")]
    assert np.array_equal(refine(*paths, pipeline=pipeline), expected)
    assert np.array_equal(refine(*map(Image.open, paths), pipeline=pipeline), expected)
    with pytest.raises(RefbenchError, match="uint8 array as draft, but got float64"):
        refine(draft / 255, reference, mask, pipeline=pipeline)


def test_loading_a_refiner_says_nothing() -> None:
    import logging as standard

    from diffusers.utils import logging

    before, heard = logging.get_verbosity(), []
    listener = standard.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.set_verbosity_warning()
    standard.getLogger("diffusers").addHandler(listener)
    try:
        load_pipeline(checkpoints(), ["sft"])
        assert logging.get_verbosity() == logging.WARNING
    finally:
        standard.getLogger("diffusers").removeHandler(listener)
        logging.set_verbosity(before)
    assert heard == []
