"""Runs laid side by side, or refused with what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refbench.errors import RefbenchError
from refbench.report.study import Study, open_study
from refbench.runs.folder import RunFolder
from refbench.schema import AXES
from report.synthetic import CARDS, SyntheticSuite, make_runs


def copy(folder: Path, to: Path) -> RunFolder:
    shutil.copytree(folder, to)
    return RunFolder(to)


def test_runs_keep_the_order_they_were_named_in_and_rank_by_mean(study: Study) -> None:
    assert study.names == ("identity", "sharpen", "warp-blend", "omnirefiner", "kontext-pro")
    means = [run.summary.mean.value for run in study.ranked]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]


def test_a_failed_sample_scores_as_the_draft(study: Study) -> None:
    failed, draft = study.run("warp-blend"), study.run("identity")
    assert failed.failed("logo-refine-001") == "The child died (signal 9)."
    assert failed.summary.failed == 1
    pd.testing.assert_series_equal(
        failed.samples.loc["logo-refine-001"], draft.samples.loc["logo-refine-001"], check_names=False
    )


def test_sample_scores_weigh_the_lower_axis(study: Study) -> None:
    table = study.run("sharpen").samples
    texture, alignment, sits = (table[axis].to_numpy() for axis in AXES)
    right = 0.75 * np.fmin(texture, alignment) + 0.25 * np.fmax(texture, alignment)
    expected = np.where(right > 0, right * np.maximum(sits, 0.0) / 100.0, right)
    assert table["mean"].to_numpy() == pytest.approx(expected)
    assert list(table.index) == list(study.metas)
    assert list(table.columns) == [*AXES, "mean", "pixel_fidelity"]


def test_price_is_what_the_card_says_where_no_sample_told_one(study: Study) -> None:
    assert study.run("kontext-pro").price == 0.04
    assert study.run("identity").price is None


def test_runs_of_two_suites_are_refused_by_name(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    other = make_runs(tmp_path, SyntheticSuite(per_task=1, size=(60, 80), seed=9), ["identity"])
    with pytest.raises(RefbenchError, match="ran suite synthetic") as error:
        open_study([folders[0], other[0]], suite=suite, cards=CARDS)
    assert str(other[0]) in str(error.value)


def test_runs_measured_with_other_cards_are_refused_with_the_metric(
    tmp_path: Path, folders: list[Path], suite: SyntheticSuite
) -> None:
    run = copy(folders[1], tmp_path / "other")
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"metric_cards": manifest.metric_cards | {"mse": "f" * 12}}))
    with pytest.raises(RefbenchError, match="other cards of mse"):
        open_study([folders[0], run.path], suite=suite, cards=CARDS)


def test_a_changed_suite_is_refused(folders: list[Path]) -> None:
    with pytest.raises(RefbenchError, match="hash"):
        open_study([folders[0]], suite=SyntheticSuite(seed=4), cards=CARDS)


def test_an_unmeasured_run_says_what_to_do(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    run = copy(folders[0], tmp_path / "other")
    run.scores.unlink()
    with pytest.raises(RefbenchError, match="refbench measure"):
        open_study([run.path], suite=suite, cards=CARDS)
    run.scores.write_bytes(b"not parquet")
    with pytest.raises(RefbenchError, match="broken"):
        open_study([run.path], suite=suite, cards=CARDS)


def test_no_folder_and_no_run_are_told(tmp_path: Path, suite: SyntheticSuite) -> None:
    with pytest.raises(RefbenchError, match="at least one run folder"):
        open_study([], suite=suite)
    with pytest.raises(RefbenchError, match="there is none"):
        open_study([tmp_path / "nothing"], suite=suite)


def test_two_runs_of_one_name_are_told_apart(tmp_path: Path, folders: list[Path], suite: SyntheticSuite) -> None:
    run = copy(folders[0], tmp_path / "again")
    names = open_study([folders[0], run.path], suite=suite, cards=CARDS, resamples=50).names
    assert names == ("identity (identity)", "identity (again)")
