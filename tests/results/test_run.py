"""A run as tables, and runs of another version of the score: refused until measured, never generated anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny import adapter_file, write_tiny

import refbench
from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.images import save_png
from refbench.results.resultset import open_results
from refbench.runs.api import generate_only
from refbench.runs.diagnostics import DIAGNOSTICS
from refbench.schema import AXES, SCORE_VERSION

LOST = "pattern-replace-001"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of folders of PNGs: `draft` the drafts, `truth` the targets, but for one sample that it lacks."""
    root = tmp_path_factory.mktemp("loaded")
    suite = refbench.load_suite(write_tiny(root / "tiny", 6))
    for sample in suite:
        save_png(root / "images" / "draft" / f"{sample.id}.png", sample.draft)
        if sample.id != LOST:
            save_png(root / "images" / "truth" / f"{sample.id}.png", suite.target(sample))
    for name in ("draft", "truth"):
        refbench.evaluate(root / "images" / name, root / "tiny", out=root / name)
    return root


@pytest.fixture
def old(runs: Path, tmp_path: Path) -> Path:
    """A run measured for the first version of the score, whose manifests name none."""
    run = Path(shutil.copytree(runs / "truth", tmp_path / "old"))
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["score_version"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def test_samples_have_exactly_the_documented_columns(runs: Path) -> None:
    samples = refbench.load_run(runs / "draft").samples
    facts = ["sample", "task", "category", "mode"]
    assert list(samples.columns) == [*facts, *AXES, "mean", "pixel_fidelity", "status", *DIAGNOSTICS]
    assert list(samples["sample"]) == list(refbench.load_suite(runs / "tiny").ids)
    assert set(zip(samples["task"], samples["category"], samples["mode"], strict=True)) == {
        ("logo-refine", "logo", "refine"), ("pattern-replace", "pattern", "replace"),
    }  # fmt: skip


def test_draft_is_zero_truth_is_most(runs: Path) -> None:
    draft, truth = (refbench.load_run(runs / name).samples for name in ("draft", "truth"))
    assert set(draft["status"]) == {"ok"}
    for name in ("texture_fidelity", "reference_alignment", "mean", "pixel_fidelity"):
        assert draft[name].to_numpy() == pytest.approx(0, abs=1e-6)
    assert (draft["outside_touched"] == 0).all()
    right = truth[truth["status"] == "ok"]
    assert (right["mean"] > 50).all()
    assert right["pixel_fidelity"].to_numpy() == pytest.approx(100)
    assert right["sharpness_change"].to_numpy() == pytest.approx(0, abs=1e-6)


def test_failed_sample_counts_as_the_draft(runs: Path) -> None:
    samples = refbench.load_run(runs / "truth").samples.set_index("sample")
    draft = refbench.load_run(runs / "draft").samples.set_index("sample")
    assert list(samples.index[samples["status"] == "failed"]) == [LOST]
    numbers = [*AXES, "mean", "pixel_fidelity"]
    assert list(samples.loc[LOST, numbers]) == pytest.approx(list(draft.loc[LOST, numbers]), abs=1e-6)
    assert samples.loc[LOST, list(DIAGNOSTICS)].isna().all()


def test_diagnostic_means_skip_undefined_samples(runs: Path) -> None:
    run = refbench.load_run(runs / "truth")
    for name, cell in run.summary.diagnostics.items():
        assert cell["mean"] == pytest.approx(run.samples[name].mean())
        assert cell["samples"] == run.samples[name].count() <= 5
    assert "sharpness_change" in run.summary.diagnostics


def test_scores_and_summary_are_runs_own(runs: Path) -> None:
    run = refbench.load_run(runs / "draft")
    pd.testing.assert_frame_equal(run.scores, pd.read_parquet(runs / "draft" / "scores.parquet"))
    assert run.summary.numbers["score_version"] == run.manifest.score_version == SCORE_VERSION
    assert repr(run) == "RunResult('draft' on 'tiny', 6 samples)"


def test_unmeasured_run_says_what_to_do(runs: Path, tmp_path: Path) -> None:
    generate_only(adapter_file(tmp_path, "return inputs.draft"), runs / "tiny", out=tmp_path / "run")
    with pytest.raises(RefbenchError, match="run 'refbench measure"):
        refbench.load_run(tmp_path / "run")
    with pytest.raises(RefbenchError, match="Expected a run folder"):
        refbench.load_run(tmp_path / "nothing")


def test_run_of_first_score_is_refused(
    old: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = f"Expected numbers of score {SCORE_VERSION}, but those of {old} are of score 1; run 'refbench measure {old}'"
    for look in (refbench.load_run, lambda run: open_results([run])):
        with pytest.raises(RefbenchError) as error:
            look(old)
        assert str(error.value).startswith(told)
    out = ["--out", str(tmp_path / "out")]
    for verb in (["report", str(old), *out], ["figures", str(old), *out], ["compare", str(old), str(runs / "draft")]):
        assert main(verb) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_measuring_it_again_generates_nothing(old: Path, runs: Path) -> None:
    held = {path: path.stat().st_mtime_ns for path in [*(old / "outputs").rglob("*.png"), old / "records.jsonl"]}
    assert main(["measure", str(old), "--json"]) == 1  # one sample has failed
    assert {path: path.stat().st_mtime_ns for path in held} == held
    pd.testing.assert_frame_equal(refbench.load_run(old).samples, refbench.load_run(runs / "truth").samples)
