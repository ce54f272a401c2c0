"""The script models, driven through stand-ins for their authors' checkouts: every picture in its slot."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.adapters import ready
from refbench.adapters.load import load_card, open_contained
from refbench.adapters.scripts import driver, licences
from refbench.adapters.spec import resolve, script_dependencies
from refbench.errors import RefbenchError
from refbench.images import load_image, save_png
from refbench.runs.catalogue import models
from refbench.runs.plan import model_slug
from refbench.schema import Inputs
from tests.adapters import standins, tiny_editors
from tests.omnirefiner import toys

NAMES = ["refine-anything", *standins.CHECKOUTS]
RED, BLUE, GREEN = [200, 30, 30], [30, 30, 200], [10, 240, 10]


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Licences of the test's own; the path, modules and working folder as before afterwards."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in standins.CHECKOUTS:
        monkeypatch.delenv(f"{name.upper().replace('-', '_')}_CHECKOUT", raising=False)
    path, modules, folder = list(sys.path), set(sys.modules), Path.cwd()
    yield
    os.chdir(folder)
    sys.path[:] = path
    foreign = ("standin", "omnigen2", "data", "modeling", "inferencer", "dreamo", "dreamo_generator", "utils", "src",
               "scripts", "main_code", "my_utils", "ram")  # fmt: skip
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in foreign:
            del sys.modules[name]


def module(name: str) -> Any:
    path = resolve(name).path
    assert path is not None
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def inputs(**changes: Any) -> Inputs:
    mask = np.zeros((75, 121), bool)
    mask[20:50, 30:70] = True
    values = {"draft": np.full((75, 121, 3), RED, np.uint8), "reference": np.full((64, 64, 3), BLUE, np.uint8)}
    return Inputs(id="a", prompt="Restore the text.", mask=mask, seed=7, **(values | changes))


def run(name: str, folder: Path, sample: Inputs, **options: Any) -> np.ndarray[Any, Any]:
    """Load a script's editor in this process, and answer one request as its protocol loop does."""
    script = module(name)
    known = {**driver.SHARED, "checkout": None, "accept_licence": None, **script.OPTIONS}
    chosen = driver.read_options(options, known)
    shared = {option: chosen[option] for option in driver.SHARED}
    for what, image in (("draft", sample.draft), ("reference", sample.reference), ("mask", sample.mask)):
        save_png(folder / f"{what}.png", image)
    request = {
        "id": sample.id, "prompt": sample.prompt, "seed": sample.seed, "reference_box": sample.reference_box,
        **{what: str(folder / f"{what}.png") for what in ("draft", "reference", "mask")},
        "output": str(folder / "output.png"),
    }  # fmt: skip
    driver.one(script.load("cpu", chosen), request, driver.Options(**shared))
    return load_image(folder / "output.png")


def weights_of(name: str, root: Path) -> dict[str, Any]:
    """Small files in the layout of a model's weights, and the options that name them."""
    import torch
    from safetensors.torch import save_file

    if name == "omnigen2":
        return {"model": str(standins.touch(root / "omnigen2", "model_index.json"))}
    if name == "bagel":
        folder = standins.touch(root / "bagel", "llm_config.json", "ae.safetensors")
        (folder / "vit_config.json").write_text('{"num_hidden_layers": 27}')
        state = {f"language_model.proj.{part}": torch.full((2, 2)[: 3 - len(part) % 2], 3.0) for part in ("weight",)}
        save_file(state | {"language_model.proj.bias": torch.zeros(2)}, folder / "ema.safetensors")
        return {"model": str(folder)}
    if name == "imagecritic":
        folder = standins.touch(root / "critic", "lora.safetensors")
        save_file({"fuse": torch.tensor([0.0, 1.0, 2.0])}, folder / "detail_encoder.safetensors")
        return {"model": str(folder), "base": str(standins.touch(root / "kontext", "model_index.json"))}
    if name == "adarefsr":
        folder = standins.touch(root / "ada", "model_index.json", "s3diff.pkl", "adarefsr.pkl")
        return dict.fromkeys(("base", "backbone", "model"), str(folder))
    return {}


@pytest.mark.parametrize("name", ["omnigen2", "bagel", "dreamo", "imagecritic"])
def test_every_picture_reaches_its_slot(name: str, tmp_path: Path) -> None:
    checkout = standins.write_checkout(tmp_path / "checkout", name)
    out = run(name, tmp_path, inputs(), checkout=str(checkout), size=64, **weights_of(name, tmp_path))
    assert Path.cwd() == checkout
    got = standins.records(checkout)
    red, blue = {"colour": RED}, {"colour": BLUE}
    if name == "omnigen2":
        assert [p["colour"] for p in got["input_images"]] == [RED, BLUE]
        assert (got["height"], got["width"]) == (48, 80)
        assert got["prompt"].startswith("Edit the first image: Restore the text.")
        assert (got["generator"], got["steps"], got["subfolder"]) == ({"seed": 7}, 50, "transformer")
    elif name == "bagel":
        reference, draft, words = got["inputs"]
        assert (reference["colour"], draft["colour"]) == (BLUE, RED)
        assert "Edit the second image: Restore the text." in words
        assert got["weight"] == 12.0  # the file's values, not the empty ones it was made with
        assert (got["meta"], got["layers"], got["qk_norm"]) == (False, 26, True)
        assert (got["vae"], got["vit"], got["interval"]) == ([1024, 512, 16], [980, 224, 14], [0.0, 1.0])
    elif name == "dreamo":
        assert [p["colour"] for p in got["ref_images"]] == [RED, BLUE]
        assert [c["img"]["colour"] for c in got["ref_conds"]] == [RED, BLUE]
        assert [c["task"] for c in got["ref_conds"]] == ["ip", "ip"]
        assert (got["args"]["device"], got["args"]["quant"], got["seed"]) == ("cpu", "none", 7)
    else:
        assert got["image_A"] | blue == got["image_A"]
        assert got["image_B"] | red == got["image_B"]
        assert got["image_A"]["size"] == got["image_B"]["size"] == [64, 64]  # the crop, a square
        assert got["prompt"] == "use the product in IMG1 as a reference to refine, replace, enhance the product in IMG2"
        assert got["encoder"] == [1.0, 2.0, 3.0]  # what is learned is added
        assert (got["lora"], got["transformer"]) == ("lora.safetensors", "the transformer")
    assert out.shape == (75, 121, 3)
    assert out[35, 50].tolist() == GREEN
    if module(name).OPTIONS.get("paste_back"):
        assert (out[~inputs().mask] == RED).all()


@pytest.mark.parametrize("name", ["omnigen2", "bagel", "dreamo", "imagecritic"])
def test_swapping_draft_and_reference_is_seen(name: str, tmp_path: Path) -> None:
    seen = []
    for number, (draft, reference) in enumerate([(RED, BLUE), (BLUE, RED)]):
        root = tmp_path / str(number)
        checkout = standins.write_checkout(root / "checkout", name)
        sample = inputs(
            draft=np.full((75, 121, 3), draft, np.uint8), reference=np.full((64, 64, 3), reference, np.uint8)
        )
        run(name, root, sample, checkout=str(checkout), size=64, **weights_of(name, root))
        got = standins.records(checkout)
        slots = {
            "omnigen2": "input_images", "bagel": "inputs", "dreamo": "ref_images", "imagecritic": "image_A",
        }  # fmt: skip
        seen.append(got[slots[name]])
        for module_name in [m for m in sys.modules if m.split(".")[0] in ("standin", "src", "inferencer", "data")]:
            del sys.modules[module_name]
        for module_name in [m for m in sys.modules if m.split(".")[0] in ("omnigen2", "modeling", "dreamo_generator")]:
            del sys.modules[module_name]
    assert seen[0] != seen[1]


def test_bagel_is_seeded_for_each_sample(tmp_path: Path) -> None:
    checkout = standins.write_checkout(tmp_path / "checkout", "bagel")
    noises = []
    for seed in (7, 7, 8):
        options = weights_of("bagel", tmp_path)
        run("bagel", tmp_path, replace(inputs(), seed=seed), checkout=str(checkout), size=64, **options)
        noises.append(standins.records(checkout)["noise"])
    assert noises[0] == noises[1] != noises[2]


def tiny_flux(folder: Path, lora: str) -> None:
    """A random tiny FLUX.1 at ``flux`` and a LoRA for it at ``lora``, both as their authors publish them."""
    from diffusers import FluxPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    clip, clip_tokenizer, t5, t5_tokenizer = toys.text_parts()
    transformer = toys.transformer()
    FluxPipeline(
        toys.scheduler(), toys.autoencoder(), clip, clip_tokenizer, t5, t5_tokenizer, transformer
    ).save_pretrained(folder / "flux")
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"]))
    (folder / "lora").mkdir()
    FluxPipeline.save_lora_weights(folder / "lora", get_peft_model_state_dict(transformer), weight_name=lora)


def test_mosaic_puts_two_subjects_side_by_side(tmp_path: Path) -> None:
    tiny_flux(tmp_path, "subject_512.safetensors")
    checkout = standins.write_checkout(tmp_path / "checkout", "mosaic")
    options = {"base": str(tmp_path / "flux"), "lora": str(tmp_path / "lora"), "size": 64}
    out = run("mosaic", tmp_path, inputs(), checkout=str(checkout), **options)
    got = standins.records(checkout)
    assert [c[0]["colour"] for c in got["conditions"]] == [RED, BLUE]
    assert [c[0]["size"] for c in got["conditions"]] == [[512, 512], [512, 512]]
    assert [c[1:] for c in got["conditions"]] == [["subject", [0, -32]], ["subject", [0, -64]]]
    assert (got["adapters"], got["kind"], got["generator"]) == (["subject"], "FluxPipeline", {"seed": 7})
    assert (out[~inputs().mask] == RED).all()
    assert out[35, 50].tolist() == GREEN


def test_hifi_inpaint_sees_nothing_of_wrong_detail(tmp_path: Path) -> None:
    import torch

    tiny_flux(tmp_path, "pytorch_lora_weights.safetensors")
    blocks = len(toys.transformer().transformer_blocks)
    torch.save(
        {f"alpha_block_{n}": torch.full((2,), n + 1.0) for n in range(blocks)}, tmp_path / "lora/alpha_blocks.pt"
    )
    checkout = standins.write_checkout(tmp_path / "checkout", "hifi-inpaint")
    options = {"base": str(tmp_path / "flux"), "lora": str(tmp_path / "lora"), "size": 64, "steps": 3}
    out = run("hifi-inpaint", tmp_path, inputs(), checkout=str(checkout), **options)
    got = standins.records(checkout)
    (reference, moved), (masked, still) = got["conditions"]
    height, width = got["height"], got["width"]
    hidden = 30 * 40 / (75 * 121)
    assert (reference["colour"], moved, still) == (BLUE, [0, -height // 16], None)
    assert masked["size"] == [height, width]
    assert masked["colour"][0] == pytest.approx(200 * (1 - hidden), abs=12)  # the mask's inside is black
    assert got["mask"]["colour"][0] == pytest.approx(255 * hidden, abs=16)  # and white in the mask's picture
    assert got["texture"][0] == [{"size": reference["size"], "colour": [206, 206, 206]}, None]  # 255 - luma of BLUE
    assert got["texture"][1][0] == masked
    assert got["alphas"] == [2.0 * (n + 1) for n in range(blocks)]
    assert (got["adapters"], got["lora"], got["use_texture"]) == (["subject"], True, True)
    assert (got["num_inference_steps"], got["guidance_scale"], got["prompt"]) == (3, 3.5, "Restore the text.")
    assert (out[~inputs().mask] == RED).all()
    assert out[35, 50].tolist() == GREEN
    run("hifi-inpaint", tmp_path, inputs(), checkout=str(checkout), **options)
    assert standins.records(checkout)["noise"] == got["noise"]


def test_adarefsr_restores_draft_by_reference(tmp_path: Path) -> None:
    checkout = standins.write_checkout(tmp_path / "checkout", "adarefsr")
    out = run("adarefsr", tmp_path, inputs(), checkout=str(checkout), size=64, **weights_of("adarefsr", tmp_path))
    got = standins.records(checkout)
    assert (got["draft"], got["reference"], got["range"]) == (RED, BLUE, [True, True])
    assert got["prompts"] == ["a draft", "a reference"]
    assert (got["files"], got["judge"]) == (["s3diff.pkl", "adarefsr.pkl"], "de_net.pth")
    assert got["coloured_by"] == {"size": [64, 64], "colour": RED}
    assert (out[~inputs().mask] == RED).all()
    assert np.abs(out[35, 50] - np.array(GREEN)).max() <= 1
    (checkout / "models" / "DAPE.pth").unlink()
    with pytest.raises(RefbenchError, match=r"DAPE\.pth for adarefsr, .*SeeSR and name it with -o dape="):
        run("adarefsr", tmp_path, inputs(), checkout=str(checkout), **weights_of("adarefsr", tmp_path))


@pytest.mark.parametrize(("steps", "loras", "guidance"), [(8, 2, 1.0), (40, 1, 4.0)])
def test_refine_anything_runs_on_tiny_qwen(
    steps: int, loras: int, guidance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from diffusers import QwenImageEditPlusPipeline, QwenImageTransformer2DModel
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as pipelines
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    monkeypatch.setattr(pipelines, "VAE_IMAGE_SIZE", 32 * 32)
    monkeypatch.setattr(pipelines, "CONDITION_IMAGE_SIZE", 56 * 56)
    tiny_editors.qwen(tmp_path / "qwen")
    transformer = QwenImageTransformer2DModel.from_pretrained(tmp_path / "qwen" / "transformer")
    torch.manual_seed(0)
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    files = module("refine-anything").NEEDS["weights"]
    for name, file in list(files.items())[1:]:
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        state = get_peft_model_state_dict(transformer)
        QwenImageEditPlusPipeline.save_lora_weights(folder, state, weight_name=file)
    calls: list[dict[str, Any]] = []
    real = QwenImageEditPlusPipeline.__call__

    def spied(self: Any, **arguments: Any) -> Any:
        calls.append({**arguments, "adapters": self.get_active_adapters()})
        return real(self, **{**arguments, "num_inference_steps": 1})

    monkeypatch.setattr(QwenImageEditPlusPipeline, "__call__", spied)
    options = {
        "base": str(tmp_path / "qwen"), "lora": str(tmp_path / "limuloo1999-RefineAnything"),
        "lightning": str(tmp_path / "lightx2v-Qwen-Image-Edit-2511-Lightning"), "steps": steps, "size": 64,
    }  # fmt: skip
    out = run("refine-anything", tmp_path, inputs(), **options)
    (call,) = calls
    draft, reference, mask = (np.asarray(p) for p in call["image"])
    assert (draft == RED).all()
    assert (reference == BLUE).all()
    assert set(np.unique(mask)) == {0, 255}
    assert 0.3 < (mask == 255).mean() < 0.6  # the crop is about the mask
    assert (call["num_inference_steps"], call["true_cfg_scale"], call["negative_prompt"]) == (steps, guidance, " ")
    assert (call["height"], call["width"], len(call["adapters"])) == (64, 64, loras)
    assert (out[~inputs().mask] == RED).all()
    assert (out != RED).any()


def test_in_its_own_process_through_protocol(tmp_path: Path) -> None:
    checkout = standins.write_checkout(tmp_path / "checkout", "omnigen2")
    options = {"checkout": str(checkout), "size": 64, "focus": True, "paste_back": True}
    with open_contained("omnigen2", runner="python", options=options | weights_of("omnigen2", tmp_path)) as adapter:
        assert adapter.isolation == "process"
        assert adapter.card.name == "omnigen2+focus+paste-back"
        assert adapter.card.summary.endswith("outside the mask the draft.")
        (done,) = adapter.refine_batch([inputs()])
    assert done.error is None
    assert done.image is not None
    assert (done.image[~inputs().mask] == RED).all()
    assert done.image[35, 50].tolist() == GREEN


@pytest.mark.parametrize("name", list(standins.CHECKOUTS))
def test_missing_checkout_says_where_it_is(name: str, tmp_path: Path) -> None:
    accept = module(name).NEEDS.get("accept")
    more = {"accept_licence": accept} if accept else {}
    wrong = standins.touch(tmp_path / "wrong", "README.md")
    for options, words in (
        ({}, "but none was named; `git clone https://github.com/"),
        ({"checkout": str(tmp_path / "nowhere")}, "but there is no folder; `git clone"),
        ({"checkout": str(wrong)}, r"but it has no .*\.py; `git clone"),
    ):
        with (
            pytest.raises(RefbenchError, match=words),
            open_contained(name, runner="python", options={**options, **more}),
        ):
            pass


def test_licence_shown_accepted_once_and_remembered(tmp_path: Path) -> None:
    def start(**options: Any) -> str:
        with (
            pytest.raises(RefbenchError) as caught,
            open_contained("imagecritic", runner="python", options=options),
        ):
            pass
        return str(caught.value)

    shown = start()
    assert "CC-BY-NC-4.0. Its code and weights may be used for non-commercial purposes only" in shown
    assert "creativecommons.org/licenses/by-nc/4.0" in shown
    assert "-o accept_licence=CC-BY-NC-4.0" in shown
    assert "accept the licence" in start(accept_licence="yes")
    assert not licences.accepted("imagecritic", "CC-BY-NC-4.0")
    assert "none was named" in start(accept_licence="CC-BY-NC-4.0")
    assert licences.accepted("imagecritic", "CC-BY-NC-4.0")
    assert licences.licence_file().is_relative_to(tmp_path)
    assert "none was named" in start()
    assert "accept the licence" not in str(ready.readiness("imagecritic"))


def test_wrong_options_and_weights_are_named(tmp_path: Path) -> None:
    checkout = standins.write_checkout(tmp_path / "checkout", "omnigen2")
    for options, words in (
        ({"stepps": 4}, "it has no 'stepps'; did you mean steps"),
        ({"steps": "many"}, "the option steps to be like 50, but it is 'many'"),
        ({"checkout": str(checkout)}, "fetch them with `hf download OmniGen2/OmniGen2`"),
    ):
        with pytest.raises(RefbenchError, match=words), open_contained("omnigen2", runner="python", options=options):
            pass


@pytest.mark.parametrize("name", NAMES)
def test_list_shows_card_and_what_lacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "graphics_memory_gb", lambda: 0.0)
    card = load_card(name)
    assert card.name == name
    assert card.summary
    assert card.licence
    assert model_slug(resolve(name)) == name
    path = resolve(name).path
    assert path is not None
    assert script_dependencies(path)
    (row,) = [row for row in models() if row["name"] == name]
    assert row["ready"].startswith("no: ")
    assert "hf download" in row["ready"]
    assert ("git clone" in row["ready"]) == (name != "refine-anything")
    assert ("accept_licence" in row["ready"]) == (name in ("dreamo", "mosaic", "imagecritic", "hifi-inpaint"))
    assert ("no GPU" in row["ready"]) == (card.vram_gb is not None)


def test_refine_anything_has_pins_of_its_authors() -> None:
    path = resolve("refine-anything").path
    assert path is not None
    pins = script_dependencies(path)
    assert pins is not None
    assert {"diffusers==0.36.0", "transformers==4.55.0", "peft==0.17.0", "safetensors==0.5.3"} <= set(pins)


def test_listing_imports_neither_torch_nor_diffusers() -> None:
    import subprocess

    code = (
        "import sys\nfrom refbench.runs.catalogue import models\nrows = models()\n"
        "print([n for n in ('torch', 'diffusers', 'transformers', 'huggingface_hub', 'cv2') if n in sys.modules])"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.splitlines()[-1] == "[]"
