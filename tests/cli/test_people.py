"""``refbench arena`` and ``refbench agreement`` as a user has them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from refbench.people.votes import read_votes

from .conftest import Cli

pytest.importorskip("uvicorn")


@pytest.fixture
def runs(cli: Cli, suite: Path, here: Path) -> list[str]:
    done = cli("eval", "--model", "identity,sharpen,reference-paste", "--suite", suite, "--json")
    assert done.code == 0, done.err
    return sorted(str(path.parent.relative_to(here)) for path in here.glob("runs/*/*/manifest.json"))


class Page:
    """The command in a process of its own, and what a browser asks it."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "refbench", "arena", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def ask(self, path: str, said: object = None) -> Any:
        data = None if said is None else json.dumps(said).encode()
        with urllib.request.urlopen(self.address.partition("?")[0] + path, data, timeout=30) as answer:
            return json.loads(answer.read())

    def vote(self, count: int) -> None:
        for _ in range(count):
            token = self.ask("question?rater=ann")["token"]
            self.ask("answer", {"question": token, "verdict": "left", "seconds": 1})

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def test_votes_survive_kill_and_mean_something(cli: Cli, runs: list[str], here: Path) -> None:
    assert len(runs) == 3
    page = Page(*runs, "--pairs", 9, "--votes", "votes.jsonl")
    page.vote(4)
    assert page.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with (here / "votes.jsonl").open("a") as handle:
        handle.write('{"id": "torn')
    assert len(read_votes(here / "votes.jsonl")) == 4
    page = Page(*runs, "--pairs", 9, "--votes", "votes.jsonl")
    assert page.ask("question?rater=ann")["given"] == 4
    page.vote(5)
    assert page.ask("question?rater=ann")["token"] is None
    code, err = page.end(signal.SIGINT)
    assert (code, "refbench agreement votes.jsonl" in err) == (0, True)
    assert len(read_votes(here / "votes.jsonl")) == 9

    done = cli("agreement", "votes.jsonl", *runs, "--page", "apart.html", "--most", 3)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for words in ("3 models by 8 votes of ann", "a rater again", "score", "squeeze_pooled", "won–tied–lost", "ann"):
        assert words in done.out
    assert (here / "apart.html").is_file()
    told = json.loads(cli("agreement", "votes.jsonl", *runs, "--json").out)
    assert {"standings", "measures", "raters", "apart", "itself", "one_another", "judges"} <= set(told)
    assert set(told["measures"][0]["tasks"]) == {"logo-refine", "pattern-replace"}


def test_beyond_loopback_needs_a_token(runs: list[str]) -> None:
    page = Page(*runs, "--host", "0.0.0.0")
    try:
        base, _, token = page.address.partition("?token=")
        assert len(token) >= 16
        local = f"http://127.0.0.1:{base.rstrip('/').rpartition(':')[2]}/"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(local, timeout=30)
        request = urllib.request.Request(local + "facts", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read()) == {"raters": []}
    finally:
        page.end(signal.SIGINT)


def test_bad_input_is_one_sentence(cli: Cli, runs: list[str], here: Path) -> None:
    (here / "empty.jsonl").write_text("")
    (here / "broken.jsonl").write_text("{}\n")
    for arguments, words in {
        ("arena", runs[0]): "Expected two run folders or more",
        ("arena", *runs, "--target", "--pairs", "0"): "Expected --pairs of 1 or more",
        ("arena", *runs, "--port", "99999"): "Expected --port",
        ("arena", *runs, "--raters", "ann,model:x"): "Expected a rater's name",
        ("arena", *runs, "--judge", "http://localhost/v1"): "Expected --judge and --judge-model together",
        ("arena", *runs, "--judge", "http://localhost/v1", "--judge-model", "m"): "Expected --pairs",
        ("arena", *runs, "--votes", "broken.jsonl"): "Expected a vote at broken.jsonl, line 1",
        ("agreement", "none.jsonl", *runs): "Expected votes at none.jsonl",
        ("agreement", "empty.jsonl", *runs): "there is no vote",
        ("agreement", "broken.jsonl", *runs): "id: Field required",
    }.items():
        done = cli(*arguments)
        assert done.code == 2
        assert words in done.sentence
    assert {path.name for path in here.glob("*.jsonl")} == {"empty.jsonl", "broken.jsonl"}
