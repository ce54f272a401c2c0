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

    stage1 = "stage1"
    stage2 = "stage2"
    autoencoder = "autoencoder"
    base = "base"
    sft = "sft"
    grpo = "grpo"
    all = "all"
    prepare = "prepare"
    export = "export"
    curves = "curves"


RETOUCH = (Stage.stage1, Stage.stage2, Stage.prepare)
"""Stages of the shipped network, which learn on scenes made of `--sources`."""


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
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Folder of weights to start from; for stage1 --network streams its base editor."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and data.", callback=check_seed)] = 0,
    of: Annotated[Stage, typer.Option("--of", metavar="STAGE", help="For export and curves: the stage meant.")] = (
        Stage.sft
    ),
    sources: Annotated[
        Path | None,
        typer.Option("--sources", help="For scenes: the folder of fetched sources; by default in refbench's cache."),
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="Folder of scenes; what is missing is made first.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Scenes that have to be there; by default 20000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that make scenes; by default one a processor.")
    ] = None,
    network: Annotated[Network, typer.Option("--network", help="For stage1.")] = Network.unet,
    without: Annotated[
        str,
        typer.Option("--without", metavar="LOSSES", help="For stage1: losses left out, by comma (ablation)."),
    ] = "",
    constant: Annotated[
        bool, typer.Option("--constant", help="For stage2: eight numbers for all places instead (control).")
    ] = False,
    log: o.Log = None,
    as_json: o.Json = False,
) -> None:
    """Train OmniRefiner: stage1 and stage2 of the shipped network, or the paper's way (autoencoder, base, sft, grpo).

    Stop it as you like (Ctrl-C, SIGTERM): what it has is saved; the same command goes on, with --resume in the paper's
    stages. Several GPUs: start it with `accelerate launch -m refbench train STAGE`.
    """
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.trackers import tracking

    lines, track = show.Lines(), tracking(log)
    if stage is Stage.curves:
        from refbench.report.learning import draw_curves

        folder = network.value if of is Stage.stage1 else of.value
        made = draw_curves(out / folder / "log.jsonl", out / f"{of.value}.png")
        return _told(stage, made, lines, as_json)
    device = o.device(device)
    if stage is Stage.export and of in RETOUCH:
        from refbench.omnirefiner.training.checks import export_saved

        return _told(stage, export_saved(out, of.value, network.value), lines, as_json)
    if stage in RETOUCH:
        from refbench.omnirefiner.training.checks import check_stage1, check_stage2
        from refbench.tasks.working import cores

        off = tuple(filter(None, without.split(",")))
        if stage is Stage.stage1:
            check_stage1(out, minutes, network.value, init, off, seed)
        elif stage is Stage.stage2:
            check_stage2(out, minutes, init, constant, seed)
        with going_on():
            lines.note(f"{stage.value}: on {device}, in {out}; loading torch")
            from refbench.omnirefiner.retouch.exploring import run_stage2
            from refbench.omnirefiner.retouch.training import Scenes, run_stage1

            scenes = Scenes(prepared, sources, samples, cores() if workers is None else workers, seed, lines.counted)
            if stage is Stage.prepare:
                made = scenes.open()
            elif stage is Stage.stage2:
                made = run_stage2(
                    scenes, out, minutes, stage1=init, constant=constant, device=device, telling=lines, track=track
                )
            else:
                made = run_stage1(
                    scenes, out, minutes, network=network.value, init=init, device=device, telling=lines, track=track,
                    without=off,
                )  # fmt: skip
        return _told(stage, made, lines, as_json)
    if stage is Stage.all and minutes is None:
        raise RefbenchError("Expected a budget for all stages, but --minutes is missing; add e.g. --minutes 9.")
    from refbench.omnirefiner.config import load_config
    from refbench.omnirefiner.training.checks import Job

    meant = of if stage is Stage.export else stage
    job = Job(
        "autoencoder" if stage is Stage.all else meant.value, load_config(config), assets, out, held_out=held_out,
        minutes=minutes, device=device, resume=resume, init=init, seed=seed,
    )  # fmt: skip
    if stage is Stage.all:  # the later stages find what the earlier ones leave
        replace(job, resume=False).check()
    elif stage is not Stage.export:
        job.check()
    with going_on(*([] if stage is Stage.export else ["--resume"])):
        lines.note(f"{stage.value}: {config} on {device}, in {out}; loading torch")
        from refbench.omnirefiner.training import stages

        if stage is Stage.export:
            made = stages.export_state(job)
        elif stage is Stage.all:
            made = stages.train_all(job, telling=lines, track=track)
        else:
            made = stages.train(job, telling=lines, track=track)
    _told(stage, made, lines, as_json)


def _told(stage: Stage, made: Path, lines: Lines, as_json: bool) -> None:
    from refbench.cli import show

    lines.close()
    if as_json:
        show.json_out({"stage": stage.value, "out": str(made)})
    else:
        show.line(made)
