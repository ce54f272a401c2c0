"""The audit: failures rise with their strength, and the verdicts follow their stated rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refbench.errors import RefbenchError
from refbench.metrics.audit import (
    CHEAP,
    audit_markdown,
    checks_in_words,
    judge,
    measure_failures,
    picture_truths,
    run_audit,
    write_audit,
)
from refbench.metrics.checks import Form, Second
from refbench.metrics.doctor import run_doctor
from refbench.metrics.failures import FAILURES, SMALL
from refbench.metrics.pixel.error import PSNR
from refbench.metrics.pixel.ssim import SSIM
from refbench.metrics.registry import make_metrics
from refbench.schema import Truth
from tests.metrics.scenes import scene


@pytest.mark.parametrize("failure", list(FAILURES))
def test_failures_rise_on_their_side(failure: str) -> None:
    damage, strengths, _ = FAILURES[failure]
    done = [damage(scene(), strength, np.random.default_rng(0)) for strength in strengths]
    truth = done[0][0]
    assert truth.mask is not None
    errors = [float(((output.astype(float) - truth.target) ** 2).mean()) for _, output in done]
    assert errors == sorted(errors)
    assert errors[0] > 0
    side = truth.mask if failure == "background change" else ~truth.mask
    assert all(np.array_equal(output[side], truth.target[side]) for _, output in done)


def frame(values: list[list[float]], gap: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame(
        {"failure": "blur", "step": step, "sample": str(sample), "metric": "ssim", "value": value, "gap": gap}
        for sample, row in enumerate(values)
        for step, value in enumerate(row)
    )


@pytest.mark.parametrize(
    ("values", "verdict", "monotone"),
    [
        ([[0, 0.1, 0.2, 0.4, 0.8]] * 5, "right", 1.0),
        ([[0, 0.01, 0.01, 0.02, 0.02]] * 5, "blind", 1.0),
        ([[0, -0.1, -0.2, -0.3, -0.4]] * 5, "wrong", 0.0),
        ([[0, 0, 0, 0, 3.0]] + [[0, 0, 0, 0, 0]] * 4, "weak", 1.0),
        ([[0, 0.5, 0.2, 0.9, 0.8]] * 5, "right", 0.5),
    ],
)
def test_verdicts_follow_the_rule(values: list[list[float]], verdict: str, monotone: float) -> None:
    cards = {"ssim": make_metrics(["ssim"])["ssim"].card()}
    row = judge(frame(values), cards).iloc[0]
    assert row["verdict"] == verdict
    assert row["monotone"] == monotone


def test_audit_writes_page_and_table(tmp_path: Path) -> None:
    names = ["psnr", "ssim", "palette", "seam", "background_exact"]
    failures = ["blur", "colour drift", "seam", "background change"]
    table = judge(*measure_failures(picture_truths()[:1], names=names, failures=failures))
    assert len(table) == len(names) * len(failures)
    table["checks"] = table["metric"].map({name: name + "'s checks" for name in names} | {"psnr": "none"})
    by = table.set_index(["metric", "failure"])["verdict"]
    assert by["ssim", "blur"] == by["psnr", "colour drift"] == by["seam", "seam"] == "right"
    assert by["palette", "colour drift"] == "right"
    assert by["ssim", "background change"] == "blind"
    assert by["background_exact", "background change"] == "right"
    page, rows = write_audit(table, tmp_path, "one picture")
    assert "| ssim | yes | ●" in page.read_text()
    assert "| blind to | 2 px shift | 1 % scale |" in page.read_text()
    assert len(pd.read_csv(rows)) == len(table)
    assert audit_markdown(table, "x").count("\n| ") == 2 * (1 + len(names))
    assert "| ssim | ssim's checks |" in page.read_text()
    assert "| psnr | **none**: " in page.read_text()


def test_audit_runs_the_metrics_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three metrics, of which one makes a false claim and one says nothing of itself."""
    monkeypatch.setattr("refbench.metrics.measurer.default_metrics", lambda: ["psnr", "ssim", "contextual"])
    monkeypatch.setattr(PSNR, "perfect", 60.0)
    monkeypatch.setattr(SSIM, "perfect", None)
    monkeypatch.setattr(SSIM, "symmetric", False)
    monkeypatch.setattr(SSIM, "second", None)
    monkeypatch.setattr(SSIM, "closed_forms", lambda self: iter(()))
    told = run_audit(limit=1).groupby("metric")["checks"].first()
    assert told["psnr"] == "closed form, second library, perfect FAILED (expected 60, found inf), symmetric"
    assert told["ssim"] == "none"
    assert told["contextual"] == "closed form, second library"


def test_checks_are_told_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [Form("a", 1.0, 1.0, 0.0), Form("b", 1.0, 2.0, 0.0), Form("c", 1.0, 1.0, 0.0)]
    monkeypatch.setattr(PSNR, "closed_forms", lambda self: iter(forms))
    monkeypatch.setattr(PSNR, "second", Second("nothing", lambda *_: 0.0, module="not_there"))
    assert checks_in_words(run_doctor(["psnr"])) == {
        "psnr": "2 closed form, closed form FAILED (expected 1, found 2), "
        "second library (skipped: not-there is not installed), perfect, symmetric"
    }


def test_small_shift_or_scale_is_told() -> None:
    """Per sample 0.4 and -0.1 at the small step of a gap of 2; what is better than the truth counts as the truth."""
    cards = {"ssim": make_metrics(["ssim"])["ssim"].card()}
    at = {"shift": 2, "scale": 1, "blur": 1}
    for failure, step in at.items():
        values = [[0.0] * 5, [0.0] * 5]
        values[0][step], values[1][step] = 0.4, -0.1
        (cost,) = judge(frame(values, gap=2.0).assign(failure=failure), cards)["small"]
        assert cost == pytest.approx(100 * 0.2 / 2) if failure != "blur" else np.isnan(cost)


def test_small_steps_are_steps_of_their_failures() -> None:
    for failure, (step, words) in SMALL.items():
        assert f"{FAILURES[failure][1][step - 1]:g} " in words


def test_small_shift_or_scale_is_cheap() -> None:
    """Of the networks' features; a metric of single pixels pays most of its gap."""
    names = ["squeeze_pooled", "squeeze_match", "contextual", "ssim"]
    table = judge(*measure_failures(picture_truths(), names=names, failures=list(SMALL)))
    cost = table.set_index(["metric", "failure"])["small"]
    for name in names[:3]:
        assert cost[name].max() < CHEAP
    assert cost["ssim", "shift"] > 2 * CHEAP


def test_a_scaled_thing_keeps_its_middle() -> None:
    """A white square of 40 px in the middle of the mask is 42 px wide at 5 %, at the same place."""
    target = np.zeros((100, 120, 3), dtype=np.uint8)
    target[30:70, 40:80] = 255
    mask = np.zeros((100, 120), dtype=bool)
    mask[20:80, 30:90] = True
    _, grown = FAILURES["scale"][0](Truth("", target, target, None, mask), 5.0, np.random.default_rng(0))
    white = grown[50, :, 0] / 255.0
    assert white.sum() == pytest.approx(42.0, abs=0.1)
    assert (white * np.arange(120)).sum() / white.sum() == pytest.approx(59.5, abs=0.05)


def test_ghost_is_draft_over_target() -> None:
    truth = scene()
    assert truth.draft is not None
    _, half = FAILURES["ghost"][0](truth, 50.0, np.random.default_rng(0))
    mean = (truth.draft.astype(int) + truth.target) / 2.0
    assert np.abs(half - mean).max() <= 0.5
    with pytest.raises(RefbenchError, match="Expected a draft"):
        FAILURES["ghost"][0](replace(truth, draft=None), 50.0, np.random.default_rng(0))


def test_audit_leaves_diagnostics_out() -> None:
    frame, cards = measure_failures(
        picture_truths()[:1], names=["ssim", "outside_shift", "copied"], failures=["background change"]
    )
    assert set(frame["metric"]) == set(cards) == {"ssim"}
