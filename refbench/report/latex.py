"""LaTeX tables (booktabs): the main table, and recovery by category.

The best of a column is bold; a model is underlined where the paired test cannot tell it from the best
(Holm-corrected p of refbench.stats.compare at 5 %).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refbench.report.charts import COLUMNS
from refbench.results.resultset import RunSet
from refbench.schema import AXES, PIXEL
from refbench.spelling import latex_text
from refbench.stats.compare import Comparison, View

if TYPE_CHECKING:
    from refbench.results.run import RunResult
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


def leaders(
    compared: Comparison | None, cells: dict[str, Cell | None], view: View, name: str, measure: str
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


def _number(found: Cell | None, *, best: bool, alike: bool, interval: bool, withheld: bool = False) -> str:
    if withheld:
        return r"\textit{not measured}"
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


def main_table(results: RunSet, compared: Comparison | None) -> str:
    """Models by axes, score and pixel fidelity with 95 % intervals, failed samples and seconds; best first."""
    marks = {
        a: leaders(compared, {r.name: r.numbers.cell(a) for r in results.models}, "overall", "all", a) for a in COLUMNS
    }
    marks[PIXEL] = (None, set())
    some_failed = any(r.numbers.failed for r in results.models)
    lines = []
    for run in results.ranked:
        numbers = [
            _number(
                run.numbers.cell(a),
                best=run.name == marks[a][0],
                alike=run.name in marks[a][1],
                interval=True,
                withheld=a in results.withheld,
            )
            for a in MAIN
        ]
        seconds = f"{run.seconds:.2g}" if run.seconds is not None else "--"
        lines.append(
            " & ".join([latex_text(run.name), *numbers, *([str(run.numbers.failed)] if some_failed else []), seconds])
            + r" \\"
        )
    heads = ["Model", *(HEADS[a] for a in MAIN), *(["Failed"] if some_failed else []), "s/image"]
    caption = (
        f"Recovery on {results.suite.name} {results.suite.version} (score {results.score}, {len(results.metas)} "
        "samples; "
        "0 is the trivial answer, 100 the ground truth) with 95 % intervals. Best in bold; underlined where it "
        "cannot be told from the best (paired, Holm-corrected, 5 %). Pixel: every pixel at its place; not in the "
        "score, and not compared."
    )
    return _table(heads, lines, caption, "tab:main", "l" + "c" * (len(heads) - 1))


def category_table(results: RunSet, compared: Comparison | None, axis: str = "mean") -> str:
    """Models by category on one axis or the score."""
    names = list(dict.fromkeys(c for run in results.models for c in run.numbers.categories))

    def found(run: RunResult, name: str) -> Cell | None:
        return run.numbers.categories.get(name, {}).get(axis)

    marks = {n: leaders(compared, {r.name: found(r, n) for r in results.models}, "category", n, axis) for n in names}
    lines = [
        " & ".join(
            [
                latex_text(run.name),
                *(
                    _number(found(run, n), best=run.name == marks[n][0], alike=run.name in marks[n][1], interval=False)
                    for n in names
                ),
                _number(run.numbers.cell(axis), best=False, alike=False, interval=False),
            ]
        )
        + r" \\"
        for run in results.ranked
    ]
    what = f"score {results.score}" if axis == "mean" else f"{axis.replace('_', ' ')}, score {results.score}"
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


def tables(results: RunSet) -> dict[str, str]:
    """File name -> LaTeX of every table; none by category of what is not measured."""
    compared = results.compare(views=("overall", "category")) if len(results.models) > 1 else None
    return {"table.tex": main_table(results, compared)} | {
        f"table_categories{'' if axis == 'mean' else '_' + axis}.tex": category_table(results, compared, axis)
        for axis in ("mean", *AXES)
        if axis not in results.withheld
    }
