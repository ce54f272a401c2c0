"""``refbench pull``: a run, an entry or a suite from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(metavar="ID", help="The dataset, OWNER/NAME.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for it.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, branch or tag; else the newest.")] = None,
    as_json: o.Json = False,
) -> None:
    """Fetch what `refbench push` put on the Hugging Face hub; a run is a run again, to the bit.

    Stop it and start it again as you like. Compare a run, verify an entry, evaluate on a suite.
    """
    from refbench.cli import show
    from refbench.places import hub

    kind = hub.pull(repo, out, revision=revision)
    if as_json:
        show.json_out({"kind": kind, "repo": repo, "out": str(out)})
        return
    show.line(out)
    then = {"run": f"compare {out} OTHER_RUN", "entry": f"verify {out}", "suite": f"eval --model MODEL --suite {out}"}
    show.note(f"It is a{'n' if kind == 'entry' else ''} {kind}: refbench {then[kind]}")
