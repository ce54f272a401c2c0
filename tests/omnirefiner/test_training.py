"""Supervised training: learns on a toy, touches only LoRA in stage 1, resumes, exports and reloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import ModelConfig, SupervisedConfig, load_config, shipped
from refbench.omnirefiner.method.latents import decode, encode
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.models import PatchAutoencoder
from refbench.omnirefiner.training.checks import Job
from refbench.omnirefiner.training.data import curriculum, draw
from refbench.omnirefiner.training.loop import train
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.sft import SupervisedLearner, encode_batch, supervised_loss, validate
from refbench.omnirefiner.training.stages import take_up
from refbench.omnirefiner.training.state import Average, Budget, learning_rate
from refbench.omnirefiner.training.weights import load_pipeline, save_adapter, save_base, take_up_adapter
from tests.omnirefiner import toys

MODEL = ModelConfig(
    transformer={
        "in_channels": 68, "out_channels": 64, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 8, "pooled_projection_dim": 8, "axes_dims_rope": [4, 6, 6],
    },
    autoencoder={"patch": 4, "latent_channels": 16}, scheduler={"shift": 1.0}, mask="channels", working_size=32,
    steps=2,
)  # fmt: skip
SETTINGS = SupervisedConfig(
    steps=12, batch=4, size=32, lr=3e-3, warmup=2, ema=0.5, sigma_mean=1.2, sigma_floor=0.6, mask_cap=8,
    lora_rank=4, validate_every=100,
)  # fmt: skip


def _fresh() -> OmniRefinerPipeline:
    pipeline = OmniRefinerPipeline.fresh(MODEL, seed=0)
    batch = toys.NoiseSampler(32, 9).batch(32)
    pipeline.vae.fit(batch["target"] * 2 - 1)
    return pipeline


def _train(pipeline: OmniRefinerPipeline, out: Path, stage: str, **changes: object) -> dict[str, object]:
    resume = bool(changes.pop("resume", False))
    sampler: Any = changes.pop("sampler", None) or toys.NoiseSampler(32)
    held_out = {"near": toys.quadruplets(4, 32, 77)}
    embedded = pipeline.embed_prompts(["x"])
    prompts = lambda other: tuple(e.expand(len(other), *e.shape[1:]) for e in embedded)  # noqa: E731
    settings = SETTINGS.model_copy(update=changes)
    return train(SupervisedLearner(pipeline, settings, sampler, held_out, prompts, stage=stage), out, resume=resume)


def test_an_untrained_base_says_nothing() -> None:
    pipeline, batch = _fresh(), toys.quadruplets(2, 32)
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["a", "b"]), reference=False)
    noise = pipeline.noise(conditions, torch.Generator().manual_seed(0))
    assert torch.allclose(pipeline.denoise(noise, conditions, 3), noise, atol=1e-5)


def test_the_linear_autoencoder_is_optimal() -> None:
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    full = PatchAutoencoder(patch=2, latent_channels=12).fit(pixels)
    assert torch.allclose(decode(full, encode(full, pixels)), pixels, atol=1e-5)
    part = PatchAutoencoder(patch=2, latent_channels=5).fit(pixels)
    patches = torch.nn.functional.pixel_unshuffle(pixels, 2).movedim(1, -1).flatten(0, -2)
    tail = torch.linalg.svdvals((patches - patches.mean(0)).double())[5:].square().sum() / pixels.numel()
    # Eckart-Young: the best rank-5 error is the sum of the dropped squared singular values
    assert (decode(part, encode(part, pixels)) - pixels).square().mean().item() == pytest.approx(tail.item(), rel=1e-4)
    assert encode(part, pixels).square().mean().item() == pytest.approx(1.0, abs=0.05)


class Fixed(toys.NoiseSampler):
    """The same four samples again and again: what a working trainer learns by heart."""

    def batch(
        self, count: int, misalignment: float | torch.Tensor = 1.0, details: bool = False
    ) -> dict[str, torch.Tensor]:
        return toys.NoiseSampler(self.size, 77).batch(count, 0.5, details)


def test_the_base_learns_four_samples(tmp_path: Path) -> None:
    pipeline = _fresh()
    facts = _train(pipeline, tmp_path, "base", sampler=Fixed(32), steps=150, ema=0.9, lr=3e-3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 100, 150, 150]
    assert lines[3]["loss"] < 0.92 * lines[0]["loss"]
    assert facts["steps"] == 150


class Exchanged(toys.NoiseSampler):
    """Every draft shows another print than its reference."""

    def batch(
        self, count: int, misalignment: float | torch.Tensor = 1.0, details: bool = False
    ) -> dict[str, torch.Tensor]:
        found = super().batch(count, misalignment, details)
        return found | {"kind": torch.ones(count, dtype=torch.int64), "fault": torch.ones(count, dtype=torch.int64)}


def test_the_base_hears_no_replacement(tmp_path: Path) -> None:
    told: dict[str, list[torch.Tensor]] = {}
    for stage in ("base", "sft"):
        pipeline = _fresh()
        embedded = pipeline.embed_prompts(["x"])

        def prompts(other: torch.Tensor, stage: str = stage, embedded: Any = embedded) -> Any:
            told.setdefault(stage, []).append(other)
            return tuple(e.expand(len(other), *e.shape[1:]) for e in embedded)

        settings = SETTINGS.model_copy(update={"steps": 2})
        held_out = {"near": toys.quadruplets(2)}
        learner = SupervisedLearner(pipeline, settings, Exchanged(32), held_out, prompts, stage=stage)
        train(learner, tmp_path / stage)
    # the last of each is validation, whose samples are all to be mended
    assert all(other.eq(0).all() for other in told["base"])
    assert all(other.eq(1).all() for other in told["sft"][:-1])
    assert len(told["sft"]) == 3


def test_stage_one_changes_only_lora(tmp_path: Path) -> None:
    pipeline = _fresh()
    save_base(pipeline, tmp_path, {"stage": "base"})
    pipeline = load_pipeline(tmp_path)
    before = {k: p.detach().clone() for k, p in pipeline.transformer.named_parameters()}
    _train(pipeline, tmp_path / "run", "sft", steps=4)
    after = dict(pipeline.transformer.named_parameters())
    assert all(torch.equal(p, after[k.replace(".weight", ".base_layer.weight") if k not in after else k] if k in after
                           or k.replace(".weight", ".base_layer.weight") in after
                           else after[k.replace(".bias", ".base_layer.bias")]) for k, p in before.items())  # fmt: skip
    assert all(".lora_" in name for name in trainable(pipeline.transformer))
    for parameter in trainable(pipeline.transformer).values():
        parameter.data = parameter.data.half().float()
    batch = toys.quadruplets(2, 32)
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["a", "b"]), reference=True)
    noise = pipeline.noise(conditions, torch.Generator().manual_seed(0))
    expected = pipeline.denoise(noise, conditions, 2)
    state = {k: p.detach() for k, p in trainable(pipeline.transformer).items()}
    save_adapter(state, pipeline.transformer, "default", tmp_path / "adapters" / "sft", {"stage": "sft"})
    merged = load_pipeline(tmp_path, ["sft"])
    assert torch.allclose(merged.denoise(noise, conditions, 2), expected, atol=1e-4)


def test_stage_one_goes_on_from_weights(tmp_path: Path) -> None:
    pipeline = _fresh()
    _train(pipeline, tmp_path / "run", "sft", steps=4)
    state = {k: p.detach().half().float() for k, p in trainable(pipeline.transformer).items()}
    held = tmp_path / "shipped" / "adapters" / "sft"
    save_adapter(state, pipeline.transformer, "default", held, {"stage": "sft"})
    again = _fresh()
    config = load_config("tiny").model_copy(update={"sft": SETTINGS})
    take_up(Job("sft", config, tmp_path, tmp_path / "nothing yet", init=tmp_path / "shipped"), again)
    assert {k: p.tolist() for k, p in trainable(again.transformer).items()} == {k: p.tolist() for k, p in state.items()}
    before = {k: p.detach().clone() for k, p in again.transformer.named_parameters()}
    _train(again, tmp_path / "more", "sft", steps=2)
    moved = {k for k, p in again.transformer.named_parameters() if not torch.equal(p, before[k])}
    assert moved
    assert moved <= set(state)
    # what the file has nothing for starts as a new adapter does: without effect
    fewer = {k: p for k, p in state.items() if "transformer_blocks.0" in k}
    save_adapter(fewer, pipeline.transformer, "default", tmp_path / "fewer", {"stage": "sft"})
    partly = _fresh()
    take_up_adapter(partly.transformer, tmp_path / "fewer", 4)
    for name, p in trainable(partly.transformer).items():
        assert torch.equal(p, state[name]) if name in fewer else ("lora_A" in name or not p.any())
    with pytest.raises(RefbenchError, match=r"of rank 5 .* it has rank 4"):
        take_up_adapter(_fresh().transformer, held, 5)


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    pipeline = _fresh()
    _train(pipeline, tmp_path, "base", steps=6)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], state["samples"]) == (6, 24)
    again = _fresh()
    facts = _train(again, tmp_path, "base", steps=9, resume=True)
    assert facts["steps"] == 9
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 9


def test_validation_tells_references_apart() -> None:
    pipeline = _fresh()
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.1)
    found = validate(pipeline, toys.quadruplets(3, 32), pipeline.embed_prompts(["a"] * 3), reference=True)
    modes = {"bound", "none", "right", "shuffled", "one_step"}
    assert set(found) == {"draft", "shown_recovery"} | modes | {f"{m}_recovery" for m in modes}
    assert found["bound_recovery"] > 80
    assert found["right"] != found["shuffled"]


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    grads = []
    for on in (False, True):
        pipeline = toys.pipeline()
        add_lora(pipeline.transformer, 2)
        if on:
            pipeline.transformer.enable_gradient_checkpointing()
        pipeline.transformer.train()
        batch = toys.quadruplets(1, 32)
        conditions, clean = encode_batch(pipeline, batch, pipeline.embed_prompts(["a"]), reference=True)
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        for p in trainable(pipeline.transformer).values():
            p.data.normal_(std=0.05)
        loss = supervised_loss(pipeline, conditions, clean, SETTINGS, generator).mean()
        torch.autograd.backward(loss)
        grads.append(torch.cat([p.grad.flatten() for p in trainable(pipeline.transformer).values()]))
    assert torch.allclose(grads[0], grads[1], rtol=1e-4, atol=1e-6)


def test_curriculum_starts_aligned_and_ends_full() -> None:
    assert [curriculum(p, (0.1, 0.6)) for p in (0.0, 0.1, 0.35, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    batch = draw(toys.NoiseSampler(32), 4, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(batch.reference, batch.target)


def test_the_rate_ends_at_a_twentieth() -> None:
    assert learning_rate(0, 0.0, 1.0, 10) == pytest.approx(0.1)
    assert learning_rate(10, 0.0, 1.0, 10) == 1.0
    assert learning_rate(999, 1.0, 1.0, 10) == pytest.approx(0.05)


def test_the_budget_takes_steps_or_minutes() -> None:
    assert Budget(100, None).progress(25) == 0.25
    assert Budget(100, 1e-9).progress(1) == 1.0


def test_the_average_swaps_and_swaps_back() -> None:
    parameters = {"a": torch.nn.Parameter(torch.zeros(2))}
    average = Average(parameters, 0.5)
    with torch.no_grad():
        parameters["a"] += 1
    average.update(parameters)
    # warm-up: decay min(0.5, 2 / 11)
    assert torch.allclose(average.shadow["a"], torch.full((2,), 1 - 2 / 11))
    average.swap(parameters)
    average.swap(parameters)
    assert parameters["a"].tolist() == [1, 1]


def test_a_wrong_field_is_one_sentence(tmp_path: Path) -> None:
    assert {"tiny", "flux-kontext"} <= set(shipped())
    for name in shipped():
        assert load_config(name).name == name
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nmodel: {}\nsft: {learning: 3}\ngrpo: {}\n")
    with pytest.raises(RefbenchError, match=r"sft\.learning"):
        load_config(bad)
    with pytest.raises(RefbenchError, match="one of flux-kontext"):
        load_config("huge")
