"""``refbench list``: what there is, as a table, or one of it in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from refbench.cli import completion
from refbench.cli import options as o
from refbench.errors import RefbenchError, unknown_name

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def listing(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="models, metrics or tasks.", autocompletion=lambda: ["models", "metrics", "tasks"]
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this one, in full.", autocompletion=completion.listed)
    ] = None,
    suite: o.SuiteName = "core",
    wide: o.Wide = False,
    as_json: o.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Models as the page docs/models.md.")] = False,
) -> None:
    """List models, metrics or the tasks of a suite; or say all about one, as in `refbench list model warp-blend`."""
    from refbench.cli import show
    from refbench.runs import catalogue

    kinds: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "models": catalogue.models,
        "metrics": catalogue.metrics,
        "tasks": lambda: catalogue.tasks(suite),
    }
    kind = what if what in kinds else f"{what}s"
    if kind not in kinds:
        raise unknown_name("list", what, kinds)
    if markdown:
        from refbench.adapters.page import models_page

        if kind != "models" or name is not None or as_json:
            raise RefbenchError("Expected --markdown with all models alone; `refbench list models --markdown`.")
        for row in models_page().splitlines():
            show.line(row)
        return
    if name is not None:
        facts = catalogue.one(kind, name, suite)
        if as_json:
            show.json_out(facts)
        else:
            show.card(name, catalogue.in_full(facts))
        return
    rows = kinds[kind]()
    if as_json:
        show.json_out(rows)
        return
    columns, cells = catalogue.table(kind, rows, wide=wide)
    title = f"Tasks of {suite}" if kind == "tasks" else kind.capitalize()
    show.table(title, columns, cells, width=None if wide else 80)
    missing = sum(row.get("ready", "yes") != "yes" for row in rows)
    if missing:
        show.line(f"{missing} of {len(rows)} are not ready here; 'refbench list {kind[:-1]} NAME' says what one needs.")
    if not wide:
        show.line("--wide shows all columns.")
