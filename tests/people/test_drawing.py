"""Which pair comes next."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from refbench.people.drawing import APART, Drawer, Shown
from refbench.people.votes import Vote

from .conftest import sha, vote

SAMPLES = [f"s{k}" for k in range(12)]


def drawer(models: int = 4, seed: int = 0, samples: list[str] = SAMPLES) -> Drawer:
    return Drawer({name: [sha(name, m) for m in range(models)] for name in samples}, models, seed)


def sat(drawn: Drawer, count: int, rater: str = "ann", before: list[Vote] | None = None) -> list[Vote]:
    """Votes of one rater, ties all of them."""
    given = list(before or [])
    for number in range(count):
        shown = drawn.draw(rater, given, frozenset())
        if shown is None:
            break
        given.append(
            vote(
                shown.sample,
                shown.left,
                shown.right,
                "tie",
                rater,
                repeat=shown.repeat,
                id=f"{rater}{number}".encode().hex().zfill(8),
            )
        )
    return given


def test_equal_seeds_draw_equal_pairs() -> None:
    first, second = (sat(drawer(seed=5), 40) for _ in range(2))
    assert [v.model_dump() for v in first] == [v.model_dump() for v in second]
    assert [v.left for v in first] != [v.left for v in sat(drawer(seed=6), 40)]
    lower_left = sum(v.left < v.right for v in first)
    assert 8 < lower_left < 32


def test_every_sample_comes_before_a_repeat() -> None:
    fresh = [v for v in sat(drawer(), 60) if not v.repeat]
    seen = Counter[str]()
    for one in fresh:
        assert seen[one.sample] == min(seen[name] for name in SAMPLES)
        seen[one.sample] += 1
    assert len({v.pair for v in fresh}) == len(fresh)


def test_some_pairs_come_back_swapped() -> None:
    votes = sat(drawer(), 64)
    again = [(k, v) for k, v in enumerate(votes) if v.repeat]
    assert len(again) == 8
    for at, one in again:
        (first,) = [k for k, v in enumerate(votes) if v.pair == one.pair and not v.repeat]
        assert at - first > APART
        assert (votes[first].left, votes[first].right) == (one.right, one.left)
    assert len({v.pair for _, v in again}) == len(again)


def test_raters_share_some_pairs() -> None:
    both = sat(drawer(), 32, "bob", sat(drawer(), 32))
    pairs = [{v.pair for v in both if v.rater == rater and not v.repeat} for rater in ("ann", "bob")]
    assert len(pairs[0] & pairs[1]) >= 4


def test_it_ends_with_every_pair_judged() -> None:
    few = drawer(3, samples=["a", "b"])
    assert few.size == 6
    votes = sat(few, 100)
    assert len({v.pair for v in votes}) == 6
    assert few.draw("ann", votes, frozenset()) is None or votes[-1].repeat


def test_equal_and_failed_are_no_pair() -> None:
    outputs = {"a": ["11" * 8, "11" * 8, "22" * 8], "b": ["33" * 8, None, "44" * 8]}
    some = Drawer(outputs, 3)
    assert some.size == 3
    left_out = frozenset({("a", 0, 2), ("a", 1, 2)})
    drawn = some.draw("ann", [], left_out)
    assert drawn is not None
    assert (drawn.sample, {drawn.left, drawn.right}) == ("b", {0, 2})
    assert some.draw("ann", [], left_out | {("b", 0, 2)}) is None


def test_votes_on_other_outputs_say_nothing() -> None:
    other = vote("s0", 0, 1, left_sha256="ab" * 32)
    assert drawer().sides(other) is None
    assert drawer().draw("ann", [other], frozenset()) == drawer().draw("ann", [], frozenset())


def test_model_that_nobody_judged_comes_first() -> None:
    known = [
        vote(SAMPLES[k % 6], i, j, "tie" if k % 3 else "left", f"r{k}")
        for k in range(60)
        for i, j in [(k % 3, (k + 1) % 3)]
    ]
    drawn = drawer().draw("ann", known, frozenset())
    assert drawn is not None
    assert 3 in (drawn.left, drawn.right)


def test_contradicting_votes_come_before_settled() -> None:
    strong = [vote(name, 0, 1, "left", f"r{k}") for k, name in enumerate(SAMPLES[2:] * 3)]
    known = [*strong, *(vote(SAMPLES[0], 0, 1, "left", f"a{k}") for k in range(3))]
    known += [vote(SAMPLES[1], 0, 1, verdict, f"b{k}") for k, verdict in enumerate(("left", "right", "left"))]
    drawn = drawer(2).draw("ann", known, frozenset())
    assert drawn is not None
    assert drawn.sample == SAMPLES[1]


@pytest.mark.parametrize("first", ["left", "right"])
def test_counts_do_not_depend_on_sides(first: str) -> None:
    some = drawer()
    votes = [vote("s0", 2, 1, first), vote("s1", 1, 2, "bad"), vote("s2", 1, 2, "left", repeat=True)]
    known = [(v, s) for v in votes if (s := some.sides(v)) is not None]
    counts = some.counts(known).reshape(-1, 3)
    assert np.array_equal(counts[some.pairs.index((1, 2))], [first == "right", 1, first == "left"])
    assert counts.sum() == 2
    assert Shown("a", 1, 0).repeat is False
