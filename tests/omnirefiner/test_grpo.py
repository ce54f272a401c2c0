"""GRPO: exact ratios, advantages that neither blow up nor vanish, and a toy whose optimum is known and reached."""

from __future__ import annotations

import pytest
import torch

from refbench.omnirefiner.config import GRPOConfig, SupervisedConfig
from refbench.omnirefiner.method.policy import clipped_objective, group_advantages, policy_loss
from refbench.omnirefiner.method.sampling import rollout
from refbench.omnirefiner.training.explorer import NoiseExplorer
from refbench.omnirefiner.training.lora import add_lora, trainable
from tests.omnirefiner import toys

CONFIG = GRPOConfig(conditions=2, group=3, size=32, steps=4, patch=8, micro_batch=4, lr=1e-3, kl=0.02, anchor=0.5)
SFT = SupervisedConfig(lora_rank=2)


def _similar(patches: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 1 - (patches - targets).square().mean((1, 2, 3))


def _iteration(config: GRPOConfig) -> tuple[dict[str, float], list[tuple[str, bool]]]:
    pipeline = toys.pipeline()
    add_lora(pipeline.transformer, 2)
    names = trainable(pipeline.transformer)
    before = {k: p.detach().clone() for k, p in pipeline.transformer.named_parameters()}
    optimiser = torch.optim.SGD(names.values(), lr=1.0)
    explorer = NoiseExplorer(pipeline, config, SFT, _similar, torch.Generator().manual_seed(0))
    facts = toys.iterate(explorer, toys.quadruplets(2), ["a", "b"], optimiser)
    moved = [(k, not torch.equal(before[k], p)) for k, p in pipeline.transformer.named_parameters()]
    return facts, moved


def test_one_update_moves_only_lora() -> None:
    facts, moved = _iteration(CONFIG)
    assert facts["ratio"] == 1.0
    assert facts["ratio_spread"] == 0.0
    assert facts["clip_share"] == 0.0
    assert facts["kl"] == pytest.approx(0.0, abs=1e-10)
    assert any(changed for name, changed in moved if "lora" in name)
    assert not any(changed for name, changed in moved if "lora" not in name)


def test_a_second_update_moves_the_ratios() -> None:
    facts, _ = _iteration(CONFIG.model_copy(update={"updates": 2}))
    assert facts["ratio_spread"] > 0


def test_advantages_pool_the_spread_within_groups() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0], [10.0, 10.0, 10.0]])
    advantages, spread = group_advantages(rewards, 1e-3, 5.0)
    # sample variances 1 and 0, pooled 0.5
    assert spread.item() == pytest.approx(0.5**0.5)
    assert torch.allclose(advantages[0], torch.tensor([-1.0, 0.0, 1.0]) / 0.5**0.5)
    assert advantages[1].tolist() == [0, 0, 0]


def test_floor_keeps_noise_from_becoming_signal() -> None:
    rewards = 1e-6 * torch.randn(4, 8)
    assert group_advantages(rewards, 0.02, 5.0)[0].abs().max() < 1e-3


def test_objective_clips_only_what_would_gain() -> None:
    ratio = torch.tensor([1.2, 0.8, 1.2, 0.8])
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert torch.allclose(clipped_objective(ratio, advantage, 0.1), torch.tensor([-1.1, -0.8, 1.2, 0.9]))


def test_toy_policy_reaches_its_known_optimum() -> None:
    """The network adds a learnt shift to every result; the reward is highest at one shift."""
    generator = torch.Generator().manual_seed(0)
    optimum = torch.tensor([0.7, -0.4])
    shift = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.Adam([shift], lr=0.02)
    sigmas = torch.linspace(1, 0, 5)

    def policy(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (x - shift) / sigma.view(-1, 1, 1)

    config = GRPOConfig(window=(0, 2), steps=4, kl=0.0, clip_range=0.2)
    for _ in range(120):
        noise = torch.randn(32, 1, 2, generator=generator)
        window = range(0, 2)
        with torch.no_grad():
            _, steps = rollout(policy, noise, sigmas, eta=0.8, window=window, generator=generator)
        # with x0 determined by the network alone the reward must see the chosen states: the toy's result is the last
        reward = -(steps[-1].chosen - optimum * (1 - steps[-1].following)).square().sum((1, 2))
        advantage, _ = group_advantages(reward.view(2, 16), 1e-3, 5.0)
        optimiser.zero_grad()
        for step in steps:
            torch.autograd.backward(policy_loss(step, advantage.flatten(), policy, None, config).loss)
        optimiser.step()
    assert torch.allclose(shift.detach(), optimum, atol=0.1)
