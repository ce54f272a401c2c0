"""``refbench report``: a static page that shows every sample of one or more runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Measured run folders of one suite.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html and its pictures.")],
    single_file: Annotated[bool, typer.Option("--single-file", help="Put the pictures into the page.")] = False,
    title: Annotated[str | None, typer.Option("--title", help="Title of the page.")] = None,
    suite: o.MovedSuite = None,
    as_json: o.Json = False,
) -> None:
    """Write a page that opens from disk with no network: results, filters, and every sample to look at closely."""
    from refbench.cli import show
    from refbench.report.viewer import build_report
    from refbench.runs.progress import Bar

    with Bar() as bar:
        page = build_report(runs, out, single_file=single_file, title=title, suite=suite, progress=bar)
    if as_json:
        show.json_out({"index": str(page.index), "samples": page.samples, "runs": page.runs, "bytes": page.size})
    else:
        show.line(f"{page.index} (samples: {page.samples}, runs: {page.runs}, {page.size / 1e6:.1f} MB)")
