"""A drawn figure and how it is written: vector PDF, PNG, the CSV behind it, and a LaTeX snippet."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.csvtext import csv_bytes
from refbench.images import write_atomic
from refbench.report.style import Style, rc
from refbench.spelling import latex_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure with the numbers it shows."""

    name: str
    """File stem, e.g. "axes"."""
    figure: Figure
    data: pd.DataFrame
    """Every number that was drawn, tidy; written as the CSV."""
    caption: str
    """What it shows and by which rule, as plain text; goes into the LaTeX snippet."""
    wide: bool = False
    """Spans both columns of a two-column paper."""
    sideways: bool = False
    """Takes a page turned by 90 degrees."""


def snippet(drawn: Drawn, style: Style) -> str:
    """The LaTeX environment that includes the PDF at its right width, with caption and label."""
    wide = drawn.wide and style.text > style.column
    turned = drawn.sideways and style.long > style.text
    star = "*" if wide else ""
    full = style.long if turned else style.text if wide else style.column
    own = float(drawn.figure.get_size_inches()[0])
    # A figure narrower than its column is not blown up: its type would grow with it.
    width = (r"\textwidth" if wide and not turned else r"\linewidth") if own > 0.98 * full else f"{own:.2f}in"
    kind, place = ("sidewaysfigure", "") if turned else ("figure", "[t]")
    needs = "% needs \\usepackage{rotating}\n" if turned else ""
    return (
        f"{needs}\\begin{{{kind}{star}}}{place}\n  \\centering\n"
        f"  \\includegraphics[width={width}]{{{drawn.name}.pdf}}\n"
        f"  \\caption{{{latex_text(drawn.caption)}}}\n  \\label{{fig:{drawn.name}}}\n\\end{{{kind}{star}}}\n"
    )


def save(drawn: Drawn, out: Path, style: Style) -> tuple[Path, ...]:
    """Write NAME.pdf, NAME.png, NAME.csv and NAME.tex into `out`; the same input gives the same bytes.

    Raises:
        RefbenchError: the folder cannot be written.
    """
    import matplotlib.pyplot as plt

    paths = []
    with rc(style):
        for kind in ("pdf", "png"):
            buffer = io.BytesIO()
            # Dates are left out of the metadata: a committed figure changes only when its content does.
            facts = {"CreationDate": None} if kind == "pdf" else {"Software": None}
            drawn.figure.savefig(buffer, format=kind, metadata=facts)
            write_atomic(out / f"{drawn.name}.{kind}", buffer.getvalue())
            paths.append(out / f"{drawn.name}.{kind}")
    plt.close(drawn.figure)
    write_atomic(out / f"{drawn.name}.csv", csv_bytes(drawn.data, digits=6))
    write_atomic(out / f"{drawn.name}.tex", snippet(drawn, style).encode())
    return (*paths, out / f"{drawn.name}.csv", out / f"{drawn.name}.tex")
