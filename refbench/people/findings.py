"""What votes come to, as records: models, measures, raters, and the pairs in which score and votes differ."""

from __future__ import annotations

from refbench.schema import Record
from refbench.stats.agreement import Rate


class Standing(Record):
    """One model, by the votes and on the board."""

    model: str
    rating: float
    """Bradley-Terry with ties (Davidson 1970), Elo scale, the models' mean is 1000."""
    low: float | None
    """95 % interval over samples; None with fewer than four."""
    high: float | None
    wins: int
    ties: int
    losses: int
    score: float | None
    """Recovery points of the run."""
    best_place: int | None
    """By the score, as on the board."""
    worst_place: int | None


class Measure(Record):
    """How far one measure agrees with the votes."""

    name: str
    kind: str
    """`measure` (axes, the score as "mean", pixel fidelity) or `metric`."""
    overall: Rate
    tau: float | None
    """Kendall's tau-b of its order of the models with that of the votes."""
    tasks: dict[str, Rate]
    modes: dict[str, Rate]


class Rater(Record):
    """One rater, person or model."""

    name: str
    votes: int
    """Without repetitions."""
    ties: float
    """Share of ties, both bad among them."""
    bad: float
    """Share of both bad."""
    seconds: float
    """Median."""
    itself: Rate
    """Of pairs that came twice and were no tie either time: the same side preferred."""
    others: Rate
    """Of pairs that another rater had too and neither called a tie."""
    score: Rate
    """Agreement of the score with this rater."""


class Apart(Record):
    """A pair in which score and votes prefer different results."""

    sample: str
    better: str
    """Model that the votes prefer."""
    worse: str
    votes_better: int
    votes_worse: int
    points_better: float
    """Score of that sample, in recovery points."""
    points_worse: float


class Agreement(Record):
    """All of it."""

    suite: str
    votes: int
    """That count here, repetitions left out."""
    samples: int
    raters: tuple[Rater, ...]
    counted: tuple[str, ...]
    """Raters whose votes make standings and measures."""
    left_out: int
    """Votes on other suites or results."""
    standings: tuple[Standing, ...]
    tie_share: float
    itself: Rate
    """Raters that count, against themselves: no measure can agree with them much more often."""
    one_another: Rate
    """Raters that count, against one another."""
    judges: Rate
    """Models that judge, against people."""
    measures: tuple[Measure, ...]
    apart: tuple[Apart, ...]
    """Most points apart first."""
