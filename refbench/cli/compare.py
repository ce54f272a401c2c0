"""``refbench compare``: which of two or more runs is better, in what, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LEGEND = (
    "difference: recovery points [95 % interval], above 0 in favour of the first. effect: in standard deviations of\n"
    "the sources' differences. p: by permutation, corrected within each view (Holm); better means p < 0.05, undecided\n"
    "is not equal. shows: the smallest true difference that would be found in four of five such suites."
)


def whole(score: float) -> str:
    """A score without decimals and without minus zero."""
    return f"{round(score) + 0:d}"


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Two or more measured run folders.")],
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="Where their suite is, if it moved.")] = None,
    most: Annotated[int, typer.Option("--most", help="How many samples to list where a pair differs most.")] = 10,
    seed: o.Seed = 0,
    as_json: o.Json = False,
) -> None:
    """Compare runs pairwise, sample by sample, on the same suite and metric cards.

    Differences are in recovery points with 95 % intervals; p values come from permutations of whole sources and are
    corrected for the number of comparisons (Holm). "shows" is the smallest true difference that would be found in four
    of five repetitions.
    """
    from refbench.cli import show
    from refbench.leaderboard.pool import compare_runs

    found = compare_runs(runs, suite=suite, seed=seed, most=most)
    if as_json:
        show.json_out(found.model_dump(mode="json"))
        return
    columns = ["view", "where", "what", "difference", "effect", "p (Holm)", "shows", "better"]
    for pair in found.pairs:
        rows = []
        for row in pair.differences:
            cell = {"value": row.value, "low": row.low, "high": row.high}
            better = {"a": pair.a, "b": pair.b}.get(row.better, "undecided")
            effect = "–" if row.effect is None else f"{row.effect:+.2f}"
            shows = "–" if row.detectable is None else f"{row.detectable:.1f}"
            what = row.measure.replace("_", " ")
            rows.append([row.view, row.name, what, show.interval(cell), effect, f"{row.p_holm:.2g}", shows, better])
        show.table(f"{pair.a} minus {pair.b}", columns, rows, right=["difference", "effect", "p (Holm)", "shows"])
        show.line(LEGEND + "\n")
        duels = [
            [measure.replace("_", " "), str(duel.wins), str(duel.ties), str(duel.losses)]
            for measure, duel in pair.duels.items()
        ]
        numbers = [f"{pair.a} better", "tie", f"{pair.b} better"]
        show.table("Sample by sample", ["", *numbers], duels, right=numbers)
        if pair.apart:
            listed = [[one.sample, whole(one.a), whole(one.b), f"{one.difference:+.0f}"] for one in pair.apart]
            numbers = [pair.a, pair.b, "difference"]
            show.table(
                "Where they differ most (means of the axes, clipped to 100)",
                ["sample", *numbers],
                listed,
                right=numbers,
            )
        show.line(pair.words + "\n")
