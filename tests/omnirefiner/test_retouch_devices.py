"""Both stages of retouching with every tensor on a pretended GPU: torch's fake tensors refuse what mixes devices.

Fake tensors have a device, a shape and a type and no values, and cannot run a gradient of a GPU that is not there. What
this shows is that no forward pass, loss or optimiser leaves a tensor on the processor; not that a GPU's kernels exist,
agree or are fast, and nothing of autocast, which torch shuts off where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from refbench.metrics.backbones.efficientnet import EfficientNetLite0
from refbench.omnirefiner.retouch import exploring, training
from refbench.omnirefiner.retouch.data import Ahead
from refbench.omnirefiner.retouch.exploring import RetouchExplorer
from refbench.omnirefiner.retouch.training import RetouchLearner, UNet, searched_motion
from refbench.omnirefiner.training.loop import Learner, bfloat16
from refbench.omnirefiner.training.state import Average
from refbench.registration.xfeat import XFeat
from tests.omnirefiner.test_retouch import scenes


def moved(module: nn.Module, *where: Any, **options: Any) -> nn.Module:
    """What ``Module.to`` does, which torch has not for fake tensors."""
    del where, options
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None:
                    made = torch.empty_like(value, device="cuda")
                    held[name] = nn.Parameter(made) if isinstance(value, nn.Parameter) else made
    return module


pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:Accessing the data pointer")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for room in (training, exploring):
        monkeypatch.setattr(room, "SceneSampler", lambda folder: None)
        monkeypatch.setattr(room, "load_efficientnet", lambda device: moved(EfficientNetLite0()))
    monkeypatch.setattr(exploring, "load_xfeat", XFeat)  # the one that is kept would be of fake tensors
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(torch.autograd, "backward", lambda loss: None)
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True):
        yield


def step(learner: Learner, batch: Any) -> list[Tensor]:
    """Every loss of a step as the loop takes it, what is logged, and the optimiser's state as a resumed run takes it
    up."""
    learner.begin(0, type("One", (), {"process_index": 0})(), None)  # type: ignore[arg-type]
    learner.ahead = type("Made", (), {"next": lambda self: batch})()  # type: ignore[attr-defined]
    optimiser = torch.optim.AdamW(learner.names.values(), fused=True)
    average = Average(learner.names, 0.9)
    values: dict[str, Any] = {}
    losses = []
    for loss, last in learner.losses(0.0, values):
        losses.append(loss)
        for p in learner.names.values():
            p.grad = torch.empty_like(p)
        if last:
            torch.nn.utils.clip_grad_norm_(learner.names.values(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
    average.update(learner.names)
    saved = optimiser.state_dict()
    for state in saved["state"].values():
        state.update({name: value.cpu() for name, value in state.items()})
    again = torch.optim.AdamW(learner.names.values(), fused=True)
    again.load_state_dict(saved)
    held = [value for state in again.state.values() for value in state.values()]
    assert losses
    assert held
    return [value for value in [*losses, *held, *values.values()] if isinstance(value, Tensor)]


def test_stage1_leaves_nothing_on_the_processor(pretended: None) -> None:
    batch = scenes(2, 64)
    learner = RetouchLearner(UNet(device="cuda"), Path(), batch=2, trained=True)
    learner.speaks = 0
    left = step(learner, (batch, torch.zeros(2, 2, 64, 64)))
    assert {value.device.type for value in left} == {"cuda"}


def test_stage2_leaves_nothing_on_the_processor(pretended: None) -> None:
    left = step(RetouchExplorer(UNet(device="cuda"), Path(), batch=2, group=2), scenes(2, 64))
    assert {value.device.type for value in left} == {"cuda"}


def test_a_batch_on_another_device_is_refused(pretended: None) -> None:
    network = UNet(device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        network.refine(scenes(2, 64))


@pytest.mark.parametrize("cores", [2, 5])
def test_batches_ahead_ignore_the_threads(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refbench.omnirefiner.retouch.data.cores", lambda: cores)
    ahead = Ahead(lambda g: torch.rand(3, generator=g), torch.Generator().manual_seed(7), "cuda")
    seeds = torch.Generator().manual_seed(7)
    for _ in range(20):
        seed = int(torch.randint(1 << 62, (), generator=seeds))
        assert torch.equal(ahead.next(), torch.rand(3, generator=torch.Generator().manual_seed(seed)))


def test_motion_is_searched_on_the_processor() -> None:
    assert searched_motion(scenes(2, 64)).shape == (2, 2, 64, 64)


@pytest.mark.parametrize(("able", "used"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_without_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, able: bool, used: torch.dtype
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able)
    with bfloat16("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == used
