"""(g) How the metrics behave: rank correlation between them, and how each answers each kind of failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.report.drawn import Drawn
from refbench.report.style import INK, MUTED, Style, rc
from refbench.report.study import Study
from refbench.schema import AXES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

AXIS_INK = {"texture_fidelity": "#0072B2", "reference_alignment": "#882255", "local_consistency": "#009E73"}
LEAST = 8
"""Answers that two metrics must both have scored for a correlation to be told."""


def correlation(study: Study) -> pd.DataFrame:
    """Spearman's rank correlation of every pair of metrics over all runs' answers; metric x metric, NaN where too few.

    Values are the samples' clipped recoveries, so that a higher value is better for every metric.
    """
    import pandas as pd

    stacked = pd.concat([run.recoveries for run in study.runs], ignore_index=True)
    order = [name for axis in AXES for name in stacked.columns if study.cards[name].axis == axis]
    stacked = stacked[[n for n in order if stacked[n].notna().sum() >= LEAST and stacked[n].nunique() > 1]]
    return stacked.corr(method="spearman", min_periods=LEAST)


def correlation_chart(study: Study, style: Style) -> Drawn:
    """Draw the lower triangle of :func:`correlation`, metrics grouped by axis.

    Raises:
        RefbenchError: fewer than two metrics have enough answers.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    table = correlation(study)
    names = [str(n) for n in table.columns]
    if len(names) < 2:
        raise RefbenchError(f"Expected at least two metrics with {LEAST} answers to correlate; measure more samples.")
    values = table.to_numpy()
    lower = np.where(np.tril(np.ones_like(values, dtype=bool), -1), values, np.nan)[1:, :-1]
    with rc(style):
        unit = style.small / 72
        margin = 0.52 * max(map(len, names)) * unit + 0.12
        square = min(2.6 * unit, (style.text - margin - 6 * unit) / len(lower), (style.height - margin) / len(lower))
        side = square * len(lower)
        wide = side + margin + 6 * unit > style.column
        figure, ax = plt.subplots(figsize=(side + margin + 6 * unit, side + margin), layout="constrained")
        shown = ax.imshow(lower, cmap="PuOr_r", vmin=-1.25, vmax=1.25, aspect="equal")
        if square >= 1.7 * unit:
            for (i, j), value in np.ndenumerate(lower):
                if np.isfinite(value):
                    text = f"{value:.2f}".replace("0.", ".").replace("-", "\u2212")
                    ax.text(j, i, "1" if text == "1.00" else text, ha="center", va="center", fontsize=min(style.small, 0.42 * square * 72))
        _ticks(ax, names[:-1], names[1:], [study.cards[n].axis for n in names])
        bar = figure.colorbar(shown, ax=ax, shrink=0.55, aspect=18, pad=0.02, ticks=[-1, 0, 1], boundaries=np.linspace(-1, 1, 101))
        bar.outline.set_visible(False)
        bar.set_label("Spearman's \u03c1", fontsize=style.small)
        for (place, axis) in enumerate(AXES):
            if any(study.cards[n].axis == axis for n in names):
                ax.text(0.99, 0.98 - place * 1.25 * style.small / 72 / side, axis.replace("_", " "), color=AXIS_INK[axis],
                        transform=ax.transAxes, ha="right", va="top", fontsize=style.small)  # fmt: skip
    rows = [
        {"metric": a, "with": b, "spearman": table.loc[a, b]} for i, a in enumerate(names) for b in names[:i]
    ]
    caption = (
        f"Spearman rank correlation between metrics over the answers of {len(study.runs)} models to {len(study.metas)} samples "
        "(recoveries of single samples, higher is better for every metric). Differences between models and between samples both enter."
    )
    return Drawn("correlation", figure, pd.DataFrame(rows), caption, wide=wide)


def _ticks(ax: Axes, below: list[str], beside: list[str], axes: list[str]) -> None:
    count_x, count_y = len(below), len(beside)
    ax.set_xticks(range(count_x), below, rotation=90)
    ax.set_yticks(range(count_y), beside)
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
