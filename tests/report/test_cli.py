"""The two verbs as a user has them: a real suite, real runs, real metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import write_tiny

from refbench.cli.main import main


@pytest.fixture(scope="module", autouse=True)
def _few_metrics() -> Iterator[None]:
    """A metric an axis makes the score here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refbench.metrics.registry.score_metrics", lambda: ["squeeze_pooled", "contextual", "seam"])
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two models on two samples, measured by these and one of pixel fidelity."""
    from refbench.runs.api import generate_only, score

    root = tmp_path_factory.mktemp("cli")
    suite = write_tiny(root / "tiny", 2)
    folders = []
    for model in ("identity", "reference-paste"):
        folder = root / model
        generate_only(model, suite, out=folder)
        score(folder, metrics=["psnr", "squeeze_pooled", "contextual", "seam"])
        folders.append(str(folder))
    return folders


def test_figures_writes_what_it_prints(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures"
    assert main(["figures", *runs, "--out", str(out), "--only", "qualitative,axes,tables", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["skipped"] == {}
    assert {Path(name).name for name in printed["files"]} == {path.name for path in out.iterdir()}
    assert "reference-paste" in (out / "axes.csv").read_text()


def test_report_writes_a_page(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *runs, "--out", str(tmp_path / "page"), "--single-file"]) == 0
    page = tmp_path / "page" / "index.html"
    assert str(page) in capsys.readouterr().out
    assert "reference-paste" in page.read_text()


def test_moved_suite_is_named_and_given(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 407."""
    monkeypatch.chdir(tmp_path)
    suite = Path(runs[0]).parent / "tiny"
    moved = suite.rename(suite.with_name("moved"))
    try:
        for verb in (["report"], ["figures", "--only", "axes"], ["compare"]):
            out = [] if verb == ["compare"] else ["--out", "page"]
            assert main([*verb, *runs, *out]) == 2
            assert "name its folder with --suite" in capsys.readouterr().err
            assert main([*verb, *runs, *out, "--suite", str(moved)]) == 0
    finally:
        moved.rename(suite)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--style", "neurip"], "neurips"),
        (["--only", "pareto"], "Unknown figure 'pareto'"),
        (["--focus", "nobody"], "'nobody'"),
        (["--samples", "no-such-sample"], "no-such-sample"),
        (["--stage", "base"], "--stage LABEL=VALUE"),
        (["--audit", "nothing.csv"], "nothing.csv"),
    ],
)
def test_wrong_input_is_one_sentence(
    runs: list[str], wrong: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", *runs, "--out", str(tmp_path / "figures"), *wrong]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("Error: ") == 1
    assert "Traceback" not in said


def test_folder_without_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nothing"), "--out", str(tmp_path / "page")]) == 2
    assert "Expected a run folder" in capsys.readouterr().err
