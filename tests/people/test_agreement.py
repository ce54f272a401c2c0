"""What votes say of models and measures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.people.agreement import agreement, ratings
from refbench.people.disagreements import write_page
from refbench.people.findings import Agreement
from refbench.people.votes import Vote
from refbench.results.resultset import RunSet
from refbench.schema import AXES

from .conftest import MODELS


def given(
    results: RunSet, sample: str, left: str, right: str, verdict: str, rater: str = "ann", **more: object
) -> Vote:
    held = [results.run(name).records[sample].sha256 for name in (left, right)]
    facts = {
        "id": f"{abs(hash((sample, left, right, verdict, rater, *more.items()))):016x}", "rater": rater,
        "suite": results.suite.hash, "sample": sample, "left": left, "right": right, "left_sha256": held[0],
        "right_sha256": held[1], "verdict": verdict, "seconds": 3.0,
    }  # fmt: skip
    return Vote.model_validate(facts | more)


def answered(results: RunSet) -> list[tuple[str, str, str]]:
    """(sample, two models) wherever both have a result."""
    return [
        (sample, a, b)
        for sample in results.metas
        for a, b in itertools.combinations(MODELS, 2)
        if all(results.run(name).failed(sample) is None for name in (a, b))
    ]


def by_score(results: RunSet, rater: str = "ann", sign: int = 1) -> list[Vote]:
    """Votes of a rater who prefers what the score prefers (or the other), with every second pair swapped."""
    points = results.sample_scores("mean")
    votes = []
    for k, (sample, a, b) in enumerate(answered(results)):
        left, right = (a, b) if k % 2 else (b, a)
        ahead = sign * (points.loc[sample, left] - points.loc[sample, right])
        votes.append(
            given(results, sample, left, right, "left" if ahead > 0 else "right" if ahead < 0 else "tie", rater)
        )
    return votes


def measure(found: Agreement, name: str) -> float | None:
    return next(one for one in found.measures if one.name == name).overall.value


def test_rater_who_follows_score_agrees_with_it(results: RunSet) -> None:
    found = agreement(by_score(results), results, resamples=100)
    score = next(one for one in found.measures if one.name == "mean")
    assert (score.overall.value, score.overall.high) == (1.0, 1.0)
    assert score.overall.low == pytest.approx(0.025 ** (1 / score.overall.samples))
    assert set(score.tasks) == set(results.suite.tasks)
    assert all(rate.value == 1.0 for rate in (*score.tasks.values(), *score.modes.values()))
    assert found.apart == ()
    assert {one.name for one in found.measures} >= {*AXES, "mean", "pixel_fidelity", "mse", "sharpness_change"}
    scores = [one.score for one in found.standings]
    assert scores == sorted(scores, key=lambda score: -(score or 0.0))
    assert score.tau == 1.0


def test_rater_who_prefers_other_differs_everywhere(results: RunSet, tmp_path: Path) -> None:
    found = agreement(by_score(results, sign=-1), results, resamples=100, most=5)
    assert measure(found, "mean") == 0.0
    assert next(one for one in found.measures if one.name == "mean").tau == -1.0
    gaps = [one.points_worse - one.points_better for one in found.apart]
    assert len(gaps) == 5
    assert gaps == sorted(gaps, reverse=True)
    page = tmp_path / "apart.html"
    write_page(found, results, page)
    text = page.read_text()
    assert text.count("<img") == 5 * 5
    assert "http" not in text.replace("http-equiv", "")
    assert found.apart[0].sample in text


def test_ties_are_counted_but_decide_nothing(results: RunSet) -> None:
    votes = by_score(results)
    tied = [vote.model_copy(update={"verdict": "tie" if k % 2 else "bad"}) for k, vote in enumerate(votes)]
    found = agreement(tied, results, resamples=50)
    assert measure(found, "mean") is None
    assert {round(one.rating) for one in found.standings} == {1000}
    (rater,) = found.raters
    assert (rater.ties, rater.bad, rater.seconds) == (1.0, pytest.approx(0.5, abs=0.02), 3.0)


def test_raters_against_themselves_and_others(results: RunSet) -> None:
    sample, a, b = answered(results)[0]
    other, c, d = answered(results)[-1]
    votes = [
        given(results, sample, a, b, "left"),
        given(results, sample, b, a, "right", repeat=True),  # the same again
        given(results, other, c, d, "left"),
        given(results, other, d, c, "left", repeat=True),  # another side
        given(results, sample, b, a, "right", "bob"),  # as ann
        given(results, other, c, d, "right", "bob"),  # not as ann
        given(results, sample, a, b, "right", "model:x"),  # as neither
        given(results, other, c, d, "tie", "model:x"),
    ]
    found = agreement(votes, results, resamples=50)
    assert found.counted == ("ann", "bob")
    assert (found.votes, found.samples) == (4, 2)
    assert (found.itself.value, found.itself.pairs) == (0.5, 2)
    assert (found.one_another.value, found.one_another.pairs) == (0.5, 2)
    assert (found.judges.value, found.judges.pairs) == (0.0, 2)
    assert [one.name for one in found.raters] == ["ann", "bob", "model:x"]
    assert found.raters[1].others.pairs == 3
    alone = agreement(votes, results, rater="model:x", resamples=50)
    assert alone.counted == ("model:x",)
    assert (alone.votes, sum(one.ties for one in alone.standings)) == (2, 2)


def test_votes_on_anything_else_left_out(results: RunSet) -> None:
    votes = by_score(results)
    others = [
        votes[0].model_copy(update={"suite": "f" * 64}),
        votes[1].model_copy(update={"left_sha256": "ab" * 32}),
        votes[2].model_copy(update={"sample": "unknown"}),
    ]
    found = agreement([*votes, *others], results, resamples=50)
    assert (found.votes, found.left_out) == (len(votes), 3)
    with pytest.raises(RefbenchError, match="all 3 are on other"):
        agreement(others, results)
    with pytest.raises(RefbenchError, match="Unknown rater 'anne': did you mean ann"):
        agreement(votes, results, rater="anne")


def test_ratings_are_those_of_the_counts() -> None:
    looks = [(f"s{k}", k % 2, 1 - k % 2, "left" if k % 2 == 0 or k % 8 == 1 else "right") for k in range(80)]
    won = sum((verdict == "left") == (left == 0) for _, left, _, verdict in looks)
    value, low, high, ties = ratings(looks, 2, resamples=200)
    # without ties the odds are those of the counts, up to the prior of 0.05
    assert value[0] - value[1] == pytest.approx(400 * np.log10((won + 0.05) / (80 - won + 0.05)), abs=3)
    assert low[0] < value[0] < high[0]
    assert ties == 0.0


def test_simulated_raters_are_recovered() -> None:
    import importlib.util
    import sys

    path = Path(__file__).resolve().parents[2] / "benchmarks" / "raters.py"
    spec = importlib.util.spec_from_file_location("raters", path)
    assert spec is not None
    assert spec.loader is not None
    raters = sys.modules["raters"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(raters)
    found = [raters.simulate(seed, votes=120, models=4, samples=40, raters=2, resamples=200) for seed in range(12)]
    inside = np.array([one.inside for one in found])
    # 95 % of 48 with a standard error of 3.5 points (models of one simulation are not independent)
    assert 0.83 <= inside.mean() <= 1.0
    assert np.abs([one.off for one in found]).mean() < 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["votes", "one"], "two run folders or more"), (["votes", "one", "two", "--most", "-1"], "--most of 0 or more")],
)
def test_a_wrong_argument_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["agreement", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_votes_that_were_all_taken_back_are_none() -> None:
    with pytest.raises(RefbenchError, match="each was taken back"):
        agreement([], [])  # type: ignore[arg-type]
