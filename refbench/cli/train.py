"""``refbench train``: a stage of OmniRefiner."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError, check_seed

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Stage(StrEnum):
    """What to train; each stage starts from the one before."""

    autoencoder = "autoencoder"
    aligner = "aligner"
    base = "base"
    sft = "sft"
    grpo = "grpo"
    stage1 = "stage1"
    all = "all"
    prepare = "prepare"
    export = "export"
    curves = "curves"


class Network(StrEnum):
    """What stage 1 trains."""

    streams = "streams"
    unet = "unet"


@app.command()
def train(
    stage: Annotated[
        Stage,
        typer.Argument(
            metavar="STAGE",
            help="A stage, or all; prepare makes a stage's data, export writes out saved state, curves draws a log.",
        ),
    ],
    config: Annotated[str, typer.Option("--config", help="tiny, flux-kontext, or a YAML file.")] = "tiny",
    assets: Annotated[Path, typer.Option("--assets", help="Folder made by `refbench tasks assets`.")] = Path(
        "training_assets"
    ),
    held_out: Annotated[Path | None, typer.Option("--held-out", help="The same of the validation split.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Working folder: state, logs, exported model.")] = Path(
        "runs/train"
    ),
    minutes: Annotated[float | None, typer.Option("--minutes", help="Time budget; the schedule ends with it.")] = None,
    device: o.Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the stage's saved state, or from its weights alone.")
    ] = False,
    init: Annotated[Path | None, typer.Option("--init", help="Checkpoint folder to start from.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and data.", callback=check_seed)] = 0,
    of: Annotated[
        Stage, typer.Option("--of", metavar="STAGE", help="For prepare, export and curves: the stage meant.")
    ] = Stage.sft,
    prepared: Annotated[
        Path | None,
        typer.Option("--prepared", help="Learn from data prepared in this folder; what is missing is made first."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Samples that are prepared; by default the configuration's number.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that prepare data; by default one a processor.")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option("--sources", help="For stage1: the folder of fetched sources; by default in refbench's cache."),
    ] = None,
    network: Annotated[Network, typer.Option("--network", help="For stage1: the method's, or its control.")] = (
        Network.streams
    ),
    without: Annotated[
        str,
        typer.Option("--without", metavar="LOSSES", help="For stage1: losses left out, by comma (ablation)."),
    ] = "",
    as_json: o.Json = False,
) -> None:
    """Train OmniRefiner: autoencoder, aligner, base editor, stage 1 (sft, or stage1 on suite scenes), stage 2 (grpo).

    Stop it as you like (Ctrl-C, SIGTERM): what it has is saved, and --resume goes on.
    Several GPUs: start it with `accelerate launch -m refbench train STAGE`.
    """
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.omnirefiner.training import checks
    from refbench.tasks.working import cores

    if stage is not Stage.curves:
        device = o.device(device)

    lines = show.Lines()
    if stage is Stage.curves:
        from refbench.report.learning import draw_curves

        made = draw_curves(out / of.value / "log.jsonl", out / f"{of.value}.png")
    elif stage is Stage.export:
        from refbench.omnirefiner.training.stages import export_state

        lines.tick(f"{of.value}: loading torch and the saved state")
        made = export_state(of.value, config, out, assets, device=device, seed=seed)
    elif Stage.stage1 in (stage, of if stage is Stage.prepare else None):
        with going_on():
            lines.note(f"stage1: {network.value} on {device}, in {out}; loading torch")
            from refbench.omnirefiner.retouch.training import run_stage1

            made = run_stage1(
                prepared, None if stage is Stage.prepare else out, sources=sources, samples=samples,
                workers=cores() if workers is None else workers, minutes=minutes, device=device, seed=seed,
                network=network.value, without=tuple(filter(None, without.split(","))), base=init, telling=lines,
                progress=lines.counted,
            )  # fmt: skip
    elif stage is Stage.all and minutes is None:
        raise RefbenchError("Expected a budget for all stages, but --minutes is missing; add e.g. --minutes 9.")
    elif stage is Stage.prepare and prepared is None:
        raise RefbenchError("Expected a folder for prepared data, but --prepared is missing; add --prepared FOLDER.")
    else:
        first = {Stage.all: "autoencoder", Stage.prepare: of.value}.get(stage, stage.value)
        data: dict[str, Any] = {
            "prepared": prepared,
            "samples": samples,
            "workers": cores() if workers is None else workers,
        }
        if stage is Stage.all:  # the later stages find what the earlier ones leave
            checks.check_training(
                first, config, assets=assets, out=out, held_out=held_out, minutes=minutes, device=device, seed=seed
            )
        else:
            checks.check_training(
                first, config, assets=assets, out=out, held_out=held_out, minutes=minutes, device=device,
                resume=resume, init=init, seed=seed, **data,
            )  # fmt: skip
        with going_on(*([] if stage is Stage.prepare else ["--resume"])):
            lines.note(f"{stage.value}: {config} on {device}, in {out}; loading torch")
            from refbench.omnirefiner.training import stages as room

            data["progress"] = lines.counted
            if stage is Stage.prepare:
                ready = room.prepare_stage(of.value, config, assets=assets, out=out, init=init, seed=seed, **data)
                made = ready.folder
            elif stage is Stage.all:
                assert minutes is not None
                made = room.train_all(
                    config, assets=assets, out=out, minutes=minutes, held_out=held_out, device=device, resume=resume,
                    seed=seed, telling=lines, **data,
                )  # fmt: skip
            else:
                made = room.train(
                    stage.value, config, assets=assets, out=out, held_out=held_out, minutes=minutes, device=device,
                    resume=resume, init=init, seed=seed, telling=lines, **data,
                )  # fmt: skip
    lines.close()
    if as_json:
        show.json_out({"stage": stage.value, "out": str(made)})
    else:
        show.line(made)
