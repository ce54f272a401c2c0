"""``refbench leaderboard``: render the board, add to it, or check that it is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=False)

BoardFolder = Annotated[Path, typer.Option("--board", help="The board's folder.")]
DEFAULT = Path("leaderboard")


@app.command()
def build(board: BoardFolder = DEFAULT) -> None:
    """Render README.md, index.html, board.csv, board.tex and board.json from the entries."""
    from refbench.cli import show
    from refbench.leaderboard.board import build as render

    for path in render(board):
        show.line(path)


@app.command()
def check(board: BoardFolder = DEFAULT) -> None:
    """Exit with 1 if a rendered file is not what the entries give."""
    from refbench.cli import show
    from refbench.leaderboard.board import stale

    old = stale(board)
    for name in old:
        show.note(f"out of date: {board / name}; run 'refbench leaderboard build'")
    raise typer.Exit(1 if old else 0)


@app.command()
def add(
    what: Annotated[list[Path], typer.Argument(metavar="RUN|ENTRY ...", help="Run folders of your own, or entries.")],
    board: BoardFolder = DEFAULT,
    submitter: Annotated[str, typer.Option("--by", help="For runs: person or group.")] = "refbench",
    name: Annotated[str | None, typer.Option("--name", help="For one run: name of the entry.")] = None,
    notes: Annotated[str, typer.Option("--notes", help="For runs: one line for the board.")] = "",
    outputs: Annotated[
        Path | None, typer.Option("--outputs", help="Folder or zip of the outputs of an entry that came without.")
    ] = None,
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="The suite, if it moved or is your own.")] = None,
    sample: Annotated[int, typer.Option("--sample", help="How many samples the model answers again.")] = 3,
    replace: Annotated[bool, typer.Option("--replace", help="In the place of an entry of the same name.")] = False,
    device: o.Device = "cpu",
    workers: o.Workers = 1,
) -> None:
    """Verify runs or entries, put those that are verified on the board, and render it."""
    from refbench.cli import show
    from refbench.leaderboard.board import add as put
    from refbench.leaderboard.board import build as render

    worst = 0
    for one in what:
        verdict = put(
            board,
            one,
            submitter=submitter,
            name=name,
            notes=notes,
            outputs=outputs,
            suite=suite,
            samples=sample,
            replace=replace,
            device=device,
            workers=workers,
        )
        show.note(verdict.text())
        worst = max(worst, verdict.exit_code)
    if worst == 0:
        for path in render(board):
            show.line(path)
    raise typer.Exit(worst)
