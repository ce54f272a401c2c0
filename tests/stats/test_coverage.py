"""The coverage simulation, small: the full one (1,000 suites) is a command and its figures are in the docs."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.stats.recovery import summarise
from stats.made_up import coverage, made_up_suite


def test_intervals_hold_truth_with_20_clusters() -> None:
    # 60 suites x 4 overall numbers: a share of 0.95 over 240 (correlated) trials has an error of about 0.02;
    # percentile intervals reach 0.87-0.90 here and fail this bound.
    found = coverage(suites=60, clusters=20, skewed=True, resamples=300, seed=1)
    overall = [found.held[name] for name in ("texture_fidelity", "reference_alignment", "local_consistency", "mean")]
    assert 0.91 <= np.mean(overall) <= 1.0
    assert found.false_claims <= 0.13  # 5 % and two standard errors of 60 trials
    assert found.difference >= 0.87


def test_stated_truth_is_a_huge_suites() -> None:
    made = made_up_suite(np.random.default_rng(0), clusters=4_000, skewed=True)
    found = summarise(made.runs[0], made.answers, made.metas, made.cards, resamples=2, views=())
    for name, cell in found.metrics.items():
        assert cell.value == pytest.approx(made.truth[0][name], abs=5.0)  # about four standard errors


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("skewed", [True, False])
@pytest.mark.parametrize("clusters", [20, 80])
def test_thousand_suites_hold_the_truth(clusters: int, skewed: bool) -> None:
    """A share over 1,000 suites has a standard error of 0.7 %; of few sources: reports/intervals.md."""
    found = coverage(suites=1000, clusters=clusters, skewed=skewed, resamples=400)
    most = 0.97 if clusters == 80 else 1.0
    for name in ("texture_fidelity", "reference_alignment", "local_consistency", "mean"):
        assert 0.93 <= found.held[name] <= most, found
    assert 0.93 <= found.difference <= 0.975
    assert found.false_claims <= 0.07
