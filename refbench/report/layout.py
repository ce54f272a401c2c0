"""Where everything in the qualitative grid goes, so that no name is cut and no picture smaller than it must be.

The page decides: cells take the width there is; where rows would be higher than the page, cells become flatter (from
4:3 to 16:9), then narrower, and at last the whole pictures are left out and only the regions stay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from refbench.report.style import Style, text_width

NARROW, WIDE = 4 / 3, 16 / 9
"""Width to height of the cells where there is room, and at most."""
GAP, JOIN, SCORE, ROW, SIDE = 0.035, 0.09, 0.13, 0.05, 0.24
"""Space between columns, between picture and inset, for a score, between rows, for the turned names of a row; inches at
8 pt."""
LEAST_TALL = 0.03
"""Pictures lower than this (inches a point of the style's type) are left out for the region alone."""
ANGLE = 38.0
"""Of head lines that do not fit above their column, in degrees."""


@dataclass(frozen=True)
class Layout:
    """The geometry of a grid; lengths in inches from the top left, type in points."""

    width: float
    height: float
    side: float
    head: float
    cell: float
    tall: float
    """Height of one picture."""
    gap: float
    join: float
    score: float
    row: float
    context: bool
    """Whether the whole picture stands above the region."""
    heads: tuple[tuple[str, ...], ...]
    """Lines of each head."""
    head_size: float
    slanted: bool
    flat: bool
    """Whether a row's names lie flat, one below the other, rather than turned."""
    side_size: float

    @property
    def room(self) -> float:
        """Height of a row's pictures without its score."""
        return 2 * self.tall + self.join if self.context else self.tall

    def left(self, column: int) -> float:
        """Left edge of a column."""
        return self.side + column * (self.cell + self.gap)

    def top(self, row: int) -> float:
        """Upper edge of a row."""
        return self.head + row * (self.room + self.score + self.row)


def wrap(name: str, room: float, size: float, style: Style) -> tuple[str, ...] | None:
    """Break a name behind hyphens, underscores, dots and spaces into at most three lines of `room` inches, or None."""
    if text_width(name, size, style) <= room:
        return (name,)
    lines: list[str] = []
    for part in re.findall(r"[^-_./ ]*[-_./ ]+|[^-_./ ]+", name):
        if lines and text_width(lines[-1] + part.rstrip(), size, style) <= room:
            lines[-1] += part
        else:
            lines.append(part)
    lines = [line.rstrip() for line in lines]
    fits = len(lines) <= 3 and all(text_width(line, size, style) <= room for line in lines)
    return tuple(lines) if fits else None


def plan(style: Style, heads: Sequence[str], sides: Sequence[tuple[str, str]]) -> Layout:
    """Lay out a grid with these heads (one a column) and these names of the rows (label and sample)."""
    unit = style.font / 8
    whole = _fit(style, heads, sides, unit, context=True)
    return whole if whole.tall >= LEAST_TALL * style.font else _fit(style, heads, sides, unit, context=False)


def _fit(style: Style, heads: Sequence[str], sides: Sequence[tuple[str, str]], unit: float, *, context: bool) -> Layout:
    columns, rows = len(heads), len(sides)
    least = max(0.75 * style.small, 6.0)
    gap, row = GAP * unit, ROW * unit
    join, score = (JOIN if context else 0.0) * unit, SCORE * unit
    turned = SIDE * unit
    lying = (
        max(text_width(line, least, style, bold=True) for names in sides for line in flat_lines(*names)) + 0.1 * unit
    )
    wanted = _heads(heads, (style.text - turned - (columns - 1) * gap) / columns, least, style)
    for flat in (True, False):
        side = lying if flat else turned
        lines, size, slanted = wanted
        # Twice, because cells that become narrower may slant the heads, which then are higher.
        for _ in range(2):
            head = _head_height(lines, size, slanted, style)
            cell = (style.text - side - (columns - 1) * gap) / columns
            block = (style.height - head - (rows - 1) * row) / rows - score
            most = (block - join) / 2 if context else block
            tall = min(cell / NARROW, max(most, cell / WIDE))
            if tall > most:
                tall = max(most, 0.01)
                cell = tall * WIDE
            lines, size, slanted = _heads(heads, cell, least, style)
        head = _head_height(lines, size, slanted, style)
        block = (style.height - head - (rows - 1) * row) / rows - score
        tall = max(min(tall, (block - join) / 2 if context else block), 0.01)
        laid = Layout(
            width=side + columns * cell + (columns - 1) * gap, height=0.0, side=side, head=head, cell=cell, tall=tall,
            gap=gap, join=join, score=score, row=row, context=context, heads=lines, head_size=size, slanted=slanted,
            flat=flat, side_size=least,
        )  # fmt: skip
        laid = replace(laid, height=laid.top(rows) - row)
        longest = max(text_width(name, style.small, style) for _, name in sides)
        if not flat:
            fits = style.small * min(1.0, (laid.room + score) / longest)
            return replace(laid, side_size=fits)
        # Names lie flat only where the height of the page leaves width over, or where they are too long to be turned.
        spare = style.text - laid.width > 0.02 * style.text
        if spare or least / style.small * longest > laid.room + score:
            return laid
    raise AssertionError("unreachable")


def flat_lines(label: str, sample: str) -> tuple[str, ...]:
    """A row's names one below the other: the label, the task, the number."""
    task, hyphen, number = sample.rpartition("-")
    return (label, task, number) if hyphen else (label, sample)


def _heads(
    heads: Sequence[str], room: float, least: float, style: Style
) -> tuple[tuple[tuple[str, ...], ...], float, bool]:
    """Lines, size, and whether slanted: the largest size at which every name fits its column, else slanted."""
    size = style.small
    while size >= least:
        lines = [wrap(name, room, size, style) for name in heads]
        if all(lines):
            return tuple(found for found in lines if found), size, False
        size -= 0.25
    # The last names must not lean out of the page; the very last one stays level.
    size, slope = max(0.85 * style.small, least), math.cos(math.radians(ANGLE))
    out = [(name, (len(heads) - number - 0.5) * room) for number, name in enumerate(heads[:-1])]
    out.append((heads[-1], slope * room))
    fit = min(1.0, *(free / max(slope * text_width(name, size, style), 1e-6) for name, free in out))
    size *= max(fit, 0.7)
    return tuple((_cut(name, free / slope, size, style),) for name, free in out), size, True


def _cut(name: str, room: float, size: float, style: Style) -> str:
    if text_width(name, size, style) <= 1.001 * room:
        return name
    while name and text_width(name + "\u2026", size, style) > room:
        name = name[:-1]
    return name + "\u2026"


def _head_height(lines: Sequence[Sequence[str]], size: float, slanted: bool, style: Style) -> float:
    if slanted:
        longest = max(text_width(line, size, style) for found in lines for line in found)
        lean = math.radians(ANGLE)
        return longest * math.sin(lean) + 1.1 * size / 72 * math.cos(lean) + 0.04
    return max(len(found) for found in lines) * 1.15 * size / 72 + 0.04
