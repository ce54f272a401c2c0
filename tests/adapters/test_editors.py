"""The diffusers editors end to end, each on a random tiny model of its classes, saved and loaded as published."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from refbench import devices
from refbench.adapters import ready
from refbench.adapters.contract import RefusedError
from refbench.adapters.diffusion import DiffusersEditor
from refbench.adapters.load import load_adapter
from refbench.adapters.registry import MODELS
from refbench.errors import RefbenchError, UnavailableError
from refbench.schema import Inputs
from tests.adapters import tiny_editors

NAMES = list(tiny_editors.MAKERS)
BATCHING = ["flux-kontext", "flux-kontext-inpaint", "sd-inpaint"]
RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(scope="module", autouse=True)
def _small_conditions() -> Iterator[None]:
    """Qwen's pipeline brings every picture to one megapixel; here to 32 px."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as module

    before = module.VAE_IMAGE_SIZE, module.CONDITION_IMAGE_SIZE
    module.VAE_IMAGE_SIZE, module.CONDITION_IMAGE_SIZE = 32 * 32, 56 * 56
    yield
    module.VAE_IMAGE_SIZE, module.CONDITION_IMAGE_SIZE = before


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    made: dict[Callable[[Path], None], Path] = {}
    for maker in tiny_editors.MAKERS.values():
        if maker not in made:
            made[maker] = root / maker.__name__
            maker(made[maker])
    return {name: made[maker] for name, maker in tiny_editors.MAKERS.items()}


def options(name: str, folder: Path) -> dict[str, Any]:
    more = {"ip_adapter": str(folder / "ip-adapter")} if name == "sdxl-ip-adapter" else {}
    return {"model": str(folder), "steps": 2, "size": 128 if name.startswith("flux2-klein") else 64, **more}


@pytest.fixture(scope="module")
def editors(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: load_adapter(name, **options(name, folders[name])).adapter for name in NAMES}


class Spy:
    """A pipeline that remembers how it was called, and then is called, or answers as it is told."""

    def __init__(self, real: Any, answer: Any = None) -> None:
        self.real, self.answer, self.calls = real, answer, []

    def __call__(self, **arguments: Any) -> Any:
        self.calls.append(arguments)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.real(**arguments) if self.answer is None else self.answer


@pytest.fixture
def spy(editors: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spy]:
    def watch(name: str, answer: Any = None) -> Spy:
        found = Spy(editors[name].pipeline, answer)
        monkeypatch.setattr(editors[name], "pipeline", found)
        return found

    return watch


def sample(name: str = "a", size: tuple[int, int] = (75, 121), seed: int = 5, **changes: Any) -> Inputs:
    generator = np.random.default_rng(len(name))
    mask = np.zeros(size, bool)
    mask[20:50, 30:70] = True
    draft, reference = (generator.integers(0, 256, (*s, 3), np.uint8) for s in (size, (66, 120)))
    values: dict[str, Any] = {"draft": draft, "reference": reference, "mask": mask, "reference_box": (10, 10, 40, 30)}
    return Inputs(id=name, prompt="Restore the text.", seed=seed, **(values | changes))


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (75, 121)) -> np.ndarray[Any, Any]:
    return np.full((*size, 3), colour, np.uint8)


def test_documented_editor_of_ones_own_runs(folders: dict[str, Path], tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
    (block,) = (part for part in re.findall(r"```python\n(.*?)```", page, re.S) if "class MyEditor" in part)
    path = tmp_path / "my_editor.py"
    path.write_text(block)
    given = {"model": str(folders["flux-kontext"]), "steps": 1, "size": 64}
    inputs = sample()
    plain = load_adapter(path, **given).refine(inputs).image
    editor = load_adapter(path, **given, focus=True, paste_back=True)
    assert editor.card.name == "my-editor+focus+paste-back"
    focused = editor.refine(inputs).image
    assert (focused[~inputs.mask] == inputs.draft[~inputs.mask]).all()
    assert (plain[~inputs.mask] != inputs.draft[~inputs.mask]).any()
    assert (focused[inputs.mask] != inputs.draft[inputs.mask]).any()


@pytest.mark.parametrize("name", NAMES)
def test_odd_size_is_refined_and_repeats(name: str, editors: dict[str, Any]) -> None:
    editor, inputs = editors[name], sample()
    first = editor.refine(inputs)
    assert first.shape == inputs.draft.shape
    assert first.dtype == np.uint8
    assert first.std() > 5
    assert (editor.refine(inputs) == first).all()
    assert (editor.refine(replace(inputs, seed=6)) != first).any()
    assert (editor.refine(replace(inputs, id="other")) == first).all()


@pytest.mark.parametrize("name", NAMES)
def test_swapping_draft_and_reference_is_seen(name: str, editors: dict[str, Any]) -> None:
    a, b = flat(RED), flat(BLUE)
    one = editors[name].refine(sample(draft=a, reference=b))
    other = editors[name].refine(sample(draft=b, reference=a))
    assert (one != other).any()
    alone = editors[name].refine(sample(draft=a, reference=flat((10, 200, 10))))
    assert (one != alone).any() == editors[name].card.needs_reference


def pictures(value: Any) -> list[tuple[int, ...]]:
    """Mean colours of the pictures in a slot."""
    return [
        tuple(np.asarray(p.convert("RGB")).reshape(-1, 3).mean(0).round().astype(int))
        for p in (value if isinstance(value, list) else [value])
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_in_its_slot(name: str, editors: dict[str, Any], spy: Callable[..., Spy]) -> None:
    found = spy(name)
    editors[name].refine(sample(draft=flat(RED), reference=flat(BLUE, (75, 121))))
    (call,) = found.calls
    share = round(255 * 30 * 40 / (75 * 121))
    if name == "flux-kontext":
        canvas = np.asarray(call["image"])
        assert canvas.shape[1] == 2 * call["width"]
        assert (canvas[:, : call["width"]] == RED).all()
        assert (canvas[:, call["width"] :] == BLUE).all()
    elif name in ("flux2-klein", "qwen-image-edit", "qwen-image-2.1"):
        assert pictures(call["image"])[:2] == [RED, BLUE]
        if name != "flux2-klein":
            assert len(call["image"]) == 3
            guided = (" ", 4.0) if name == "qwen-image-edit" else (None, 1.0)
            assert (call["negative_prompt"], call["true_cfg_scale"]) == guided
            assert pictures(call["image"])[2][0] == pytest.approx(share, abs=12)
        else:
            assert len(call["image"]) == 2
    else:
        assert pictures(call["image"]) == [RED]
        assert pictures(call["mask_image"])[0][0] == pytest.approx(share, abs=12)
        slot = {"sd-inpaint": None, "sdxl-ip-adapter": "ip_adapter_image"}.get(name, "image_reference")
        if slot:
            assert pictures(call[slot]) == [BLUE]
        assert set(np.unique(np.asarray(call["mask_image"]))) == {0, 255}
    assert "Restore the text." in str(call["prompt"])
    assert call["num_inference_steps"] == 2
    multiple = {"sd-inpaint": 8, "sdxl-ip-adapter": 8, "qwen-image-2.1": 32}.get(name, 16)
    assert call["height"] % multiple == call["width"] % multiple == 0
    assert call["width"] > call["height"]


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_one_at_time(name: str, editors: dict[str, Any], spy: Callable[..., Spy]) -> None:
    batch = [sample("a"), sample("bb", seed=9), sample("ccc", (64, 64))]
    if name not in BATCHING:
        batch = batch[::2]
    single = [editors[name].refine(inputs) for inputs in batch]
    found = spy(name)
    together = editors[name].refine_batch(batch)
    assert len(found.calls) == 2
    for one, other in zip(single, together, strict=True):
        # sums in another order: a rounding step at most
        assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_bfloat16(name: str, folders: dict[str, Path]) -> None:
    small = {"size": 64 if name[:5] in ("flux2", "qwen-") else 32}
    editor: Any = load_adapter(name, **options(name, folders[name]) | small, dtype="bf16").adapter
    module = getattr(editor.pipeline, "transformer", None) or editor.pipeline.unet
    assert module.dtype == torch.bfloat16
    inputs = sample(size=(75, 75), reference=flat(BLUE, (64, 64)))
    assert editor.refine(inputs).shape == inputs.draft.shape


@pytest.mark.parametrize("way", ["model", "sequential"])
@pytest.mark.parametrize("name", NAMES)
def test_offloading_is_left_to_the_pipeline(
    name: str, way: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    seen: list[tuple[str, Any]] = []
    for method in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        monkeypatch.setattr(DiffusionPipeline, method, lambda self, device, m=method: seen.append((m, device)))
    monkeypatch.setattr(DiffusionPipeline, "to", lambda self, *a, **k: seen.append(("to", a)))
    monkeypatch.setattr(devices, "driver", lambda: True)
    monkeypatch.setattr(devices, "count", lambda: 2)
    editor: Any = load_adapter(name, device="cuda:1", offload=way, **options(name, folders[name])).adapter
    assert seen == [(f"enable_{way}_cpu_offload", "cuda:1")]
    assert editor.dtype == "bfloat16"
    with pytest.raises(RefbenchError, match="a GPU to offload from"):
        load_adapter(name, offload=way, **options(name, folders[name]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), RuntimeError("not enough memory: 9")],
)
def test_out_of_memory_says_what_helps(
    name: str, error: Exception, editors: dict[str, Any], spy: Callable[..., Spy], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(name, error)
    with pytest.raises(RefbenchError, match=r"ran out; try .*-o size=(48|96)\.") as caught:
        editors[name].refine(sample())
    assert ("--batch-size 1" in str(caught.value)) == (name in BATCHING)
    assert "offload" not in str(caught.value)
    monkeypatch.setattr(editors[name], "device", "cuda")
    with pytest.raises(RefbenchError, match="-o offload=model, -o offload=sequential or -o size="):
        editors[name].refine(sample())
    monkeypatch.setattr(editors[name], "offload", "model")
    with pytest.raises(RefbenchError, match="-o offload=sequential or -o size="):
        editors[name].refine(sample())
    assert "\n" not in str(caught.value)


def test_out_of_memory_while_loading_says_what_helps(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DiffusionPipeline

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DiffusionPipeline, "to", full)
    with pytest.raises(RefbenchError, match="ran out; try --batch-size 1 or -o size=384"):
        load_adapter("sd-inpaint", model=str(folders["sd-inpaint"]))


def test_other_error_is_no_lack_of_memory(editors: dict[str, Any], spy: Callable[..., Spy]) -> None:
    spy("sd-inpaint", ValueError("something else"))
    with pytest.raises(ValueError, match="something else"):
        editors["sd-inpaint"].refine(sample())


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_name_hub_id_and_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    kind: type[DiffusersEditor] = MODELS.load(name)
    with pytest.raises(UnavailableError, match=f"`hf download {kind.repository}`"):
        load_adapter(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnavailableError, match=r"there is no model_index\.json"):
        load_adapter(name, model=str(tmp_path / "empty"))
    assert f"hf download {kind.repository}" in str(kind.ready())


def test_missing_ip_adapter_names_its_own_files(folders: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"`hf download h94/IP-Adapter sdxl_models/\S+ models/image_encoder/\*`"):
        load_adapter("sdxl-ip-adapter", model=str(folders["sdxl-ip-adapter"]))


def test_damaged_weights_told_in_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders["sd-inpaint"], broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(RefbenchError, match=r"Expected weights of StableDiffusionInpaintPipeline at .*do not load"):
        load_adapter("sd-inpaint", model=str(broken))


def test_hubs_cache_is_used_without_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: type[DiffusersEditor] = MODELS.load("flux-kontext")
    place = tmp_path / "models--black-forest-labs--FLUX.1-Kontext-dev" / "snapshots" / "0123abc"
    shutil.copytree(folders["flux-kontext"], place)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(ready, "graphics_memory_gb", lambda: 80.0)
    assert kind.ready() is None
    editor: Any = load_adapter("flux-kontext", steps=1, size=64).adapter
    summary = f"{kind.card.summary.rstrip('.')}; outside the mask its own pixels."
    assert editor.card == kind.card.model_copy(update={"summary": summary})
    assert editor.refine(sample()).shape == (75, 121, 3)
    monkeypatch.setattr(ready, "graphics_memory_gb", lambda: 24.0)
    assert kind.ready() == "needs about 34 GB on a GPU, 24 here"
    monkeypatch.setattr(ready, "graphics_memory_gb", lambda: 0.0)
    assert kind.ready() == "no GPU (needs about 34 GB)"


@pytest.mark.parametrize("name", NAMES)
def test_focus_and_paste_back_hold(name: str, folders: dict[str, Path], editors: dict[str, Any]) -> None:
    changed = {"focus": True, "paste_back": True}
    editor = MODELS.load(name)(**options(name, folders[name]), **changed)
    editor.pipeline = Spy(editors[name].pipeline)
    assert editor.card.name == f"{name}+focus+paste-back"
    assert editor.card.summary.endswith("; on an enlarged crop around the mask, outside the mask the draft.")
    assert editors[name].card.summary.endswith("; outside the mask its own pixels.")
    assert type(editor).card.name == name
    inputs = sample()
    out = editor.refine(inputs)
    assert (out[~inputs.mask] == inputs.draft[~inputs.mask]).all()
    assert (out[inputs.mask] != inputs.draft[inputs.mask]).any()
    (call,) = editor.pipeline.calls
    assert call["height"] == call["width"] == editor.options.size


def test_other_weights_are_said_on_card(folders: dict[str, Path]) -> None:
    card = MODELS.load("qwen-image-edit")(model="Qwen/Qwen-Image-Edit-2509").card
    assert card.weights == "Qwen/Qwen-Image-Edit-2509"
    assert card.vram_gb is None
    local = MODELS.load("sd-inpaint")(model=str(folders["sd-inpaint"])).card
    assert local.weights == f"local folder {folders['sd-inpaint'].name}"


def test_a_flagged_picture_is_a_refusal(editors: dict[str, Any], spy: Callable[..., Spy]) -> None:
    spy("sd-inpaint", SimpleNamespace(images=np.zeros((1, 64, 64, 3)), nsfw_content_detected=[True]))
    with pytest.raises(RefusedError, match="safety checker"):
        editors["sd-inpaint"].refine(sample())


def test_nan_is_error_that_names_dtype(editors: dict[str, Any], spy: Callable[..., Spy]) -> None:
    spy("flux2-klein", SimpleNamespace(images=np.full((1, 64, 64, 3), np.nan)))
    with pytest.raises(RefbenchError, match="NaN in float32; use -o dtype=float32"):
        editors["flux2-klein"].refine(sample())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"offload": "disk"}, "none, model or sequential"),
        ({"dtype": "int8"}, "dtype to be auto or one of"),
        ({"steps": 0}, "steps to be a whole number"),
        ({"size": "big"}, "size to be a whole number"),
        ({"strength": 1.5}, "strength to be above 0"),
        ({"focus": "perhaps"}, "focus to be true or false"),
        ({"guidence": 3}, "did you mean guidance"),
    ],
)
def test_wrong_options_are_refused_before_loading(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(RefbenchError, match=words):
        load_adapter("flux-kontext-inpaint", **wrong)


@pytest.mark.slow
def test_in_a_child_process_with_batches(folders: dict[str, Path]) -> None:
    from refbench.adapters.load import open_contained

    with open_contained("sd-inpaint", batch_size=2, options=options("sd-inpaint", folders["sd-inpaint"])) as adapter:
        assert adapter.isolation == "worker"
        done = adapter.refine_batch([sample("a"), sample("bb")])
    assert [one.error for one in done] == [None, None]
    assert all(one.image is not None and one.image.shape == (75, 121, 3) for one in done)
