"""Networks of stage 1: what they give back untrained, and what their eight numbers a cell do."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.omnirefiner.retouch.data import CLIPS, SceneBatch, draw_weight
from refbench.omnirefiner.retouch.edit import Retouch, composite, from_numbers, warp
from refbench.omnirefiner.retouch.exploring import run_stage2
from refbench.omnirefiner.retouch.refiner import checkpoints, load_retoucher
from refbench.omnirefiner.retouch.scenes import KINDS
from refbench.omnirefiner.retouch.training import (
    Network,
    RetouchLearner,
    Scenes,
    Streams,
    UNet,
    known_motion,
    run_stage1,
    searched_motion,
)
from refbench.omnirefiner.retouch.unet import RetouchUNet, correlation
from refbench.omnirefiner.training import loop, prepared
from refbench.omnirefiner.training.checks import check_going_on, export_saved
from refbench.omnirefiner.training.state import load_state
from refbench.omnirefiner.training.weights import save_base
from refbench.tasks.degradations import blur


def scenes(count: int = 2, side: int = 32, seed: int = 0) -> SceneBatch:
    generator = torch.Generator().manual_seed(seed)
    draft, laid, view, target = (torch.rand(count, 3, side, side, generator=generator) * 2 - 1 for _ in range(4))
    mask = torch.zeros(count, 1, side, side)
    mask[..., 4:28, 4:28] = 1
    return SceneBatch(draft, laid, view, target, mask, mask.clone(), torch.tensor([0.0, 1.0])[:count])


def numbers(side: int = 4, **values: tuple[float, ...]) -> Retouch:
    """The same numbers in every cell; those not named are 0."""

    def plane(name: str, count: int) -> Tensor:
        return torch.tensor(values.get(name, (0.0,) * count)).view(1, count, 1, 1).expand(1, count, side, side)

    return Retouch(plane("gains", 3), plane("light", 3), plane("motion", 2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base editor of random weights."""
    from tests.omnirefiner.test_training import _fresh

    folder, pipeline = tmp_path_factory.mktemp("base"), _fresh()
    for p in pipeline.transformer.proj_out.parameters():
        torch.nn.init.normal_(p, std=0.1)
    save_base(pipeline, folder, {"stage": "base"})
    return folder


@pytest.fixture(params=["unet", "streams"])
def network(request: pytest.FixtureRequest, base: Path) -> Network:
    return UNet() if request.param == "unet" else Streams(base, rank=4)


def test_untrained_networks_change_nothing(network: Network) -> None:
    batch = scenes()
    found, _ = network.answer(batch, torch.Generator().manual_seed(0))
    # bands are taken apart and put together again, in float32
    assert torch.allclose(found.apply(batch.placed), batch.placed, atol=1e-5)


def test_every_trained_weight_learns(network: Network) -> None:
    batch, one = scenes(side=64), network
    optimiser = torch.optim.SGD(one.names.values(), 0.1)
    for _ in range(3):  # heads that are zero pass nothing on in the first, nor LoRA's second halves in the next
        found, own = one.answer(batch, torch.Generator().manual_seed(0))
        loss = (composite(found, batch) - batch.target).square().mean() + sum(own.values())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    still = [n for n, p in one.names.items() if p.grad is None or not p.grad.abs().sum() > 0]
    # text tokens beside pictures end in the last block, and a LoRA on them has nothing to say
    assert not [n for n in still if "context" not in n and "add" not in n]


def test_light_is_added_and_motion_moves() -> None:
    picture = blur(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)), 2.0)
    assert torch.allclose(numbers(light=(0.1, 0.0, -0.1)).apply(picture)[:, 0], picture[:, 0] + 0.1, atol=1e-5)
    moved = numbers(motion=(3.0, -2.0)).apply(picture)
    assert torch.allclose(moved[..., 4:28, 4:28], picture[..., 2:26, 7:31], atol=1e-5)


def test_gains_raise_only_their_band() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    raised = numbers(8, gains=(0.7, 0.0, 0.0)).apply(picture)
    fine, before = (p - blur(p, 1.0) for p in (raised, picture))
    ratio = float(fine[..., 8:-8, 8:-8].std() / before[..., 8:-8, 8:-8].std())
    # white noise has a little of the raised band left below the blur
    assert ratio == pytest.approx(math.exp(0.7), rel=0.05)
    assert float(raised.mean()) == pytest.approx(float(picture.mean()), abs=1e-3)


def test_numbers_stay_within_their_bounds() -> None:
    found = from_numbers(torch.full((1, 8, 2, 2), 1e6))
    assert (found.gains.max(), found.light.max(), found.motion.max()) == (pytest.approx(1.1), 0.5, 16.0)


def test_the_draft_stays_outside_the_weight() -> None:
    batch = scenes(1)
    half = batch.weight.clone()
    half[..., :16] = 0
    batch = dataclasses.replace(batch, weight=half)
    out = composite(numbers(light=(0.2, 0.2, 0.2)), batch)
    assert torch.equal(out[..., :16], batch.draft[..., :16])
    assert torch.allclose(out[..., 4:28, 16:28], batch.placed[..., 4:28, 16:28] + 0.2, atol=1e-5)


def test_known_motion_is_the_shift() -> None:
    placed = blur(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(3)), 1.5) * 8 - 4
    target = warp(placed, torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 96, 96))
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 16:80, 16:80] = 1
    batch = SceneBatch(placed, placed, placed, target, mask, mask, torch.zeros(1))
    motion, trust = known_motion(batch, searched_motion(batch))
    assert float((trust * mask).sum() / mask.sum()) > 0.9
    found = (motion * trust).sum((2, 3)) / trust.sum((2, 3))
    assert found[0].tolist() == pytest.approx([3.0, -2.0], abs=0.2)


def test_correlation_is_one_at_the_shift() -> None:
    a = torch.randn(1, 16, 12, 12, generator=torch.Generator().manual_seed(4))
    found = correlation(a, a.roll((1, -2), (2, 3)), radius=2).view(1, 5, 5, 12, 12)
    assert torch.allclose(found[0, 3, 0, 4:8, 4:8], torch.ones(4, 4), atol=1e-5)


def test_the_unet_says_eight_numbers() -> None:
    batch = scenes(1, 64)
    out = RetouchUNet()(batch.draft, batch.placed, batch.warped, batch.mask, batch.weight, batch.replaced)
    assert out.shape == (1, 8, 8, 8)


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
            for k, (p, kind) in enumerate(zip(parts, KINDS, strict=True))
        }
        path.mkdir(parents=True, exist_ok=True)
        save_file(kept, path / f"shard-{number:05d}.safetensors")
    return path


def test_a_stopped_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNet, "crop", 32)
    folder = folder_of(tmp_path / "scenes")

    def some(progress: object, save: object, agreed: object = bool) -> object:
        yield 0.0
        yield 0.0
        save(1.0)  # type: ignore[operator]

    monkeypatch.setattr(loop, "rounds", some)
    for expected in (2, 4):
        loop.train(RetouchLearner(UNet(), folder, batch=2), tmp_path / "run", minutes=1, resume=True)
        state = torch.load(tmp_path / "run" / "state.pt")
        assert state["step"] == expected
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / "average.safetensors")
    assert {v.dtype for v in weights.values()} == {torch.float16}
    assert set(weights) == set(UNet().names)


def test_a_run_starts_from_given_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr(UNet, "crop", 32)
    monkeypatch.setattr(Scenes, "open", lambda self: folder_of(tmp_path / "scenes"))
    torch.manual_seed(5)
    given = {name: (0.01 * torch.randn_like(p)).half().contiguous() for name, p in UNet().names.items()}
    save_file(given, tmp_path / "stage1.safetensors")
    made = run_stage1(Scenes(), tmp_path / "run", 1e-4, init=tmp_path)
    found = load_file(made / "stage1.safetensors")
    # one step at a two-hundredth of the rate: AdamW moves no weight by more than 2e-6, half precision rounds at 2^-12
    assert all(torch.allclose(found[name], value, rtol=1e-3, atol=1e-5) for name, value in given.items())


def test_a_state_without_samples_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNet, "crop", 32)
    folder, run = folder_of(tmp_path / "scenes"), tmp_path / "run"
    loop.train(RetouchLearner(UNet(), folder, batch=2), run, minutes=1e-3)
    state = torch.load(run / "state.pt")
    step = state["step"]
    kept = ("weights", "critic", "optimiser", "against", "average", "count", "step", "minutes")
    torch.save({name: state[name] for name in kept}, run / "state.pt")
    facts = loop.train(RetouchLearner(UNet(seed=1), folder, batch=2), run, minutes=1e-3, resume=True)
    assert facts["steps"] > step >= 1
    assert facts["samples"] == 2 * facts["steps"]


def test_another_network_s_state_is_refused(tmp_path: Path) -> None:
    folder, run = folder_of(tmp_path / "scenes"), tmp_path / "run"
    run.mkdir()
    torch.save({"weights": {}}, run / "state.pt")
    with pytest.raises(RefbenchError, match="unet network"):
        loop.train(RetouchLearner(UNet(), folder), run, minutes=1, resume=True)
    with pytest.raises(RefbenchError, match="--without"):
        RetouchLearner(UNet(), folder, off=("light",))


def test_unlike_scenes_are_never_drawn() -> None:
    target = torch.zeros(3, 3, 32, 32)
    mask, zeros = torch.ones(3, 1, 32, 32), torch.zeros(3)

    def off(*levels: float) -> Tensor:
        return torch.tensor(levels).view(3, 1, 1, 1).expand_as(target)

    kinds = torch.tensor([0.0, 0.0, 1.0])
    found = draw_weight(off(0.3, 0.05, 0.3), off(0.2, 0.02, 0.9), target, target, mask, zeros, kinds)
    assert found.tolist() == [1.0, 0.0, 0.0]  # like them; hardly wrong; placed much worse than the draft
    clip = draw_weight(off(0.3, 0.3, 0.3), off(0.2, 0.2, 0.2), target, target, mask, zeros, kinds)
    assert clip[2] == pytest.approx(CLIPS)


def test_wrong_options_are_told_before_any_scene(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    where = Scenes(tmp_path / "scenes", tmp_path)
    with pytest.raises(RefbenchError, match=str(tmp_path / "file")):
        run_stage1(where, tmp_path / "file", 1)
    with pytest.raises(RefbenchError, match="--without"):
        run_stage1(where, tmp_path / "run", 1, without=("light",))
    with pytest.raises(RefbenchError, match="--init"):
        run_stage1(where, tmp_path / "run", 1, network="streams")
    with pytest.raises(RefbenchError, match="--minutes"):
        run_stage1(where, tmp_path / "run", None)
    with pytest.raises(RefbenchError, match=r"stage1\.safetensors.*--init"):
        run_stage1(where, tmp_path / "run", 1, init=tmp_path)
    with pytest.raises(RefbenchError, match=r"stage1\.safetensors.*--init"):
        run_stage2(where, tmp_path / "run", 1)
    assert not (tmp_path / "scenes").exists()


@pytest.mark.parametrize("asked", [
    ["stage1"], ["stage1", "--minutes", "1", "--init", "nowhere"], ["stage2", "--minutes", "1"],
])  # fmt: skip
def test_the_command_tells_them_before_torch_is_loaded(
    tmp_path: Path, asked: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *asked, "--out", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    assert "Error: Expected" in said
    assert "loading torch" not in said


def test_a_training_goes_on_as_it_was_started(tmp_path: Path) -> None:
    check_going_on(tmp_path, init="a", without=[], seed=0)
    (tmp_path / "state.pt").write_bytes(b"")
    check_going_on(tmp_path, init=None, without=[], seed=0)
    for start in ({"init": "b"}, {"without": ["critic"]}, {"seed": 5}):
        with pytest.raises(RefbenchError, match=f"with {next(iter(start))} .*--out"):
            check_going_on(tmp_path, **start)


def test_stages_that_belong_together_are_not_parted(tmp_path: Path) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    for name, text in ((model / "stage1", "one"), (model / "stage2", "of one"), (other / "stage1", "another")):
        name.parent.mkdir(exist_ok=True)
        name.with_suffix(".safetensors").write_text(text)
    with pytest.raises(RefbenchError, match="no stage2 in"):
        run_stage1(Scenes(tmp_path / "scenes", tmp_path), tmp_path, 1)
    with pytest.raises(RefbenchError, match="the same stage1 in"):
        run_stage2(Scenes(tmp_path / "scenes", tmp_path), tmp_path, 1, stage1=other)
    assert (model / "stage1.safetensors").read_text() == "one"


def test_what_a_stopped_training_has_is_exported(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="none to export"):
        export_saved(tmp_path, "stage1")
    for name in ("unet", "stage2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "average.safetensors").write_text(name)
    with pytest.raises(RefbenchError, match="--of stage1"):
        export_saved(tmp_path, "stage2")
    assert main(["train", "export", "--of", "stage1", "--out", str(tmp_path)]) == 0
    assert export_saved(tmp_path, "stage2") == tmp_path / "model"
    assert [(tmp_path / "model" / f"{n}.safetensors").read_text() for n in ("stage1", "stage2")] == ["unet", "stage2"]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_damaged_weights_are_named(tmp_path: Path, stage: str) -> None:
    shutil.copy(checkpoints() / "stage1.safetensors", tmp_path)
    (tmp_path / f"{stage}.safetensors").write_bytes(b"")
    with pytest.raises(RefbenchError, match=rf"{stage}\.safetensors"):
        load_retoucher(folder=tmp_path)


def test_an_empty_state_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    with pytest.raises(RefbenchError, match="damaged"):
        load_state(tmp_path / "state.pt")
