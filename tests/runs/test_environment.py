"""What a run ran on is found without importing it; progress and JSON say what they should."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.cache import cache_folder
from refbench.runs import environment
from refbench.runs.jsontext import as_json, finite, read_json
from refbench.runs.progress import Bar, Silent, steps


def test_versions_are_those_of_installed_packages() -> None:
    import numpy

    found = environment.versions()
    assert found["numpy"] == numpy.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_git_tells_commit_and_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert environment.git_state(tmp_path) == (None, None)
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    assert environment.git_state(tmp_path) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    assert environment.git_state(tmp_path)[1] is True


def test_hardware_names_processor_and_memory() -> None:
    found = environment.hardware("cpu")
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0.1
    assert "gpus" not in found


def test_cache_is_where_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REFBENCH_CACHE")
    assert cache_folder().name == "refbench"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_valid_whatever_the_numbers(value: object) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(as_json(value), parse_constant=refuse) == finite(value)


def test_infinite_is_null() -> None:
    assert finite({"psnr": math.inf, "list": [1.5, math.nan]}) == {"psnr": None, "list": [1.5, None]}


def test_broken_remakeable_files_are_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none") is None
    for name, content in {"empty": "", "list": "[]", "half": "{"}.items():
        (tmp_path / name).write_text(content)
        assert read_json(tmp_path / name) is None


class TestBar:
    def test_without_terminal_it_is_one_line_stage(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Bar() as bar:
            bar.start("generate", 4, 1)
            bar.advance(2)
            bar.advance(1, failed=1)
            bar.start("measure", 4, 0)
            bar.advance(4)
        out, err = capsys.readouterr()
        assert out == ""
        first, second = err.splitlines()
        assert first.startswith("generate: 4/4 samples in 0:0")
        assert first.endswith(", 1 failed")
        assert second.startswith("measure: 4/4 samples in 0:0")

    def test_nothing_to_show_shows_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Bar():
            pass
        assert capsys.readouterr() == ("", "")


class Log(Silent):
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, stage: str, total: int, done: int) -> None:
        self.calls.append((stage, total, done))

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        self.calls.append((samples,))


@pytest.mark.parametrize(
    ("stage", "calls"),
    [
        (None, [("a", 5, 1), (2,), ("b", 5, 4), (1,)]),
        ("fetch", [("fetch", 5, 0), (1,), (2,), (1,), (1,)]),
    ],
)
def test_steps_of_other_rooms_become_stages(stage: str | None, calls: list[tuple[object, ...]]) -> None:
    log = Log()
    step = steps(log, stage)
    for what, done in (("a", 1), ("a", 3), ("b", 4), ("b", 5)):
        step(what, done, 5)
    assert log.calls == calls
