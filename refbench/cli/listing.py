"""``refbench list``: what there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class What(StrEnum):
    """What can be listed."""

    models = "models"
    tasks = "tasks"
    metrics = "metrics"


@app.command()
def listing(
    what: Annotated[What, typer.Argument(help="models, tasks or metrics")],
    suite: o.SuiteName = "core",
    as_json: o.Json = False,
) -> None:
    """List models, the tasks of a suite, or metrics with their cards."""
    from refbench.cli import show
    from refbench.runs import catalogue

    if what is What.models:
        title, rows = "Models", catalogue.models()
        columns, cells, below = catalogue.model_table(rows)
    elif what is What.tasks:
        title, rows = f"Tasks of {suite}", catalogue.tasks(suite)
        columns = ["task", "samples", "category", "mode", "true views", "sources", "mask share"]
    else:
        title, rows = "Metrics", catalogue.metrics()
        columns = ["name", "axis", "region", "better", "range", "definition", "backend", "scored", "card", "ready here"]
        for row in rows:
            row["ready here"] = row["ready"].partition(":")[0]
    if what is not What.models:
        below = [f"{row['name']}: it {row['ready'][4:]}" for row in rows if row.get("ready", "yes") != "yes"]
        cells = [[str(row[column]) for column in columns] for row in rows]
    if as_json:
        show.json_out([{key: value for key, value in row.items() if key != "ready here"} for row in rows])
    else:
        show.table(title, columns, cells)
        if below:
            show.line("\n".join(below))
