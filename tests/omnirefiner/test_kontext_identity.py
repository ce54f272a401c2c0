"""With the reference stream removed the method is FLUX.1-Kontext to the bit; LoRA and folders interoperate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import FluxKontextPipeline

from refbench.omnirefiner.config import LORA_FILE
from refbench.omnirefiner.focus.crop import focus
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.tokens import pack
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.weights import load_pipeline, save_adapter
from tests.omnirefiner import toys


def _stock(ours: OmniRefinerPipeline) -> FluxKontextPipeline:
    found = FluxKontextPipeline(
        toys.scheduler(), ours.vae, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
        transformer=ours.transformer,
    )  # fmt: skip
    found.set_progress_bar_config(disable=True)
    return found


def _stock_tokens(stock: FluxKontextPipeline, draft: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    tokens: torch.Tensor = stock(
        image=draft, height=64, width=64, max_area=64 * 64, num_inference_steps=3, guidance_scale=2.5, latents=noise,
        prompt_embeds=torch.zeros(1, 1, 24), pooled_prompt_embeds=torch.zeros(1, 20), output_type="latent",
        _auto_resize=False, return_dict=False,
    )[0]  # fmt: skip
    return tokens


def test_without_reference_it_is_flux_kontext() -> None:
    ours = toys.pipeline()
    batch = toys.quadruplets(1, 64)
    conditions = ours.conditions(batch.draft, None, batch.mask, ["x"])
    noise = pack(torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(5)))
    stock = _stock_tokens(_stock(ours), (batch.draft + 1) / 2, noise)
    assert torch.equal(ours.denoise(noise, conditions, 3), stock)
    with_reference = ours.conditions(batch.draft, batch.reference, batch.mask, ["x"])
    assert not torch.equal(ours.denoise(noise, with_reference, 3), stock)


def test_lora_files_load_in_diffusers(tmp_path: Path) -> None:
    ours = toys.pipeline()
    add_lora(ours.transformer, 4)
    torch.manual_seed(0)
    for parameter in trainable(ours.transformer).values():
        parameter.data.normal_(std=0.1).copy_(parameter.data.half().float())
    state = {k: p.detach() for k, p in trainable(ours.transformer).items()}
    save_adapter(state, ours.transformer, "default", tmp_path, {"stage": "test"})
    batch = toys.quadruplets(1, 64)
    conditions = ours.conditions(batch.draft, None, batch.mask, ["x"])
    noise = pack(torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(5)))
    expected = ours.denoise(noise, conditions, 3)

    fresh = toys.pipeline()
    plain = fresh.denoise(noise, conditions, 3)
    stock = _stock(fresh)
    stock.load_lora_weights(tmp_path, weight_name=LORA_FILE)
    found = _stock_tokens(stock, (batch.draft + 1) / 2, noise)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, plain, atol=1e-3)

    stock.unload_lora_weights()
    stock.load_lora_weights(tmp_path, weight_name=LORA_FILE, adapter_name="again")
    stock.save_lora_weights(tmp_path / "stock", transformer_lora_layers=_layers(stock))
    back = toys.pipeline()
    back.load_lora_weights(tmp_path / "stock", weight_name=LORA_FILE)
    assert torch.allclose(back.denoise(noise, conditions, 3), expected, atol=1e-6)


def _layers(stock: FluxKontextPipeline) -> dict[str, torch.Tensor]:
    from peft.utils import get_peft_model_state_dict

    found: dict[str, torch.Tensor] = get_peft_model_state_dict(stock.transformer, adapter_name="again")
    return found


def test_save_and_reload_give_identical_image(tmp_path: Path) -> None:
    ours = toys.pipeline()
    rng = np.random.default_rng(0)
    draft, reference = rng.integers(0, 256, (2, 80, 96, 3), dtype=np.uint8)
    mask = np.zeros((80, 96), bool)
    mask[20:50, 30:70] = True
    focused = focus(draft, reference, mask, 64, reference_box=(30, 20, 40, 30))
    before = ours([focused], ["fix"], [3]).images[0]
    ours.save_pretrained(tmp_path)
    after = load_pipeline(tmp_path)([focused], ["fix"], [3]).images[0]
    assert np.array_equal(before, after)
    assert np.array_equal(before[~mask], draft[~mask])
    assert not np.array_equal(before[mask], draft[mask])


def test_a_sample_ignores_its_batch() -> None:
    ours = toys.pipeline()
    rng = np.random.default_rng(0)
    drafts = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[16:40, 16:40] = True
    focuses = [focus(d, drafts[0], mask, 64) for d in drafts]
    together = ours(focuses, ["a", "b"], [1, 2]).images
    alone = ours([focuses[1]], ["b"], [2]).images[0]
    # float32 kernels may sum batches in another order: at most one grey level
    assert np.abs(together[1].astype(int) - alone.astype(int)).max() <= 1
