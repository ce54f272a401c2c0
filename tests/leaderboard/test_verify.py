"""Honest entries: verified in every way they may come, with what could not be checked said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from refbench.leaderboard.regenerate import chosen
from refbench.leaderboard.submission import board_copy
from refbench.leaderboard.verify import verify, write_verdict
from refbench.runs.api import score

from .conftest import METRICS, World
from .spoil import change_json, drop_output, put, records, reseal, write_records, zipped


def test_honest_entry_is_verified(entry: Path, world: World, check: Any) -> None:
    verdict = check(entry, samples=2)
    assert (verdict.verdict, verdict.exit_code, verdict.findings) == ("verified", 0, ())
    assert verdict.regenerated == 2
    assert "2 to the bit" in verdict.regeneration
    assert verdict.differing == 0
    assert verdict.compared > 8 * len(METRICS)
    assert verdict.mean is not None
    summary = score(world.run, metrics=METRICS).summary.numbers
    assert verdict.mean.value == pytest.approx(summary["mean"]["value"])


def test_unwritable_cache_refuses_no_right_entry(entry: Path, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 376."""
    monkeypatch.setenv("REFBENCH_CACHE", "/proc/refbench")
    assert check(entry, samples=1).verdict == "verified"


def test_zip_is_as_good_as_folder(entry: Path, tmp_path: Path, check: Any) -> None:
    assert check(zipped(entry, tmp_path / "entry.zip")).verdict == "verified"


def test_entry_is_verified_with_outputs_apart(world: World, tmp_path: Path, check: Any) -> None:
    light = board_copy(world.entry, tmp_path / "sharpen")
    assert not (light / "outputs").exists()
    alone = check(light)
    assert (alone.verdict, alone.findings[0].name) == ("refused", "missing-sample")
    assert "--outputs" in alone.findings[0].message
    assert check(light, outputs=world.archive).verdict == "verified"
    folder = tmp_path / "apart"
    shutil.copytree(world.entry / "outputs", folder / "outputs")
    assert check(light, outputs=folder).verdict == "verified"


def test_doubled_or_foreign_outputs_are_refused(world: World, entry: Path, tmp_path: Path, check: Any) -> None:
    assert check(entry, outputs=world.archive).findings[0].name == "duplicate-file"
    light = board_copy(world.entry, tmp_path / "light")
    assert check(light, outputs=world.entry).findings[0].name == "unexpected-file"


def test_failed_samples_never_raise_the_score(entry: Path, world: World, check: Any) -> None:
    """An entry whose claims were made with two failed samples is verified; quietly dropping two is not."""
    before = check(entry)
    seconds = json.loads((entry / "entry.json").read_text())["cost"]["seconds"]
    for _ in range(2):
        sample = drop_output(entry)
        rows = [{**row, "seconds": seconds} for row in records(entry)]  # the median of those left is the same
        rows = [
            {**row, "status": "failed", "sha256": None, "error": "out of memory"} if row["id"] == sample else row
            for row in rows
        ]
        write_records(entry, rows)
    reseal(entry)
    dropped = check(entry)
    assert dropped.verdict == "differs", dropped.findings  # scores of failed samples are still claimed
    assert dropped.axes["texture_fidelity"].value <= before.axes["texture_fidelity"].value + 1.0


def test_obstacle_to_running_again_is_said(entry: Path, check: Any) -> None:
    change_json(entry, "manifest.json", put("model", to="my-model.py"))
    reseal(entry, put("model", to="my-model.py"))
    verdict = check(entry, samples=2)
    assert (verdict.verdict, verdict.regenerated) == ("verified", 0)
    assert "--adapter" in verdict.regeneration


def test_random_model_is_not_run_again(entry: Path, check: Any) -> None:
    change_json(entry, "manifest.json", put("card", "deterministic", to=False))
    reseal(entry, put("card", "deterministic", to=False))
    verdict = check(entry, samples=2)
    assert verdict.verdict == "verified"
    assert "not deterministic" in verdict.regeneration


def test_regenerated_samples_follow_from_seal(entry: Path) -> None:
    from refbench.leaderboard.entry import parse_entry

    one = parse_entry((entry / "entry.json").read_bytes(), "entry.json")
    ids = [f"s-{i}" for i in range(50)]
    assert chosen(one, ids, 5) == chosen(one, ids[::-1], 5)
    reseal(entry, put("notes", to="another"))
    two = parse_entry((entry / "entry.json").read_bytes(), "entry.json")
    assert chosen(one, ids, 5) != chosen(two, ids, 5)


def test_comment_is_short_and_verdict_written(entry: Path, tmp_path: Path, check: Any) -> None:
    verdict = check(entry)
    comment = verdict.comment()
    assert "verified" in comment
    assert "| texture fidelity |" in comment
    assert len(comment) < 2000
    path = write_verdict(verdict, tmp_path)
    assert type(verdict).model_validate_json(path.read_bytes()) == verdict


def test_nothing_at_the_path_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / ("x" * 300)):
        verdict = verify(path)
        assert (verdict.exit_code, verdict.findings[0].name) == (2, "no-entry")


def test_own_suite_must_be_named(entry: Path) -> None:
    assert verify(entry).findings[0].name == "other-suite"


def test_inner_folders_are_not_hidden_twice(tmp_path: Path) -> None:
    from refbench.leaderboard.verify import _outermost

    (tmp_path / "tasks" / "core").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    given = [tmp_path / "tasks" / "core", tmp_path / "tasks", tmp_path / "cache", tmp_path / "none"]
    assert _outermost(given) == [tmp_path / "cache", tmp_path / "tasks"]
