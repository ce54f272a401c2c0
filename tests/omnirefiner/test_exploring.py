"""Exploring gates: a Gaussian policy in the patches' openings, credited patch by patch."""

from __future__ import annotations

import pytest
import torch

from refbench.omnirefiner.config import GRPOConfig, SupervisedConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.sampling import rollout, window_steps
from refbench.omnirefiner.method.tokens import unpack
from refbench.omnirefiner.tiny.exploring import (
    GateExplorer,
    Opening,
    acted,
    drift,
    explore,
    gate_loss,
    log_likelihood,
    opening,
    patch_advantages,
    unguided,
)  # fmt: skip
from refbench.omnirefiner.tiny.gates import GateHead
from refbench.omnirefiner.training.data import Quadruplets
from refbench.omnirefiner.training.explorer import rewards_of
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.sft import encode_batch
from tests.omnirefiner import toys


class Bold(GateHead):
    """Gates taken four times as large."""

    def hold(self, change: torch.Tensor, gate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().hold(change, 4 * gate)


def _blend(head: GateHead | None = None) -> OmniRefinerPipeline:
    found = toys.pipeline(transformer={"out_channels": 128}, prediction="blend")
    found.head = head or found.head
    return found


class Half(GRPOConfig):
    """Explores twice as far."""

    gate_std = 0.5


def _batch(count: int = 2, side: int = 64) -> Quadruplets:
    batch = toys.quadruplets(count, side, 4)
    return Quadruplets(batch.draft, batch.target.clone(), batch.target, batch.mask)


def test_likelihood_is_the_normal_distribution_s() -> None:
    mean, action = torch.randn(5), torch.randn(5)
    exact = torch.distributions.Normal(mean, 0.3).log_prob(action)
    at_mean = torch.distributions.Normal(mean, 0.3).log_prob(mean)
    assert torch.allclose(log_likelihood(action, mean, 0.3), exact - at_mean, atol=1e-6)


def test_patches_are_compared_with_themselves() -> None:
    rewards = torch.randn(2, 6, 3, 3)
    used = torch.ones(2, 3, 3, dtype=torch.bool)
    used[0, 0, 0] = False
    advantages, spread = patch_advantages(rewards, used, 1e-6, 100.0)
    assert advantages.mean(1).abs().max() < 1e-5
    assert advantages[0, :, 0, 0].abs().max() == 0
    inside = rewards.var(1)[used]
    assert spread.item() == pytest.approx(inside.mean().sqrt().item(), rel=1e-5)
    # what one patch earned moves no other patch's sign
    louder = rewards.clone()
    louder[0, 0, 1, 1] += 10
    again, _ = patch_advantages(louder, used, 1e-6, 100.0)
    assert (again[1].sign() == advantages[1].sign()).all()


@pytest.mark.parametrize("head", [GateHead(), Bold()])
def test_no_offset_is_the_pipeline_s_answer(head: GateHead) -> None:
    pipeline, batch = _blend(head), _batch()
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."] * 2), reference=True)
    noise = torch.randn(conditions.draft.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = opening(pipeline, conditions, noise, 16)
        pictures = acted(pipeline, conditions, batch, found, torch.zeros_like(found.mean))
    tokens, gate = pipeline.denoise_gated(noise, conditions, 1)
    expected = pipeline.pictures(tokens, conditions, batch.draft, gate, batch.reference)
    # the scheduler goes by way of a velocity, so sums are in another order
    assert torch.allclose(pictures, expected, atol=2e-4)


@pytest.mark.parametrize("head", [GateHead(), Bold()])
def test_a_noiseless_rollout_is_the_deployed_picture(head: GateHead) -> None:
    pipeline, batch = _blend(head), _batch()
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."] * 2), reference=True)
    noise = torch.randn(conditions.draft.shape, generator=torch.Generator().manual_seed(0))
    expected = pipeline.denoise(noise, conditions, 3)
    sigmas = pipeline.set_schedule(3, conditions.draft.shape[1])
    with torch.no_grad():
        tokens, _ = rollout(
            lambda x, sigma: pipeline.predict(x, sigma, conditions, sampling=True)[0], noise, sigmas, eta=0.0,
            window=window_steps((0, 2), 3), generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
    # the scheduler keeps its own order of sums, and divides by sigmas of a third
    assert torch.allclose(tokens, expected, atol=1e-4)


def test_opening_a_patch_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, batch = _blend(), _batch(1, 128)
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."]), reference=True)
    monkeypatch.setattr(pipeline, "pictures", lambda tokens, *rest: tokens)
    closed = torch.zeros(1, conditions.draft.shape[1], 64)
    offset = torch.zeros(1, 4, 4)
    offset[0, 0, 0] = 1.0
    tokens = acted(pipeline, conditions, batch, Opening(closed, closed, offset), offset)
    assert conditions.reference is not None
    share = (tokens - conditions.draft) / (conditions.reference - conditions.draft)
    opened = unpack(share, *conditions.size)[0].mean(0)
    # four latent cells a patch: the corner patch's middle is open, from the third patch on nothing is
    assert torch.allclose(opened[:2, :2], torch.ones(2, 2), atol=1e-3)
    assert opened[8:].abs().max() < 1e-5
    assert opened[:, 8:].abs().max() < 1e-5


def test_the_first_update_is_the_policy_gradient() -> None:
    torch.manual_seed(0)
    mean = torch.zeros(1, 2, 2, requires_grad=True)
    config = Half(clip_range=0.2, kl=0.0)
    actions, advantages = torch.randn(1, 4, 2, 2) * 0.5, torch.randn(1, 4, 2, 2)
    weights = torch.full((1, 2, 2), 0.25)
    loss, logged = gate_loss(mean, actions, mean.detach(), advantages, weights, mean.detach(), config)
    assert torch.equal(logged["ratio"], torch.ones_like(logged["ratio"]))
    loss.backward()
    # d log p / d m = (a - m) / s^2, averaged over the group, weighted over patches
    expected = -(advantages * actions / 0.25).mean(1) * weights
    assert mean.grad is not None
    assert torch.allclose(mean.grad, expected, atol=1e-6)


def test_the_kl_is_that_of_two_gaussians() -> None:
    config = Half(kl=1.0)
    mean, held = torch.rand(1, 2, 2), torch.rand(1, 2, 2)
    nothing = torch.zeros(1, 3, 2, 2)
    loss, logged = gate_loss(mean, nothing, mean, nothing, torch.full((1, 2, 2), 0.25), held, config)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, 0.5), torch.distributions.Normal(held, 0.5)
    )
    assert loss.item() == pytest.approx(exact.mean().item(), rel=1e-5)
    assert logged["kl"].mean().item() == pytest.approx(exact.mean().item(), rel=1e-5)


def test_a_right_reference_opens_the_gates() -> None:
    """The known optimum: the reference is right everywhere, so every patch earns more the further it opens."""
    pipeline, batch = _blend(), _batch(4)
    add_lora(pipeline.transformer, 4)
    names = trainable(pipeline.transformer)
    optimiser = torch.optim.AdamW(names.values(), lr=2e-2, weight_decay=0.0)
    config = GRPOConfig(
        explore="gate", group=8, patch=16, kl=0.0, anchor=0.0, clip_range=0.2, std_floor=1e-3,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 1 - (a - b).abs().mean((1, 2, 3))

    explorer = GateExplorer(pipeline, config, SupervisedConfig(), similarity, generator)
    lines = [toys.iterate(explorer, batch, ["Fix."] * 4, optimiser) for _ in range(25)]
    assert lines[0]["ratio"] == pytest.approx(1.0, abs=1e-5)
    first, last = (sum(x["opening"] for x in part) / 5 for part in (lines[:5], lines[-5:]))
    assert last > first + 0.2
    assert lines[-1]["reward/pixel"] > lines[0]["reward/pixel"]
    frozen = [p for p in pipeline.transformer.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)


def test_the_drift_weight_holds_the_change() -> None:
    far = {}
    for weight in (0.0, 10.0):
        pipeline, batch = _blend(), _batch(2)
        torch.manual_seed(0)
        add_lora(pipeline.transformer, 4)
        optimiser = torch.optim.AdamW(trainable(pipeline.transformer).values(), lr=1e-2, weight_decay=0.0)
        config = GRPOConfig(explore="gate", group=8, patch=16, kl=0.0, anchor=0.0, clip_range=0.2, drift_weight=weight)
        generator = torch.Generator().manual_seed(0)
        explorer = GateExplorer(pipeline, config, SupervisedConfig(), _similar, generator)
        embedded = pipeline.embed_prompts(["Fix."] * 2)
        for _ in range(12):
            toys.iterate(explorer, batch, ["Fix."] * 2, optimiser)
        conditions, _ = encode_batch(pipeline, batch, embedded, reference=True)
        noise = torch.zeros(conditions.draft.shape)
        with torch.no_grad():
            now, alone = opening(pipeline, conditions, noise, 16), unguided(pipeline, conditions, noise)
            pipeline.transformer.disable_adapters()
            first, before = opening(pipeline, conditions, noise, 16), unguided(pipeline, conditions, noise)
        far[weight] = (float(drift(now.change, first.change)), float(drift(alone, before)))
        assert float((now.mean - first.mean).abs().mean()) > 0.01
    assert max(far[10.0]) < 0.3 * min(far[0.0])


def test_drift_is_relative_to_what_is_held() -> None:
    held = torch.randn(2, 3, 4)
    assert float(drift(held, held)) == 0
    assert float(drift(1.5 * held, held)) == pytest.approx(0.25)
    assert float(drift(0 * held, 7 * held)) == pytest.approx(1.0)


def test_exploring_is_seeded() -> None:
    pipeline, batch = _blend(), _batch()
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."] * 2), reference=True)
    noise = torch.randn(conditions.draft.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = opening(pipeline, conditions, noise, 16)

    def once(seed: int) -> torch.Tensor:
        config = GRPOConfig(group=3, patch=16)
        return explore(
            pipeline, config, batch, conditions, found, lambda a, b: -(a - b).abs().mean((1, 2, 3)),
            torch.Generator().manual_seed(seed),
        )[0]  # fmt: skip

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def _similar(patches: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 1 - (patches - targets).square().mean((1, 2, 3))


def test_equal_pictures_earn_equal_rewards() -> None:
    pipeline, batch = _blend(), _batch()
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."] * 2), reference=True)
    noise = torch.zeros(conditions.draft.shape)
    with torch.no_grad():
        found = opening(pipeline, conditions, noise, 16)
    drawn = {}
    for weight in (0.0, 1.0):
        config = GRPOConfig(explore="gate", group=4, patch=16, pixel_weight=0.0, reference_weight=weight)
        generator = torch.Generator().manual_seed(3)
        drawn[weight] = explore(pipeline, config, batch, conditions, found, _similar, generator)
    assert torch.allclose(drawn[0.0][1], drawn[1.0][1], atol=1e-6)
    assert drawn[0.0][1].abs().max() > 0
    assert "reward/reference" not in drawn[0.0][2]
    assert drawn[1.0][2]["reward/reference"] == drawn[1.0][2]["reward/perceptual"]


def test_replacement_weighs_the_reference_reward() -> None:
    config = GRPOConfig(pixel_weight=0.5, reference_weight=0.5, reference_weight_replaced=2.5)
    shares = config.reward_weights(torch.tensor([0.0, 1.0]))
    expected = {"perceptual": [0.5, 0.25], "pixel": [0.25, 0.125], "reference": [0.25, 0.625]}
    assert {name: share.tolist() for name, share in shares.items()} == expected
    assert list(GRPOConfig().reward_weights(torch.tensor([1.0]))) == ["perceptual", "pixel"]
    alike = GRPOConfig(reference_weight=0.5).reward_weights(torch.tensor([0.0, 1.0]))["reference"]
    assert alike.tolist() == pytest.approx([0.2, 0.2])


def test_only_replacement_draws_to_the_reference() -> None:
    pipeline, batch = _blend(), _batch(4)
    # the draft is the answer and the reference is not
    other = torch.tensor([0.0, 1.0, 0.0, 1.0])
    batch = Quadruplets(batch.target, -batch.target, batch.target, batch.mask, other)
    conditions, _ = encode_batch(pipeline, batch, pipeline.embed_prompts(["Fix."] * 4), reference=True)
    with torch.no_grad():
        found = opening(pipeline, conditions, torch.zeros(conditions.draft.shape), 16)
    # half open, and no change, so that either way is free
    half = Opening(0 * found.change, 0 * found.gate + 0.5, 0 * found.mean + 0.5)
    config = GRPOConfig(
        explore="gate", group=16, patch=16, pixel_weight=0.0, reference_weight=0.0, reference_weight_replaced=20.0,
    )  # fmt: skip
    actions, advantages, _ = explore(
        pipeline, config, batch, conditions, half, _similar, torch.Generator().manual_seed(5)
    )
    for k in range(4):
        used = advantages[k].abs().amax(0) > 0
        together = torch.stack([actions[k][:, used].flatten(), advantages[k][:, used].flatten()])
        # to open pays for the replaced, to shut for the mended
        assert float(torch.corrcoef(together)[0, 1]) * (1 if other[k] else -1) > 0.3


def test_reference_reward_is_highest_for_the_reference() -> None:
    batch = _batch()
    shown = -batch.target
    seen = Quadruplets(batch.draft, shown, batch.target, batch.mask)
    parts = rewards_of(shown, seen, GRPOConfig(patch=16, reference_weight=0.5), _similar)
    assert parts["reference"].tolist() == pytest.approx([1.0, 1.0])
    assert (parts["perceptual"] < 1).all()
    assert "reference" not in rewards_of(shown, seen, GRPOConfig(patch=16), _similar)
