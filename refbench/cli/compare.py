"""``refbench compare``: which of two or more runs is better, in what, and how sure that is."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refbench.cli import options as o
from refbench.schema import AXES

if TYPE_CHECKING:
    from refbench.stats.compare import Comparison, Difference, Pair

app = typer.Typer(add_completion=False, rich_markup_mode=None)

COLUMNS = (*AXES, "mean")
RECOVERY = "Recovery: 0 = a trivial answer, 100 = the ground truth; ± the 95 % interval."
MATRIX = "*: none is better there, each pair looked at alone. samples: won–tied–lost\nagainst all others, by {by}."
PAIRS = (
    "difference: of the means, in favour of the first above 0; ± the 95 % interval.\n"
    "better, worse: the interval excludes 0, which is p < 0.05, that pair looked at\n"
    "alone; undecided is not equal. p of {tests}: that p corrected over all {tests}\n"
    "comparisons of means and axes (Holm); what is not below 0.05 there may be\n"
    "chance."
)
DETAILS = (
    "difference: recovery points ± the 95 % interval, above 0 in favour of the first.\n"
    "*: the interval excludes 0, which is p < 0.05; **: also after Holm's correction\n"
    "over the comparisons of that table. effect: in standard deviations of the\n"
    "sources' differences. shows: the smallest true difference that would be found\n"
    "in four of five such suites."
)


def whole(score: float) -> str:
    """A score without decimals and without minus zero."""
    return f"{round(score) + 0:d}"


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Two or more measured run folders.")],
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="Where their suite is, if it moved.")] = None,
    most: Annotated[int, typer.Option("--most", help="How many samples to list where a pair differs most.")] = 10,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every pair by category, task, mode and metric, and its samples.")
    ] = False,
    seed: o.Seed = 0,
    as_json: o.Json = False,
) -> None:
    """Compare runs pairwise, sample by sample, on the same suite and metric cards.

    Differences are in recovery points. Their 95 % intervals and p values are of one bootstrap over whole sources, and
    "better" is what they say; beside them stands p corrected for the number of comparisons (Holm). --json has all.
    """
    from refbench.cli import show
    from refbench.results.resultset import compare_runs

    found = compare_runs(runs, suite=suite, seed=seed, most=most)
    if as_json:
        show.json_out(found.model_dump(mode="json"))
    else:
        print_comparison(found, verbose=verbose)


def print_comparison(found: Comparison, *, verbose: bool = False) -> None:
    """Print who is better in what; `verbose` adds every pair by category, task, mode and metric, and its samples."""
    from refbench.cli import show

    _matrix(found)
    if len(found.pairs) > 1:
        _pairs(found)
    for pair in found.pairs if verbose or len(found.pairs) == 1 else ():
        if verbose:
            _details(pair, found.families)
        show.line("\n".join(textwrap.fill(line, 80) for line in pair.words.splitlines()) + "\n")
    for measure, why in ((one, found.withheld[one]) for one in COLUMNS if one in found.withheld):
        show.line(f"not compared: {measure.replace('_', ' ')}: {why}")
    if not verbose:
        show.line("By category, task, mode and metric, and the samples that differ most: --verbose")


def _matrix(found: Comparison) -> None:
    """Models by axes, mean and samples won, best mean first."""
    from refbench.cli import show
    from refbench.stats.gains import NO_TARGETS

    without = {measure for measure, why in found.withheld.items() if NO_TARGETS in why}
    beaten = {
        (pair.b if row.better == "a" else pair.a, row.measure)
        for pair in found.pairs
        for row in pair.differences
        if row.view == "overall" and row.better != "undecided"
    }
    lines, cells = [], {}
    means = [cells[found.by].value for cells in found.scores.values()]
    order = {name: -math.inf if mean is None else mean for name, mean in zip(found.scores, means, strict=True)}
    for model in sorted(order, key=lambda name: order[name], reverse=True):
        scores = {measure: found.scores[model][measure].model_dump() for measure in COLUMNS}
        cells[model] = scores
        duel = found.against_all[model]
        shown = [
            "not measured"
            if measure in without
            else show.interval(cell) + ("" if cell["value"] is None or (model, measure) in beaten else "*")
            for measure, cell in scores.items()
        ]
        lines.append([model, *shown, f"{duel.wins}–{duel.ties}–{duel.losses}"])
    columns = [*(show.TITLES[measure] for measure in COLUMNS), "samples"]
    show.table(
        f"{len(found.models)} models on {found.samples} samples of {found.clusters} sources",
        ["", *columns],
        lines,
        right=columns,
        width=show.NARROW,
    )
    show.reasons(cells)
    show.line(show.WITHOUT_TARGETS if without else RECOVERY)
    show.line(MATRIX.format(by="the score" if found.by == "mean" else found.by.replace("_", " ")) + "\n")


def _pairs(found: Comparison) -> None:
    """The differences of the means (of what samples are won by), one pair a line."""
    from refbench.cli import show
    from refbench.stats.compare import p_text

    tests = found.families["overall"]
    lines = []
    for pair in found.pairs:
        for row in pair.differences:
            if (row.view, row.measure) == ("overall", found.by):
                verdict = {"a": "better", "b": "worse"}.get(row.better, "undecided")
                lines.append([pair.a, pair.b, _difference(row), p_text(row.p), p_text(row.p_holm), verdict])
    numbers = ["difference", "p", f"p of {tests}"]
    show.table("Pairs", ["first", "second", *numbers, "the first is"], lines, right=numbers, width=show.NARROW)
    show.line(PAIRS.format(tests=tests) + "\n")


def _details(pair: Pair, families: dict[str, int]) -> None:
    """One pair: every view, the samples won, and those that differ most."""
    from refbench.cli import show
    from refbench.stats.compare import VIEWS, p_text

    heading = f"{pair.a} minus {pair.b}"
    for view in VIEWS:
        rows = [row for row in pair.differences if row.view == view]
        corrected = f"p of {families[view]}" if families[view] else "corrected"
        numbers = ["difference", "effect", "p", corrected, "shows"]
        lines = [
            [
                row.name if view != "overall" else "",
                show.TITLES.get(row.measure, row.measure),
                _difference(row) + ("**" if row.holds else "*" if row.better != "undecided" else ""),
                "–" if row.effect is None else f"{row.effect:+.2f}",
                p_text(row.p),
                p_text(row.p_holm),
                "–" if row.detectable is None else f"{row.detectable:.1f}",
            ]
            for row in rows
        ]
        if lines:
            show.table(f"{heading}, {view}", ["", "what", *numbers], lines, right=numbers, width=show.NARROW)
            show.reasons({row.name: {"": {"reason": row.reason}} for row in rows if row.reason})
    show.line(DETAILS + "\n")
    duels = [
        [show.TITLES[measure], str(duel.wins), str(duel.ties), str(duel.losses)] for measure, duel in pair.duels.items()
    ]
    numbers = [f"{pair.a} better", "tie", f"{pair.b} better"]
    show.table("Sample by sample", ["", *numbers], duels, right=numbers, width=show.NARROW)
    if pair.apart:
        listed = [[one.sample, whole(one.a), whole(one.b), f"{one.difference:+.0f}"] for one in pair.apart]
        numbers = [pair.a, pair.b, "difference"]
        title = "Where they differ most (scores, clipped to 100)"
        show.table(title, ["sample", *numbers], listed, right=numbers, width=show.NARROW)


def _difference(row: Difference) -> str:
    from refbench.cli import show

    return show.interval({"value": row.value, "low": row.low, "high": row.high})
