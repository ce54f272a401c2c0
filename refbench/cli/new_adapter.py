"""``refbench new-adapter``: write the skeleton of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def new_adapter(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of your model, such as my-refiner.")],
    script: Annotated[
        bool, typer.Option("--script", help="A script with an environment of its own, instead of a class.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; by default my_refiner.py here.")] = None,
    as_json: o.Json = False,
) -> None:
    """Write an adapter that works as it stands; then put your model into it."""
    from refbench.adapters.scaffold import new_adapter as write
    from refbench.cli import show

    path = write(name, "script" if script else "class", out)
    if as_json:
        show.json_out({"adapter": str(path)})
    else:
        show.line(f"{path} is written. Try it: refbench check-adapter {path}")
