"""``refbench arena``: ask people, or a model that judges, which of two results is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def arena(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Two or more run folders of one suite.")],
    pairs: Annotated[
        int | None, typer.Option("--pairs", help="So many for each rater; by default all there are.")
    ] = None,
    raters: Annotated[
        str | None, typer.Option("--raters", metavar="NAMES", help="Who votes, with commas; else the page asks.")
    ] = None,
    votes: Annotated[Path, typer.Option("--votes", help="File that votes are appended to.")] = Path("votes.jsonl"),
    target: Annotated[bool, typer.Option("--target", help="Show the target too; by default it is held back.")] = False,
    seed: o.Seed = 0,
    suite: o.MovedSuite = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 0,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="URL", help="Ask a model at this address, ending in /v1, instead.")
    ] = None,
    judge_model: o.JudgeModel = None,
) -> None:
    """Show draft, reference and two results side by side, blind, and keep which is better.

    Serves a page for a browser on this machine and prints its address; Ctrl-C ends it. Each pair is the one whose vote
    tells most. Votes are on the disk when the next pair comes; started again, the command goes on after them. With
    --judge a vision-language model votes on --pairs pairs in place of people. 'refbench agreement' says what the votes
    mean.
    """
    from refbench.cli import show
    from refbench.people.arena import Arena, open_contest
    from refbench.people.votes import VoteFile

    if (judge is None) != (judge_model is None):
        raise RefbenchError("Expected --judge and --judge-model together, but only one of them came.")
    if judge is not None and (pairs is None or raters is not None):
        raise RefbenchError("Expected --pairs and no --raters with --judge, so that it is known what will be asked.")
    contest = open_contest(runs, suite)
    file = VoteFile(votes)
    try:
        asks = Arena(contest, file, seed=seed, most=pairs, target=target)
        if judge is not None and judge_model is not None:
            from refbench.cache import cache_folder
            from refbench.people.judged import let_vote
            from refbench.runs.judging import Judge
            from refbench.runs.progress import Bar

            with Bar() as bar:
                told = let_vote(asks, Judge(judge, judge_model, seed=seed), cache=cache_folder(), progress=bar)
            refused = f", {told.refused} refused" if told.refused else ""
            show.line(f"{told.rater}: {told.given} votes in {votes}{refused}")
        else:
            from refbench.people.page import serve_arena

            show.note(f"Votes go to {votes}; Ctrl-C ends it.")
            serve_arena(asks, o.names(raters) or [], host=host, port=port, announce=show.line)
            show.note(f"Say what they mean with: refbench agreement {votes} {' '.join(map(str, runs))}")
    finally:
        file.close()
