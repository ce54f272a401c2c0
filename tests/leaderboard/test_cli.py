"""compare, submit, verify and leaderboard from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from refbench.cli.main import main

from .conftest import METRICS, World


@pytest.fixture
def runs(built: Path, world: World) -> list[Path]:
    return [world.run, built.parent / "runs" / "identity", built.parent / "runs" / "reference-paste"]


def test_compare_says_what_may_be_concluded(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs[1:])]) == 0
    short = capsys.readouterr().out
    words = " ".join(short.split())
    assert "On the whole, identity is better" in words or "On the whole, it is undecided" in words
    assert "minus reference-paste, category" not in short
    assert main(["compare", *map(str, runs[1:]), "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "identity minus reference-paste, category" in out
    assert "Where they differ most" in out


def test_compare_prints_a_matrix_first(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Models by axes, mean and samples won; then one line a pair, whose verdict is that of the interval."""
    assert main(["compare", *map(str, runs), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "3 models on 8 samples of 4 sources"
    assert lines[2].split() == ["texture", "alignment", "consistency", "score", "samples"]
    means = {name: cells["mean"]["value"] for name, cells in data["scores"].items()}
    assert [line.split()[0] for line in lines[4:7]] == sorted(means, key=lambda name: -means[name])
    for line in lines[4:7]:
        name, duel = line.split()[0], data["against_all"][line.split()[0]]
        assert f" {means[name]:.1f} ±" in line
        assert line.split()[-1] == f"{duel['wins']}–{duel['ties']}–{duel['losses']}"
    for pair in data["pairs"]:
        row = next(row for row in pair["differences"] if (row["view"], row["measure"]) == ("overall", "mean"))
        (line,) = (line for line in lines if line.split()[:2] == [pair["a"], pair["b"]])
        assert line.split()[-1] == {"a": "better", "b": "worse"}.get(row["better"], "undecided")
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0) == (row["better"] != "undecided")


def test_compare_fits_80_columns(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--verbose"]):
        assert main(["compare", *map(str, runs), *more]) == 0
        assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_compare_gives_null_and_the_reason(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs[1:]), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["pairs"][0]["differences"]
    few = [row for row in rows if row["view"] == "category"]
    assert {(row["low"], row["p"], row["better"]) for row in few} == {(None, None, "undecided")}
    assert {row["reason"] for row in few} == {"too few sources: 2 sources, an interval needs 4"}
    assert main(["compare", *map(str, runs[1:]), "--verbose"]) == 0
    assert "logo, pattern: too few sources: 2 sources, an interval needs 4" in capsys.readouterr().out


def test_compare_prints_json(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["models"] == ["sharpen", "identity", "reference-paste"]
    row = data["pairs"][0]["differences"][0]
    assert {"view", "name", "measure", "value", "low", "high", "effect", "p_holm", "detectable", "better"} <= set(row)


def test_compare_refuses_what_is_no_run(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([str(runs[0])], [str(runs[0]), str(tmp_path / "nothing")], [str(runs[0]), str(runs[0])]):
        assert main(["compare", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("Error: Expected")
        assert len(err.splitlines()) == 1


def test_submit_packs_and_says_what_is_next(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(runs[1]), "--to", str(tmp_path), "--by", "me", "--archive"]) == 0
    done = capsys.readouterr()
    assert done.out.strip() == str(tmp_path / "identity")
    assert "refbench verify" in done.err
    assert (tmp_path / "identity-outputs.zip").is_file()


def test_verify_ends_with_two_and_name(
    entry: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' entry lacks a metric that scores, and is refused also where that metric cannot run."""
    monkeypatch.setattr("refbench.metrics.registry.score_metrics", lambda: [*METRICS, "ocr_cer"])
    monkeypatch.setattr("refbench.metrics.texture.reader.PACKAGE", "no_such_package")
    comment = tmp_path / "comment.md"
    arguments = ["verify", str(entry), "--suite", world.spec, "--sample", "0"]
    assert main([*arguments, "--comment", str(comment), "--out", str(tmp_path)]) == 2
    assert "missing-metric" in capsys.readouterr().out
    assert "missing-metric" in comment.read_text()
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "refused"
    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["name"] == "missing-metric"


def test_leaderboard_builds_and_checks(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = Path(shutil.copytree(built, tmp_path / "board"))
    assert main(["leaderboard", "check", "--board", str(board)]) == 0
    (board / "board.csv").write_text("x")
    assert main(["leaderboard", "check", "--board", str(board)]) == 1
    assert "board.csv" in capsys.readouterr().err
    assert main(["leaderboard", "build", "--board", str(board)]) == 0
    assert main(["leaderboard", "check", "--board", str(board)]) == 0
    assert main(["leaderboard", "build", "--board", str(tmp_path / "none")]) == 2


def test_leaderboard_prints_json_where_asked(
    built: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Path(shutil.copytree(built, tmp_path / "board"))
    files = [str(board / name) for name in ("README.md", "index.html", "board.csv", "board.tex", "board.json")]

    def told(code: int, *arguments: str) -> dict[str, object]:
        capsys.readouterr()
        assert main(["leaderboard", *arguments, "--board", str(board), "--json"]) == code
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert told(0, "build") == {"board": str(board), "written": files}
    assert told(0, "check")["out_of_date"] == []
    (board / "board.tex").write_text("x")
    assert told(1, "check")["out_of_date"] == ["board.tex"]
    monkeypatch.setattr("refbench.metrics.registry.score_metrics", lambda: [*METRICS, "ocr_cer"])
    added = told(2, "add", str(world.entry), "--sample", "0", "--suite", world.spec)
    assert added["written"] == []
    assert [one["findings"][0]["name"] for one in added["verdicts"]] == ["missing-metric"]  # type: ignore[attr-defined]
