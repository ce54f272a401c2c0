"""The audit: failures rise with their strength, and the verdicts follow their stated rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refbench.metrics.audit import audit_markdown, judge, measure_failures, picture_truths, write_audit
from refbench.metrics.failures import FAILURES
from refbench.metrics.registry import make_metrics
from tests.metrics.scenes import scene


@pytest.mark.parametrize("failure", list(FAILURES))
def test_each_failure_rises_and_stays_on_its_side_of_the_mask(failure: str) -> None:
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


def test_audit_of_one_picture_is_written_as_page_and_table(tmp_path: Path) -> None:
    names = ["psnr", "ssim", "palette", "seam", "background_exact"]
    failures = ["blur", "colour drift", "seam", "background change"]
    table = judge(*measure_failures(picture_truths()[:1], names=names, failures=failures))
    assert len(table) == len(names) * len(failures)
    by = table.set_index(["metric", "failure"])["verdict"]
    assert by["ssim", "blur"] == by["psnr", "colour drift"] == by["seam", "seam"] == "right"
    assert by["palette", "colour drift"] == "right"
    assert by["ssim", "background change"] == "blind"
    assert by["background_exact", "background change"] == "right"
    page, rows = write_audit(table, tmp_path, "one picture")
    assert "| ssim | yes | ●" in page.read_text()
    assert len(pd.read_csv(rows)) == len(table)
    assert audit_markdown(table, "x").count("\n| ") == 1 + len(names)
