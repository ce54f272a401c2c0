"""Learning curves: every quantity of a training log, validation with its references on one axis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refbench.errors import RefbenchError
from refbench.images import load_image
from refbench.report.ablation import read_log
from refbench.report.learning import draw_curves


def test_curves_survive_a_cut_log(tmp_path: Path) -> None:
    lines = [json.dumps({"stage": "sft", "step": i, "minutes": i / 10, "loss": 1 / (i + 1)}) for i in range(5)]
    lines += [
        json.dumps({"step": 5, "minutes": 0.5, "near/right": 20.0, "near/shuffled": 15.0, "near/right_recovery": 9.0})
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines) + '\n{"step": 6, "minu')
    rows = read_log(log)
    assert len(rows) == 6
    assert rows["near/right"].dropna().tolist() == [20.0]
    picture = load_image(draw_curves(log, tmp_path / "c.png"))
    assert picture.shape[1] == round(3 * 4.2 * 130)  # loss, PSNR and recovery: three panels in one line
    assert picture.std() > 5
    with pytest.raises(RefbenchError, match="training log"):
        draw_curves(tmp_path / "none.jsonl", tmp_path / "n.png")
    log.write_text('{"step": 1}\n')
    with pytest.raises(RefbenchError, match="train longer"):
        draw_curves(log, tmp_path / "n.png")
