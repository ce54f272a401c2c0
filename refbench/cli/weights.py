"""``refbench weights``: the files that learned metrics and models need."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from refbench.cli import completion
from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(cls=o.Group, add_completion=False, rich_markup_mode=None)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="As `refbench weights list` shows them.", autocompletion=completion.weights),
]


@app.callback()
def weights() -> None:
    """Weight files: which there are, get them, check them, find them."""


@app.command("list")
def listing(wide: o.Wide = False, as_json: o.Json = False) -> None:
    """List every weight file: what for, how large, under which licence, whether it is here; --wide: source, hash."""
    from refbench.cli import show
    from refbench.weights import CATALOGUE
    from refbench.weights.listing import row

    rows = [row(name) for name in CATALOGUE]
    if as_json:
        show.json_out(rows)
        return
    columns = ["name", "here", "MB", "for", "licence", *(["source", "SHA-256"] if wide else [])]
    cells = [[str(r[column]) for column in columns] for r in rows]
    show.table("Weights", columns, cells, right=["MB"], width=None if wide else 80)
    if not wide:
        show.line("--wide shows where each comes from, and its hash.")


@app.command()
def fetch(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can be downloaded.")] = False,
    no_network: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
    as_json: o.Json = False,
) -> None:
    """Download files, check them, and put them where metrics and other tools find them."""
    from refbench.cli import show
    from refbench.weights import CATALOGUE, Own, entry
    from refbench.weights import fetch as bring

    if bool(names) == everything:
        raise RefbenchError("Expected the names of weight files or --all; see 'refbench weights list'.")
    chosen = names or [name for name, one in CATALOGUE.items() if not isinstance(one.source, Own)]
    for one in map(entry, chosen):  # a misspelt name is told before the first download
        if one.restricted:
            show.note(f"{one.name}: licence {one.licence}; read it before you use this file.")
    found = []
    for name in chosen:
        path = bring(name, progress=show.download(name), allow_network=False if no_network else None)
        found.append({"name": name, "path": str(path)})
        if not as_json:
            show.note(f"{name}: {path}")
    if as_json:
        show.json_out(found)


@app.command()
def verify(
    names: Names = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read the files again though they have not changed.")] = False,
    as_json: o.Json = False,
) -> None:
    """Check the files that are here; exit code 1 where one is wrong or truncated, or is named and missing."""
    from refbench.cli import show
    from refbench.weights import CATALOGUE
    from refbench.weights import verify as check

    verdicts = [check(name, fresh=fresh) for name in (names or CATALOGUE)]
    rows: list[dict[str, Any]] = [
        {"name": v.name, "status": v.status, "path": v.path and os.fspath(v.path), "sha256": v.sha256, "why": v.why}
        for v in verdicts
    ]
    if as_json:
        show.json_out(rows)
    else:
        columns = ["name", "status", "path", "why"]
        show.table("Weights", columns, [[str(r[column] or "") for column in columns] for r in rows], width=80)
    bad = [v for v in verdicts if not v.good and (v.status != "missing" or names)]
    raise typer.Exit(1 if bad else 0)


@app.command()
def where(names: Names = None, as_json: o.Json = False) -> None:
    """Print where files lie, one a line; exit code 1 where one is not here."""
    from refbench.cli import show
    from refbench.weights import CATALOGUE, locate

    found = {name: locate(name) for name in (names or CATALOGUE)}
    if as_json:
        show.json_out({name: path and os.fspath(path) for name, path in found.items()})
    else:
        for name, path in found.items():
            show.line(f"{name}\t{path if path is not None else '(not here)'}")
    raise typer.Exit(1 if names and None in found.values() else 0)
