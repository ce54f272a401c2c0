"""``refbench protocol``: the columns of another paper's table, for runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import completion
from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def protocol(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="refineeval, fidelitybench or hifi-inpaint.", autocompletion=completion.protocols
        ),
    ],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")],
    suite: o.MovedSuite = None,
    device: Annotated[str | None, typer.Option("--device", help="Where networks run; by default as the run.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's own numbers.")] = False,
    as_json: o.Json = False,
) -> None:
    """Print the columns of a published protocol for runs; what is missing is measured first."""
    from refbench.cache import cache_folder
    from refbench.cli import show
    from refbench.runs.protocols import apply_protocol

    device = device and o.device(device)
    rows = [apply_protocol(name, run, suite=suite, device=device, cache=cache_folder()) for run in runs]
    if as_json:
        show.json_out([row.to_json() for row in rows])
    else:
        show.protocol(rows, published)
