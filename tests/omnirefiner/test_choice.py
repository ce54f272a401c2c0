"""Networks of stage 1: what they give back untrained, that a place is the draft's or the reference's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from refbench.omnirefiner import mending, placed, prepared
from refbench.omnirefiner.mender import Mender, decided
from refbench.omnirefiner.mending import Learner, Scenes, StreamsLearner, UNetLearner
from refbench.omnirefiner.plain import checkpoints


def scenes(count: int = 2, side: int = 32, seed: int = 0) -> Scenes:
    generator = torch.Generator().manual_seed(seed)
    draft, laid, view, target = (torch.rand(count, 3, side, side, generator=generator) * 2 - 1 for _ in range(4))
    mask = torch.zeros(count, 1, side, side)
    mask[..., 4:28, 4:28] = 1
    return Scenes(draft, laid, view, target, mask, torch.tensor([0.0, 1.0])[:count])


def learner(name: str) -> Learner:
    return UNetLearner() if name == "unet" else StreamsLearner(checkpoints(), rank=4)


@pytest.mark.parametrize("name", ["unet", "streams"])
def test_an_untrained_network_gives_the_placed_reference_back(name: str) -> None:
    batch = scenes()
    found, _ = learner(name).answer(batch, torch.Generator().manual_seed(0))
    assert torch.equal(found.picture, batch.placed)


@pytest.mark.parametrize("name", ["unet", "streams"])
def test_every_trained_weight_has_a_gradient_after_a_step(name: str) -> None:
    batch, one = scenes(), learner(name)
    optimiser = torch.optim.SGD(one.names.values(), 0.1)
    for _ in range(3):  # heads that are zero pass nothing on in the first, nor LoRA's second halves in the next
        found, own = one.answer(batch, torch.Generator().manual_seed(0))
        loss = (found.picture - batch.target).square().mean() + sum(own.values())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    still = [n for n, p in one.names.items() if p.grad is None or not p.grad.abs().sum() > 0]
    # text tokens beside pictures end in the last block, and a LoRA on them has nothing to say
    assert not [n for n in still if "context" not in n and "add" not in n]


def test_gates_are_open_or_shut_but_for_an_edge() -> None:
    logits = torch.full((1, 1, 16, 16), -3.0)
    logits[..., 8:] = 0.2
    gate = decided(logits)
    assert gate[..., :7].max() == 0
    assert gate[..., 9:].min() == 1


def test_a_streams_change_is_added_in_full_and_what_is_chosen_is_exact() -> None:
    batch, one = scenes(), StreamsLearner(checkpoints(), rank=4)
    head = one.pipeline.transformer.proj_out
    with torch.no_grad():
        head.bias[-4:] = 10.0  # every cell is the draft's
    assert torch.equal(one.refine(batch).picture, batch.draft)
    with torch.no_grad():
        head.bias[0] = 1.0  # the first latent number: the mean colour of a cell's first component
    moved = one.refine(batch).picture - batch.draft
    assert moved.abs().max() > 0.01
    again = one.refine(batch)
    assert torch.allclose(again.picture - again.change, batch.draft, atol=1e-6)


def test_sides_of_sixteen_are_enough_for_the_unet() -> None:
    batch = scenes(1, 48)
    out = Mender()(batch.draft, batch.placed, batch.view, batch.mask, batch.other)
    assert out.picture.shape == (1, 3, 48, 48)


def folder_of(path: Path, rows: int = prepared.SHARD, shards: int = 1) -> Path:
    """Prepared scenes whose target is the draft's left half beside the reference's right one."""
    from safetensors.torch import save_file

    for number in range(shards):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(rows, 2, 3, 6, 6, generator=generator) * 2 - 1
        draft, laid = (torch.nn.functional.interpolate(coarse[:, k], (64, 64), mode="bicubic") for k in range(2))
        target = torch.cat([draft[..., :32], laid[..., 32:]], -1)
        mask = torch.ones(rows, 1, 64, 64)
        ones = torch.zeros(rows)
        parts = [draft, laid, laid, target, mask, ones, ones]
        kept = {
            f"{k:02d}": prepared._kept(p.clamp(-1, 1), kind)
            for k, (p, kind) in enumerate(zip(parts, placed.KINDS, strict=True))
        }
        path.mkdir(parents=True, exist_ok=True)
        save_file(kept, path / f"shard-{number:05d}.safetensors")
    return path


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNetLearner, "crop", 32)
    folder = folder_of(tmp_path / "scenes")

    def some(progress: object, save: object, agreed: object = bool) -> object:
        yield 0.0
        yield 0.0
        save(1.0)  # type: ignore[operator]

    monkeypatch.setattr(mending, "rounds", some)
    for expected in (2, 4):
        path = mending.train_stage1(UNetLearner(), folder, tmp_path / "run", minutes=1, batch=2)
        state = torch.load(tmp_path / "run" / "state.pt")
        assert state["step"] == expected
    from safetensors.torch import load_file

    weights = load_file(path)
    assert {v.dtype for v in weights.values()} == {torch.float16}
    assert set(weights) == set(UNetLearner().names)


def test_scenes_unlike_the_suites_are_never_drawn() -> None:
    target = torch.zeros(3, 3, 32, 32)
    mask, zeros = torch.ones(3, 1, 32, 32), torch.zeros(3)

    def off(*levels: float) -> Tensor:
        return torch.tensor(levels).view(3, 1, 1, 1).expand_as(target)

    kinds = torch.tensor([0.0, 0.0, 1.0])
    found = mending.fitness(off(0.3, 0.05, 0.3), off(0.2, 0.02, 0.9), target, target, mask, zeros, kinds)
    assert found.tolist() == [1.0, 0.0, 0.0]  # like them; hardly wrong; placed much worse than the draft
    clip = mending.fitness(off(0.3, 0.3, 0.3), off(0.2, 0.2, 0.2), target, target, mask, zeros, kinds)
    assert clip[2] == pytest.approx(mending.CLIPS)
