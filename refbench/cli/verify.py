"""``refbench verify``: recompute an entry's claims from its images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def verify(
    entry: Annotated[Path, typer.Argument(metavar="ENTRY", help="An entry: folder or zip.")],
    outputs: Annotated[
        Path | None, typer.Option("--outputs", help="Folder or zip of the outputs, for an entry that came without.")
    ] = None,
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="The suite, if it is one of your own.")] = None,
    sample: Annotated[int, typer.Option("--sample", help="How many samples the model answers again.")] = 3,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="The model's file; foreign code, run without network.")
    ] = None,
    on_board: Annotated[
        bool, typer.Option("--on-board", help="The entry has been accepted: allow the verdict.json beside it.")
    ] = False,
    comment: Annotated[Path | None, typer.Option("--comment", help="Also write the summary as Markdown.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write verdict.json into this folder.")] = None,
    device: o.Device = "cpu",
    workers: o.Workers = 1,
    timeout: o.Timeout = 600.0,
    as_json: o.Json = False,
) -> None:
    """Verify an entry: open it safely, recompute every score and claim, let the model answer some samples again.

    Exit codes: 0 verified, 1 the numbers differ, 2 refused or not verifiable here.
    """
    from refbench.cli import show
    from refbench.images import write_atomic
    from refbench.leaderboard.verify import verify as check
    from refbench.leaderboard.verify import write_verdict
    from refbench.runs.progress import Bar

    with Bar() as bar:
        verdict = check(
            entry,
            outputs=outputs,
            suite=suite,
            samples=sample,
            adapter=adapter,
            device=o.device(device),
            workers=workers,
            timeout_s=timeout,
            on_board=on_board,
            progress=bar,
        )
    if as_json:
        show.json_out(verdict.model_dump(mode="json"))
    else:
        show.line(verdict.text())
    if comment is not None:
        write_atomic(comment, verdict.comment().encode())
    if out is not None:
        write_verdict(verdict, out)
    raise typer.Exit(verdict.exit_code)
