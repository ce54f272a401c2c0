"""The small checkpoint with torch alone: equal to diffusers' own classes bit for bit, and much lighter to start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

from refbench.crops import box_mask
from refbench.omnirefiner.flux.transformer import FluxTransformer
from refbench.omnirefiner.method.refiner import shift_for
from refbench.omnirefiner.refine import VARIANTS, load_refiner, refine_many
from refbench.omnirefiner.tiny.procedural import plate
from refbench.omnirefiner.tiny.runtime import EulerSchedule, Settings, checkpoints, load_torch, readable
from refbench.omnirefiner.training.weights import load_pipeline

SHAPE = {
    "in_channels": 12, "out_channels": 8, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 20, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_refinements_are_those_of_diffusers(variant: str) -> None:
    rng = np.random.default_rng(5)
    mask = box_mask((40, 40, 44, 36), (120, 120))
    questions = [
        (plate(rng, 120), plate(rng, 100), mask, (20, 30, 50, 40), prompt, seed)
        for seed, prompt in enumerate(("Restore the label.", "Replace the label."))
    ]
    plain, stock = load_refiner(variant), load_pipeline(checkpoints(), VARIANTS[variant])
    for steps in (None, 3):
        found, expected = (
            refine_many(questions, p, steps=steps, use_reference=variant != "omnirefiner-base") for p in (plain, stock)
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1] == other[1]


@pytest.mark.parametrize("guided", [False, True])
def test_the_transformer_is_diffusers_own(guided: bool) -> None:
    torch.manual_seed(0)
    stock = FluxTransformer2DModel(**SHAPE, guidance_embeds=guided).eval()
    plain = FluxTransformer(**SHAPE, guidance_embeds=guided).eval()
    plain.load_state_dict(stock.state_dict())
    inputs = {
        "hidden_states": torch.randn(2, 9, 12), "encoder_hidden_states": torch.randn(2, 5, 24),
        "pooled_projections": torch.randn(2, 20), "timestep": torch.tensor([1.0, 0.3]),
        "img_ids": torch.randint(0, 9, (9, 3)).float(), "txt_ids": torch.zeros(5, 3),
        "guidance": torch.tensor([2.5, 4.0]) if guided else None,
    }  # fmt: skip
    with torch.no_grad():
        assert torch.equal(plain(**inputs)[0], stock(**inputs, return_dict=False)[0])


@pytest.mark.parametrize("config", [{"shift": 1.0}, {"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_the_schedule_is_diffusers_own(config: dict[str, float]) -> None:
    stock = FlowMatchEulerDiscreteScheduler(**config)
    plain = EulerSchedule(Settings(stock.config))
    sigmas = np.linspace(1.0, 1 / 5, 5)
    mu = shift_for(900, stock.config) if stock.config.use_dynamic_shifting else None
    states = []
    for schedule in (plain, stock):
        schedule.set_timesteps(sigmas=sigmas, mu=mu, device=torch.device("cpu"))
        schedule.set_begin_index(0)
        x = torch.arange(6.0).view(1, 2, 3)
        for t in schedule.timesteps:
            x = schedule.step(torch.sin(x), t, x, return_dict=False)[0]
        states.append((schedule.sigmas, schedule.timesteps, x))
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other)


def test_other_checkpoints_are_left_to_diffusers(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(checkpoints(), folder)
    assert readable(folder, ["sft", "grpo"])
    for file, change in (
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}),
        ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}),
    ):
        path = folder / file
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | change))
        assert not readable(folder)
        path.write_text(before)


def test_torch_numbers_of_the_caller_are_kept() -> None:
    before = torch.get_rng_state()
    load_torch(checkpoints())
    assert torch.equal(torch.get_rng_state(), before)


def test_refining_starts_without_diffusers() -> None:
    code = (
        "import sys; from refbench.omnirefiner.refine import load_refiner; load_refiner();"
        "print([n for n in ('diffusers', 'transformers', 'peft', 'accelerate', 'torchvision', 'scipy', 'pandas',"
        " 'sympy', 'torch._dynamo') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
