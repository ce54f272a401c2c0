"""LaTeX tables (booktabs): the main table, and recovery by category.

The best of a column is bold; a model is underlined where the paired test cannot tell it from the best
(Holm-corrected p of refbench.stats.compare at 5 %).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refbench.report.charts import COLUMNS, cell
from refbench.report.study import Run, Study, meta_table
from refbench.schema import AXES, PIXEL, SCORE_VERSION
from refbench.spelling import latex_text
from refbench.stats.compare import Comparison, View, compare

if TYPE_CHECKING:
    from refbench.stats.recovery import Cell

HEADS = {
    "texture_fidelity": "Texture",
    "reference_alignment": "Alignment",
    "local_consistency": "Consistency",
    "mean": "Score",
    PIXEL: "Pixel",
}
MAIN = (*COLUMNS, PIXEL)
"""Columns of the main table; pixel fidelity stands beside the score."""


def compare_runs(
    study: Study, views: tuple[View, ...] = ("overall", "category"), resamples: int = 2000
) -> Comparison | None:
    """The paired comparison behind bold and underline; None for a single run."""
    if len(study.runs) < 2:
        return None
    return compare(
        {run.name: run.scores for run in study.runs}, study.answers, meta_table(study.metas.values()), study.cards,
        views=views, resamples=resamples,
    )  # fmt: skip


def leaders(
    study: Study, compared: Comparison | None, cells: dict[str, Cell | None], view: View, name: str, measure: str
) -> tuple[str | None, set[str]]:
    """The best model of a column, and those that the paired test does not tell from it."""
    known = {n: c.value for n, c in cells.items() if c is not None and c.value is not None}
    if not known:
        return None, set()
    best = max(known, key=lambda n: known[n])
    alike = set()
    for pair in compared.pairs if compared else ():
        if best in (pair.a, pair.b):
            other = pair.b if best == pair.a else pair.a
            try:
                if other in known and not pair.difference(view, name, measure).holds:
                    alike.add(other)
            except KeyError:
                continue
    return best, alike


def _number(found: Cell | None, *, best: bool, alike: bool, interval: bool) -> str:
    if found is None or found.value is None:
        return "--"
    text = f"{found.value:.1f}"
    text = rf"\mathbf{{{text}}}" if best else rf"\underline{{{text}}}" if alike else text
    ends = (
        rf"\,{{\scriptscriptstyle[{found.low:.1f},\,{found.high:.1f}]}}"
        if interval and found.low is not None and found.high is not None
        else ""
    )
    return f"${text}{ends}$"


def main_table(study: Study, compared: Comparison | None) -> str:
    """Models by axes, score and pixel fidelity with 95 % intervals, failed samples and seconds; best first."""
    marks = {
        a: leaders(study, compared, {r.name: cell(r, a) for r in study.runs}, "overall", "all", a) for a in COLUMNS
    }
    marks[PIXEL] = (None, set())
    some_failed = any(r.summary.failed for r in study.runs)
    lines = []
    for run in study.ranked:
        numbers = [
            _number(cell(run, a), best=run.name == marks[a][0], alike=run.name in marks[a][1], interval=True)
            for a in MAIN
        ]
        seconds = f"{run.seconds:.2g}" if run.seconds is not None else "--"
        lines.append(
            " & ".join([latex_text(run.name), *numbers, *([str(run.summary.failed)] if some_failed else []), seconds])
            + r" \\"
        )
    heads = ["Model", *(HEADS[a] for a in MAIN), *(["Failed"] if some_failed else []), "s/image"]
    caption = (
        f"Recovery on {study.suite.name} {study.suite.version} (score {SCORE_VERSION}, {len(study.metas)} samples; 0 "
        "is the trivial answer, 100 the ground truth) with 95 % intervals. Best in bold; underlined where it "
        "cannot be told from the best (paired, Holm-corrected, 5 %). Pixel: every pixel at its place; not in the "
        "score, and not compared."
    )
    return _table(heads, lines, caption, "tab:main", "l" + "c" * (len(heads) - 1))


def category_table(study: Study, compared: Comparison | None, axis: str = "mean") -> str:
    """Models by category on one axis or the score."""
    names = list(dict.fromkeys(c for run in study.runs for c in run.summary.categories))

    def found(run: Run, name: str) -> Cell | None:
        return run.summary.categories.get(name, {}).get(axis)

    marks = {n: leaders(study, compared, {r.name: found(r, n) for r in study.runs}, "category", n, axis) for n in names}
    lines = [
        " & ".join(
            [
                latex_text(run.name),
                *(
                    _number(found(run, n), best=run.name == marks[n][0], alike=run.name in marks[n][1], interval=False)
                    for n in names
                ),
                _number(cell(run, axis), best=False, alike=False, interval=False),
            ]
        )
        + r" \\"
        for run in study.ranked
    ]
    what = f"score {SCORE_VERSION}" if axis == "mean" else f"{axis.replace('_', ' ')}, score {SCORE_VERSION}"
    caption = f"Recovery by category ({what}). Best in bold; underlined where it cannot be told from the best."
    return _table(
        ["Model", *(latex_text(n.capitalize()) for n in names), "All"],
        lines,
        caption,
        f"tab:categories-{axis.replace('_', '-')}",
        "l" + "c" * (len(names) + 1),
    )


def _table(heads: list[str], lines: list[str], caption: str, label: str, columns: str) -> str:
    body = "\n    ".join(lines)
    return (
        "% needs \\usepackage{booktabs}; spans both columns of a two-column paper as table*\n"
        f"\\begin{{table*}}[t]\n  \\centering\n  \\small\n  \\caption{{{latex_text(caption)}}}\n  \\label{{{label}}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n    {' & '.join(heads)} \\\\\n    \\midrule\n    {body}\n"
        "    \\bottomrule\n  \\end{tabular}\n\\end{table*}\n"
    )


def tables(study: Study, resamples: int = 2000) -> dict[str, str]:
    """File name -> LaTeX of every table."""
    compared = compare_runs(study, resamples=resamples)
    return {"table.tex": main_table(study, compared)} | {
        f"table_categories{'' if axis == 'mean' else '_' + axis}.tex": category_table(study, compared, axis)
        for axis in ("mean", *AXES)
    }
