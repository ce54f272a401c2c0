"""LoRA adapters as others publish them: diffusers' and peft's files, in a folder or in the hub's cache, alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxKontextPipeline
from safetensors.torch import load_file, save_file

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import LORA_FILE, load_config
from refbench.omnirefiner.flux.kontext import load_kontext
from refbench.omnirefiner.refine import load_refiner
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.weights import save_adapter
from tests.omnirefiner import toys

RANK, ALPHA = 2, 6


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random FLUX.1-Kontext pipeline, as it is published."""
    folder = tmp_path_factory.mktemp("kontext")
    clip, clip_tokenizer, t5, t5_tokenizer = toys.text_parts()
    FluxKontextPipeline(
        toys.scheduler(), toys.autoencoder(), clip, clip_tokenizer, t5, t5_tokenizer, toys.transformer()
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(stock: Path) -> Any:
    """A transformer with an adapter of rank 2 and alpha 6."""
    transformer = load_kontext(
        load_config("flux-kontext").model.model_copy(update={"pretrained": str(stock)})
    ).transformer
    add_lora(transformer, RANK, ALPHA)
    torch.manual_seed(0)
    for p in trainable(transformer).values():
        torch.nn.init.normal_(p, std=0.3).data.copy_(p.data.half())
    return transformer


def merged(transformer: Any) -> dict[str, torch.Tensor]:
    """What the weights must be: W + alpha / rank B A, in the transformer's bfloat16."""
    found = {}
    for name, module in transformer.named_modules():
        if hasattr(module, "lora_A"):
            a, b = (getattr(module, half)["default"].weight.detach().float() for half in ("lora_A", "lora_B"))
            found[f"{name}.weight"] = module.base_layer.weight.detach().float() + ALPHA / RANK * b @ a
    return found


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative error; bfloat16 has steps of 2^-8, and both the product and the sum are rounded to them."""
    return float((a.float() - b).norm() / b.norm())


def published(layout: str, trained: Any, folder: Path, base: str) -> Path:
    """The adapter alone as somebody would put it on the hub, its base named."""
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True)
    state = {k: p.detach() for k, p in trainable(trained).items()}
    if layout == "ours":
        save_adapter(state, trained, "default", folder / "adapters" / "sft", {"base": base})
        return folder
    if layout == "peft":
        layers = get_peft_model_state_dict(trained, state_dict=state, adapter_name="default")
        renamed = {f"base_model.model.{k}": v.contiguous() for k, v in layers.items()}
        save_file(renamed, folder / "adapter_model.safetensors")
        trained.peft_config["default"].save_pretrained(str(folder))
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
        return folder
    if layout == "transformer":
        trained.save_lora_adapter(folder, adapter_name="default", weight_name=LORA_FILE)
    else:
        save_adapter(state, trained, "default", folder, {})
    (folder / "README.md").write_text(f"---\nbase_model: {base}\ntags: [lora]\n---\nA refiner.\n")
    return folder


@pytest.mark.parametrize("layout", ["ours", "diffusers", "transformer", "peft"])
def test_an_adapter_alone_finds_its_base(layout: str, stock: Path, trained: Any, tmp_path: Path) -> None:
    folder = published(layout, trained, tmp_path / "lora", str(stock))
    found = load_refiner(checkpoint=folder).transformer.state_dict()  # type: ignore[union-attr]
    expected = merged(trained)
    assert len(expected) == 17  # 12 Linears of a double block, 5 of a single one
    for name, weight in expected.items():
        assert apart(found[name], weight) < 5e-3, name


def test_an_adapter_comes_from_the_hubs_cache(
    stock: Path, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    place = tmp_path / "models--someone--refiner-lora"
    published("diffusers", trained, place / "snapshots" / commit, str(stock))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    found = load_refiner(checkpoint="someone/refiner-lora").transformer.state_dict()  # type: ignore[union-attr]
    name, weight = next(iter(merged(trained).items()))
    assert apart(found[name], weight) < 5e-3


@pytest.mark.parametrize("wrong", ["layers", "shapes", "text"])
def test_another_networks_adapter_is_one_sentence(wrong: str, stock: Path, trained: Any, tmp_path: Path) -> None:
    folder = published("diffusers", trained, tmp_path / "lora", str(stock))
    layers = load_file(folder / LORA_FILE)
    renamed = {
        "layers": {k.replace("attn.to_q", "attn.to_z"): v for k, v in layers.items()},
        "shapes": {k: torch.cat([v, v], -1) for k, v in layers.items()},
        "text": {"text_encoder.encoder.lora_A.weight": torch.zeros(2, 2)},
    }[wrong]
    save_file({k: v.contiguous() for k, v in renamed.items()}, folder / LORA_FILE)
    with pytest.raises(RefbenchError, match="another network's"):
        load_refiner(checkpoint=folder)


def test_an_empty_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="a LoRA adapter"):
        load_refiner(checkpoint=tmp_path)
