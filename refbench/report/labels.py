"""Names written beside points so that they overlap neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refbench.report.style import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDES = (
    ("left", "center", 1.0, 0.0), ("right", "center", -1.0, 0.0),
    ("left", "bottom", 0.7, 0.7), ("right", "bottom", -0.7, 0.7),
    ("left", "top", 0.7, -0.7), ("right", "top", -0.7, -0.7),
    ("center", "bottom", 0.0, 1.6), ("center", "top", 0.0, -1.6),
)  # fmt: skip
"""Horizontal and vertical alignment of the label, and its offset in marker sizes."""


def place_labels(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    tints: Sequence[str],
    style: Style,
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write each text beside its point (data coordinates), at the side that hides least.

    Sides are tried in a fixed order, for the rightmost points first; overlap with labels already placed, with points
    and with the frame's edge counts against a side, and so does crossing one of the `lines` (horizontal or vertical,
    from data point to data point). Deterministic.
    """
    from matplotlib.patheffects import withStroke

    figure = ax.figure
    # The layout must be settled before text can be measured in display space.
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = figure.dpi / 72
    spots = [tuple(ax.transData.transform(p)) for p in points]
    reach = 0.7 * style.marker * scale
    taken = [(x - reach, y - reach, x + reach, y + reach) for x, y in spots]
    for start, end in lines:
        (x0, y0), (x1, y1) = ax.transData.transform(start), ax.transData.transform(end)
        half = 1.5 * scale
        taken.append((min(x0, x1) - half, min(y0, y1) - half, max(x0, x1) + half, max(y0, y1) + half))
    frame = ax.get_window_extent(renderer)
    edge = 0.4 * style.small * scale
    halo = [withStroke(linewidth=0.25 * style.small, foreground="white")]
    for i in sorted(range(len(points)), key=lambda i: (-spots[i][0], spots[i][1])):
        best = None
        for rank, (ha, va, dx, dy) in enumerate(_SIDES):
            label = ax.annotate(
                texts[i], points[i], (dx * style.marker, dy * style.marker), textcoords="offset points", ha=ha, va=va,
                fontsize=style.small, color=tints[i], annotation_clip=False, path_effects=halo,
            )  # fmt: skip
            box = label.get_window_extent(renderer)
            area = (box.x0, box.y0, box.x1, box.y1)
            cost = sum(_overlap(area, other) for j, other in enumerate(taken) if j != i)
            cost += 4 * (max(0.0, frame.x0 + edge - area[0]) + max(0.0, area[2] + edge - frame.x1)) * box.height
            cost += 4 * (max(0.0, frame.y0 - area[1]) + max(0.0, area[3] - frame.y1)) * box.width
            cost += rank * 0.02 * box.width * box.height
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, label, area)
            else:
                label.remove()
        if best is not None:
            taken.append(best[2])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
