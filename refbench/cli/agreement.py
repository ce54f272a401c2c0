"""``refbench agreement``: what votes say of models, score and metrics."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from refbench.people.findings import Agreement
    from refbench.stats.agreement import Rate

app = typer.Typer(add_completion=False, rich_markup_mode=None)

RATINGS = (
    "rating: Bradley-Terry with ties, 400 points are odds of 10 to 1; ± the 95 %\n"
    "interval over samples. place: by the score, as on the board."
)
SHARES = (
    "agrees: per cent of the votes that are no tie in which it prefers the same\n"
    "result, with the 95 % interval over samples; chance is 50. tau: Kendall's, of\n"
    "its order of the models with that of the votes. What agrees as often as raters\n"
    "do with themselves and one another (first rows) cannot do better."
)


@app.command()
def agreement(
    votes: Annotated[Path, typer.Argument(metavar="VOTES", help="File of votes, or a folder of such files.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="The measured runs that they are about.")],
    rater: Annotated[
        str | None, typer.Option("--rater", metavar="NAME", help="Only this one's votes; by default all people's.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write where score and votes differ most as HTML.")
    ] = None,
    most: Annotated[int, typer.Option("--most", help="How many such pairs.")] = 24,
    suite: o.MovedSuite = None,
    seed: o.Seed = 0,
    as_json: o.Json = False,
) -> None:
    """Rate models by votes, and say how far score, axes and every metric agree with the people who gave them.

    Votes are those of 'refbench arena', of one file or of several machines' in a folder. Models that judge are raters
    as well ('model:NAME'); --rater gives the tables of one rater, person or model. --json has all, by task and mode.
    """
    from refbench.cli import show
    from refbench.people.agreement import agreement as hold
    from refbench.people.disagreements import write_page
    from refbench.people.votes import read_votes
    from refbench.results.resultset import open_results

    if len(runs) < 2:
        raise RefbenchError(f"Expected two run folders or more, but {len(runs)} came; name another.")
    if most < 0:
        raise RefbenchError(f"Expected --most of 0 or more, but {most} came.")
    results = open_results(runs, suite=suite)
    found = hold(read_votes(votes), results, rater=rater, seed=seed, most=most)
    if page is not None:
        write_page(found, results, page)
    if as_json:
        show.json_out(found.model_dump(mode="json"))
        return
    _standings(found)
    _measures(found)
    _parts(found)
    _raters(found)
    if found.left_out:
        show.line(f"left out: {found.left_out} votes on other suites or outputs")
    if page is not None:
        show.line(f"{page} ({len(found.apart)} pairs in which score and votes differ)")


def _percent(rate: Rate) -> str:
    """ "88 [81, 94]"; a dash without pairs."""
    if rate.value is None:
        return "–"
    ends = "" if rate.low is None or rate.high is None else f" [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
    return f"{100 * rate.value:.0f}{ends}"


def _standings(found: Agreement) -> None:
    from refbench.cli import show

    rows = []
    for one in found.standings:
        place = "–"
        if one.best_place is not None and one.worst_place is not None:
            place = f"{one.best_place}" + (f"–{one.worst_place}" if one.worst_place != one.best_place else "")
        half = "" if one.low is None or one.high is None else f" ±{(one.high - one.low) / 2:.0f}"
        score = "–" if one.score is None else f"{one.score:.1f}"
        rows.append([one.model, f"{one.rating:.0f}{half}", f"{one.wins}–{one.ties}–{one.losses}", score, place])
    numbers = ["rating", "won–tied–lost", "score", "place"]
    who = ", ".join(found.counted) if len(found.counted) <= 3 else f"{len(found.counted)} raters"
    title = f"{len(found.standings)} models by {found.votes} votes of {who} on {found.samples} samples"
    show.table(title, ["", *numbers], rows, right=numbers, width=show.NARROW)
    show.line(RATINGS + "\n")


def _measures(found: Agreement) -> None:
    from refbench.cli import show

    def row(name: str, rate: Rate, tau: float | None = None) -> list[str]:
        return [name, _percent(rate), str(rate.pairs), "–" if tau is None else f"{tau:+.2f}"]

    rows = [row("a rater again", found.itself), row("another rater", found.one_another)]
    rows += [row("a judging model", found.judges)] if found.judges.pairs else []
    measures = [one for one in found.measures if one.kind == "measure"]
    metrics = [one for one in found.measures if one.kind == "metric"]
    order = sorted(measures, key=lambda one: one.name != "mean")
    rows += [row(show.TITLES[one.name], one.overall, one.tau) for one in order]
    telling = [one for one in metrics if one.overall.value != 0.5 or one.overall.low is not None]
    rows += [row(one.name, one.overall, one.tau) for one in sorted(telling, key=lambda m: -(m.overall.value or 0.0))]
    numbers = ["agrees", "pairs", "tau"]
    show.table("Who agrees with these votes", ["", *numbers], rows, right=numbers, width=show.NARROW)
    silent = ", ".join(one.name for one in metrics if one not in telling)
    if silent:
        show.line(textwrap.fill(f"tell no pair apart: {silent}", show.NARROW))
    show.line(SHARES + "\n")


def _parts(found: Agreement) -> None:
    from refbench.cli import show

    measures = sorted((m for m in found.measures if m.kind == "measure"), key=lambda one: one.name != "mean")
    shown = measures[:4]
    rows = []
    for part in ("tasks", "modes"):
        for name in getattr(shown[0], part):
            rates = [getattr(one, part)[name] for one in shown]
            rows.append(
                [name, str(rates[0].pairs), *("–" if r.value is None else f"{100 * r.value:.0f}" for r in rates)]
            )
    numbers = ["pairs", *(show.TITLES[one.name] for one in shown)]
    show.table("By task and mode, in per cent", ["", *numbers], rows, right=numbers, width=show.NARROW)


def _raters(found: Agreement) -> None:
    from refbench.cli import show

    rows = []
    for one in found.raters:
        parts = (one.itself, one.others, one.score)
        rates = ["–" if rate.value is None else f"{100 * rate.value:.0f} ({rate.pairs})" for rate in parts]
        shares = [f"{100 * share:.0f}" for share in (one.ties, one.bad)]
        rows.append([one.name, str(one.votes), *shares, f"{one.seconds:.1f}", *rates])
    numbers = ["votes", "ties %", "bad %", "s", "itself", "others", "score"]
    show.table("Raters", ["", *numbers], rows, right=numbers, width=show.NARROW)
    show.line("itself, others, score: per cent that agree (of so many pairs that are no tie)")
