"""The front page, wrong commands, and what a user sees of an error."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from refbench.cli import main as module
from refbench.cli.main import VERBS, front_page

from .conftest import Cli


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_front_page_names_every_verb(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.code == 0
    assert done.out == front_page()
    assert all(f"\n  {verb} " in done.out for verb in VERBS)
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_of_its_own(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help")
    assert done.code == 0
    assert f"Usage: refbench {verb}" in done.out


def test_version(cli: Cli) -> None:
    from refbench import __version__

    assert cli("--version") == (0, f"refbench {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evl"], "Unknown command 'evl': did you mean eval?"),
        (["--modle"], "Expected a command"),
        (["eval"], "--model"),
        (["eval", "--model", "identity", "--limit", "many"], "--limit"),
        (["eval", "--model", "identity", "--colour", "red"], "--colour"),
        (["measure"], "RUN|OUTPUT"),
        (["list", "colours"], "colours"),
        (["tasks", "biuld"], "biuld"),
        (["audit", "--limit", "0"], "Expected a limit of 1 or more"),
        (["generate"], "--model"),
    ],
)
def test_wrong_command_line_exits_with_2(cli: Cli, arguments: list[str], words: str) -> None:
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.sentence
    assert len(done.err.splitlines()) == 1


def test_own_fault_shows_traceback_in_debug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: list[str]) -> int:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(module, "_dispatch", broken)
    done = cli("list", "models")
    assert done.code == 2
    assert "ZeroDivisionError: one two" in done.sentence
    assert "REFBENCH_DEBUG=1" in done.sentence
    monkeypatch.setenv("REFBENCH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli("list", "models")


def test_an_interrupt_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_dispatch", interrupted)
    done = cli("eval", "--model", "identity")
    assert done.code == 130
    assert "kept" in done.err


def test_reader_that_stops_early_gets_no_traceback() -> None:
    code = f"{sys.executable} -m refbench list metrics --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_the_front_page_is_quick() -> None:
    """Under 0.4 s; the best of five, because the machine may be busy."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "refbench", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.4


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ({"value": 12.34, "low": -3.0, "high": 20.06}, "12.3 ±11.5"),
        ({"value": -1e-9, "low": -1e-9, "high": 0.0}, "0.0 ±0.0"),
        ({"value": 5.0, "low": None, "high": None}, "5.0"),
        ({"value": None, "low": None, "high": None}, "–"),
    ],
)
def test_cell_shows_its_interval(cell: dict[str, float | None], text: str) -> None:
    from refbench.cli.show import interval

    assert interval(cell) == text
