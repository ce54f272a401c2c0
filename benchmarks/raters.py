"""Do ratings come back within their intervals? Raters of known preference vote on pairs that the arena draws.

    python benchmarks/raters.py [--simulations 500] [--votes 300] [--models 6] [--samples 160] [--raters 3]
        [--spread 0.8] [--apart 0]

Each simulation draws the models' true strengths, and raters who prefer by Davidson's model (ties too) vote on what
:class:`refbench.people.drawing.Drawer` shows them; then `refbench agreement`'s own fit rates the models from the votes.
Printed is how often a model's 95 % interval holds its true rating, how far ratings lie off, and how much narrower the
intervals are than those of as many votes on pairs drawn at random. Ten minutes for 500 (one core).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from typing import NamedTuple

import numpy as np

from refbench.people.agreement import ratings
from refbench.people.drawing import REPEAT_AT, TURN, Drawer
from refbench.people.votes import Verdict, Vote
from refbench.stats.rating import ELO, MEAN_RATING, bradley_terry

SUITE = "0" * 64
SPREAD, TIE = 0.8, 0.6
"""Standard deviation of the models' log strengths (0.8: 139 points), and v of Davidson's model."""


class Found(NamedTuple):
    """Of one simulation."""

    inside: np.ndarray
    """(N,) whether each interval holds the true rating."""
    off: np.ndarray
    """(N,) estimate minus truth, in rating points."""
    width: np.ndarray
    """(N,) of the intervals."""


def sha(sample: str, model: int) -> str:
    return hashlib.sha256(f"{sample} {model}".encode()).hexdigest()


def chances(strengths: np.ndarray, left: int, right: int) -> np.ndarray:
    """(..., 3) how likely a rater says left, tie, right, by Davidson's model; strengths (..., N)."""
    a, b = np.exp(strengths[..., left]), np.exp(strengths[..., right])
    weights = np.stack([a, TIE * np.sqrt(a * b), b], axis=-1)
    return weights / weights.sum(axis=-1, keepdims=True)


def true_ratings(strengths: np.ndarray, apart: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) what endless votes would give: each pair equally often, on endless samples that move models `apart`."""
    if apart == 0.0:
        return MEAN_RATING + ELO * (strengths - strengths.mean())
    pairs = list(itertools.combinations(range(len(strengths)), 2))
    moved = strengths + rng.normal(0.0, apart, (20000, len(strengths)))
    counts = 1e6 * np.concatenate([chances(moved, i, j).mean(axis=0) for i, j in pairs])[None]
    return bradley_terry(counts, pairs, len(strengths), np.ones((1, 1)))[0]


def simulate(
    seed: int, *, models: int = 6, samples: int = 160, votes: int = 300, raters: int = 3, spread: float = SPREAD,
    apart: float = 0.0, drawn: bool = True, resamples: int = 500,
) -> Found:  # fmt: skip
    """One arena from the first vote to the ratings.

    Args:
        spread: of the models' log strengths.
        apart: standard deviation by which each sample moves the log strength of each model, alike for all raters.
        drawn: by the arena; else every pair and sample is drawn with equal chance.
    """
    rng, of_samples = np.random.default_rng([seed, 24]), np.random.default_rng([seed, 25])
    strengths = rng.normal(0.0, spread, models)
    moved = strengths + of_samples.normal(0.0, apart, (samples, models))
    outcomes: tuple[Verdict, ...] = ("left", "tie", "right")
    names = [f"sample-{k:03d}" for k in range(samples)]
    drawer = Drawer({name: [sha(name, model) for model in range(models)] for name in names}, models, seed)
    given: list[Vote] = []
    for number in range(votes):
        rater = f"rater-{number % raters}"
        if drawn:
            shown = drawer.draw(rater, given, frozenset())
            assert shown is not None
            sample, left, right, repeat = shown
        else:
            sample, repeat = names[int(rng.integers(samples))], number % TURN == REPEAT_AT  # as many that do not count
            left, right = (int(one) for one in rng.choice(models, 2, replace=False))
        given.append(
            Vote(
                id=f"{number:08x}", rater=rater, suite=SUITE, sample=sample, left=f"m{left}", right=f"m{right}",
                left_sha256=sha(sample, left), right_sha256=sha(sample, right),
                verdict=outcomes[int(rng.choice(3, p=chances(moved[int(sample[-3:])], left, right)))],
                seconds=1.0, repeat=repeat,
            )
        )  # fmt: skip
    looks = [(vote.sample, int(vote.left[1:]), int(vote.right[1:]), vote.verdict) for vote in given if not vote.repeat]
    value, low, high, _ = ratings(looks, models, seed=seed, resamples=resamples)
    truth = true_ratings(strengths, apart, of_samples)
    return Found((low <= truth) & (truth <= high), value - truth, high - low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("simulations", 500), ("votes", 300), ("models", 6), ("samples", 160), ("raters", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--spread", type=float, default=SPREAD)
    parser.add_argument("--apart", type=float, default=0.0)
    given = vars(parser.parse_args())
    count = given.pop("simulations")
    found = [simulate(seed, **given) for seed in range(count)]
    at_random = [simulate(seed, **given, drawn=False) for seed in range(min(count, 100))]
    inside = np.array([one.inside for one in found])
    widths = [np.mean([one.width.mean() for one in some]) for some in (found[: len(at_random)], at_random)]
    print(
        json.dumps(
            {
                **given,
                "simulations": count,
                "inside %": round(100 * float(inside.mean()), 2),
                "its standard error": round(100 * float(inside.mean(1).std() / np.sqrt(count)), 2),
                "mean error": round(float(np.abs([one.off for one in found]).mean()), 1),
                "width": round(float(widths[0]), 1),
                "width at random": round(float(widths[1]), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
