"""Shell completion: commands, options, and the names of models, suites, tasks, metrics and the rest.

A shell starts the program for each press of the tab key, so that nothing heavy is imported here. Of several values with
commas the last is completed. Where nothing fits, the shell goes on with file names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import typer
from typer.core import TyperCommand, TyperGroup

from refbench.errors import RefbenchError


def serve(arguments: Sequence[str], verbs: Mapping[str, tuple[str, str]]) -> None:
    """Answer a shell that asks for completions, or `--install-completion` and `--show-completion`.

    Args:
        arguments: of the program.
        verbs: name -> (module, help).
    """
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()
    for verb, (module, text) in verbs.items():
        if words[1:2] == [verb]:
            whole.add_command(typer.main.get_command(importlib.import_module(f"refbench.cli.{module}").app), verb)
        else:
            whole.add_command(TyperCommand(verb, short_help=text))
    whole.main(list(arguments), prog_name="refbench")


Names = Callable[[], Iterable[str]]


def _each(names: Names) -> Callable[[str], list[str]]:
    """A completer of one name, or of the last of several with commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def _models() -> Iterable[str]:
    from refbench.adapters.registry import MODELS

    return MODELS


def _metrics() -> Iterable[str]:
    from refbench.metrics.registry import METRICS

    return ["default", "learned", "all", *METRICS]


def _weights() -> Iterable[str]:
    from refbench.weights.catalogue import CATALOGUE

    return CATALOGUE


def _suites() -> Iterable[str]:
    from refbench.tasks.suite import embedded_suites

    return embedded_suites()


def _protocols() -> Iterable[str]:
    from refbench.runs.protocols import PROTOCOLS

    return PROTOCOLS


def _figures() -> Iterable[str]:
    from refbench.report.figures import KINDS

    return KINDS


def _styles() -> Iterable[str]:
    from refbench.report.style import STYLES

    return STYLES


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tasks of the suite that the command line names."""
    from refbench.tasks.suite import load_suite

    try:
        found = load_suite(ctx.params.get("suite") or "core").tasks
    except RefbenchError:
        return []
    return _each(lambda: found)(incomplete)


def listed(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `refbench list WHAT` lists."""
    what = str(ctx.params.get("what")).removesuffix("s")
    if what == "task":
        return tasks(ctx, incomplete)
    return {"model": models, "metric": metrics}[what](incomplete) if what in ("model", "metric") else []


models, metrics, weights, suites = _each(_models), _each(_metrics), _each(_weights), _each(_suites)
protocols, figures, styles = _each(_protocols), _each(_figures), _each(_styles)
