"""The ComfyUI folder at a stand-in of the documented interface: refine and measure batches of images."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny

import refbench
from comfyui.comfy_standin import ComfyNode, latest, run
from refbench.errors import RefbenchError
from refbench.metrics.torch import RefBench

FOLDER = Path(__file__).resolve().parents[2] / "comfyui"


@pytest.fixture(scope="module")
def nodes() -> Any:
    """The folder, loaded as ComfyUI loads a folder of custom_nodes."""
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "comfy_api", ModuleType("comfy_api"))
    patch.setitem(sys.modules, "comfy_api.latest", latest())
    spec = importlib.util.spec_from_file_location("custom_nodes_refbench", FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    patch.undo()


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    suite = tiny(2)
    truths = [suite.truth(name) for name in suite.ids]
    made = {
        name: torch.from_numpy(np.stack([getattr(truth, name) for truth in truths])).float() / 255
        for name in ("draft", "reference", "target")
    }
    return {**made, "mask": torch.from_numpy(np.stack([truth.mask for truth in truths])).float()}


def test_entrypoint_gives_both_nodes(nodes: Any) -> None:
    assert inspect.iscoroutinefunction(nodes.comfy_entrypoint)
    extension = asyncio.run(nodes.comfy_entrypoint())
    found = asyncio.run(extension.get_node_list())
    assert [node.define_schema().node_id for node in found] == ["RefbenchRefine", "RefbenchMeasure"]
    assert all(issubclass(node, ComfyNode) for node in found)


def test_models_offered_are_those_that_run_here(nodes: Any) -> None:
    schema = nodes.RefbenchRefine.define_schema()
    (model,) = [one for one in schema.inputs if one.id == "model"]
    assert model.facts["default"] == "omnirefiner"
    assert {"omnirefiner", "warp-blend", "sharpen"} <= set(model.facts["options"])
    assert not {"openai-image", "flux-kontext"} & set(model.facts["options"])


def test_refined_image_is_that_of_model(nodes: Any, batch: dict[str, torch.Tensor]) -> None:
    given = {name: batch[name] for name in ("draft", "reference", "mask")}
    (refined,) = run(nodes.RefbenchRefine, **given, model="sharpen", device="cpu")
    assert refined.shape == batch["draft"].shape
    assert (refined.dtype, refined.min() >= 0, refined.max() <= 1) == (torch.float32, True, True)
    suite = tiny(2)
    adapter = refbench.load_adapter("sharpen")
    for image, name in zip(refined, suite.ids, strict=True):
        assert np.array_equal((image * 255).round().byte().numpy(), adapter.refine(suite.sample(name)).image)
    outside = batch["mask"] == 0
    assert torch.equal(refined[outside], batch["draft"][outside])


def test_one_reference_and_mask_serve_batch(nodes: Any, batch: dict[str, torch.Tensor]) -> None:
    given = {"draft": batch["draft"], "reference": batch["reference"][:1], "mask": batch["mask"][:1]}
    (refined,) = run(nodes.RefbenchRefine, **given, model="reference-paste", device="cpu")
    assert len(refined) == 2
    with pytest.raises(ValueError, match="1 mask or 2"):
        run(nodes.RefbenchRefine, **{**given, "mask": batch["mask"].repeat(2, 1, 1)[:3]}, model="sharpen")
    with pytest.raises(RefbenchError, match="mask of image 0"):
        run(nodes.RefbenchRefine, **{**given, "mask": batch["mask"] * 0}, model="sharpen", device="cpu")


def test_numbers_are_those_of_the_metric(nodes: Any, batch: dict[str, torch.Tensor]) -> None:
    score, *axes, text = run(nodes.RefbenchMeasure, output=batch["draft"] * 0.9, **batch)
    metric = RefBench()
    chw = {name: part.permute(0, 3, 1, 2) for name, part in batch.items() if name != "mask"}
    parts = (chw["target"], chw["reference"], batch["mask"][:, None], chw["draft"])
    metric.update(chw["draft"] * 0.9, *parts)
    expected = [float(value) for value in metric.compute().values()]
    assert [score, *axes] == pytest.approx(expected[:4], abs=1e-6)
    assert text.splitlines()[0] == f"score: {expected[0]:.1f}"
    assert len(text.splitlines()) == 5
