"""``refbench train``: a stage of OmniRefiner."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError, check_seed

if TYPE_CHECKING:
    from refbench.cli.show import Lines

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
    log: o.Log = None,
    as_json: o.Json = False,
) -> None:
    """Train OmniRefiner: autoencoder, aligner, base editor, stage 1 (sft, or stage1 on suite scenes), stage 2 (grpo).

    Stop it as you like (Ctrl-C, SIGTERM): what it has is saved, and --resume goes on.
    Several GPUs: start it with `accelerate launch -m refbench train STAGE`.
    """
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.omnirefiner.config import load_config
    from refbench.omnirefiner.training.checks import Job
    from refbench.tasks.working import cores
    from refbench.trackers import tracking

    lines, track = show.Lines(), tracking(log)
    if stage is Stage.curves:
        from refbench.report.learning import draw_curves

        made = draw_curves(out / of.value / "log.jsonl", out / f"{of.value}.png")
        return _told(stage, made, lines, as_json)
    device = o.device(device)
    workers = cores() if workers is None else workers
    meant = of if stage in (Stage.prepare, Stage.export) else stage
    if meant is Stage.stage1:
        with going_on():
            lines.note(f"stage1: {network.value} on {device}, in {out}; loading torch")
            from refbench.omnirefiner.retouch.training import run_stage1

            made = run_stage1(
                prepared, None if stage is Stage.prepare else out, sources=sources, samples=samples, workers=workers,
                minutes=minutes, device=device, seed=seed, network=network.value,
                without=tuple(filter(None, without.split(","))), base=init, telling=lines, progress=lines.counted,
                track=track,
            )  # fmt: skip
        return _told(stage, made, lines, as_json)
    if stage is Stage.all and minutes is None:
        raise RefbenchError("Expected a budget for all stages, but --minutes is missing; add e.g. --minutes 9.")
    if stage is Stage.prepare and prepared is None:
        raise RefbenchError("Expected a folder for prepared data, but --prepared is missing; add --prepared FOLDER.")
    job = Job(
        "autoencoder" if stage is Stage.all else meant.value, load_config(config), assets, out, held_out=held_out,
        minutes=minutes, device=device, resume=resume, init=init, seed=seed, prepared=prepared, samples=samples,
        workers=workers,
    )  # fmt: skip
    if stage is Stage.all:  # the later stages find what the earlier ones leave
        replace(job, prepared=None, resume=False).check()
    elif stage is not Stage.export:
        job.check()
    with going_on(*([] if stage in (Stage.prepare, Stage.export) else ["--resume"])):
        lines.note(f"{stage.value}: {config} on {device}, in {out}; loading torch")
        from refbench.omnirefiner.training import stages

        if stage is Stage.export:
            made = stages.export_state(job)
        elif stage is Stage.prepare:
            made = stages.prepare_stage(job, lines.counted).folder
        elif stage is Stage.all:
            made = stages.train_all(job, telling=lines, progress=lines.counted, track=track)
        else:
            made = stages.train(job, telling=lines, progress=lines.counted, track=track)
    _told(stage, made, lines, as_json)


def _told(stage: Stage, made: Path, lines: Lines, as_json: bool) -> None:
    from refbench.cli import show

    lines.close()
    if as_json:
        show.json_out({"stage": stage.value, "out": str(made)})
    else:
        show.line(made)
