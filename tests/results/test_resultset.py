"""Runs laid side by side, or refused with what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report.synthetic import CARDS, SyntheticSuite, make_runs

from refbench.errors import RefbenchError
from refbench.results.comparable import Facts, differences
from refbench.results.resultset import RunSet, open_results
from refbench.runs.folder import RunFolder
from refbench.schema import AXES


def copy(folder: Path, to: Path) -> RunFolder:
    shutil.copytree(folder, to)
    return RunFolder(to)


def test_runs_keep_order_and_rank(results: RunSet) -> None:
    assert results.names == ("identity", "sharpen", "warp-blend", "omnirefiner", "kontext-pro")
    means = [run.numbers.mean.value for run in results.ranked]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]


def test_failed_sample_scores_as_draft(results: RunSet) -> None:
    failed, draft = results.run("warp-blend"), results.run("identity")
    assert failed.failed("logo-refine-001") == "The child died (signal 9)."
    assert failed.numbers.failed == 1
    pd.testing.assert_series_equal(
        failed.points.loc["logo-refine-001"], draft.points.loc["logo-refine-001"], check_names=False
    )


def test_sample_scores_weigh_the_lower_axis(results: RunSet) -> None:
    table = results.run("sharpen").points
    texture, alignment, sits = (table[axis].to_numpy() for axis in AXES)
    right = 0.75 * np.fmin(texture, alignment) + 0.25 * np.fmax(texture, alignment)
    expected = np.where(right > 0, right * np.maximum(sits, 0.0) / 100.0, right)
    assert table["mean"].to_numpy() == pytest.approx(expected)
    assert list(table.index) == list(results.metas)
    assert list(table.columns) == [*AXES, "mean", "pixel_fidelity"]


def test_price_falls_back_to_the_card(results: RunSet) -> None:
    assert results.run("kontext-pro").price == 0.04
    assert results.run("identity").price is None


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    other = make_runs(tmp_path / "suite", SyntheticSuite(per_task=1, size=(60, 80), seed=9), ["sharpen"])[0]
    cards = copy(folders[1], tmp_path / "cards")
    manifest = cards.read_manifest()
    cards.write_manifest(manifest.model_copy(update={"metric_cards": manifest.metric_cards | {"mse": "f" * 12}}))
    told = "Expected results over equal samples, suite and metric cards as identity, but sharpen "
    for run, what in ((other, "is on the suite"), (cards.path, "measured mse by the card ffffffffffff, not")):
        with pytest.raises(RefbenchError) as error:
            open_results([folders[0], run], suite=suite, cards=CARDS)
        assert str(error.value).startswith(told + what)


def test_differences_lists_samples_metrics_and_cards() -> None:
    found = differences(
        {"a": Facts("h", ("x",), {"m": "1", "n": "2"}), "b": Facts("h", ("x", "y"), {"m": "9", "k": "1", "z": "3"})},
        Facts("h", ("x",), {"m": "1", "n": "2"}),
        {"m", "n", "k"},
    )
    assert found == [
        "b lacks 0 samples and has 1 others",
        "b lacks the metric n",
        "b has the further metric k",
        "b measured m by the card 9, not 1",
    ]


def test_side_metric_may_be_in_one_run(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    """It is shown where it is, and the comparison is over those that all have."""
    run = copy(folders[1], tmp_path / "more")
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"metric_cards": manifest.metric_cards | {"beside": "e" * 12}}))
    for path in (run.scores, run.answers):
        rows = pd.read_parquet(path)
        more = rows[rows["metric"] == "mse"].assign(metric="beside", card="e" * 12)
        pd.concat([rows, more]).to_parquet(path)
    cards = CARDS | {"beside": CARDS["mse"].model_copy(update={"name": "beside", "scored": False})}
    found = open_results([folders[0], run.path], suite=suite, cards=cards, resamples=50)
    assert ["beside" in one.recoveries for one in found.models] == [False, True]
    assert "beside" not in found.shared
    assert found.compare(resamples=50).models == ("identity", "sharpen")


def test_a_changed_suite_is_refused(folders: list[Path]) -> None:
    with pytest.raises(RefbenchError, match="hash"):
        open_results([folders[0]], suite=SyntheticSuite(seed=4), cards=CARDS)


def test_unmeasured_run_says_what_to_do(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    run = copy(folders[0], tmp_path / "other")
    run.scores.unlink()
    with pytest.raises(RefbenchError, match="refbench measure"):
        open_results([run.path], suite=suite, cards=CARDS)
    run.scores.write_bytes(b"not parquet")
    with pytest.raises(RefbenchError, match="broken"):
        open_results([run.path], suite=suite, cards=CARDS).models[0].scores  # noqa: B018


def test_no_folder_and_no_run_told(tmp_path: Path, suite: SyntheticSuite) -> None:
    with pytest.raises(RefbenchError, match="at least one run folder"):
        open_results([], suite=suite)
    with pytest.raises(RefbenchError, match="there is none"):
        open_results([tmp_path / "nothing"], suite=suite)


def test_runs_of_one_name_told_apart(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    run, same = (copy(folders[0], tmp_path / name) for name in ("again", "deep/again"))
    names = open_results([folders[0], run.path], suite=suite, cards=CARDS, resamples=50).names
    assert names == ("identity (identity)", "identity (again)")
    names = open_results([run.path, same.path], suite=suite, cards=CARDS, resamples=50).names
    assert names == (f"identity ({run.path})", f"identity ({same.path})")
    with pytest.raises(RefbenchError, match="one came twice"):
        open_results([run.path, run.path], suite=suite, cards=CARDS)
