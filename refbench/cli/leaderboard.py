"""``refbench leaderboard``: render the board, add to it, or check that it is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(
    cls=o.Group, add_completion=False, rich_markup_mode=None, help="The board: its files, and its entries."
)

BoardFolder = Annotated[Path, typer.Option("--board", help="The board's folder.")]
DEFAULT = Path("leaderboard")


@app.command()
def build(board: BoardFolder = DEFAULT, as_json: o.Json = False) -> None:
    """Render README.md, index.html, board.csv, board.tex and board.json from the entries."""
    from refbench.cli import show
    from refbench.leaderboard.board import build as render

    written = [str(path) for path in render(board)]
    show.json_out({"board": str(board), "written": written}) if as_json else show.line("\n".join(written))


@app.command()
def check(board: BoardFolder = DEFAULT, as_json: o.Json = False) -> None:
    """Hold the rendered files against the entries; exit code 1 where one is out of date."""
    from refbench.cli import show
    from refbench.leaderboard.board import stale

    old = stale(board)
    if as_json:
        show.json_out({"board": str(board), "out_of_date": old})
    for name in () if as_json else old:
        show.note(f"out of date: {board / name}; run 'refbench leaderboard build'")
    raise typer.Exit(1 if old else 0)


@app.command()
def add(
    what: Annotated[list[Path], typer.Argument(metavar="RUN|ENTRY", help="Run folders of your own, or entries.")],
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
    as_json: o.Json = False,
) -> None:
    """Verify runs or entries, put those that are verified on the board, and render it."""
    from refbench.cli import show
    from refbench.leaderboard.board import add as put
    from refbench.leaderboard.board import build as render

    verdicts = []
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
            device=o.device(device),
            workers=workers,
        )
        verdicts.append(verdict)
        if not as_json:
            show.note(verdict.text())
    worst = max(verdict.exit_code for verdict in verdicts)
    written = [] if worst else [str(path) for path in render(board)]
    if as_json:
        found = [verdict.model_dump(mode="json") for verdict in verdicts]
        show.json_out({"board": str(board), "verdicts": found, "written": written})
    else:
        for path in written:
            show.line(path)
    raise typer.Exit(worst)
