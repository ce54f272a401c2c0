"""The FLUX.1-Kontext path end to end on a random model of the same classes and file layout, T5 and CLIP included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import Config, ModelConfig, SupervisedConfig, load_config
from refbench.omnirefiner.flux.kontext import estimate, load_kontext
from refbench.omnirefiner.focus.crop import focus
from refbench.omnirefiner.training.grpo import GRPOLearner
from refbench.omnirefiner.training.loop import train
from refbench.omnirefiner.training.lora import trainable
from refbench.omnirefiner.training.sft import SupervisedLearner
from refbench.omnirefiner.training.stages import prompts_of
from refbench.omnirefiner.training.weights import save_adapter
from tests.omnirefiner import toys


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip, clip_tokenizer, t5, t5_tokenizer = toys.text_parts()
    folder = tmp_path_factory.mktemp("kontext")
    FluxKontextPipeline(
        toys.scheduler(), toys.autoencoder(), clip, clip_tokenizer, t5, t5_tokenizer, toys.transformer()
    ).save_pretrained(folder)
    return folder


def test_load_encode_sft_grpo_save_and_refine(stock: Path, tmp_path: Path) -> None:
    published = load_config("flux-kontext")
    model = published.model.model_copy(update={"pretrained": str(stock), "working_size": 64, "steps": 2})
    sft = published.sft.model_copy(update={"steps": 2, "size": 32, "lora_rank": 2, "lora_alpha": 2, "ema": 0.0})
    grpo = published.grpo.model_copy(
        update={
            "iterations": 1,
            "conditions": 1,
            "group": 2,
            "size": 32,
            "steps": 3,
            "patch": 16,
            "perceptual": "squeezenet",
        }
    )
    config = Config(name="random", model=model, sft=sft, grpo=grpo)

    pipeline = load_kontext(config.model, dtype=torch.float32)
    embeds, pooled = pipeline.embed_prompts(["Restore the text on the can"])
    assert embeds.shape == (1, 512, 24)
    assert pooled.shape == (1, 20)
    assert not torch.equal(embeds, pipeline.embed_prompts(["Fix the logo"])[0])

    held_out = {"near": toys.quadruplets(1, 32)}
    learner = SupervisedLearner(
        pipeline, config.sft, toys.NoiseSampler(32), held_out, prompts_of(pipeline), stage="sft"
    )
    facts = train(learner, tmp_path / "sft")
    assert facts["steps"] == 2
    state = {k: p.detach() for k, p in trainable(pipeline.transformer).items()}
    save_adapter(state, pipeline.transformer, "default", tmp_path / "adapters" / "sft", facts)

    pipeline = load_kontext(config.model, adapters=[tmp_path / "adapters" / "sft"], dtype=torch.float32)
    grpo = GRPOLearner(pipeline, config.grpo, config.sft, toys.NoiseSampler(32), held_out, prompts_of(pipeline))
    facts = train(grpo, tmp_path / "grpo")
    assert facts["perceptual_backbone"] == "squeezenet"
    assert facts["judge"] == "efficientnet"
    state = {k: p.detach() for k, p in trainable(pipeline.transformer).items()}
    save_adapter(state, pipeline.transformer, "default", tmp_path / "adapters" / "grpo", facts)

    both = load_kontext(
        config.model, adapters=[tmp_path / "adapters" / n for n in ("sft", "grpo")], dtype=torch.float32
    )
    both.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(0)
    draft, reference = rng.integers(0, 256, (2, 72, 72, 3), dtype=np.uint8)
    mask = np.zeros((72, 72), bool)
    mask[20:50, 20:50] = True
    refined = both([focus(draft, reference, mask, 64)], ["Restore the text on the can"], [0]).images[0]
    assert refined.shape == draft.shape
    assert np.array_equal(refined[~mask], draft[~mask])
    assert not np.array_equal(refined[mask], draft[mask])


def test_a_missing_pipeline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match=r"FLUX\.1-Kontext pipeline"):
        load_kontext(ModelConfig(pretrained=str(tmp_path / "none")))


def test_the_estimate_agrees_with_the_published_counts() -> None:
    found = estimate(size=512, rank=64)
    assert found.tokens == 3 * 1024
    assert found.weights_gb == pytest.approx(33.7, abs=0.1)
    assert estimate(1024).tokens == 12288


def test_configs_share_one_schema() -> None:
    assert load_config("flux-kontext").sft.lora_rank == 64
    assert SupervisedConfig().model_fields_set == set()
