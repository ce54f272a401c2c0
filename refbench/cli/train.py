"""``refbench train``: a stage of OmniRefiner."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Stage(StrEnum):
    """What to train; each stage starts from the one before."""

    autoencoder = "autoencoder"
    aligner = "aligner"
    base = "base"
    sft = "sft"
    grpo = "grpo"
    all = "all"
    export = "export"
    curves = "curves"


@app.command()
def train(
    stage: Annotated[Stage, typer.Argument(help="A stage, or all; export writes out saved state, curves draws a log.")],
    config: Annotated[str, typer.Option("--config", help="tiny, flux-kontext, or a YAML file.")] = "tiny",
    assets: Annotated[Path, typer.Option("--assets", help="Folder made by `refbench tasks assets`.")] = Path(
        "training_assets"
    ),
    held_out: Annotated[Path | None, typer.Option("--held-out", help="The same of the validation split.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Working folder: state, logs, exported model.")] = Path(
        "runs/train"
    ),
    minutes: Annotated[float | None, typer.Option("--minutes", help="Time budget; the schedule ends with it.")] = None,
    device: o.Device = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the stage's saved state, or from its weights alone.")
    ] = False,
    init: Annotated[Path | None, typer.Option("--init", help="Checkpoint folder to start from.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and data.")] = 0,
    of: Annotated[Stage, typer.Option("--of", help="For export and curves: the stage meant.")] = Stage.sft,
    as_json: o.Json = False,
) -> None:
    """Train OmniRefiner: autoencoder, aligner, base editor, stage 1 (sft), stage 2 (grpo).

    Stop it as you like; --resume goes on. Several GPUs: start it with `accelerate launch -m refbench train ...`.
    """
    from refbench.cli import show
    from refbench.omnirefiner import train as room

    if stage is Stage.curves:
        from refbench.report.learning import draw_curves

        made = draw_curves(out / of.value / "log.jsonl", out / f"{of.value}.png")
    elif stage is Stage.export:
        made = room.export_state(of.value, config, out, assets, device=device, seed=seed)
    elif stage is Stage.all:
        if minutes is None:
            raise RefbenchError("Expected a budget for all stages, but --minutes is missing; add e.g. --minutes 9.")
        made = room.train_all(
            config, assets=assets, out=out, minutes=minutes, held_out=held_out, device=device, seed=seed
        )
    else:
        made = room.train(
            stage.value, config, assets=assets, out=out, held_out=held_out, minutes=minutes, device=device,
            resume=resume, init=init, seed=seed,
        )  # fmt: skip
    if as_json:
        show.json_out({"stage": stage.value, "out": str(made)})
    else:
        show.line(made)
