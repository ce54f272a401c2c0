"""What is printed acts on no terminal, and no terminal, closed stream or odd name stops the work."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny, write_tiny

from refbench.cli import show
from refbench.images import save_png
from refbench.plaintext import harmless, one_line, printable

from .conftest import Cli

EVIL = "evil\x1b[31mRED\x9b2J\u202e\x7f[/b] :warning: [red]"


def bash(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, env={**os.environ, **environment}, timeout=120, check=False
    )


def refbench(*words: object) -> str:
    return shlex.join([sys.executable, "-m", "refbench", *map(str, words)])


def fill(folder: Path, **card: object) -> Path:
    """A folder of PNGs with a card."""
    for sample in tiny(2):
        save_png(folder / f"{sample.id}.png", sample.draft)
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@given(st.text())
def test_harmless_text_holds_no_control(text: str) -> None:
    for shown in (harmless(text).replace("\n", ""), printable(text), one_line(text)):
        assert all(c.isprintable() or c.isspace() for c in shown)
        assert not set(shown) & {chr(n) for n in (*range(32), *range(127, 160))}
    assert printable(text, 5) == printable(text, None)[:4] + "…" or len(printable(text, None)) <= 5


class TestEscapes:
    def test_table_shows_them_harmless(self, capsys: pytest.CaptureFixture[str]) -> None:
        show.table(EVIL, [EVIL, "b"], [[EVIL, ""]])
        show.line(EVIL)
        show.note(EVIL)
        out, err = capsys.readouterr()
        assert not set(out + err) & set("\x1b\x9b\u202e\x7f")
        assert (out + err).count("[/b] :warning: [red]") == 5

    def test_json_keeps_the_text_as_escapes(self, capsys: pytest.CaptureFixture[str]) -> None:
        show.json_out({EVIL: "\U0001f600 é \U000e0001"})
        out = capsys.readouterr().out
        assert not set(out) & set("\x1b\x9b\u202e\x7f\U000e0001")
        assert json.loads(out) == {EVIL: "\U0001f600 é \U000e0001"}

    def test_a_card_reaches_no_terminal(self, cli: Cli, here: Path) -> None:
        """Case 264."""
        model = fill(here / EVIL.replace("/", ""), name=EVIL, summary="s")
        (model / f"{tiny(2).ids[0]}.png").write_bytes(b"")
        done = cli("generate", "-m", model, "-s", tiny(2).folder, "--out", f"run{EVIL.replace('/', '')}")
        assert done.code == 1, done.err
        assert "evil�[31mRED�2J" in done.out
        more = cli("check-adapter", model)
        assert not set(done.out + done.err + more.out + more.err) & set("\x1b\x9b\u202e\x7f")

    def test_an_error_reaches_no_terminal(self, cli: Cli) -> None:
        done = cli("measure", f"none{EVIL}")
        assert (done.code, set(done.err) & set("\x1b\x9b\u202e\x7f")) == (2, set())


class TestTerminals:
    def test_ascii_shows_tables_and_other_names(self, here: Path) -> None:
        suite = write_tiny(here / "café – 东京", 2)
        done = bash(refbench("list", "tasks", "--suite", suite.name), PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Tasks of caf\\xe9 - \\u4e1c\\u4eac" in done.stdout
        words = ["generate", "-m", "identity", "-s", suite.name, "--out", "out é"]
        done = bash(refbench(*words), PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stdout) == (0, b"out \\xe9\n"), done.stderr
        again = bash(refbench(*words, "--json"), PYTHONIOENCODING="ascii")
        assert json.loads(again.stdout)["run"] == "out é"

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:strict"])
    def test_lists_are_shown_in_every_encoding(self, encoding: str) -> None:
        done = bash(refbench("list", "models"), PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"warp-blend" in done.stdout

    @pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
    def test_closed_streams_change_nothing(self, here: Path, closed: str) -> None:
        model = fill(here / "pngs", name="n", summary="s")
        words = ["generate", "-m", model, "-s", tiny(2).folder, "--out", "run"]
        done = bash(f"{refbench(*words)} {closed}")
        assert done.returncode == 0, done.stderr
        assert {path.name for path in (here / "run").iterdir()} >= {"manifest.json", "records.jsonl", "outputs"}
        assert b"Error" not in done.stderr
        assert json.loads((here / "run" / "manifest.json").read_bytes())["samples"] == list(tiny(2).ids)


class TestNames:
    """Case 229: a folder named bad\\xff."""

    BAD = os.fsdecode(b"bad\xff")

    def one_sentence(self, command: str) -> str:
        done = bash(command)
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 2
        (line,) = [line for line in lines if line.startswith("Error: ")]
        assert "foresee" not in line
        return line

    def test_model_outside_utf8_is_one_sentence(self, here: Path) -> None:
        fill(here / self.BAD, name="n", summary="s")
        suite = shlex.quote(str(tiny(2).folder))
        start = f"{sys.executable} -m refbench generate -s {suite}"
        assert "UTF-8 as --model" in self.one_sentence(f"{start} -m $'bad\\xff'")
        assert "UTF-8 as --out" in self.one_sentence(f"{start} -m identity --out $'bad\\xff/run'")
        assert "UTF-8" in self.one_sentence(f"{start} -m identity -o a=$'bad\\xff'")
        self.one_sentence(f"{sys.executable} -m refbench list tasks --suite $'bad\\xff'")

    def test_inside_such_folder_run_goes_as_ever(self, here: Path) -> None:
        (here / self.BAD).mkdir()
        command = refbench("generate", "-m", "identity", "-s", tiny(2).folder, "--out", "run")
        done = bash(f"cd $'bad\\xff' && {command}")
        assert done.returncode == 0, done.stderr
