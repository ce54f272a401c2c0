"""Asking and keeping, without a browser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report.synthetic import SyntheticSuite, make_runs

from refbench.errors import RefbenchError
from refbench.images import decode_image
from refbench.people.arena import Arena, Contest, open_contest

Seat = Callable[..., Arena]


def test_pictures_are_those_of_the_pair(seated: Seat, contest: Contest) -> None:
    arena = seated(target=True)
    question = arena.ask("ann")
    assert question is not None
    sample, left, right, _ = question.shown
    expected = {
        "left": contest.output(left, sample), "right": contest.output(right, sample),
        "draft": question.sample.draft, "reference": question.sample.reference, "target": contest.suite.target(sample),
    }  # fmt: skip
    for which, image in expected.items():
        for _ in range(2):  # the second time from memory
            assert np.array_equal(decode_image(arena.picture(question.token, which), which), image)


def test_held_back_target_cannot_be_had(seated: Seat) -> None:
    arena = seated()
    question = arena.ask("ann")
    assert question is not None
    for token, which in ((question.token, "target"), (question.token, "model"), ("0" * 16, "left")):
        with pytest.raises(RefbenchError):
            arena.picture(token, which)


def test_verdict_kept_with_order_and_hashes(seated: Seat, contest: Contest) -> None:
    arena = seated()
    question = arena.ask("ann")
    assert question is not None
    assert arena.ask("ann") is question
    assert arena.answer(question.token, "right", 4.25) == "ann"
    (vote,) = arena.file.read()
    shown = question.shown
    assert (vote.left, vote.right) == (contest.names[shown.left], contest.names[shown.right])
    pixels = np.ascontiguousarray(contest.output(shown.right, shown.sample))
    assert vote.winner == vote.right_sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert (vote.suite, vote.seconds, vote.target, vote.repeat) == (contest.suite.hash, 4.25, False, False)


def test_verdict_that_comes_twice_counts_once(seated: Seat) -> None:
    arena = seated()
    question = arena.ask("ann")
    assert question is not None
    for _ in range(2):
        arena.answer(question.token, "left", 1.0)
    assert len(arena.file.read()) == 1
    with pytest.raises(RefbenchError, match="reload"):
        arena.answer("0" * 16, "left", 1.0)


@pytest.mark.parametrize(("verdict", "seconds"), [("both", 1.0), ("left", -1.0), ("left", float("nan"))])
def test_what_is_no_verdict_is_refused(seated: Seat, verdict: str, seconds: float) -> None:
    arena = seated()
    question = arena.ask("ann")
    assert question is not None
    with pytest.raises(RefbenchError, match="Expected"):
        arena.answer(question.token, verdict, seconds)
    assert arena.file.read() == []


def test_undo_asks_the_same_again(seated: Seat) -> None:
    arena = seated()
    assert arena.undo("ann") is False
    question = arena.ask("ann")
    assert question is not None
    arena.answer(question.token, "left", 1.0)
    arena.ask("ann")
    assert arena.can_undo("ann")
    assert arena.undo("ann") is True
    assert arena.ask("ann") == question
    assert arena.file.read() == []
    arena.answer(question.token, "right", 1.0)
    assert [vote.verdict for vote in arena.file.read()] == ["right"]


def test_it_goes_on_where_it_stopped(seated: Seat) -> None:
    arena = seated(seed=3)
    whole = [v.pair for v in _votes(arena, 12)]
    arena.file.path.unlink()
    _votes(seated(seed=3), 5)
    again = seated(seed=3)
    assert again.given("ann") == 5
    assert [v.pair for v in _votes(again, 7)] == whole


def _votes(arena: Arena, count: int) -> list:  # type: ignore[type-arg]
    for _ in range(count):
        question = arena.ask("ann")
        assert question is not None
        arena.answer(question.token, "left", 1.0)
    return arena.file.read()


def test_each_rater_is_asked_so_many(seated: Seat) -> None:
    arena = seated(most=3)
    _votes(arena, 3)
    assert arena.ask("ann") is None
    assert arena.ask("bob") is not None


def test_skipped_pair_is_not_asked_again(seated: Seat) -> None:
    arena = seated()
    seen = set()
    for _ in range(10):
        question = arena.ask("ann")
        assert question is not None
        seen.add((question.shown.sample, *sorted(question.shown[1:3])))
        arena.skip(question.token)
    assert len(seen) == 10
    assert arena.file.read() == []


def test_incomparable_runs_are_told(folders: list[Path], suite: SyntheticSuite, seated: Seat, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="two run folders or more"):
        open_contest(folders[:1], suite)
    with pytest.raises(RefbenchError, match="a run folder"):
        open_contest([folders[0], tmp_path], suite)
    other = make_runs(tmp_path / "runs", SyntheticSuite(per_task=1, size=(84, 112)), ["identity"])
    with pytest.raises(RefbenchError, match="runs of one suite"):
        open_contest([folders[1], other[0]], suite)
    with pytest.raises(RefbenchError, match="--pairs"):
        seated(most=0)
