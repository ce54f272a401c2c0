"""Devices by name: what "auto" comes to, what is told before anything is loaded, and how workers share GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import write_tiny

from refbench import devices
from refbench.errors import RefbenchError
from refbench.runs.api import evaluate, generate_only
from refbench.runs.folder import RunFolder

TELLS = """
import time
from pathlib import Path

from refbench.schema import AdapterCard


def mark(device):
    return Path(__file__).with_name(device.replace(":", "-"))


class Tells:
    card = AdapterCard(name="tells", summary="Tells its device.", licence="MIT", needs_reference=False)

    def __init__(self, *, device="cpu"):
        self.device = device
        mark(device).touch()

    def refine(self, inputs):
        for _ in range(600):  # a worker alone would do all before the other has started
            if all(mark(device).exists() for device in ("cuda:0", "cuda:1")):
                break
            time.sleep(0.05)
        return inputs.draft, {"device": self.device}
"""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as far as anyone asks."""
    monkeypatch.setattr(devices, "driver", lambda: True)
    monkeypatch.setattr(devices, "count", lambda: 2)


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "driver", lambda: False)
    monkeypatch.setattr(devices, "count", lambda: 0)
    monkeypatch.setattr(devices, "metal", lambda: False)


def test_auto_is_gpu_where_there_is_one(two: None) -> None:
    assert [devices.resolve(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]


def test_auto_is_the_processor_elsewhere(none: None) -> None:
    assert devices.resolve("auto") == "cpu"


def test_cuda_without_driver_is_sentence(none: None) -> None:
    with pytest.raises(RefbenchError, match=r"driver for --device cuda, but there is none here; use --device cpu"):
        devices.resolve("cuda")
    with pytest.raises(RefbenchError, match="--device mps"):
        devices.resolve("mps")


def test_torch_without_cuda_is_sentence(none: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "driver", lambda: True)
    with pytest.raises(RefbenchError, match="a torch that can use the GPU"):
        devices.resolve("cuda:0")


@pytest.mark.parametrize(("name", "words"), [("cuda:2", "cuda:0 to cuda:1"), ("gpu", "'gpu' came"), ("cuda:x", "came")])
def test_what_is_not_there_is_named(two: None, name: str, words: str) -> None:
    with pytest.raises(RefbenchError, match=words):
        devices.resolve(name)


def test_workers_take_the_gpus_in_turn(two: None) -> None:
    assert devices.spread("cuda", 4) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert devices.spread("cuda", 1) == ["cuda"]
    assert devices.spread("cuda:1", 3) == ["cuda:1"] * 3
    assert devices.spread("cpu", 2) == ["cpu"] * 2


def test_run_on_cuda_spreads_its_workers(two: None, tmp_path: Path) -> None:
    suite = write_tiny(tmp_path / "suite")
    model = tmp_path / "tells.py"
    model.write_text(TELLS)
    folder, failed = generate_only(model, suite, workers=2, device="auto", out=tmp_path / "run")
    run = RunFolder(folder)
    manifest = run.read_manifest()
    assert not failed
    assert manifest.device == "cuda"
    used = {record.extra["device"] for record in run.read_records(manifest.samples).values()}
    assert used == {"cuda:0", "cuda:1"}


def test_auto_and_cpu_are_one_run_without_gpu(none: None, tmp_path: Path) -> None:
    suite = write_tiny(tmp_path / "suite")
    first = evaluate("identity", suite, device="auto", out=tmp_path / "run")
    assert json.loads((first.folder / "manifest.json").read_text())["device"] == "cpu"
    assert not evaluate("identity", suite, device="cpu", out=tmp_path / "run").fresh


def test_cuda_is_refused_before_anything_made(none: None, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="--device cuda"):
        generate_only("identity", write_tiny(tmp_path / "suite"), device="cuda", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_result_reads_in_a_line(none: None, tmp_path: Path) -> None:
    found = repr(evaluate("identity", write_tiny(tmp_path / "suite"), out=tmp_path / "run"))
    assert found.startswith("<Result identity on tiny: ")
    assert len(found) < 100
