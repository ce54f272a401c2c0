"""``refbench doctor``: is every metric, here and now, the number that its card defines?"""

from __future__ import annotations

from typing import Annotated

import typer

from refbench.cli import completion
from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", metavar="METRICS", help="Only these, with commas.", autocompletion=completion.metrics
        ),
    ] = None,
    device: o.Device = "cpu",
    as_json: o.Json = False,
) -> None:
    """Check every metric against closed forms and a second library, and what it says is perfect or symmetric.

    Exit code 1 where one differs.
    """
    from refbench.cli import show
    from refbench.metrics.doctor import run_doctor
    from refbench.runs.health import check_row, summary_of

    checks = run_doctor(o.names(metrics), o.device(device))
    found = summary_of(checks)
    if as_json:
        show.json_out({**found, "checks": [check_row(check) for check in checks]})
    else:
        words = {True: "pass", False: "FAIL", None: "skip"}
        rows = [
            [
                words[c.passed],
                c.metric,
                c.name,
                *([f"{c.expected:.6g}", f"{c.found:.6g}", f"{c.difference:.1e}"] if c.passed is not None else [""] * 3),
                c.note,
            ]
            for c in checks
        ]
        columns = ["", "metric", "held against", "expected", "found", "difference", "note"]
        show.table("Doctor", columns, rows, right=["expected", "found", "difference"])
        show.line(f"{found['passed']} passed, {found['failed']} failed, {found['skipped']} skipped")
    raise typer.Exit(1 if found["failed"] else 0)
