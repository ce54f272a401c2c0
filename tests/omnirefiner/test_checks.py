"""What would end a training later is told first, in one sentence, without torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import load_config
from refbench.omnirefiner.training.checks import Job

PATHS = {"assets", "out", "held_out", "init"}


@pytest.fixture
def given(assets: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a base training that can start."""
    vae = tmp_path / "out" / "vae" / "config.json"
    vae.parent.mkdir(parents=True)
    vae.write_text("{}")
    return {"assets": assets, "out": tmp_path / "out"}


def check(stage: str, **given: Any) -> None:
    given = {name: Path(value) if name in PATHS else value for name, value in given.items()}
    Job(stage, load_config("tiny"), **given).check()


def test_what_is_right_passes(given: dict[str, Any]) -> None:
    check("base", **given)


@pytest.mark.parametrize(
    ("stage", "wrong", "told"),
    [
        ("bass", {}, "stage autoencoder"),
        ("base", {"minutes": 0.0}, "--minutes"),
        ("base", {"minutes": float("nan")}, "--minutes"),
        ("base", {"seed": -1}, "--seed"),
        ("base", {"device": "gpu"}, "--device"),
        ("base", {"assets": "nowhere"}, "refbench tasks assets"),
        ("base", {"held_out": "nowhere"}, "refbench tasks assets"),
        ("base", {"init": "nowhere"}, r"model_index\.json"),
        ("sft", {}, "refbench train base"),
        ("grpo", {"init": "model"}, "adapter of stage 1"),
        ("autoencoder", {"init": "nowhere"}, "checkpoint folder"),
        ("autoencoder", {"out": "file"}, "can be written"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_first(
    stage: str, wrong: dict[str, Any], told: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    with pytest.raises(RefbenchError, match=told):
        check(stage, **{**given, **wrong})


def test_damaged_assets_and_state_are_told(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "assets.npz").write_bytes(b"PK")
    with pytest.raises(RefbenchError, match="damaged"):
        check("base", **{**given, "assets": tmp_path})
    with zipfile.ZipFile(tmp_path / "assets.npz", "w") as archive:
        archive.writestr("glyphs.npy", b"")
    with pytest.raises(RefbenchError, match="advances is not in it"):
        check("base", **{**given, "assets": tmp_path})
    state = given["out"] / "base" / "state.pt"
    state.parent.mkdir()
    state.write_bytes(b"cut")
    with pytest.raises(RefbenchError, match=r"state\.pt, but it is damaged"):
        check("base", **given, resume=True)


def test_a_full_disk_is_told(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
        with pytest.raises(RefbenchError, match="600 MB of free disk"):
            check("base", **given)
    monkeypatch.setattr("refbench.omnirefiner.training.checks.find_spec", lambda name: None if name == "peft" else name)
    with pytest.raises(RefbenchError, match=r"peft to train.*refbench\[models\]"):
        check("base", **given)


@pytest.mark.parametrize(
    "module", ["omnirefiner.training.checks", "tasks.generate", "tasks.training_assets", "tasks.fetching"]
)
def test_checks_are_made_without_torch(module: str) -> None:
    code = f"import refbench.{module}, refbench.cli.train, refbench.cli.tasks, sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
