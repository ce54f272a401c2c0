"""Trackers show what the JSON lines of trainings and evaluations say: TensorBoard, W&B and Trackio."""

from __future__ import annotations

import inspect
import json
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omnirefiner import toys
from omnirefiner.test_training import SETTINGS, _fresh
from PIL import Image as Pillow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_tiny

import refbench
from refbench.errors import RefbenchError, UnavailableError
from refbench.omnirefiner.training import loop
from refbench.omnirefiner.training.sft import SupervisedLearner
from refbench.trackers import TRACKERS, Tracker, Tracking, Untracked, tracking


def train(out: Path, track: Tracking) -> list[dict[str, Any]]:
    """Train a toy stage 1 for four steps, and return its log."""
    pipeline = _fresh()
    embedded = pipeline.embed_prompts(["x"])
    settings = SETTINGS.model_copy(update={"steps": 4, "validate_every": 2})
    learner = SupervisedLearner(
        pipeline, settings, toys.NoiseSampler(32), {"near": toys.quadruplets(2, 32, 7)},
        lambda other: tuple(e.expand(len(other), *e.shape[1:]) for e in embedded), stage="sft",
    )  # fmt: skip
    learner.settings = loop.Settings(steps=4, lr=1e-3, warmup=1, batch=2, log_every=1, validate_every=2)
    loop.train(learner, out, track=track)
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def test_tensorboard_holds_log_of_training(tmp_path: Path) -> None:
    log = train(tmp_path / "sft", tracking("tensorboard"))
    found = events(tmp_path / "sft")
    for name, times in (("loss", 4), ("near/right", 3)):
        told = [(line["step"], line[name]) for line in log if name in line]
        points = found.Scalars(f"sft/{name}")
        assert [one.step for one in points] == [step for step, _ in told]
        assert [one.value for one in points] == pytest.approx([value for _, value in told], rel=1e-5)
        assert len(told) == times
    pictures = found.Images("sft/near")
    assert [one.step for one in pictures] == [2, 4, 4]
    sheet = np.asarray(Pillow.open(BytesIO(pictures[0].encoded_image_string)))
    assert sheet.shape == (2 * 32, 4 * 32, 3)  # two samples: draft, reference, refined, target
    target = ((toys.quadruplets(2, 32, 7).target[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(sheet[:32, 96:].astype(float) - target).max() <= 1


def test_tensorboard_holds_a_runs_scores(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path / "tiny", 4)
    found = refbench.evaluate("sharpen", str(suite), out=tmp_path / "run", log="tensorboard")
    told = events(tmp_path / "run")
    assert [(one.step, one.value) for one in told.Scalars("generate/samples")] == [(n, n) for n in range(1, 5)]
    numbers = found.summary.numbers
    (score,) = told.Scalars("score")
    assert (score.step, score.value) == (8, pytest.approx(numbers["mean"]["value"]))
    for task, row in numbers["tasks"].items():
        assert told.Scalars(f"task/{task}")[0].value == pytest.approx(row["mean"]["value"])
    assert refbench.load_run(tmp_path / "run", suite=suite).numbers.mean.value == numbers["mean"]["value"]


def test_wandb_holds_log_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = train(tmp_path / "sft", tracking("wandb"))
    (folder,) = (tmp_path / "sft" / "wandb").glob("offline-run-*")
    told = {line["step"]: line["loss"] for line in log if "loss" in line}
    until = time.monotonic() + 60  # W&B's own process may still be writing when the run has been finished
    while time.monotonic() < until:
        rows = list(history(next(folder.glob("*.wandb"))))
        kept = {row["_step"]: row["sft/loss"] for row in rows if "sft/loss" in row}
        if len(kept) == len(told):
            break
        time.sleep(0.2)
    assert kept == pytest.approx(told, rel=1e-4)
    shown = [(row["sft/near.width"], row["sft/near.height"]) for row in rows if "sft/near.width" in row]
    assert set(shown) == {(128, 64)}


def history(path: Path) -> Iterator[dict[str, Any]]:
    """What W&B wrote of a run, row by row: protocol buffers in LevelDB's log format, after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found = wandb_internal_pb2.Record()
            found.ParseFromString(record)
            record = b""
            if found.WhichOneof("record_type") == "history":
                items = found.history.item
                yield {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


class StandIn(ModuleType):
    """Trackio's functions with the parameters of version 0.43, which needs an older Pillow than the tests have."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = None
        self.told: list[tuple[Any, ...]] = []

    class Image:
        def __init__(self, value: Any, caption: str | None = None) -> None:
            assert isinstance(value, np.ndarray)
            self.value, self.caption = value, caption

    def init(
        self, project: str, name: str | None = None, group: str | None = None, space_id: str | None = None,
        server_url: str | None = None, dataset_id: str | None = None, bucket_id: str | None = None,
        config: dict[str, Any] | None = None, resume: str = "never", settings: Any = None,
        private: bool | None = None, embed: bool = True,
    ) -> None:  # fmt: skip
        assert (group, space_id, server_url, dataset_id, bucket_id, settings, private) == (None,) * 7
        self.told.append(("init", project, name, dict(config or {}), resume, embed))

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.told.append(("log", step, metrics))

    def finish(self) -> None:
        self.told.append(("finish",))


def test_trackio_told_each_line_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = StandIn()
    monkeypatch.setitem(sys.modules, "trackio", library)
    log = train(tmp_path / "sft", TRACKERS["trackio"])
    kind, project, name, facts, resume, embed = library.told[0]
    assert (kind, project, resume, embed) == ("init", "refbench", "allow", False)
    assert name == f"{tmp_path.name}-sft"
    assert facts["steps"] == 4
    assert library.told[-1] == ("finish",)
    rows = [(step, values) for kind, step, values in library.told[1:-1]]
    losses = {step: values["sft/loss"] for step, values in rows if "sft/loss" in values}
    assert losses == pytest.approx({line["step"]: line["loss"] for line in log if "loss" in line}, abs=1e-6)
    assert [values["sft/near"].value.shape for _, values in rows if "sft/near" in values] == [(64, 128, 3)] * 3


def test_tracker_is_closed_when_training_breaks(tmp_path: Path) -> None:
    closed = []

    class Broken(Untracked):
        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            raise RefbenchError("full")

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(RefbenchError, match="full"):
        train(tmp_path / "sft", lambda run, folder, facts: Broken())
    assert closed == [True]


def test_every_tracker_has_one_interface() -> None:
    for made in (*TRACKERS.values(), Untracked):
        for name in ("scalars", "pictures", "close"):
            assert inspect.signature(getattr(made, name)) == inspect.signature(getattr(Tracker, name))


def test_wrong_trackers_are_refused_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="wandb"):
        refbench.evaluate("identity", "mini", out=tmp_path / "run", log="wandbb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'refbench\[trackio\]'"):
        tracking("trackio")
    assert not (tmp_path / "run").exists()
