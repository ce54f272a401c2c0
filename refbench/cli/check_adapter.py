"""``refbench check-adapter``: try an adapter on tiny samples before a whole run."""

from __future__ import annotations

from typing import Annotated

import typer

from refbench.cli import completion
from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def check_adapter(
    path: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name, file.py, file.py:Class or folder of PNGs.", autocompletion=completion.models
        ),
    ],
    device: o.Device = "auto",
    timeout: o.Timeout = 300.0,
    option: o.AdapterOptions = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="18 pictures in place of 48: for a model of minutes a picture.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Try an adapter on small samples: what passes, is skipped, fails. Exit code 1 where something fails."""
    import dataclasses

    from refbench.adapters.selftest import check_adapter as check
    from refbench.adapters.spec import resolve
    from refbench.cli import show

    resolve(path)  # nothing there is wrong input, not a failed check
    checks = check(path, device=o.device(device), options=o.adapter_options(option), timeout_s=timeout, quick=quick)
    failed = sum(one.status == "fail" for one in checks)
    if as_json:
        show.json_out({"adapter": path, "failed": failed, "checks": [dataclasses.asdict(one) for one in checks]})
    else:
        show.table(
            f"Self-test of {path}",
            ["", "check", "what was seen"],
            [[c.status, c.name, c.detail] for c in checks],
            width=80,
        )
        show.line(f"{len(checks) - failed} of {len(checks)} without a fault" if failed else "Ready to be evaluated.")
    raise typer.Exit(1 if failed else 0)
