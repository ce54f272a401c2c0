"""Options that several verbs share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from refbench.errors import RefbenchError

Models = Annotated[
    str, typer.Option("--model", "-m", help="Name, file.py, file.py:Class or folder of PNGs; several with commas.")
]
SuiteName = Annotated[str, typer.Option("--suite", "-s", help="core, mini, or a folder with suite.json.")]
MovedSuite = Annotated[str | None, typer.Option("--suite", "-s", help="Where the runs' suite is, if it moved.")]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Only these tasks, with commas.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only so many samples, taken from the tasks in turn.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the run.")]
Device = Annotated[str, typer.Option("--device", help="Where models and learned metrics run: cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Samples handed to the model at once.")]
Workers = Annotated[int, typer.Option("--workers", help="Processes that generate, and that measure, at a time.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/<suite>/<model>.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Longest time for one sample, in seconds.")]
AdapterOptions = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="Option of the model as NAME=VALUE; may be repeated.")
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
    typer.Option("--metrics", help="Also these, with commas: names, or 'learned' for all that need weights."),
]
Protocol = Annotated[
    str | None, typer.Option("--protocol", help="Also the columns of refineeval, fidelitybench or hifi-inpaint.")
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


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


def adapter_options(pairs: Sequence[str] | None, *, focus: bool = False, paste_back: bool = False) -> dict[str, Any]:
    """NAME=VALUE pairs as keyword arguments; a value that is JSON (5, 0.5, true, [1, 2]) is taken as such.

    `focus` and `paste_back` are added as options of these names where they are set.

    Raises:
        RefbenchError: a pair without a name or without "=".
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isidentifier():
            raise RefbenchError(f"Expected --option NAME=VALUE, but '{pair}' came; write e.g. --option steps=8.")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found | {name: True for name, given in (("focus", focus), ("paste_back", paste_back)) if given}
