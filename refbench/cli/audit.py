"""``refbench audit``: how each metric answers each kind of failure in rising strength."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def audit(
    suite: o.SuiteName = "core",
    limit: o.Limit = 24,
    device: o.Device = "cpu",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for audit.md and audit.csv.")] = None,
    as_json: o.Json = False,
) -> None:
    """Damage the targets of a suite in rising strengths and show which metric sees it, and which is blind or wrong.

    Beside it: the checks that each metric names itself, run here as refbench doctor runs them.
    """
    from refbench.cli import show
    from refbench.metrics.audit import audit_markdown, run_audit, write_audit
    from refbench.tasks.suite import load_suite

    found = load_suite(suite)
    source = f"the suite `{found.name}` ({found.hash[:12]}), {min(limit or len(found), len(found))} samples"
    table = run_audit(found, limit, o.device(device))
    if out is not None:
        for path in write_audit(table, out, source):
            show.note(f"written: {path}")
    if as_json:
        show.json_out(table.to_dict("records"))
    else:
        show.line(audit_markdown(table, source))
