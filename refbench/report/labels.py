"""Names written beside points so that they cover neither each other nor the points and their whiskers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from refbench.report.glyphs import drawable, families
from refbench.report.style import MUTED, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Line = tuple[Point, Point]

_SIDES = ((1.0, 0.0), (-1.0, 0.0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7), (0.0, 1.0), (0.0, -1.0))
"""Where a name stands beside its point, the best first."""
_ANGLES = tuple((math.cos(a), math.sin(a)) for a in (math.tau * k / 24 for k in range(24)))
"""Where it is looked for further away; such a name is joined to its point by a line."""
FURTHEST = 5
"""How far away, in heights of a name; a line across half the figure would tell nobody whose name it is."""


class Area(NamedTuple):
    """A rectangle in display space."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, a: Point, b: Point, half: float) -> Area:
        """The rectangle of a line from `a` to `b`, `half` wide to each side."""
        return cls(min(a[0], b[0]) - half, min(a[1], b[1]) - half, max(a[0], b[0]) + half, max(a[1], b[1]) + half)

    def covers(self, other: Area) -> float:
        """The area that both cover, in px^2."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, wide) * max(0.0, tall)

    def inside(self, frame: Area) -> bool:
        """Whether it lies in the frame."""
        return (
            self.left >= frame.left
            and self.right <= frame.right
            and self.bottom >= frame.bottom
            and self.top <= frame.top
        )


def place_labels(
    ax: Axes,
    points: Sequence[Point],
    texts: Sequence[str],
    tints: Sequence[str],
    style: Style,
    whiskers: Sequence[Line] = (),
    lines: Sequence[Line] = (),
) -> list[str]:
    """Write each text near its point (data coordinates), where it covers no point, whisker, text or other label.

    The figure's layout must be settled (drawn, and its engine taken away): places are found in display space. The eight
    sides of the point come first, then places further and further away, joined to the point by a thin line. Crossing
    one of the `lines` (horizontal or vertical) counts against a place. Points with the fewest free sides are served
    first. Deterministic.

    Returns:
        The texts for which there is no place in the frame; they are not written.
    """
    from matplotlib.patheffects import withStroke

    figure = ax.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = figure.dpi / 72
    reach = 0.7 * style.marker * scale

    def shown(point: Point) -> Point:
        x, y = ax.transData.transform(point)
        return float(x), float(y)

    def display(line: Line, half: float) -> Area:
        return Area.around(shown(line[0]), shown(line[1]), half)

    spots = [shown(point) for point in points]

    taken = [Area.around(spot, spot, reach) for spot in spots]
    taken += [display(line, 0.55 * style.marker * scale) for line in whiskers]
    taken += [Area(*text.get_window_extent(renderer).extents) for text in ax.texts]
    soft = [display(line, 1.5 * scale) for line in lines]
    edge = 0.3 * style.small * scale
    outer = Area(*ax.get_window_extent(renderer).extents)
    frame = Area(outer.left + edge, outer.bottom, outer.right - edge, outer.top)
    halo = [withStroke(linewidth=0.25 * style.small, foreground="white")]
    labels = [
        ax.annotate(
            drawable(text, style.family), point, (0, 0), textcoords="offset points", ha="center", va="center",
            fontsize=style.small, fontfamily=families(text, style.family), color=tint, annotation_clip=False,
            path_effects=halo, parse_math=False,
        )
        for text, point, tint in zip(texts, points, tints, strict=True)
    ]  # fmt: skip
    sizes = [(box.width, box.height) for box in (label.get_window_extent(renderer) for label in labels)]

    def places(i: int, *, far: bool) -> Iterator[tuple[float, Area]]:
        """Free places of a label, each with what speaks against it."""
        (x, y), (wide, tall) = spots[i], sizes[i]
        for step in range(1, 2 * FURTHEST) if far else (0,):
            for rank, (dx, dy) in enumerate(_ANGLES if far else _SIDES):
                gap = reach + 0.15 * tall + 0.5 * step * tall
                # Towards a corner the label's own corner comes nearest, else the middle of its side.
                cx = x + dx * gap + min(max(1.6 * dx, -1.0), 1.0) * wide / 2
                cy = y + dy * gap + min(max(1.6 * dy, -1.0), 1.0) * tall / 2
                area = Area(cx - wide / 2, cy - tall / 2, cx + wide / 2, cy + tall / 2)
                if area.inside(frame) and not any(area.covers(other) for k, other in enumerate(taken) if k != i):
                    crossed = sum(area.covers(other) > 0 for other in soft)
                    yield step + 0.1 * rank * (not far) + 1.5 * crossed, area

    left_out = []
    free = [sum(1 for _ in places(i, far=False)) for i in range(len(points))]
    for i in sorted(range(len(points)), key=lambda i: (free[i], -spots[i][0], spots[i][1])):
        found = min(places(i, far=False), default=None) or min(places(i, far=True), default=None)
        if found is None:
            labels[i].remove()
            left_out.append(texts[i])
            continue
        area, (x, y) = found[1], spots[i]
        labels[i].xyann = (((area.left + area.right) / 2 - x) / scale, ((area.bottom + area.top) / 2 - y) / scale)
        taken.append(area)
        end = (min(max(x, area.left), area.right), min(max(y, area.bottom), area.top))
        if math.dist(end, (x, y)) > reach + 0.6 * sizes[i][1]:
            start = ax.transData.inverted().transform((x, y))
            ax.plot(
                *zip(start, ax.transData.inverted().transform(end), strict=True),
                color=MUTED, linewidth=0.4 * style.line, zorder=1.5,
            )  # fmt: skip
            taken += [
                Area.around(at, at, scale)
                for k in range(1, 20)
                for at in [(x + (end[0] - x) * k / 20, y + (end[1] - y) * k / 20)]
            ]
    return sorted(left_out)
