"""``refbench measure``: a run again, or one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refbench.cli import completion
from refbench.cli import options as o
from refbench.cli.side_metrics import SideMetrics
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def measure(
    what: Annotated[str, typer.Argument(metavar="RUN|OUTPUT", help="A run folder or address, or one refined image.")],
    target: Annotated[Path | None, typer.Option("--target", "-t", help="The truth of the image.")] = None,
    reference: Annotated[Path | None, typer.Option("--reference", "-r", help="The reference it was made from.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Black and white; white was to be put right.")] = None,
    draft: Annotated[Path | None, typer.Option("--draft", help="The draft it was made from.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="METRICS",
            help="Only these, with commas; 'learned' for all that need weights.",
            autocompletion=completion.metrics,
        ),
    ] = None,
    suite: o.MovedSuite = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Where learned metrics run; auto, or of a run by default its own.")
    ] = None,
    workers: o.Workers = 1,
    executor: o.Executor = "local",
    gpus_per_worker: o.GpusPerWorker = None,
    address: o.Address = None,
    executor_option: o.ExecutorOptions = None,
    protocol: o.Protocol = None,
    judge: o.Judge = None,
    judge_model: o.JudgeModel = None,
    judge_votes: o.JudgeVotes = 3,
    as_json: o.Json = False,
) -> None:
    """Measure a run again (nothing is generated), or one image beside its target.

    Without --mask the region is the full frame. In JSON, "value" is null where it is infinite (PSNR of equal images).
    """
    device = device and o.device(device, executor)
    if target is None:
        given = {"--reference": reference, "--mask": mask, "--draft": draft}
        if Path(what).is_file() or any(given.values()):
            raise RefbenchError(
                f"Expected --target, the true image to compare {what} with, but it is not given; add --target FILE."
            )
        beside = SideMetrics(protocol, judge, judge_model, judge_votes, suite, device)
        options = o.executor_options(executor_option)
        spread = {"workers": workers, "executor": executor, "gpus_per_worker": gpus_per_worker, "address": address}
        _run(what, metrics, suite, device, {**spread, "options": options}, as_json, beside)
    else:
        of_runs = {"--suite": suite, "--protocol": protocol, "--judge": judge}
        for option in (name for name, value in of_runs.items() if value is not None):
            raise RefbenchError(f"Expected {option} with a run, but {what} is one image; leave {option} out.")
        _image(Path(what), target, reference, mask, draft, metrics, device or o.device("auto"), as_json)


def _run(
    run: str,
    metrics: str | None,
    suite: str | None,
    device: str | None,
    spread: dict[str, Any],
    as_json: bool,
    beside: SideMetrics,
) -> None:
    from refbench.cli import show
    from refbench.runs.api import score
    from refbench.runs.executors.contract import Placement

    found = score(
        run, suite=suite, metrics=o.names(metrics), device=device, placement=Placement(**spread), progress=True
    )
    if not found.fresh:
        show.note(f"Nothing to do: {found.folder} is measured.")
    extra = beside.measured(found.folder)
    if as_json:
        show.json_out({**found.to_json(), **extra})
    else:
        show.result(found)
        beside.show()
    raise typer.Exit(1 if found.failed else 0)


def _image(
    output: Path,
    target: Path,
    reference: Path | None,
    mask: Path | None,
    draft: Path | None,
    metrics: str | None,
    device: str,
    as_json: bool,
) -> None:
    from refbench.cli import show
    from refbench.runs.api import measure

    scores = measure(output, target, reference, mask, draft, o.names(metrics), device=device)
    if as_json:
        show.json_out(
            {
                "metrics": [
                    {
                        "name": score.metric,
                        "axis": score.axis,
                        "region": score.region,
                        "value": score.value,
                        "higher_is_better": score.higher_is_better,
                        "card": score.card,
                    }
                    for score in scores
                ]
            }
        )
        return
    rows = [
        [
            s.metric,
            show.TITLES.get(s.axis, s.axis),
            s.region,
            f"{s.value:.6g}",
            "higher" if s.higher_is_better else "lower",
            s.card,
        ]
        for s in scores
    ]
    columns = ["metric", "axis", "region", "value", "better", "card"]
    show.table(str(output), columns, rows, right=["value"], width=show.NARROW)
