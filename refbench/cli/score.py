"""``refbench score``: folders of pictures in, a table and a paired comparison out."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def score(
    outputs: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Pictures named by sample id; several are compared.")
    ],
    suite: o.SuiteName = "core",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Keep the run here (of several folders, a run folder for each); else it is not kept."
        ),
    ] = None,
    tasks: o.Tasks = None,
    limit: o.Limit = None,
    metrics: o.Metrics = None,
    device: o.Device = "auto",
    workers: o.Workers = 1,
    overwrite: o.Overwrite = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Compare by category, task, mode and metric.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Score pictures that were made elsewhere: a table for each folder, and of several who is better in what.

    A folder holds the pictures flat or a folder a task, as PNG, JPEG, WebP, TIFF or the like; what belongs to no
    sample is listed, and a sample without a picture counts as the draft. With --out a stopped run is gone on with.
    """
    from refbench.cli import show
    from refbench.results.resultset import compare_runs
    from refbench.runs.scoring import score_folders

    device = o.device(device)
    with contextlib.ExitStack() as stack:
        place = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refbench-score-")))
        found = score_folders(
            outputs,
            suite,
            place if out or len(outputs) > 1 else place / "run",
            tasks=o.names(tasks),
            limit=limit,
            metrics=o.names(metrics),
            device=device,
            workers=workers,
            overwrite=overwrite,
            progress=True,
        )
        compared = compare_runs([one.folder for one in found], suite=suite) if len(found) > 1 else None
        if as_json:
            rows = [{**one.to_json(), **({} if out else {"run": None})} for one in found]
            show.json_out(
                rows[0] if compared is None else {"runs": rows, "comparison": compared.model_dump(mode="json")}
            )
        else:
            for one in found:
                show.result(one, kept=out is not None)
            if compared is not None:
                from refbench.cli.compare import print_comparison

                print_comparison(compared, verbose=verbose)
    raise typer.Exit(1 if any(one.failed for one in found) else 0)
