"""What may stand in one table, figure, page, comparison or board: the one rule, and the one sentence where it fails.

Results may meet where suite, planned samples and the card of each metric that both have are equal, and where the same
of the metrics that make the score were measured. A further metric that one of them has is shown where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from refbench.errors import RefbenchError
from refbench.schema import RunManifest

LISTED = 20
"""Differences that a message names."""


class Facts(NamedTuple):
    """What decides whether results may meet."""

    suite_hash: str
    samples: tuple[str, ...]
    """Planned ids."""
    cards: Mapping[str, str]
    """Metric -> hash of the card that its scores carry."""

    @classmethod
    def of(cls, manifest: RunManifest) -> Facts:
        """The facts of a measured run."""
        return cls(manifest.suite_hash, manifest.samples, manifest.metric_cards)


def differences(found: Mapping[str, Facts], expected: Facts, scoring: Collection[str]) -> list[str]:
    """Everything that keeps results from meeting, one part of a sentence each.

    Args:
        found: by the name of the result.
        expected: of what they are held against.
        scoring: names of the metrics that make the score.
    """
    faults = []
    for name, facts in found.items():
        if facts.suite_hash != expected.suite_hash:
            faults.append(f"{name} is on the suite {facts.suite_hash[:12]}, not {expected.suite_hash[:12]}")
            continue
        mine, theirs = set(expected.samples), set(facts.samples)
        if mine != theirs:
            faults.append(f"{name} lacks {len(mine - theirs)} samples and has {len(theirs - mine)} others")
        here, there = expected.cards.keys() & scoring, facts.cards.keys() & scoring
        faults += [f"{name} lacks the metric {metric}" for metric in sorted(here - there)]
        faults += [f"{name} has the further metric {metric}" for metric in sorted(there - here)]
        faults += [
            f"{name} measured {metric} by the card {facts.cards[metric]}, not {expected.cards[metric]}"
            for metric in sorted(expected.cards.keys() & facts.cards.keys())
            if expected.cards[metric] != facts.cards[metric]
        ]
    return faults


def refuse_incomparable(found: Mapping[str, Facts], expected: Facts, against: str, scoring: Collection[str]) -> None:
    """Raise with the list of :func:`differences`, if there is any.

    Args:
        against: what `expected` is of, in words.

    Raises:
        RefbenchError: with the first :data:`LISTED` of them.
    """
    faults = differences(found, expected, scoring)
    if faults:
        more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise RefbenchError(
            f"Expected results over equal samples, suite and metric cards as {against}, but "
            f"{'; '.join(faults[:LISTED])}{more}; evaluate or measure those again."
        )
