"""Which two results a rater sees next: those whose comparison tells most, seeded.

- *Models*: by the Bradley-Terry posterior of all votes so far, the pair of which one more vote shrinks the ratings'
  covariance most (:func:`refbench.stats.rating.told_by`).
- *Samples*: least known first. Whether a vote on a sample goes as the ratings say is a coin whose bias has a
  Beta(1, 1) prior; its posterior's variance is largest where nobody voted, then where votes contradict the ratings.
- A rater sees each sample at most once until all are seen, then each once more, never the same two results anew.
- Every eighth turn a pair comes back with its sides swapped (rater against self), and every eighth a pair that another
  rater judged comes (rater against rater), if there is one.

Two results that are the same to the pixel are never a pair.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refbench.people.votes import Vote
from refbench.stats.bootstrap import Floats, generator
from refbench.stats.rating import told_by

TURN = 8
"""Turns of which one is a repetition and one a pair that another rater had."""
SHARED_AT, REPEAT_AT = 3, 7
APART = 5
"""A pair comes back after so many others at least."""


class Shown(NamedTuple):
    """Two results of a sample, by the models' numbers."""

    sample: str
    left: int
    right: int
    repeat: bool = False


class Drawer:
    """Draws pairs over a fixed set of results.

    Args:
        outputs: sample -> SHA-256 of each model's output, in the models' order; None where it failed.
        count: N models.
        seed: of every choice that is left to chance; the same votes so far give the same next pair.
    """

    def __init__(self, outputs: Mapping[str, Sequence[str | None]], count: int, seed: int = 0) -> None:
        self._outputs, self._seed, self._count = outputs, seed, count
        self.pairs = list(itertools.combinations(range(count), 2))
        self._samples = list(outputs)
        self._there = np.array(
            [
                [shas[i] is not None and shas[j] is not None and shas[i] != shas[j] for i, j in self.pairs]
                for shas in outputs.values()
            ],
            dtype=bool,
        ).reshape(len(self._samples), len(self.pairs))
        self._at = {
            (sample, sha): model
            for sample, shas in outputs.items()
            for model, sha in reversed(list(enumerate(shas)))
            if sha is not None
        }

    @property
    def size(self) -> int:
        """How many different pairs there are."""
        return int(self._there.sum())

    def sides(self, vote: Vote) -> tuple[int, int] | None:
        """The models on the left and on the right of a vote; None where it is about other results."""
        left, right = (self._at.get((vote.sample, sha)) for sha in (vote.left_sha256, vote.right_sha256))
        return None if left is None or right is None or left == right else (left, right)

    def draw(self, rater: str, votes: Sequence[Vote], leaving_out: frozenset[tuple[str, int, int]]) -> Shown | None:
        """The next pair of a rater; None where every pair was judged.

        Args:
            votes: of all raters, in the order in which they came.
            leaving_out: (sample, smaller, larger model) not to be shown, as a rater could not answer.
        """
        known = [(vote, sides) for vote in votes if (sides := self.sides(vote)) is not None]
        mine = [(vote, sides) for vote, sides in known if vote.rater == rater]
        rng = generator(self._seed, "arena", rater, str(len(mine)), str(len(leaving_out)))
        turn = len(mine) % TURN
        found = None
        if turn == REPEAT_AT:
            found = self._again(mine, rng)
        seen = Counter(vote.sample for vote, _ in mine if not vote.repeat)
        free = self._free(mine, seen, leaving_out)
        if found is None and turn == SHARED_AT:
            found = self._of_others(known, rater, free, rng)
        return found or self._telling_most(known, free, rng)

    def counts(self, known: Sequence[tuple[Vote, tuple[int, int]]]) -> Floats:
        """(3 * pairs,) wins, ties and losses of the first of each pair, without repetitions."""
        number = {pair: k for k, pair in enumerate(self.pairs)}
        counts = np.zeros(3 * len(self.pairs))
        for vote, (left, right) in known:
            if not vote.repeat:
                outcome = {"left": 0, "right": 2}.get(vote.verdict, 1)
                at = outcome if left < right else 2 - outcome
                counts[3 * number[min(left, right), max(left, right)] + at] += 1
        return counts

    def _again(self, mine: Sequence[tuple[Vote, tuple[int, int]]], rng: np.random.Generator) -> Shown | None:
        done = {vote.pair for vote, _ in mine if vote.repeat}
        old = [(v, sides) for v, sides in mine[: max(len(mine) - APART, 0)] if not v.repeat and v.pair not in done]
        if not old:
            return None
        vote, (left, right) = old[int(rng.integers(len(old)))]
        return Shown(vote.sample, right, left, repeat=True)

    def _free(
        self,
        mine: Sequence[tuple[Vote, tuple[int, int]]],
        seen: Mapping[str, int],
        leaving_out: frozenset[tuple[str, int, int]],
    ) -> np.ndarray:
        """(S, pairs) what a rater may see as a new pair: of the samples that he has seen least."""
        free = self._there.copy()
        number = {pair: k for k, pair in enumerate(self.pairs)}
        row = {sample: s for s, sample in enumerate(self._samples)}
        for sample, left, right in [*((v.sample, *sides) for v, sides in mine), *leaving_out]:
            free[row[sample], number[min(left, right), max(left, right)]] = False
        looked = np.array([seen.get(sample, 0) for sample in self._samples])
        has = free.any(axis=1)
        if has.any():
            free[looked > looked[has].min()] = False
        return free

    def _of_others(
        self, known: Sequence[tuple[Vote, tuple[int, int]]], rater: str, free: np.ndarray, rng: np.random.Generator
    ) -> Shown | None:
        number = {pair: k for k, pair in enumerate(self.pairs)}
        row = {sample: s for s, sample in enumerate(self._samples)}
        open_ones = {
            (vote.sample, min(sides), max(sides))
            for vote, sides in known
            if vote.rater != rater and free[row[vote.sample], number[min(sides), max(sides)]]
        }
        if not open_ones:
            return None
        sample, i, j = sorted(open_ones)[int(rng.integers(len(open_ones)))]
        return Shown(sample, *((i, j) if rng.random() < 0.5 else (j, i)))

    def _telling_most(
        self, known: Sequence[tuple[Vote, tuple[int, int]]], free: np.ndarray, rng: np.random.Generator
    ) -> Shown | None:
        if not free.any():
            return None
        told, theta = told_by(self.counts(known), self.pairs, self._count)
        row = {sample: s for s, sample in enumerate(self._samples)}
        with_it, against = np.ones(len(row)), np.ones(len(row))
        for vote, (left, right) in known:
            ahead = np.sign(theta[left] - theta[right]) * {"left": 1, "right": -1}.get(vote.verdict, 0)
            with_it[row[vote.sample]] += (1 + ahead) / 2
            against[row[vote.sample]] += (1 - ahead) / 2
        both = with_it + against
        open_question = with_it * against / (both**2 * (both + 1))
        worth = np.where(free, open_question[:, None] * told[None, :], -1.0)
        best = np.argwhere(worth >= worth.max() * (1 - 1e-9))
        s, k = best[int(rng.integers(len(best)))]
        i, j = self.pairs[k]
        return Shown(self._samples[s], *((i, j) if rng.random() < 0.5 else (j, i)))
