"""``refbench push``: a run, an entry or a suite as a dataset of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def push(
    what: Annotated[
        str, typer.Argument(metavar="RUN|ENTRY|SUITE", help="A measured run, an entry, or a suite's folder.")
    ],
    repo: Annotated[str, typer.Option("--repo", metavar="ID", help="The dataset, OWNER/NAME; made where it lacks.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="A model's repository that gets its results as well.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", metavar="ID", help="With --model: the dataset of the suite.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FOLDER", help="Only write there what would be committed.")
    ] = None,
    suite: o.MovedSuite = None,
    as_json: o.Json = False,
) -> None:
    """Put a run, an entry or a suite on the Hugging Face hub as a dataset with a card.

    Log in once with `hf auth login`. No folder of this machine and no raw answer of a web service is sent.
    With --model the score and axes go into .eval_results of a model's repository, as a pull request.
    """
    from refbench.cli import show
    from refbench.places import hub

    if write is not None:
        if model is not None and benchmark is None:
            raise RefbenchError("Expected --benchmark with --model; give both.")
        made = hub.write(what, repo, write, suite=suite, benchmark=benchmark)
        found = {"kind": made.kind, "repo": repo, "written": str(write), "files": len(made.files)}
        show.json_out(found) if as_json else show.line(write)
        return
    show.note(f"{what} goes to {repo}")
    pushed = hub.push(what, repo, private=private, suite=suite, model=model, benchmark=benchmark)
    if as_json:
        urls = {"url": pushed.url, "model_url": pushed.model_url}
        show.json_out({"kind": pushed.kind, "repo": repo, "files": pushed.files, **urls})
    else:
        for url in filter(None, (pushed.url, pushed.model_url)):
            show.line(url)
