"""A whole evaluation through the command line: result, resuming, and every fault a user can make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tiny import NOISE, adapter_file, write_tiny

from refbench.images import load_image, save_png
from refbench.runs.diagnostics import DIAGNOSTICS
from refbench.schema import AXES

from .conftest import Cli, Done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, suite: Path) -> Path:
    """The folder of a finished evaluation of `identity`, for tests that read it (copy it to write)."""
    from refbench.runs.api import evaluate

    return evaluate("identity", suite, out=tmp_path_factory.mktemp("finished") / "run").folder


def ids(suite: Path) -> list[str]:
    header = json.loads((suite / "suite.json").read_text())
    return [sample for task in header["tasks"] for sample in task["samples"]]


class TestResult:
    def test_json_is_exactly_the_documented_one(self, process: Cli, suite: Path, here: Path) -> None:
        done = process("eval", "--model", "identity", "--suite", suite, "--limit", 4, "--json")
        assert done.code == 0, done.err
        data = json.loads(done.out)
        assert list(data) == [
            "run", "suite", "suite_hash", "model", "score_version", "targets", "axes", "mean", "pixel_fidelity",
            "withheld", "categories", "diagnostics", "samples", "failed", "refused", "cost_usd",
        ]  # fmt: skip
        assert tuple(data["axes"]) == AXES
        for cell in (*data["axes"].values(), data["mean"], data["pixel_fidelity"]):
            assert list(cell) == ["value", "low", "high", "reason"][: 4 if None in cell.values() else 3]
        assert set(data["categories"]) == {"logo", "pattern"}
        assert all(set(AXES) <= set(cells) for cells in data["categories"].values())
        assert (data["samples"], data["failed"]) == (4, 0)
        assert data["model"] == "identity"
        assert data["suite_hash"] == json.loads((suite / "suite.json").read_text())["hash"]
        assert (here / data["run"] / "manifest.json").exists()
        assert "generate: 4/4 samples" in done.err
        # The draft itself is the zero of all but consistency, and it leaves the rest alone.
        for cell in (data["axes"]["texture_fidelity"], data["axes"]["reference_alignment"], data["pixel_fidelity"]):
            assert cell["value"] == pytest.approx(0, abs=1e-6)
        assert data["mean"]["value"] == pytest.approx(0, abs=1e-6)
        assert data["axes"]["local_consistency"]["value"] > 50
        assert data["score_version"] == 2
        assert list(data["diagnostics"]) == list(DIAGNOSTICS)
        assert data["diagnostics"]["outside_touched"] == {"mean": 0.0, "samples": 4}
        assert data["diagnostics"]["sharpness_change"]["mean"] < -50  # the drafts are blurred

    def test_table_shows_axes_categories_and_intervals(self, cli: Cli, finished: Path, suite: Path) -> None:
        done = cli("eval", "--model", "identity", "--suite", suite, "--out", finished)
        assert done.code == 0
        assert "6 samples" in done.out
        for word in ("texture", "alignment", "consistency", "score 2", "pixel", "all", "logo", "pattern", "0.0 ±0.0"):
            assert word in done.out
        assert "Diagnostics, beside the score" in done.out
        assert [line for line in done.out.splitlines() if line.split()[:4] == ["touched", "outside", "0.00", "%"]]
        sentences = ("run: ", "not scored: ")
        assert [line for line in done.out.splitlines() if len(line) > 80 and not line.startswith(sentences)] == []

    def test_manifest_says_what_was_run(self, finished: Path, suite: Path) -> None:
        data = json.loads((finished / "manifest.json").read_text())
        assert data["arguments"]["suite"] == str(suite)
        assert data["samples"] == ids(suite)
        assert data["versions"]["refbench"]
        assert data["hardware"]["cores"] >= 1
        assert len(data["metric_cards"]) > 10
        assert data["doctor"]["failed"] == 0
        assert data["doctor"]["passed"] > 20

    def test_several_models_give_several_folders(self, cli: Cli, suite: Path, here: Path) -> None:
        done = cli("eval", "-m", "identity,reference-paste", "-s", suite, "--limit", 2, "--out", "all", "--json")
        assert done.code == 0, done.err
        assert [entry["model"] for entry in json.loads(done.out)] == ["identity", "reference-paste"]
        assert {path.name for path in (here / "all").iterdir()} == {"identity", "reference-paste"}

    def test_from_python_it_is_the_same(self, finished: Path, suite: Path) -> None:
        import refbench

        result = refbench.evaluate("identity", suite, out=finished)
        assert not result.fresh
        assert result.to_json()["samples"] == len(refbench.load_suite(suite))

    def test_options_reach_the_model(self, cli: Cli, suite: Path, here: Path) -> None:
        model = adapter_file(here, "return (inputs.draft * self.strength).astype(np.uint8)")
        done = cli("generate", "-m", model, "-s", suite, "--limit", 1, "--out", "run", "-o", "strength=0")
        assert done.code == 0, done.err
        (image,) = (here / "run" / "outputs").rglob("*.png")
        assert load_image(image).max() == 0


class TestAgain:
    def test_finished_run_imports_no_torch(self, process: Cli, suite: Path, finished: Path) -> None:
        code = (
            "import sys\nfrom refbench.cli.main import main\ncode = main(sys.argv[1:])\n"
            "assert not {'torch', 'pandas', 'cv2', 'scipy'} & set(sys.modules)\nsys.exit(code)"
        )
        arguments = ["eval", "--model", "identity", "--suite", str(suite), "--out", str(finished), "--json"]
        import sys

        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Nothing to do" in done.stderr
        assert json.loads(done.stdout)["samples"] == 6

    def test_measuring_finished_run_again_does_nothing(self, cli: Cli, finished: Path) -> None:
        done = cli("measure", finished, "--json")
        assert done.code == 0, done.err
        assert "Nothing to do" in done.err
        assert json.loads(done.out)["model"] == "identity"

    def test_scoring_again_never_generates(self, cli: Cli, finished: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        summary = (run / "summary.json").read_bytes()
        for name in ("scores.parquet", "answers.parquet", "summary.json"):
            (run / name).unlink()
        before = {path: path.stat().st_mtime_ns for path in (run / "outputs").rglob("*.png")}
        done = cli("measure", run, "--json")
        assert done.code == 0, done.err
        assert {path: path.stat().st_mtime_ns for path in (run / "outputs").rglob("*.png")} == before
        assert (run / "summary.json").read_bytes() == summary

    def test_generate_then_measure_is_eval(self, cli: Cli, finished: Path, suite: Path, here: Path) -> None:
        done = cli("generate", "-m", "identity", "-s", suite, "--out", "run")
        assert (done.code, done.out.strip()) == (0, "run")
        assert not (here / "run" / "scores.parquet").exists()
        assert cli("measure", "run").code == 0
        assert (here / "run" / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()

    def test_folder_of_images_is_model(self, cli: Cli, finished: Path, suite: Path, here: Path) -> None:
        done = cli("eval", "-m", finished / "outputs", "-s", suite, "--out", "again", "--json")
        assert done.code == 0, done.err
        first = json.loads((finished / "summary.json").read_text())["numbers"]
        assert json.loads((here / "again" / "summary.json").read_text())["numbers"] == first


FAULTS = {
    "return inputs.draft[1:]": "112 x 95 px",
    "return inputs.draft.astype(np.float32) / 255 * np.nan": "NaN",
    "return inputs.draft.astype(np.int64)": "int64",
    "return None": "nothing",
    "return inputs.draft.astype(np.float32) * 10": "[0, 1]",
    "return 'a picture'": "str",
    "raise ValueError('no such layer')": "no such layer",
    "time.sleep(60)": "within 1 s",
    "os._exit(3)": "died",
    "os.kill(os.getpid(), 9)": "died",
}


class TestAdapterFaults:
    @pytest.mark.parametrize("body", FAULTS)
    def test_a_model_that_always_fails(self, cli: Cli, suite: Path, here: Path, body: str) -> None:
        model = adapter_file(here, body)
        done = cli("eval", "-m", model, "-s", suite, "--limit", 1, "--timeout", 1, "--out", "run", "--json")
        assert (done.code, done.out) == (2, "")
        assert FAULTS[body] in done.sentence
        (line,) = (here / "run" / "records.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert record["status"] == "failed"
        assert FAULTS[body] in record["error"]

    @pytest.mark.parametrize("body", ["os._exit(3)", "return inputs.draft[1:]"])
    def test_sometimes_failing_one_exits_with_1(self, cli: Cli, suite: Path, here: Path, body: str) -> None:
        model = adapter_file(here, f"if inputs.id == {ids(suite)[0]!r}:\n    {body}\n{NOISE}")
        done = cli("eval", "-m", model, "-s", suite, "--limit", 2, "--out", "run", "--json")
        assert done.code == 1, done.err
        data = json.loads(done.out)
        assert (data["samples"], data["failed"]) == (2, 1)
        again = cli("eval", "-m", model, "-s", suite, "--limit", 2, "--out", "run")
        assert again.code == 1
        assert "Nothing to do" in again.err
        assert f"failed: {ids(suite)[0]}" in again.out

    def test_failed_sample_scores_as_draft(self, cli: Cli, suite: Path, here: Path, finished: Path) -> None:
        model = adapter_file(here, f"assert inputs.id != {ids(suite)[0]!r}\nreturn inputs.draft")
        assert cli("eval", "-m", model, "-s", suite, "--out", "run").code == 1
        mine = json.loads((here / "run" / "summary.json").read_text())["numbers"]
        draft = json.loads((finished / "summary.json").read_text())["numbers"]
        assert mine["axes"]["texture_fidelity"]["value"] == pytest.approx(
            draft["axes"]["texture_fidelity"]["value"], abs=1e-9
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("import nothing_like_this\n", "nothing_like_this"),
            ("x = (\n", "SyntaxError"),
            ("x = 1\n", "class"),
        ],
    )
    def test_a_file_that_is_no_adapter(self, cli: Cli, suite: Path, here: Path, text: str, words: str) -> None:
        (here / "model.py").write_text(text)
        done = cli("eval", "-m", "model.py", "-s", suite)
        assert done.code == 2
        assert words in done.sentence
        assert not (here / "runs").exists()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["-m", "identty"], "Unknown model 'identty': did you mean identity"),
            (["-m", "identity,sharpn"], "Unknown model 'sharpn': did you mean sharpen"),
            (["-m", "nothing/here.py"], "nothing is there"),
            (["-m", ","], "names"),
            (["-m", "identity", "--tasks", "logo-refin"], "Unknown task 'logo-refin': did you mean logo-refine"),
            (["-m", "identity", "--limit", "0"], "limit"),
            (["-m", "identity", "--seed", "-1"], "seed"),
            (["-m", "identity", "--workers", "0"], "worker"),
            (["-m", "identity", "--timeout", "0"], "timeout"),
            (["-m", "identity", "-o", "steps"], "NAME=VALUE"),
            (["-m", "identity", "-o", "steps=3"], "steps"),
        ],
    )
    def test_it_is_one_sentence_and_nothing_made(
        self, cli: Cli, suite: Path, here: Path, arguments: list[str], words: str
    ) -> None:
        done = cli("eval", "-s", suite, *arguments)
        assert (done.code, done.out) == (2, "")
        assert words in done.sentence
        assert not list(here.rglob("manifest.json"))

    def test_an_unknown_suite(self, cli: Cli) -> None:
        done = cli("eval", "-m", "identity", "-s", "cor")
        assert done.code == 2
        assert "Unknown suite 'cor'" in done.sentence

    def test_a_damaged_suite(self, cli: Cli, suite: Path, here: Path) -> None:
        copy = Path(shutil.copytree(suite, here / "copy"))
        data = copy / "logo-refine" / "data.parquet"
        data.write_bytes(data.read_bytes()[:-100])
        done = cli("eval", "-m", "identity", "-s", copy)
        assert done.code == 2
        assert "data.parquet" in done.sentence


class TestRunFolders:
    def assert_refused(self, done: Done, *words: str) -> None:
        assert (done.code, done.out) == (2, "")
        for word in words:
            assert word in done.sentence

    def test_one_of_another_suite(self, cli: Cli, finished: Path, here: Path) -> None:
        other = write_tiny(here / "other", 4)
        before = (finished / "manifest.json").read_bytes()
        self.assert_refused(cli("eval", "-m", "identity", "-s", other, "--out", finished), "hash", "--out")
        assert (finished / "manifest.json").read_bytes() == before

    def test_one_of_another_model_or_limit(self, cli: Cli, finished: Path, suite: Path) -> None:
        self.assert_refused(
            cli("eval", "-m", "sharpen", "-s", suite, "--out", finished), "model", "identity", "sharpen"
        )
        self.assert_refused(cli("eval", "-m", "identity", "-s", suite, "--limit", 2, "--out", finished), "limit")

    def test_measuring_with_another_suite(self, cli: Cli, finished: Path, here: Path) -> None:
        self.assert_refused(cli("measure", finished, "--suite", write_tiny(here / "other", 4)), "hash")

    def test_a_broken_manifest(self, cli: Cli, finished: Path, suite: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        (run / "manifest.json").write_text('{"format": 1, ')
        for arguments in (["eval", "-m", "identity", "-s", suite, "--out", "run"], ["measure", "run"]):
            self.assert_refused(cli(*arguments), "manifest.json", "broken")
        assert len(list((run / "outputs").rglob("*.png"))) == 6

    def test_a_broken_record_line(self, cli: Cli, finished: Path, suite: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
        (run / "records.jsonl").write_text("".join([*lines[:2], "{broken}\n", *lines[3:]]))
        for arguments in (["eval", "-m", "identity", "-s", suite, "--out", "run"], ["measure", "run"]):
            self.assert_refused(cli(*arguments), "line 3", "records.jsonl")

    def test_torn_last_line_is_done_again(self, cli: Cli, finished: Path, suite: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        whole = (run / "records.jsonl").read_bytes()
        (run / "records.jsonl").write_bytes(whole[:-30])
        done = cli("eval", "-m", "identity", "-s", suite, "--out", "run")
        assert done.code == 0, done.err
        assert (run / "records.jsonl").read_bytes().count(b"\n") == 6
        assert (run / "scores.parquet").read_bytes() == (finished / "scores.parquet").read_bytes()

    def test_an_output_that_was_edited(self, cli: Cli, finished: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        image = next((run / "outputs").rglob("*.png"))
        save_png(image, 255 - load_image(image))
        (run / "scores.parquet").unlink()
        self.assert_refused(cli("measure", "run"), image.name, "changed")

    def test_damaged_score_table_is_measured_again(self, cli: Cli, finished: Path, here: Path) -> None:
        run = Path(shutil.copytree(finished, here / "run"))
        (run / "scores.parquet").write_bytes(b"PAR1 damaged")
        self.assert_refused(cli("measure", "run"), "scores.parquet", "delete it")
        (run / "scores.parquet").unlink()
        assert cli("measure", "run").code == 0

    def test_no_run_there(self, cli: Cli, here: Path) -> None:
        self.assert_refused(cli("measure", "nothing"), "Expected a run folder")

    def test_a_file_in_its_place(self, cli: Cli, suite: Path, here: Path) -> None:
        (here / "file").write_text("")
        for out in ("file", "file/run"):
            self.assert_refused(cli("eval", "-m", "identity", "-s", suite, "--out", out), "file", "--out")

    def test_a_folder_with_other_things(self, cli: Cli, suite: Path, here: Path) -> None:
        (here / "thesis.tex").write_text("")
        self.assert_refused(cli("eval", "-m", "identity", "-s", suite, "--out", here), "other files")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_cannot_be_written(self, cli: Cli, suite: Path, here: Path) -> None:
        (here / "locked").mkdir(mode=0o500)
        self.assert_refused(cli("eval", "-m", "identity", "-s", suite, "--out", "locked/run"), "--out")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
    def test_disk_that_is_full_loses_nothing(self, cli: Cli, suite: Path, here: Path) -> None:
        (here / "disk").mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(here / "disk")], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this machine does not let root mount")
        try:
            model = adapter_file(here, NOISE)
            done = cli("eval", "-m", model, "-s", suite, "--out", "disk/run")
            self.assert_refused(done, "No space left")
            records = [json.loads(line) for line in (here / "disk/run/records.jsonl").read_text().splitlines()]
            assert records, "what was finished before is recorded"
            assert all(record["status"] == "ok" for record in records)
            done = subprocess.run(
                ["mount", "-o", "remount,size=8m", str(here / "disk")], capture_output=True, check=True
            )
            assert cli("eval", "-m", model, "-s", suite, "--out", "disk/run").code == 0
        finally:
            subprocess.run(["umount", str(here / "disk")], check=True)
