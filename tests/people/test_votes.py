"""Votes on disk: what a line holds, what a kill leaves, how files merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refbench.errors import RefbenchError
from refbench.people.votes import VoteFile, check_rater, read_votes

from .conftest import vote

ONE, TWO = vote("a", 0, 1), vote("b", 1, 0, "bad", seconds=3.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = VoteFile(tmp_path / "some" / "votes.jsonl")
    file.append(ONE)
    file.append(TWO)
    file.close()
    return file.path


def test_line_holds_nothing_else_of_person(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert set(json.loads(lines[0])) == {
        "id", "rater", "suite", "sample", "left", "right", "left_sha256", "right_sha256", "verdict", "seconds",
        "target", "repeat",
    }  # fmt: skip
    assert read_votes(path) == [ONE, TWO]


@pytest.mark.parametrize("torn", [b'{"id": "12', b'{"withdraws": "00"}', b"\xff\xfe"])
def test_a_torn_line_is_cut_off(path: Path, torn: bytes) -> None:
    with path.open("ab") as handle:
        handle.write(torn)
    assert read_votes(path) == [ONE, TWO]
    file = VoteFile(path)
    third = vote("c", 0, 1)
    file.append(third)
    file.close()
    assert read_votes(path) == [ONE, TWO, third]
    assert torn not in path.read_bytes()


def test_a_vote_taken_back_is_none(path: Path) -> None:
    file = VoteFile(path)
    file.withdraw(TWO)
    assert file.read() == [ONE]
    file.withdraw(ONE)
    assert file.read() == []
    file.close()


def test_merged_votes_count_once(path: Path, tmp_path: Path) -> None:
    other = VoteFile(path.with_name("other.jsonl"))
    mine = vote("a", 0, 1, rater="bob")
    for one in (ONE, mine):
        other.append(one)
    other.close()
    assert {v.id for v in read_votes(path.parent)} == {ONE.id, TWO.id, mine.id}


def test_one_process_appends_to_a_file(path: Path) -> None:
    file = VoteFile(path)
    with pytest.raises(RefbenchError, match="alone"):
        VoteFile(path)
    file.close()
    VoteFile(path).close()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_file_that_no_vote_came_into_goes(tmp_path: Path) -> None:
    VoteFile(tmp_path / "votes.jsonl").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 3, but it is no JSON"),
        ('{"id": "0123456789abcdef"}', "line 3, but rater: Field required"),
        (ONE.model_dump_json().replace("left", "better", 1), "line 3"),
        (ONE.model_dump_json().replace('"verdict":"left"', '"verdict":"both"'), "line 3, but verdict"),
        (ONE.model_dump_json().replace('"seconds":2.0', '"seconds":-1'), "line 3, but seconds"),
    ],
)
def test_line_that_is_no_vote_told(path: Path, line: str, message: str) -> None:
    with path.open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(RefbenchError, match=message):
        read_votes(path)


def test_missing_votes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="No such file"):
        read_votes(tmp_path / "none.jsonl")
    with pytest.raises(RefbenchError, match="folder with"):
        read_votes(tmp_path)
    with pytest.raises(RefbenchError, match="append votes"):
        VoteFile(tmp_path)


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x1b[31m", "model:x", "a\nb"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(RefbenchError, match="rater's name"):
        check_rater(name)
    assert check_rater(" Ånn ") == "Ånn"
    assert check_rater("model:x", judge=True) == "model:x"


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\nx", b"notes\nwithout an end", b'{"a": 1}', b"[" * 100_000 + b"\nx"]
)
def test_file_of_something_else_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mistaken.png"
    path.write_bytes(content)
    with pytest.raises(RefbenchError, match="Expected"):
        VoteFile(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", range(8))
def test_first_line_that_kill_tore_cut_off(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_bytes(ONE.model_dump_json().encode()[: kept + 1])
    file = VoteFile(path)
    file.append(TWO)
    file.close()
    assert read_votes(path) == [TWO]


def test_line_of_deep_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").write_bytes(b"[" * 100_000 + b"\n")
    with pytest.raises(RefbenchError, match="line 1, but it is no JSON"):
        read_votes(tmp_path)
