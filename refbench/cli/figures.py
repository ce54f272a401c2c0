"""``refbench figures``: figures and LaTeX tables for a paper, from runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import completion
from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for pair in given or ():
        label, equals, value = pair.partition("=")
        if not equals or not label.strip() or not value.strip():
            raise RefbenchError(
                f"Expected {option} LABEL=VALUE, but '{pair}' came; write e.g. {option} SFT=omnirefiner-sft."
            )
        found[label.strip()] = value.strip()
    return found


@app.command()
def figures(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Measured run folders of one suite.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    style: Annotated[
        str, typer.Option("--style", metavar="STYLE", help="neurips, cvpr or slides.", autocompletion=completion.styles)
    ] = "neurips",
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="KINDS", help="Only these kinds, with commas.", autocompletion=completion.figures
        ),
    ] = None,
    focus: Annotated[
        str | None, typer.Option("--focus", help="Model whose best, median and worst are shown; else the first run.")
    ] = None,
    samples: Annotated[str | None, typer.Option("--samples", help="Show these samples instead, with commas.")] = None,
    models: Annotated[str | None, typer.Option("--models", help="Columns of the grid, with commas.")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="LABEL=MODEL", help="Stage of the ablation; repeat in order."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="LABEL=LOG", help="Training log (log.jsonl) of a stage; may be repeated."),
    ] = None,
    curves: Annotated[str | None, typer.Option("--curves", help="Logged values to draw, with commas.")] = None,
    audit: Annotated[Path | None, typer.Option("--audit", help="audit.csv of 'refbench audit --out'.")] = None,
    suite: o.MovedSuite = None,
    as_json: o.Json = False,
) -> None:
    """Draw figures for a paper: PDF, PNG, the CSV behind each and LaTeX to include it, and LaTeX tables.

    Kinds: qualitative, qualitative_categories, qualitative_all, axes, categories, wins, cost, ablation, correlation,
    audit, tables.
    """
    from refbench.cli import show
    from refbench.report.figures import make_figures

    made = make_figures(
        runs,
        out,
        style,
        only=o.names(only),
        focus=focus,
        samples=o.names(samples),
        models=o.names(models),
        stages=_pairs(stage, "--stage"),
        logs=_pairs(log, "--log"),
        curves=o.names(curves),
        audit=audit,
        suite=suite,
    )
    if as_json:
        files = [str(file) for file in made.files]
        show.json_out({"out": str(made.out), "files": files, "skipped": dict(made.skipped), "lacking": made.lacking})
        return
    for path in made.files:
        show.line(path)
    for kind, why in made.skipped.items():
        show.note(f"left out: {kind}: {why}")
    if made.lacking:
        show.note(f"spelt out, as no font here has them: {made.lacking} (install one that does, e.g. Noto Sans CJK)")
