"""The smaller verbs: lists, adapters of one's own, the doctor, suites."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import adapter_file

from refbench.adapters.registry import MODELS
from refbench.metrics.contract import card_hash
from refbench.metrics.registry import METRICS, make_metrics

from .conftest import Cli


class TestList:
    def test_models_say_whether_they_run_here(self, cli: Cli) -> None:
        rows = json.loads(cli("list", "models", "--json").out)
        assert [row["name"] for row in rows] == list(MODELS)
        identity = next(row for row in rows if row["name"] == "identity")
        assert identity["ready"] == "yes"
        assert {"licence", "paper", "weights", "download_mb", "vram_gb", "needs_network", "deterministic"} <= set(
            identity
        )
        assert all(row["ready"] == "yes" or row["ready"].startswith("no: ") for row in rows)

    def test_metrics_show_their_cards(self, cli: Cli) -> None:
        rows = json.loads(cli("list", "metrics", "--json").out)
        assert [row["name"] for row in rows] == list(METRICS)
        for name, metric in make_metrics().items():
            row = next(row for row in rows if row["name"] == name)
            assert row["card"] == card_hash(metric.card_once)
            assert row["definition"] == metric.card_once.definition

    def test_tasks_count_what_is_in_suite(self, cli: Cli, suite: Path) -> None:
        rows = json.loads(cli("list", "tasks", "--suite", suite, "--json").out)
        assert [(row["task"], row["samples"]) for row in rows] == [("logo-refine", 3), ("pattern-replace", 3)]

    @pytest.mark.parametrize("what", ["models", "metrics", "tasks"])
    def test_tables_name_everything(self, cli: Cli, suite: Path, what: str) -> None:
        names = {"models": list(MODELS), "metrics": list(METRICS), "tasks": ["logo-refine", "pattern-replace"]}[what]
        done = cli("list", what, "--suite", suite)
        assert done.code == 0
        assert all(name in done.out for name in names)

    @pytest.mark.parametrize("what", ["models", "metrics"])
    def test_listing_imports_neither_torch_nor_pandas(self, what: str) -> None:
        code = (
            f"import sys\nfrom refbench.cli.main import main\nassert main(['list', {what!r}]) == 0\n"
            "print({'torch', 'pandas', 'scipy', 'cv2', 'skimage'} & set(sys.modules), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "set()"


class TestOwnAdapter:
    @pytest.mark.parametrize("kind", [[], ["--script"]])
    def test_a_new_one_passes_its_check(self, cli: Cli, here: Path, kind: list[str]) -> None:
        done = cli("new-adapter", "my-model", *kind)
        assert done.code == 0, done.err
        (path,) = here.glob("*.py")
        done = cli("check-adapter", path, "--json")
        data = json.loads(done.out)
        assert (done.code, data["failed"]) == (0, 0), [c for c in data["checks"] if c["status"] == "fail"]
        assert any(check["status"] == "pass" for check in data["checks"])

    def test_wrong_one_fails_with_reason(self, cli: Cli, here: Path) -> None:
        done = cli("check-adapter", adapter_file(here, "return inputs.draft[1:]"))
        assert done.code == 1
        assert "fail" in done.out
        assert "resize the answer to the draft" in " ".join(done.out.split())

    def test_wrong_name_is_one_sentence(self, cli: Cli, here: Path) -> None:
        assert cli("new-adapter", "my-model").code == 0
        assert "exists already" in cli("new-adapter", "my-model").sentence
        assert "My Model" in cli("new-adapter", "My Model").sentence

    def test_an_unknown_one_is_one_sentence(self, cli: Cli) -> None:
        assert "did you mean" in cli("check-adapter", "identty").sentence


class TestDoctor:
    def test_it_shows_expected_found_and_difference(self, cli: Cli) -> None:
        done = cli("doctor", "--metrics", "psnr,mse,seam", "--json")
        assert done.code == 0, done.out
        data = json.loads(done.out)
        assert data["failed"] == 0
        assert data["passed"] == len([c for c in data["checks"] if c["passed"]])
        assert {"metric", "name", "expected", "found", "tolerance", "difference"} <= set(data["checks"][0])
        assert f"{data['passed']} passed, 0 failed" in cli("doctor", "--metrics", "psnr,mse,seam").out

    def test_metric_that_is_off_is_exit_code_1(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        import refbench.metrics.pixel.error as module

        real = module.MSE.value
        monkeypatch.setattr(module.MSE, "value", lambda self, view: real(self, view) * 1.01)
        done = cli("doctor", "--metrics", "mse")
        assert done.code == 1
        assert "FAIL" in done.out


def test_variations_are_of_validation_alone(cli: Cli, tmp_path: Path) -> None:
    done = cli("tasks", "build", "--variants", "2", "--out", tmp_path / "varied")
    assert done.code == 2
    assert "--split val" in done.err
    assert not (tmp_path / "varied").exists()


def test_suite_is_verified_pixel_by_pixel(cli: Cli, suite: Path) -> None:
    done = cli("tasks", "verify", suite)
    assert done.code == 0, done.err
    assert "6 samples" in done.out
