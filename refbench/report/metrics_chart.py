"""(g) How the metrics behave: rank correlation between them, and how each answers each kind of failure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.csvtext import csv_text
from refbench.errors import RefbenchError
from refbench.report.drawn import Drawn
from refbench.report.style import INK, MUTED, Style, rc, text_width
from refbench.results.resultset import RunSet
from refbench.schema import AXES, PIXEL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

AXIS_INK = {
    "texture_fidelity": "#0072B2",
    "reference_alignment": "#882255",
    "local_consistency": "#009E73",
    "pixel_fidelity": "#767676",
}
LEAST = 8
"""Answers that two metrics must both have scored for a correlation to be told."""


def correlation(results: RunSet) -> pd.DataFrame:
    """Spearman's rank correlation of every pair of metrics over all runs' answers; metric x metric, NaN where too few.

    Values are the samples' clipped recoveries, so that a higher value is better for every metric.
    """
    import pandas as pd

    stacked = pd.concat([run.recoveries for run in results.models], ignore_index=True)
    order = [name for axis in (*AXES, PIXEL) for name in stacked.columns if results.cards[name].axis == axis]
    stacked = stacked[[n for n in order if stacked[n].notna().sum() >= LEAST and stacked[n].nunique() > 1]]
    return stacked.corr(method="spearman", min_periods=LEAST)


def correlation_chart(results: RunSet, style: Style) -> Drawn:
    """Draw the lower triangle of :func:`correlation`, metrics grouped by axis.

    Raises:
        RefbenchError: fewer than two metrics have enough answers.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    table = correlation(results)
    names = [str(n) for n in table.columns]
    if len(names) < 2:
        raise RefbenchError(f"Expected at least two metrics with {LEAST} answers to correlate; measure more samples.")
    values = table.to_numpy()
    lower = np.where(np.tril(np.ones_like(values, dtype=bool), -1), values, np.nan)[1:, :-1]
    with rc(style):
        unit = style.small / 72
        longest = max(text_width(name, style.small, style) for name in names)
        square = 0.0
        # Names are no higher than their rows; smaller names leave more room for the squares, hence twice.
        size = style.small
        for _ in range(2):
            margin = longest * size / style.small + 0.14
            square = min(
                2.6 * unit, (style.text - margin - 6 * unit) / len(lower), (style.height - margin) / len(lower)
            )
            size = min(style.small, 0.85 * square * 72)
        side = square * len(lower)
        wide = side + margin + 6 * unit > style.column
        figure, ax = plt.subplots(figsize=(side + margin + 6 * unit, side + margin), layout="constrained")
        shown = ax.imshow(lower, cmap="PuOr_r", vmin=-1.25, vmax=1.25, aspect="equal")
        written = min(style.small, 0.5 * square * 72)
        if written >= 0.8 * style.small:
            for (i, j), value in np.ndenumerate(lower):
                if np.isfinite(value):
                    text = f"{round(100 * value) + 0:d}".replace("-", "\u2212")
                    ink = "white" if abs(value) > 0.9 else INK
                    ax.text(j, i, text, ha="center", va="center", fontsize=written, color=ink)
        _ticks(ax, names[:-1], names[1:], [results.cards[n].axis for n in names], size)
        bar = figure.colorbar(
            shown, ax=ax, shrink=0.55, aspect=18, pad=0.02, ticks=[-1, 0, 1], boundaries=np.linspace(-1, 1, 101)
        )
        bar.outline.set_visible(False)
        bar.set_label("Spearman's \u03c1", fontsize=style.small)
        for place, axis in enumerate((*AXES, PIXEL)):
            if any(results.cards[n].axis == axis for n in names):
                ax.text(
                    0.99,
                    0.98 - place * 1.25 * style.small / 72 / side,
                    axis.replace("_", " "),
                    color=AXIS_INK[axis],
                    transform=ax.transAxes,
                    ha="right",
                    va="top",
                    fontsize=style.small,
                )
    rows = [{"metric": a, "with": b, "spearman": table.loc[a, b]} for i, a in enumerate(names) for b in names[:i]]
    caption = (
        f"Spearman rank correlation between metrics over the answers of {len(results.models)} models to "
        f"{len(results.metas)} samples "
        "(recoveries of single samples, higher is better for every metric). Differences between models and "
        "between samples both enter. "
        + ("Numbers are 100 \u03c1; empty" if written >= 0.8 * style.small else "Empty")
        + " squares have too few common answers."
    )
    return Drawn("correlation", figure, pd.DataFrame(rows), caption, wide=wide)


def _ticks(ax: Axes, below: list[str], beside: list[str], axes: list[str], size: float) -> None:
    count_x, count_y = len(below), len(beside)
    ax.set_xticks(range(count_x), below, rotation=90, fontsize=size)
    ax.set_yticks(range(count_y), beside, fontsize=size)
    for label, axis in zip(ax.get_xticklabels(), axes[:-1], strict=False):
        label.set_color(AXIS_INK.get(axis, INK))
    for label, axis in zip(ax.get_yticklabels(), axes[-count_y:], strict=False):
        label.set_color(AXIS_INK.get(axis, INK))
    bare(ax, count_x, count_y)


def bare(ax: Axes, columns: int, rows: int) -> None:
    """Turn axes into a table of squares: no frame, no ticks, white lines between."""
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="minor", length=0)


VERDICTS: dict[str, tuple[str, str]] = {
    "right": ("#8fc1e3", "gets worse on at least 80 % of the samples"),
    "weak": ("#d6e8f4", "gets worse on average only"),
    "blind": ("#f4f4f2", "moves by less than 5 % of its gap"),
    "wrong": ("#f0a27e", "gets better"),
}
"""Verdict of the audit -> colour and meaning (refbench.metrics.audit.judge states the rule)."""
AUDIT_COLUMNS = ("metric", "axis", "failure", "step4", "monotone", "verdict", "scored")


def read_audit(path: Path) -> pd.DataFrame:
    """The table that ``refbench audit --out`` writes as audit.csv.

    Raises:
        RefbenchError: no such file, or not that table.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, compression=None, dtype={"metric": str, "failure": str})
        table = table.map(lambda value: csv_text(value) if isinstance(value, str) else value)
    except (OSError, ValueError) as error:
        raise RefbenchError(
            f"Expected the audit's table at {path}, but {error}; make it with 'refbench audit --out'."
        ) from None
    lacking = [name for name in AUDIT_COLUMNS if name not in table.columns]
    if not lacking:
        fits = {
            "rows": not table.empty,
            "known verdicts": set(table["verdict"]) <= set(VERDICTS),
            "known axes": set(table["axis"]) <= {*AXES, PIXEL},
            "numbers": all(pd.api.types.is_numeric_dtype(table[name]) for name in ("step4", "monotone")),
        }
        lacking = [what for what, there in fits.items() if not there][:1]
    if lacking:
        raise RefbenchError(
            f"Expected the audit's table (audit.csv) at {path}, but {', '.join(lacking)} is not in it; make it with "
            "'refbench audit --out'."
        )
    return table


def audit_chart(table: pd.DataFrame, style: Style) -> Drawn:
    """Draw how each metric answers each failure: colour is the verdict, number the damage at the greatest strength.

    Args:
        table: rows of refbench.metrics.audit.judge.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    names = [n for axis in (*AXES, PIXEL) for n in dict.fromkeys(table.loc[table["axis"] == axis, "metric"])]
    failures = list(dict.fromkeys(table["failure"]))
    by = {(row.metric, row.failure): row for row in table.itertuples()}
    about: dict[str, Any] = table.drop_duplicates("metric").set_index("metric")[["axis", "scored"]].to_dict("index")
    colour = np.ones((len(names), len(failures), 3))
    with rc(style):
        unit = style.small / 72
        margin = max(text_width(f"({name})", style.small, style) for name in names) + unit
        longest = max(text_width(name.replace("_", " "), style.small, style) for name in failures)
        top = 0.58 * longest + 1.2 * unit
        last = 0.82 * text_width(failures[-1].replace("_", " "), style.small, style)
        wide = min(4.4 * unit, (style.text - margin - last) / (len(failures) - 0.5))
        tall = min(1.75 * unit, (style.height - top - 2.2 * unit) / len(names))
        line = min(style.small, 0.8 * tall * 72)
        size = (margin + wide * len(failures) + max(last - 0.5 * wide, 0.0), top + tall * len(names) + 2.2 * unit)
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        for i, name in enumerate(names):
            for j, failure in enumerate(failures):
                row = by.get((name, failure))
                if row is None:
                    ax.text(j, i, "\u2013", ha="center", va="center", color=MUTED, fontsize=style.small)
                    continue
                colour[i, j] = to_rgb(VERDICTS[row.verdict][0])
                text = "" if row.verdict == "blind" else _damage(row.step4) + ("~" if row.monotone < 0.8 else "")
                ax.text(j, i, text, ha="center", va="center", fontsize=line, color=INK)
        ax.imshow(colour, aspect="auto")
        ax.set_xticks(
            range(len(failures)),
            [f.replace("_", " ") for f in failures],
            rotation=35,
            ha="left",
            rotation_mode="anchor",
        )
        ax.set_yticks(range(len(names)), [n if about[n]["scored"] else f"({n})" for n in names], fontsize=line)
        ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, pad=2)
        for label, name in zip(ax.get_yticklabels(), names, strict=True):
            label.set_color(AXIS_INK[about[name]["axis"]])
        bare(ax, len(failures), len(names))
        handles = [
            Patch(facecolor=tint, edgecolor=MUTED, linewidth=0.3, label=verdict)
            for verdict, (tint, _) in VERDICTS.items()
        ]
        figure.legend(handles=handles, loc="outside lower right", ncols=4)
    meanings = "; ".join(f"{verdict}: {meaning}" for verdict, (_, meaning) in VERDICTS.items())
    caption = (
        "How each metric answers each failure at its greatest strength: damage in % of the metric's gap between "
        "trivial "
        f"answer and truth, and verdict ({meanings}). ~ marks answers that are not monotone in strength, brackets "
        "metrics "
        "that do not enter the score."
    )
    return Drawn("audit", figure, table, caption, wide=size[0] > style.column)


def _damage(percent: float) -> str:
    """A percentage in at most four characters: huge ones are told in multiples of the gap."""
    text = f"{percent:.0f}" if abs(percent) < 1000 else f"{percent / 100:.0f}x"
    return text.replace("-", "\u2212")
