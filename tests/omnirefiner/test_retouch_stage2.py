"""Stage 2 by retouching: exact ratios, rewards that see what they should, and a policy that finds a known optimum."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.retouch import exploring as room
from refbench.omnirefiner.retouch import losses as terms
from refbench.omnirefiner.retouch.exploring import (
    SPREAD,
    RetouchExplorer,
    log_likelihood,
    patch_advantages,
    policy_loss,
    pooled,
    reward_maps,
    run_stage2,
)
from refbench.omnirefiner.retouch.refiner import load_retoucher
from refbench.omnirefiner.retouch.training import Scenes, UNet
from refbench.omnirefiner.training import loop
from refbench.registration.xfeat import load_xfeat
from refbench.tasks.degradations import blur
from tests.omnirefiner.test_retouch import folder_of, scenes


def test_likelihood_is_the_normal_one() -> None:
    spread = torch.tensor(SPREAD)
    generator = torch.Generator().manual_seed(0)
    a, b, mean = (torch.randn(8, 2, 2, generator=generator) for _ in range(3))
    normal = torch.distributions.Normal(mean, spread.view(-1, 1, 1))
    expected = (normal.log_prob(a) - normal.log_prob(b)).sum(0)
    torch.testing.assert_close(log_likelihood(a, mean, spread) - log_likelihood(b, mean, spread), expected)


def test_advantages_compare_the_same_patch() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1) + torch.tensor([[0.0, 100.0]])
    used = torch.tensor([[[True, True]]])
    found = patch_advantages(rewards, used)
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))  # sample variance 1 in both patches
    assert torch.allclose(found[0, :, 0, 1], found[0, :, 0, 0])
    assert patch_advantages(rewards, used & False).abs().max() == 0


def test_the_first_ratio_is_one_and_kl_is_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    means, held = torch.zeros(2, 8, 1, 1), torch.zeros(2, 8, 1, 1)
    held[:, 0] = 0.3  # one spread of a gain away: KL 1/2
    actions = torch.randn(2, 4, 8, 1, 1, generator=generator) * 0.1
    weights = torch.ones(2, 1, 1)
    loss, logged = policy_loss(means, actions, means, held, torch.zeros(2, 4, 1, 1), weights)
    assert torch.equal(logged["ratio"], torch.ones(8))
    assert logged["kl"].tolist() == pytest.approx([0.5, 0.5])
    assert float(loss) == pytest.approx(room.KL * 0.5)


def test_rewards_prefer_what_is_right() -> None:
    network = load_efficientnet()
    generator = torch.Generator().manual_seed(1)
    target = blur(torch.rand(1, 3, 64, 64, generator=generator), 1.0) * 4 - 2
    mask = torch.ones(1, 1, 64, 64)
    batch = dataclasses.replace(scenes(1, 64), target=target, warped=target, mask=mask)
    with torch.no_grad():
        known = terms.features(network, target)
    right, soft, shifted = (
        reward_maps(p, batch, known, known, network, load_xfeat())
        for p in (target, blur(target, 2.0), target.roll(2, -1))
    )
    for name in room.REWARDS:
        assert right[name].shape == (1, 2, 2)
        assert (right[name] > soft[name]).all()
    # two px are half a cell of the finest map, a quarter of one of the keypoints'
    assert (shifted["keypoints"] > soft["keypoints"]).all()
    assert (shifted["matched"] > soft["matched"]).all()
    assert (shifted["pixel"] < soft["pixel"]).all()


def test_patches_average_their_masked_cells() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).expand(4, 4)[None, None]
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1
    mask[..., 3:] = 1
    assert pooled(values, mask, 2)[0].tolist() == [[1.0, 4.0], [1.0, 4.0]]


def learner(folder: Path, **options: bool) -> RetouchExplorer:
    return RetouchExplorer(UNet(), folder, batch=2, group=4, **options)


def test_the_constant_finds_the_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reference that is everywhere too dark the policy learns to raise the light."""
    from safetensors.torch import load_file, save_file

    folder = folder_of(tmp_path / "scenes")
    path = folder / "shard-00000.safetensors"
    parts = load_file(path)
    laid = (torch.rand(32, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 100).to(torch.uint8)
    save_file(parts | {"01": laid, "02": laid.clone(), "03": laid + 100}, path)
    monkeypatch.setattr(UNet, "crop", 64)
    monkeypatch.setattr(room, "REWARDS", dict.fromkeys(room.REWARDS, 0.0) | {"pixel": 1.0})
    monkeypatch.setattr("refbench.omnirefiner.retouch.data.blend_weight", lambda draft, placed, mask, kind, other: mask)
    one = learner(folder, constant=True)
    optimiser = torch.optim.Adam(one.names.values(), 0.1)
    one.begin(0, type("One", (), {"process_index": 0})(), None)  # type: ignore[arg-type]
    for _ in range(12):
        for loss, _ in one.losses(0.0, {}):
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad()
    found: Tensor = one.shift.detach()[0, 3:6, 0, 0]
    assert (found > 0.3).all()  # 100 of 255 are 0.78 of a picture's span of 2, of which light gives 0.5 tanh(x)


def test_only_the_last_level_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNet, "crop", 64)
    one = learner(folder_of(tmp_path / "scenes"))
    before = {n: p.detach().clone() for n, p in one.network.net.named_parameters()}
    loop.train(one, tmp_path / "run", minutes=1e-3)
    moved = {n for n, p in one.network.net.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(one.names)
    assert all(torch.equal(p, before[n]) for n, p in one.first.named_parameters())  # the policy that KL holds to


def test_a_trained_folder_refines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from refbench.omnirefiner.retouch.refiner import checkpoints

    monkeypatch.setattr(UNet, "crop", 64)
    monkeypatch.setattr(Scenes, "open", lambda self: folder_of(tmp_path / "scenes"))
    monkeypatch.setattr(
        RetouchExplorer.__init__, "__kwdefaults__", {"batch": 2, "group": 2, "seed": 0, "constant": False}
    )
    (tmp_path / "run" / "model").mkdir(parents=True)
    shutil.copy(checkpoints() / "stage1.safetensors", tmp_path / "run" / "model")
    folder = run_stage2(Scenes(), tmp_path / "run", 1e-3)
    first, second = (load_retoucher(stage, folder).network.state_dict() for stage in ("stage1", "stage2"))
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert changed <= {"grow", "up", "head"}
    assert changed
