"""Refining one picture, and the shipped checkpoint's promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from refbench.crops import box_mask
from refbench.errors import RefbenchError
from refbench.images import save_png
from refbench.omnirefiner.refine import VARIANTS, load_refiner, refine
from refbench.omnirefiner.retouch.data import SceneBatch
from refbench.omnirefiner.retouch.refiner import Retoucher, checkpoints, window
from refbench.omnirefiner.tiny.procedural import plate
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.weights import load_pipeline, save_adapter, save_base
from refbench.tasks.degradations import blur
from tests.omnirefiner.test_training import _fresh

FACTS = {"stage", "data", "hardware", "seed", "command", "licence"}


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import cv2

    target = plate(np.random.default_rng(3), 120)
    mask = box_mask((40, 40, 44, 36), (120, 120))
    draft = target.copy()
    draft[mask] = cv2.GaussianBlur(target, (0, 0), 2.5)[mask]
    return draft, target, mask


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_changes_only_the_mask(variant: str, scene: tuple[np.ndarray, ...]) -> None:
    draft, reference, mask = scene
    first = refine(draft, reference, mask, variant=variant)
    assert np.array_equal(first[~mask], draft[~mask])
    assert not np.array_equal(first[mask], draft[mask])
    assert np.array_equal(first, refine(draft, reference, mask, variant=variant))


def test_mask_or_box_but_not_both(scene: tuple[np.ndarray, ...]) -> None:
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


@pytest.mark.parametrize(("asked", "words"), [
    ({"box": (1.5, 2, 30, 30)}, "four whole numbers"), ({"box": (1, 2, 30)}, "four whole numbers"),
    ({"box": "1,2,30,30"}, "four whole numbers"), ({"box": (2, 2, 30, 30), "reference_box": (1, 2)}, "four whole"),
    ({"box": (2, 2, 30, 30), "prompt": None}, "prompt as text"),
    ({"box": (2, 2, 30, 30), "pipeline": "a/folder"}, "checkpoint="),
    ({"box": (2, 2, 30, 30), "steps": 0}, "1 step"), ({"box": (2, 2, 30, 30), "seed": -1}, "seed"),
])  # fmt: skip
def test_what_is_no_argument_is_one_sentence(scene: tuple[np.ndarray, ...], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RefbenchError, match=words):
        refine(scene[0], scene[1], **asked)


def test_the_shipped_weights_have_their_card() -> None:
    import json

    card = json.loads((checkpoints() / "card.json").read_text())
    for file in checkpoints().glob("*.safetensors"):
        assert set(card[file.stem]) >= FACTS
    assert sum(f.stat().st_size for f in checkpoints().rglob("*")) <= 14e6


def test_another_network_s_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"head.weight": torch.zeros(2)}, tmp_path / "stage1.safetensors")
    with pytest.raises(RefbenchError, match="another network's"):
        load_refiner("omnirefiner-sft", checkpoint=tmp_path)
    shutil.copy(checkpoints() / "stage1.safetensors", tmp_path)
    assert isinstance(load_refiner("omnirefiner-sft", checkpoint=tmp_path), Retoucher)
    last = load_refiner("omnirefiner", checkpoint=tmp_path)
    assert isinstance(last, Retoucher)
    before = {name: value.clone() for name, value in last.network.state_dict().items()}
    save_file({"head.bias": torch.ones(8)}, tmp_path / "stage2.safetensors")
    after = load_refiner("omnirefiner", checkpoint=tmp_path)
    assert isinstance(after, Retoucher)
    assert {n for n, v in after.network.state_dict().items() if not torch.equal(v, before[n])} == {"head.bias"}


def test_a_hub_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with monkeypatch.context() as offline:
        offline.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        offline.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        with pytest.raises(RefbenchError, match="hub repository 'someone/no-such-refiner'"):
            load_refiner(checkpoint="someone/no-such-refiner")
    shutil.copy(checkpoints() / "stage1.safetensors", tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: str(tmp_path))
    assert isinstance(load_refiner(checkpoint="someone/refiner"), Retoucher)


def test_diffusers_adapters_are_those_that_are_there(tmp_path: Path) -> None:
    pipeline = _fresh()
    save_base(pipeline, tmp_path, {"stage": "base"})
    with pytest.raises(RefbenchError, match="refbench train sft"):
        load_refiner(checkpoint=tmp_path)
    seen = []
    for stage in ("sft", "grpo"):
        adapted = load_pipeline(tmp_path, ["sft"] if stage == "grpo" else [])
        add_lora(adapted.transformer, 2)
        for p in trainable(adapted.transformer).values():
            torch.nn.init.normal_(p, std=0.3)
        state = {k: p.detach() for k, p in trainable(adapted.transformer).items()}
        save_adapter(state, adapted.transformer, "default", tmp_path / "adapters" / stage, {"stage": stage})
        seen.append([load_refiner(v, checkpoint=tmp_path).transformer.state_dict() for v in VARIANTS])  # type: ignore[union-attr]
    (first, alone), (last, still) = seen
    assert all(torch.equal(first[k], alone[k]) and torch.equal(alone[k], still[k]) for k in first)
    assert not all(torch.equal(last[k], still[k]) for k in last)


def test_a_large_picture_is_seen_smaller() -> None:
    mask = np.zeros((1400, 1200), bool)
    mask[100:1100, 200:700] = True
    scale, (x, y, width, height) = window(mask)
    assert (scale, width, height) == (3, 576, 1056)
    assert x <= 200
    assert y <= 100
    assert x + width >= 700
    assert y + height >= 1100
    refiner = load_refiner("omnirefiner-sft")
    assert isinstance(refiner, Retoucher)
    generator = torch.Generator().manual_seed(0)
    coarse = blur(torch.rand(1, 3, 96, 96, generator=generator) * 2 - 1, 3.0)
    small = SceneBatch(*[coarse] * 4, *[torch.ones(1, 1, 96, 96)] * 2, torch.zeros(1))
    large = SceneBatch(*(F.interpolate(p, scale_factor=3) for p in (coarse,) * 4), *[torch.ones(1, 1, 288, 288)] * 2,
                       torch.zeros(1))  # fmt: skip
    seen = refiner.retouched(small).astype(int)
    again = refiner.retouched(large, 3).astype(int)[1::3, 1::3]
    # the same numbers, carried out at three times the size on pixels that are three times as large
    assert np.abs(seen - again).mean() < 1


def test_a_wrong_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match=r"model_index\.json"):
        load_refiner("omnirefiner-sft", checkpoint=tmp_path)
    for nowhere in (tmp_path / "no" / "such", "./nowhere", "nowhere"):
        with pytest.raises(RefbenchError, match=r"model_index\.json"):
            load_refiner("omnirefiner-sft", checkpoint=nowhere)


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
