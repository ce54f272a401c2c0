"""``refbench submit``: pack a run as an entry for the board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def submit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run over a whole suite.")],
    to: Annotated[Path, typer.Option("--to", help="Folder that will hold the entry.")],
    submitter: Annotated[str, typer.Option("--by", help="Person or group, as it shall stand on the board.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the entry; by default the model's.")] = None,
    contact: Annotated[str, typer.Option("--contact", help="How to reach you; public.")] = "",
    notes: Annotated[str, typer.Option("--notes", help="One line for the board.")] = "",
    outputs_url: Annotated[
        str | None, typer.Option("--outputs-url", help="https address where the zip of the outputs will be.")
    ] = None,
    suite: o.MovedSuite = None,
    archive: Annotated[bool, typer.Option("--archive", help="Also write <name>-outputs.zip for upload.")] = False,
    as_json: o.Json = False,
) -> None:
    """Pack outputs, manifest, scores and claims of a run, sealed by content hashes.

    Nothing is changed in the run. Check the result with `refbench verify` before you open a pull request.
    """
    from refbench.cli import show
    from refbench.leaderboard import submission

    entry = submission.submit(
        run,
        to,
        submitter=submitter,
        name=name,
        contact=contact,
        notes=notes,
        outputs_url=outputs_url,
        suite=suite,
        archive=archive,
    )
    if as_json:
        show.json_out({"entry": str(entry), "outputs": str(to / f"{entry.name}-outputs.zip") if archive else None})
    else:
        show.line(entry)
        show.note(f"Now check it: refbench verify {entry}")
