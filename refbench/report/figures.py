"""``refbench figures``: every figure and table that a set of runs allows, written into one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.report.drawn import Drawn, save
from refbench.report.glyphs import settle
from refbench.report.style import style_named
from refbench.results.resultset import RunSet, open_results

KINDS: Mapping[str, str] = {
    "qualitative": "draft, reference, models, target, with insets; best, median and worst sample",
    "qualitative_categories": "the same with the median sample of each category",
    "qualitative_all": "every model on a page turned by 90 degrees; each category's median by all models' score",
    "axes": "the three axes and the score with intervals",
    "categories": "the same by category",
    "wins": "win matrix",
    "cost": "quality against time, size and price, with the Pareto front",
    "ablation": "training stages and their curves (needs --stage)",
    "correlation": "correlation between metrics",
    "audit": "how each metric answers each failure (needs --audit)",
    "tables": "LaTeX tables",
}
"""What can be drawn, in the order of design; one line each for the command's help."""


@dataclass(frozen=True)
class Written:
    """What was made, and what was not and why."""

    out: Path
    files: tuple[Path, ...]
    skipped: Mapping[str, str]
    """Kind -> one sentence."""
    lacking: str = ""
    """Characters that no font of this machine has; they are in words in the figures."""


def make_figures(
    runs: Sequence[str | os.PathLike[str]] | RunSet,
    out: str | os.PathLike[str],
    style: str = "neurips",
    *,
    only: Sequence[str] | None = None,
    focus: str | None = None,
    samples: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    stages: Mapping[str, str] | None = None,
    logs: Mapping[str, str | os.PathLike[str]] | None = None,
    curves: Sequence[str] | None = None,
    audit: str | os.PathLike[str] | None = None,
    suite: str | None = None,
) -> Written:
    """Draw the figures and write PDF, PNG, CSV and LaTeX of each.

    Args:
        runs: run folders, or a set of results that is open already.
        out: folder; made if missing, files of the same names are replaced.
        style: neurips, cvpr or slides.
        only: kinds (keys of ``KINDS``); None is all that these runs allow.
        focus: model that the choice of samples looks at; None is the first run.
        samples: ids to show in `qualitative` and `qualitative_all` instead of those of their rules.
        models: columns of the grids; None is all, or the six best where an upright page has no room for more.
        stages: label -> run name, in the order of training, for the ablation.
        logs: label -> training log (JSON lines).
        curves: names of logged values to draw.
        audit: audit.csv of `refbench audit --out`.
        suite: where the runs' suite is, if not where their manifest says.

    Raises:
        RefbenchError: wrong input; a run without a score; or a kind that was asked for by name cannot be drawn.
    """
    look = style_named(style)
    unknown = [kind for kind in only or () if kind not in KINDS]
    if unknown:
        from refbench.errors import unknown_name

        raise unknown_name("figure", unknown[0], KINDS)
    results = runs if isinstance(runs, RunSet) else open_results(runs, suite=suite)
    # Wrong input is told before the first figure is drawn, not after a minute of drawing.
    for name in [*([focus] if focus else []), *(models or ()), *(stages or {}).values()]:
        results.run(name)
    _refuse_unscored(results)
    folder = Path(out)
    makers = _makers(results, style, focus, samples, models, stages, logs, curves, audit)
    files: list[Path] = []
    skipped: dict[str, str] = {}
    lacking: set[str] = set()
    for kind in KINDS:
        if only is not None and kind not in only:
            continue
        try:
            if kind == "tables":
                from refbench.report.latex import tables

                for name, text in tables(results).items():
                    write_atomic(folder / name, text.encode())
                    files.append(folder / name)
            else:
                made = makers[kind]()
                lacking |= settle(made.figure, look.family)
                files += save(made, folder, look)
        except Skip as reason:
            if only is not None:
                raise RefbenchError(str(reason)) from None
            skipped[kind] = str(reason)
    return Written(folder, tuple(files), skipped, "".join(sorted(lacking)))


def _refuse_unscored(results: RunSet) -> None:
    for run in results.models if results.suite.targets else ():
        if run.withheld:
            raise RefbenchError(
                f"Expected scored runs to draw, but {run.name} has no score, since {run.withheld['mean']}; "
                f"then run 'refbench measure {run.folder.path}'."
            )


class Skip(RefbenchError):
    """A figure that these runs do not allow; told, not silently left out."""


def _makers(
    results: RunSet,
    style: str,
    focus: str | None,
    samples: Sequence[str] | None,
    models: Sequence[str] | None,
    stages: Mapping[str, str] | None,
    logs: Mapping[str, str | os.PathLike[str]] | None,
    curves: Sequence[str] | None,
    audit: str | os.PathLike[str] | None,
) -> dict[str, Callable[[], Drawn]]:
    from refbench.report import ablation, charts, grid, metrics_chart

    look = style_named(style)
    shown = partial(grid.grid, results, look, focus=focus, models=models)

    def need(met: bool, why: str, draw: Callable[[], Drawn]) -> Drawn:
        if not met:
            raise Skip(why)
        return draw()

    table = metrics_chart.read_audit(Path(audit)) if audit is not None else None
    several = len(results.models) > 1
    told = sum(len([r for r in results.models if ask(r)]) >= 2 for _, ask in charts.COSTS.values())
    many = len(results.metas) * len(results.models) >= metrics_chart.LEAST
    return {
        "qualitative": partial(shown, rule=samples or "spread", name="qualitative"),
        "qualitative_categories": partial(shown, rule="categories", name="qualitative_categories"),
        "qualitative_all": partial(shown, rule=samples or "typical", name="qualitative_all", everyone=True),
        "axes": partial(charts.axes_chart, results, look),
        "categories": partial(charts.categories_chart, results, look),
        "wins": lambda: need(
            several, "The win matrix needs two runs or more; name another run.",
            partial(charts.win_matrix, results, look),
        ),
        "cost": lambda: need(
            told > 0, "The cost figure needs two runs or more that tell seconds, size or price.",
            partial(charts.pareto_chart, results, look),
        ),
        "ablation": lambda: need(
            bool(stages), "The ablation needs the stages of training; name each with --stage LABEL=RUN.",
            lambda: ablation.ablation_chart(
                results, look, stages or {}, {k: Path(v) for k, v in (logs or {}).items()}, curves
            ),
        ),
        "correlation": lambda: need(
            many, f"The correlation needs {metrics_chart.LEAST} answers or more; measure more samples.",
            partial(metrics_chart.correlation_chart, results, look),
        ),
        "audit": lambda: need(
            table is not None, "The audit figure needs audit.csv of 'refbench audit --out'; name it with --audit.",
            lambda: metrics_chart.audit_chart(table, look),
        ),
    }  # fmt: skip
