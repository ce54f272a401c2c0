"""Shell completion: commands, options, and the names of models, suites, tasks, metrics and the rest.

A shell starts the program for each press of the tab key, so that nothing heavy is imported here. Of several values with
commas the last is completed. Where nothing fits, the shell goes on with file names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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


def _listed(where: str, *groups: str) -> Callable[[str], list[str]]:
    """A completer of the groups and of what "module:attribute" holds or gives, imported when it is asked for."""

    def names() -> list[str]:
        module, _, attribute = where.partition(":")
        found: Any = getattr(importlib.import_module(f"refbench.{module}"), attribute)
        return [*groups, *(found() if callable(found) else found)]

    return _each(names)


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


models = _listed("adapters.registry:MODELS")
metrics = _listed("metrics.registry:METRICS", "default", "learned", "all")
weights = _listed("weights.catalogue:CATALOGUE")
suites = _listed("tasks.suite:embedded_suites")
protocols = _listed("runs.protocols:PROTOCOLS")
figures = _listed("report.figures:KINDS")
styles = _listed("report.style:STYLES")
