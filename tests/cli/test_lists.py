"""What there is, on a terminal of 80 columns; help whole; completion."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refbench.cli.main import VERBS

from .conftest import Cli

GROUPS = ["tasks", "weights", "leaderboard"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "models"],
        ["list", "metrics"],
        ["list", "tasks"],
        ["list", "model", "sdxl-ip-adapter"],
        ["list", "metric", "clip_i"],
        ["list", "task", "text-refine"],
        ["weights", "list"],
    ],
)
def test_lists_fit_80_columns(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("what", "some"), [("models", "sdxl-ip-adapter"), ("metrics", "dreamsim_reference"), ("tasks", "pattern-replace")]
)
def test_names_are_whole_rows_one_line(cli: Cli, what: str, some: str) -> None:
    rows = json.loads(cli("list", what, "--json").out)
    for arguments in ([], ["--wide"]):
        assert some in {line.split()[0] for line in cli("list", what, *arguments).out.splitlines() if line.split()}
    lines = cli("list", what, "--wide").out.splitlines()
    assert sum(line.split()[:1] == [name] for line in lines for row in rows if (name := row.get("name"))) == (
        0 if what == "tasks" else len(rows)
    )


def test_page_of_models_is_as_committed(cli: Cli) -> None:
    done = cli("list", "models", "--markdown")
    page = Path(__file__).resolve().parents[2] / "docs" / "models.md"
    assert (done.code, done.out.strip()) == (0, page.read_text(encoding="utf-8").strip())
    for wrong in (["metrics"], ["models", "--json"], ["model", "sharpen"]):
        assert cli("list", *wrong, "--markdown").code == 2


def test_full_card_says_why_not_ready(cli: Cli) -> None:
    card = json.loads(cli("list", "model", "sdxl-ip-adapter", "--json").out)
    assert card["name"] == "sdxl-ip-adapter"
    assert card["ready"].startswith("no: ")
    shown = " ".join(cli("list", "models", "sdxl-ip-adapter").out.split())
    assert card["summary"] in shown
    assert "9.1" in shown
    assert cli("list", "task", "text-refin").sentence == "Unknown task 'text-refin': did you mean text-refine?"


def test_missing_suite_path_is_no_typo(cli: Cli) -> None:
    assert cli("list", "tasks", "--suite", "./mini").sentence == (
        "Expected a suite folder at ./mini, but nothing is there; check the path, or give one of core or mini."
    )


@pytest.mark.parametrize("verb", [*VERBS, "tasks fetch", "tasks build", "tasks generate", "weights fetch"])
def test_help_is_whole_at_80_columns(cli: Cli, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = cli(*verb.split(), "--help")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    words = re.sub(r"(\[ARGS\]|DRAFT|[}\]])\.\.\.", "", done.out)  # what may come several times
    assert "..." not in words


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_shows_its_help(cli: Cli, group: str) -> None:
    assert cli(group) == cli(group, "--help")


def complete(line: str, **environment: str) -> list[str]:
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_REFBENCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "refbench"],
        capture_output=True, text=True, check=True, env={**os.environ, **asked, **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("refbench le", ["leaderboard"]),
        ("refbench tasks f", ["fetch"]),
        ("refbench eval --model omni", ["omnirefiner", "omnirefiner-sft", "omnigen2"]),
        ("refbench eval -m identity,warp", ["identity,warp-blend"]),
        ("refbench eval --suite mi", ["mini"]),
        ("refbench eval --suite mini --tasks text-", ["text-refine", "text-replace"]),
        ("refbench eval --met", ["--metrics"]),
        ("refbench measure run --metrics psnr,ss", ["psnr,ssim", "psnr,ssim_hf"]),
        ("refbench list metric ssim", ["ssim", "ssim_hf"]),
        ("refbench list task logo-", ["logo-refine", "logo-replace"]),
        ("refbench figures run --only tab", ["tables"]),
        ("refbench weights fetch vgg", ["vgg16"]),
        ("refbench tasks verify co", ["core"]),
        ("refbench eval --model ./my", []),
    ],
)
def test_completion_of_names(line: str, found: list[str]) -> None:
    assert complete(line) == found


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "heavy = 'torch', 'cv2', 'scipy', 'matplotlib', 'diffusers', 'pandas'\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(m for m in heavy if m in sys.modules)))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for line in (
        "refbench eval --model w",
        "refbench eval --tasks t",
        "refbench list metric s",
        "refbench figures a --only t",
    ):
        assert complete(line, PYTHONPATH=path)


def test_completion_can_be_shown(process: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # a service has no shell to be found
    done = process("--show-completion", "bash")
    assert done.code == 0
    assert "_REFBENCH_COMPLETE=complete_bash" in done.out


def test_errors_wrap_between_words_on_terminal() -> None:
    path = "./" + "/".join(["a-long-folder"] * 7)
    inner, outer = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60"}
    command = [sys.executable, "-m", "refbench", "list", "tasks", "--suite", path]
    assert subprocess.run(command, stderr=outer, env=environment, check=False).returncode == 2
    os.close(outer)
    lines = os.read(inner, 10_000).decode().split("\r\n")
    os.close(inner)
    assert f"{path}," in lines
    assert all(len(line) <= 60 for line in lines if path not in line)
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), "'refbench[models]'"),
        (ModuleNotFoundError("No module named 'open_clip'", name="open_clip.model"), "'refbench[learned]'"),
        (ModuleNotFoundError("No module named 'colour'", name="colour"), "uv pip install colour"),
        (MemoryError(), "Expected more memory"),
        (OSError("cannot identify image file"), "cannot identify image file"),
    ],
)
def test_what_can_be_foreseen_is_no_report(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    from refbench.cli import main as module

    def broken(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(module, "_dispatch", broken)
    done = cli("list", "models")
    assert done.code == 2
    assert words in done.sentence
    assert "report it" not in done.sentence
