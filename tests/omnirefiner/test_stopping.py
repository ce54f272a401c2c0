"""Training that is stopped saves its state first, goes on from it, and says how far it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from refbench.omnirefiner.training import loop
from refbench.omnirefiner.training.progress import Pace, Stop, rounds
from refbench.omnirefiner.training.sft import SupervisedLearner
from tests.omnirefiner import toys
from tests.omnirefiner.test_training import SETTINGS, _fresh


class Heard:
    """What was told; `at` sends a signal to this process after so many ticks."""

    def __init__(self, at: int = 10**9, number: signal.Signals = signal.SIGTERM) -> None:
        self.ticks: list[str] = []
        self.at, self.number = at, number

    def note(self, text: str) -> None:
        self.ticks.append(text)

    def tick(self, text: str) -> None:
        self.ticks.append(text)
        if len(self.ticks) == self.at:
            os.kill(os.getpid(), self.number)


def train(out: Path, heard: Heard, **changes: Any) -> dict[str, Any]:
    pipeline = _fresh()
    embedded = pipeline.embed_prompts(["x"])
    resume = changes.pop("resume", False)
    learner = SupervisedLearner(
        pipeline, SETTINGS.model_copy(update=changes), toys.NoiseSampler(32), {"near": toys.quadruplets(2, 32, 7)},
        lambda other: tuple(e.expand(len(other), *e.shape[1:]) for e in embedded), stage="sft",
    )  # fmt: skip
    return loop.train(learner, out, resume=resume, telling=heard)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_training_saves_and_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Heard(1, number), steps=8)
    assert signal.getsignal(number) is before
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], state["samples"], state["progress"]) == (1, 4, 1 / 8)
    heard = Heard()
    assert train(tmp_path, heard, steps=8, resume=True)["steps"] == 8
    assert heard.ticks[0].startswith("sft: step 2 of at most 8, 25%, loss ")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["progress"] == 1.0


def test_stop_ends_when_all_processes_agree() -> None:
    done, saved, asked = iter(range(10)), [], []

    def agreed(mine: bool) -> bool:
        asked.append(mine)
        return len(asked) == 3

    with pytest.raises(KeyboardInterrupt):
        list(rounds(lambda: next(done) / 10, saved.append, agreed))
    assert (asked, saved) == ([False] * 3, [0.3])


def test_a_second_signal_interrupts_at_once() -> None:
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_pace_is_told_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, heard = 100.0, Heard()
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(heard, "sft", 1000, 100, 0.1)
    for step in range(101, 141):  # a resumed run, 0.4 s a step
        now += 0.4
        pace.step(step, step / 1000, loss=0.25)
    assert heard.ticks[0] == "sft: step 101 of at most 1,000, 10%, loss 0.25, 0.40 s a step, 6:00 left"
    assert heard.ticks[-1] == "sft: step 140 of at most 1,000, 14%, loss 0.25, 0.40 s a step, 5:44 left"
    assert len(heard.ticks) == 14
