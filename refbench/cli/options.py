"""Options that several verbs share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from refbench.cli import completion
from refbench.errors import RefbenchError, check_seed, check_timeout

Models = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Name, file.py, file.py:Class or folder of PNGs; several with commas.",
        autocompletion=completion.models,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="Name, file.py, file.py:Class or folder of PNGs.",
        autocompletion=completion.models,
    ),
]  # fmt: skip
SuiteName = Annotated[
    str,
    typer.Option(
        "--suite", "-s", metavar="SUITE", help="core, mini, or a folder or address with suite.json.",
        autocompletion=completion.suites,
    ),
]  # fmt: skip
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="TASKS", help="Only these tasks, with commas.", autocompletion=completion.tasks),
]
MovedSuite = Annotated[str | None, typer.Option("--suite", "-s", help="Where the runs' suite is, if it moved.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only so many samples, taken from the tasks in turn.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the run.", callback=check_seed)]
Device = Annotated[
    str,
    typer.Option("--device", help="Where models and learned metrics run: auto (a GPU if there), cpu, cuda, mps."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Samples handed to the model at once.")]
Workers = Annotated[int, typer.Option("--workers", help="Models that generate, and processes that measure, at a time.")]
Executor = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="Where workers are: local (this machine), ray or slurm.")
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker", metavar="N", help="GPUs of each worker, 0.5 for two on one; by default 1 on cuda."
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="Of a Ray cluster: auto, host:port; else one is started."),
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        "-x",
        metavar="NAME=VALUE",
        help="Of ray or slurm: cpus, memory_gb, partition, time and more.",
    ),
]
Out = Annotated[str | None, typer.Option("--out", help="Run folder, or its address; by default runs/<suite>/<model>.")]
Log = Annotated[
    str | None,
    typer.Option("--log", metavar="TRACKER", help="Show it in trackio, tensorboard or wandb as well."),
]
Seeds = Annotated[
    int, typer.Option("--seeds", help="Repeat with so many seeds, from --seed on; intervals hold their spread.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Longest time for one sample, in seconds.", callback=check_timeout)
]
AdapterOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="Option of the model; may be repeated."),
]
Focus = Annotated[
    bool, typer.Option("--focus", help="Editors work on an enlarged crop around the mask; in the name on the board.")
]
PasteBack = Annotated[
    bool, typer.Option("--paste-back", help="Keep only the mask's inside of an editor's answer; in the name too.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask again for samples that failed before.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="METRICS",
        help="Also these, with commas: names, or 'learned' for all that need weights.",
        autocompletion=completion.metrics,
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Also the columns of refineeval, fidelitybench or hifi-inpaint.",
        autocompletion=completion.protocols,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option("--judge", metavar="URL", help="Also a judge: an OpenAI-compatible address ending in /v1."),
]
JudgeModel = Annotated[str | None, typer.Option("--judge-model", help="Name of the judging model.")]
JudgeVotes = Annotated[int, typer.Option("--judge-votes", help="Votes of the judge on each sample.")]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", help="Most that a web service may cost in this run, in USD; local models cost nothing."),
]
Passes = Annotated[int, typer.Option("--passes", help="How often; each result is the draft of the next pass.")]
Wide = Annotated[bool, typer.Option("--wide", help="All columns, however wide.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


class Group(TyperGroup):
    """Commands below a verb, each shown with the whole first sentence of its help."""

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the list of commands; lines wrap, nothing is cut."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=1000)) for name, one in self.commands.items()])


def device(asked: str, executor: str = "local") -> str:
    """The device that is meant, told on stderr where "auto" found a GPU; errors as :func:`refbench.devices.resolve`.

    What other machines have cannot be looked at from here: their executor decides.
    """
    from refbench import devices
    from refbench.cli import show

    if executor != "local":
        return asked
    found = devices.resolve(asked)
    if asked == devices.AUTO and found != "cpu":
        show.note(f"Device: {devices.described(found)}; --device cpu for the processor.")
    return found


def names(text: str | None) -> list[str] | None:
    """The parts of "a,b,c"; None stays None.

    Raises:
        RefbenchError: nothing between the commas.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise RefbenchError(f"Expected one or more names with commas between them, but '{text}' has none.")
    return list(dict.fromkeys(parts))


def pairs_of(pairs: Sequence[str] | None, option: str, example: str) -> dict[str, Any]:
    """NAME=VALUE pairs as a mapping; a value that is JSON (5, 0.5, true, [1, 2]) is taken as such.

    Raises:
        RefbenchError: a pair without a name or without "=".
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isidentifier():
            raise RefbenchError(f"Expected {option} NAME=VALUE, but '{pair}' came; write e.g. {option} {example}.")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def executor_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """The options of an executor; errors as :func:`pairs_of`."""
    return pairs_of(pairs, "--executor-option", "cpus=4")


def adapter_options(pairs: Sequence[str] | None, *, focus: bool = False, paste_back: bool = False) -> dict[str, Any]:
    """NAME=VALUE pairs as keyword arguments; errors as :func:`pairs_of`.

    `focus` and `paste_back` are added as options of these names where they are set.
    """
    found = pairs_of(pairs, "--option", "steps=8")
    return found | {name: True for name, given in (("focus", focus), ("paste_back", paste_back)) if given}
