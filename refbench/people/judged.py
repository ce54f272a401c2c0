"""A vision-language model as one more rater: it gets the same pairs as people, by the pinned prompt of the judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from refbench.people.arena import Arena, Question
from refbench.people.votes import JUDGE, Verdict, check_rater
from refbench.runs.judging import RUBRIC, Bench, Judge, Refused, crops
from refbench.runs.progress import Progress

if TYPE_CHECKING:
    import httpx

BAD = 2.0
"""Both are bad where both have this mean of the rubric (1 to 5) or less, and equal ones."""


class Told(NamedTuple):
    """What came of it."""

    rater: str
    given: int
    """Votes of this judge on these results, with those of before."""
    refused: int


def let_vote(
    arena: Arena,
    judge: Judge,
    *,
    cache: Path | None = None,
    client: httpx.Client | None = None,
    progress: Progress | None = None,
) -> Told:
    """Let a judge vote on the pairs that the arena draws, `arena.most` in all.

    A vote is whose mean of detail, faithfulness and naturalness is higher; pairs it refuses are left out.

    Args:
        arena: with a number of pairs.
        judge: its votes are named ``model:`` and the model.
        cache: where answers are kept, so that nothing is asked twice.
        client: in place of a connection of its own.
        progress: told of every vote.

    Raises:
        RefbenchError: the endpoint cannot be reached or does not let us in.
    """
    rater = check_rater(JUDGE + judge.model, judge=True)
    bench, refused = Bench(judge, cache, client), 0
    if progress is not None:
        progress.start("votes", arena.most or 0, arena.given(rater))
    try:
        while (question := arena.ask(rater)) is not None:
            try:
                arena.answer(question.token, _verdict(arena, bench, question), 0.0)
            except Refused:
                arena.skip(question.token)
                refused += 1
                continue
            if progress is not None:
                progress.advance()
    finally:
        bench.close()
    return Told(rater, arena.given(rater), refused)


def _verdict(arena: Arena, bench: Bench, question: Question) -> Verdict:
    contest, (sample, left, right, _) = arena.contest, question.shown
    truth = contest.suite.truth(sample)
    reference, _, first = crops(truth, contest.output(left, sample))
    _, _, second = crops(truth, contest.output(right, sample))
    rated, _ = bench.vote(reference, first, second, 0)
    a, b = (float(np.mean([rated[side][name] for name in RUBRIC])) for side in ("a", "b"))
    if a == b:
        return "bad" if a <= BAD else "tie"
    return "left" if a > b else "right"
