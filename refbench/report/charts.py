"""The charts of a paper: axes with intervals, categories, win matrix, quality against cost.

Each function takes a :class:`~refbench.results.resultset.RunSet` and a style and gives a
:class:`~refbench.report.drawn.Drawn`; nothing is written. Recovery is in points, 0 for the trivial answer
and 100 for the ground truth; intervals are the 95 % intervals of the runs' summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.report.drawn import Drawn
from refbench.report.labels import place_labels
from refbench.report.style import AXIS_TITLES, INK, MUTED, RULE, Style, colours, markers, rc, readable, text_width
from refbench.results.resultset import RunSet
from refbench.results.run import RunResult
from refbench.schema import AXES
from refbench.stats.compare import TIE, Duel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from refbench.stats.recovery import Cell

FLOOR = -60.0
"""Recoveries under this are drawn at the edge as a triangle with their number, so that one failure does not
flatten the rest."""
CEILING = 125.0
"""Intervals are cut here: nothing is better than the truth by much, only less certain."""

COLUMNS = (*AXES, "mean")


def not_measured(ax: Axes, style: Style) -> None:
    """Say in a panel that its axis has no number, where the suite allows none."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": MUTED, "fontsize": style.small}
    ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, **look)


def interval(
    ax: Axes,
    at: float,
    found: Cell,
    colour: str,
    marker: str,
    *,
    across: bool,
    style: Style,
    size: float | None = None,
    number_left: bool = False,
) -> None:
    """Draw one value with its interval; `across` lays it along x. A cell without value draws nothing.

    Args:
        size: of the marker, in points; None is the style's.
        number_left: where the number of a value beyond the frame goes if not `across`: left of its triangle, else
            right.
    """
    if found.value is None:
        return
    size = size or style.marker
    if found.value < FLOOR:
        spot = (FLOOR, at) if across else (at, FLOOR)
        ax.plot(*spot, marker="<" if across else "v", color=colour, markersize=size, clip_on=False)
        left = number_left and not across
        ax.annotate(
            f"\u2212{-found.value:.0f}", spot, ((-0.9 if left else 0.9) * style.marker, 0), textcoords="offset points",
            color=readable(colour), fontsize=style.small, ha="right" if left else "left", va="center",
        )  # fmt: skip
        return
    ends = [found.low, found.high] if found.low is not None and found.high is not None else None
    if ends:
        span = [max(ends[0], FLOOR), min(ends[1], CEILING)]
        xs, ys = (span, [at, at]) if across else ([at, at], span)
        ax.plot(xs, ys, color=colour, linewidth=style.line, solid_capstyle="butt", zorder=2)
        # Ends that are cut by the frame have no cap.
        caps = [end for end, whole in zip(span, ends, strict=True) if end == whole]
        where = (caps, [at] * len(caps)) if across else ([at] * len(caps), caps)
        ax.plot(*where, linestyle="none", marker="|" if across else "_", color=colour, markersize=0.8 * size,
                markeredgewidth=0.8 * style.line, zorder=2)  # fmt: skip
    spot = (found.value, at) if across else (at, found.value)
    ax.plot(
        *spot,
        marker=marker,
        color=colour,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.35 * style.line,
        zorder=3,
    )


def limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """A shared range for recoveries: 0 always inside, 100 only when something comes near it."""
    ends = [v for c in cells for v in (c.value, c.low, c.high) if v is not None]
    low, high = max(min([0.0, *ends]), FLOOR), min(max([0.0, *ends]), CEILING)
    if high > 70:
        high = max(high, 100.0)
    room = 0.05 * max(high - low, 10.0)
    return low - room, high + room


def row(run: RunResult, found: Cell, **more: Any) -> dict[str, Any]:
    """One line of the CSV behind a chart."""
    return {"model": run.name, **more, "value": found.value, "low": found.low, "high": found.high}


def axes_chart(results: RunSet, style: Style) -> Drawn:
    """(b) The three axes and the score, one row a model, best first, with 95 % intervals."""
    import matplotlib.pyplot as plt
    import pandas as pd

    runs = results.ranked[::-1]
    tint, shape = colours(results.names), markers(results.names)
    with rc(style):
        height = (0.165 * len(runs) + 0.62) * style.font / 8
        figure, panels = plt.subplots(
            1, 4, figsize=(style.text, min(height, style.height)), sharey=True, layout="constrained"
        )
        for ax, axis in zip(panels, COLUMNS, strict=True):
            span = limits([r.numbers.cell(axis) for r in runs])
            if axis in results.withheld:
                not_measured(ax, style)
            else:
                _reference_lines(ax, span, across=True)
            for place, run in enumerate(runs):
                interval(ax, place, run.numbers.cell(axis), tint[run.name], shape[run.name], across=True, style=style,
                         size=0.8 * style.marker)  # fmt: skip
            _title(ax, axis, style, style.text / 5.2)
            ax.set_xlim(*span)
            ax.set_ylim(-0.6, len(runs) - 0.4)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            step = 50 if span[1] - span[0] > 80 else 20 if span[1] - span[0] > 35 else 10
            ticks = [v for v in range(-100, 121, step) if span[0] <= v <= span[1]]
            ax.set_xticks([] if axis in results.withheld else ticks)
        figure.set_layout_engine("constrained", w_pad=0.055, h_pad=0.04)
        panels[0].set_yticks(range(len(runs)), [r.name for r in runs])
        figure.supxlabel("Recovery (0 = trivial answer, 100 = ground truth)", fontsize=style.small, color=MUTED)
    data = pd.DataFrame([row(r, r.numbers.cell(a), axis=a) for r in results.ranked for a in COLUMNS])
    caption = (
        f"Recovery on the three axes and score {results.score} on suite {results.suite.name} {results.suite.version} "
        f"({len(results.metas)} samples), best first; each panel has a range of its own. Bars are 95 % "
        f"intervals (narrower than the marker where none is seen): {results.models[0].numbers.method}."
    )
    return Drawn("axes", figure, data, caption, wide=True)


def _title(ax: Axes, axis: str, style: Style, room: float) -> None:
    """A panel's title, smaller where it is wider than `room` inches."""
    bold, text = axis == "mean", AXIS_TITLES[axis]
    fits = min(1.0, room / text_width(text, style.font, style, bold=bold))
    ax.set_title(text, fontsize=max(fits, 0.75) * style.font, fontweight="bold" if bold else "normal")


def _reference_lines(ax: Axes, span: tuple[float, float], *, across: bool) -> None:
    for value in (0.0, 100.0):
        if span[0] <= value <= span[1]:
            draw = ax.axvline if across else ax.axhline
            draw(value, color=RULE, linewidth=0.8, zorder=0, linestyle="-" if value == 0 else (0, (3, 2)))


def categories_chart(results: RunSet, style: Style) -> Drawn:
    """(c) Recovery by category: one panel an axis and one for the score, models side by side in each category."""
    import matplotlib.pyplot as plt
    import pandas as pd

    names = list(dict.fromkeys(c for run in results.models for c in run.numbers.categories))
    tint, shape = colours(results.names), markers(results.names)
    step = 0.86 / max(len(results.models), 1)
    # Two panels beside each other while their markers have room, else one below the other on a high page.
    pitch = 72 * step * (0.45 * style.text - 0.05 * style.font) / max(len(names), 1)
    low = 8.5 * style.font / 72
    stacked = pitch < 1.5 * style.marker and 4 * low + 5 * style.font / 72 <= style.height
    pitch *= 2 if stacked else 1
    size = min(style.marker, max(0.85 * pitch, 0.5 * style.marker))
    with rc(style):
        figure, panels = plt.subplots(
            4 if stacked else 2,
            1 if stacked else 2,
            figsize=(style.text, min(4 * low + 5 * style.font / 72 if stacked else 0.55 * style.text, style.height)),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        span = limits(
            [r.numbers.categories[c][a] for r in results.models for c in r.numbers.categories for a in COLUMNS]
        )
        for ax, axis in zip(panels.flat, COLUMNS, strict=True):
            _reference_lines(ax, span, across=False)
            for place in range(1, len(names)):
                ax.axvline(place - 0.5, color=RULE, linewidth=0.4, zorder=0)
            for number, run in enumerate(results.ranked):
                for place, name in enumerate(names):
                    found = run.numbers.categories.get(name, {}).get(axis)
                    if found is not None:
                        at = place + (number - (len(results.models) - 1) / 2) * step
                        interval(ax, at, found, tint[run.name], shape[run.name], across=False, style=style, size=size,
                                 number_left=number > 0.6 * len(results.models))  # fmt: skip
            _title(ax, axis, style, style.text)
            if axis in results.withheld:
                not_measured(ax, style)
            ax.set_xticks(range(len(names)), [n.capitalize() for n in names])
            ax.tick_params(axis="x", length=0)
            ax.set_xlim(-0.5, len(names) - 0.5)
            ax.set_ylim(*span)
            ax.set_yticks([v for v in (-50, 0, 50, 100) if span[0] <= v <= span[1]])
        for ax in panels[:, 0]:
            ax.set_ylabel("Recovery")
        _legend(figure, results, style)
    data = pd.DataFrame(
        [
            row(r, c, category=n, axis=a)
            for r in results.ranked
            for n, by in r.numbers.categories.items()
            for a, c in by.items()
        ]
    )
    return Drawn("categories", figure, data, "Recovery by category, with 95 % intervals.", wide=True)


def _legend(figure: Any, results: RunSet, style: Style) -> None:
    from matplotlib.lines import Line2D

    tint, shape = colours(results.names), markers(results.names)
    handles = [
        Line2D([], [], color=tint[r.name], marker=shape[r.name], linewidth=0, markersize=style.marker, label=r.name)
        for r in results.ranked
    ]
    widest = max(text_width(r.name, style.small, style) for r in results.ranked) + 3.0 * style.small / 72
    per_row = max(1, min(len(handles), int(style.text / widest)))
    per_row = -(-len(handles) // -(-len(handles) // per_row))  # lines of about one length
    figure.legend(handles=handles, loc="outside upper center", ncols=per_row, handletextpad=0.3)


def wins(results: RunSet) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(row model, column model) -> samples won, tied, lost by the row model, as `refbench compare` counts them."""
    scores = results.sample_scores()
    found = {}
    for a in results.names:
        for b in results.names:
            if a != b:
                duel = Duel.count((scores[a] - scores[b]).to_numpy())
                found[a, b] = (duel.wins, duel.ties, duel.losses)
    return found


def win_matrix(results: RunSet, style: Style) -> Drawn:
    """(d) How often the row model beats the column model, sample by sample."""
    import matplotlib.pyplot as plt
    import pandas as pd

    names = [r.name for r in results.ranked]
    found = wins(results)
    share = np.full((len(names), len(names)), np.nan)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if i != j:
                won, tied, lost = found[a, b]
                share[i, j] = 100 * (won + tied / 2) / max(won + tied + lost, 1)
    with rc(style):
        unit = style.small / 72
        margin = max(text_width(name, style.small, style) for name in names) + 0.5 * unit
        # Slanted names lean out to the right by the last one's run, and need their rise above.
        lean = max(text_width(name, style.small, style) - (len(names) - i - 0.5) * 2 * unit
                   for i, name in enumerate(names)) * 0.77 + 0.4 * unit  # fmt: skip
        rise = 0.64 * margin + 1.5 * unit
        square = min(3.2 * unit, (style.column - margin - lean) / len(names), (style.height - rise) / len(names))
        side = square * len(names)
        wide = (side + margin + lean + 0.1, side + rise + 0.1)
        figure, ax = plt.subplots(figsize=wide, layout="constrained")
        # The ends of the map are too dark to read on; half the range is plenty.
        ax.imshow(share, cmap="PuOr_r", vmin=-45, vmax=145, aspect="equal")
        for i in range(len(names)):
            for j in range(len(names)):
                if i == j:
                    ax.text(j, i, "\u2013", ha="center", va="center", color=MUTED)
                else:
                    part = 100 * found[names[i], names[j]][0] / max(sum(found[names[i], names[j]]), 1)
                    ax.text(j, i, f"{part:.0f}", ha="center", va="center", color=INK,
                            fontsize=min(style.small, 0.62 * square * 72))  # fmt: skip
        ax.set_xticks(range(len(names)), names, rotation=40, ha="left", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0, top=True, bottom=False, labeltop=True, labelbottom=False, pad=2)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.2)
        ax.tick_params(which="minor", length=0)
    data = pd.DataFrame(
        [{"model": a, "against": b, "won": w, "tied": t, "lost": x} for (a, b), (w, t, x) in found.items()]
    )
    caption = (
        f"Win matrix: share of samples (%) on which the row model scores above the column model "
        f"({results.measured}); "
        f"differences of less than {TIE:g} point are ties, counted half in the colour and not in the number."
    )
    return Drawn("wins", figure, data, caption)


COSTS: Mapping[str, tuple[str, Callable[[RunResult], float | None]]] = {
    "seconds": ("Seconds per image", lambda run: run.seconds),
    "parameters": ("Parameters", lambda run: run.manifest.card.parameters),
    "usd": ("Price per image (USD)", lambda run: run.price),
}
"""What quality is set against: title and how a run tells it."""


def short_number(value: float) -> str:
    """A number on an axis: 0.01, 1, 30, 5k, 2M, 12B."""
    for least, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= least:
            return f"{value / least:g}{letter}"
    return f"{value:g}"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, quality) that no other beats in both, by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def pareto_chart(results: RunSet, style: Style) -> Drawn:
    """(e) Mean recovery against seconds, size and price, each where at least two models tell it, with the Pareto front.

    Raises:
        RefbenchError: fewer than two models tell any cost.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    told: dict[str, list[tuple[RunResult, float]]] = {}
    for kind, (_, ask) in COSTS.items():
        known = [
            (run, float(c))
            for run in results.ranked
            if (c := ask(run)) is not None and c > 0 and run.numbers.cell(results.by).value is not None
        ]
        if len(known) >= 2:
            told[kind] = known
    if not told:
        raise RefbenchError(
            "Expected seconds, size or price of at least two runs for the cost figure, but none tell them."
        )
    from matplotlib.ticker import FuncFormatter

    tint, shape = colours(results.names), markers(results.names)
    rows = []
    unnamed: set[str] = set()
    drawn = []
    with rc(style):
        wide = len(told) > 1
        width = style.text if wide else min(style.column, 3.6 * style.font / 8)
        height = max(width / len(told) * 0.62 if wide else 0.55 * width, 1.9 * style.font / 8)
        figure, panels = plt.subplots(
            1, len(told), figsize=(width, min(height, style.height)), sharey=True, squeeze=False, layout="constrained"
        )
        span = limits([run.numbers.cell(results.by) for known in told.values() for run, _ in known])
        for ax, (kind, known) in zip(panels[0], told.items(), strict=True):
            points = [(cost, float(run.numbers.cell(results.by).value or 0.0)) for run, cost in known]
            front = pareto_front(points)
            costs = [p[0] for p in points]
            ax.set_xscale("log")
            spread = max(np.log10(max(costs) / min(costs)), 0.5)
            ax.set_xlim(min(costs) / 10 ** (0.26 * spread), max(costs) * 10 ** (0.3 * spread))
            ax.set_ylim(span[0], span[1] + 0.06 * (span[1] - span[0]))
            xs = [costs[i] for i in front] + [ax.get_xlim()[1]]
            ys = [points[i][1] for i in front] + [points[front[-1]][1]]
            ax.step(xs, ys, where="post", color=MUTED, linewidth=0.8 * style.line, linestyle=(0, (4, 2)), zorder=1)
            for (run, cost), point in zip(known, points, strict=True):
                found = run.numbers.cell(results.by)
                interval(ax, cost, found, tint[run.name], shape[run.name], across=False, style=style)
                rows.append({"cost": kind, "model": run.name, "x": cost, **row(run, found),
                             "on_front": points.index(point) in front})  # fmt: skip
            ax.set_xlabel(COSTS[kind][0])
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
            ax.yaxis.grid(True)
            shown = [(cost, max(value, FLOOR)) for cost, value in points]
            bars = [
                ((c, max(y if low is None else low, FLOOR)), (c, min(y if high is None else high, CEILING)))
                for (r, c), (_, y) in zip(known, shown, strict=True)
                for low, high in [(r.numbers.cell(results.by).low, r.numbers.cell(results.by).high)]
            ]
            steps = [((xs[k], ys[k]), (xs[k + 1], ys[k])) for k in range(len(xs) - 1)]
            steps += [((xs[k + 1], ys[k]), (xs[k + 1], ys[k + 1])) for k in range(len(xs) - 1)]
            drawn.append((ax, shown, [run.name for run, _ in known], bars, steps))
        panels[0][0].set_ylabel("Mean recovery" if results.by == "mean" else AXIS_TITLES[results.by])
        figure.canvas.draw()
        figure.set_layout_engine("none")
        for ax, shown, names, bars, steps in drawn:
            tints = [readable(tint[name]) for name in names]
            unnamed |= set(place_labels(ax, shown, names, tints, style, bars, steps))
    silent = sorted({r.name for r in results.models} - {r["model"] for r in rows})
    caption = (
        f"Quality ({results.measured}) against cost, with 95 % intervals; the dashed line is the Pareto front (no "
        "other model is both cheaper and better). "
        "Seconds are the median over samples on the machine of the run"
        + (f"; not shown, because they tell no cost: {', '.join(silent)}." if silent else ".")
        + (f" Not named in every panel, for want of room: {', '.join(sorted(unnamed))}." if unnamed else "")
    )
    return Drawn("cost", figure, pd.DataFrame(rows), caption, wide=wide)
