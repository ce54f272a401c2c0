"""A model that judges enters as one more rater."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refbench.people.arena import Arena
from refbench.people.judged import let_vote
from refbench.runs.judging import Judge

httpx = pytest.importorskip("httpx")

JUDGE = Judge("http://localhost/v1", "a-model", pause_s=0.0)


def endpoint(rating: Callable[[int], dict[str, int]], asked: list[int]) -> object:
    """Rates the first picture by `rating` of the number of the request, the second as 3."""

    def answer(request: object) -> object:
        asked.append(len(asked))
        said = {"A": rating(asked[-1]), "B": dict.fromkeys(("detail", "faithfulness", "naturalness"), 3)}
        return httpx.Response(200, json={"choices": [{"message": {"content": json.dumps(said)}}]})

    return httpx.Client(transport=httpx.MockTransport(answer))


def all_of(points: int) -> dict[str, int]:
    return dict.fromkeys(("detail", "faithfulness", "naturalness"), points)


def test_its_votes_are_those_of_pairs_drawn(seated: Callable[..., Arena], tmp_path: Path) -> None:
    arena, asked = seated(most=10), []
    told = let_vote(arena, JUDGE, cache=tmp_path / "cache", client=endpoint(lambda k: all_of(5), asked))
    assert told == ("model:a-model", 10, 0)
    votes = arena.file.read()
    assert {vote.rater for vote in votes} == {"model:a-model"}
    assert any(vote.repeat for vote in votes)
    # it always prefers what it is shown first, and the order is drawn by the pictures' content
    assert {vote.verdict for vote in votes} == {"left", "right"}
    assert len(asked) == 10


def test_equal_ratings_tie_low_ones_bad(seated: Callable[..., Arena]) -> None:
    arena = seated(most=1)
    let_vote(arena, JUDGE, client=endpoint(lambda k: all_of(3), []))
    assert [vote.verdict for vote in arena.file.read()] == ["tie"]


def test_pairs_it_refuses_are_left_out(seated: Callable[..., Arena]) -> None:
    def answer(request: object) -> object:
        refuse = rng.random() < 0.5
        message = {"refusal": "no"} if refuse else {"content": json.dumps({"A": all_of(2), "B": all_of(2)})}
        return httpx.Response(200, json={"choices": [{"message": message}]})

    rng = np.random.default_rng(0)
    arena = seated(most=6)
    told = let_vote(arena, JUDGE, client=httpx.Client(transport=httpx.MockTransport(answer)))
    assert told.given == 6
    assert told.refused > 0
    assert {vote.verdict for vote in arena.file.read()} == {"bad"}
