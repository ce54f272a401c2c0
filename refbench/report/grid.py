"""(a) The qualitative grid: draft, reference, contestants, target, with insets of the region joined by lines.

Rows are samples chosen by a stated rule, never by taste: best, median and worst of one model, the median of each
category, or a list that the caption calls a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, load_image, mask_box, resize
from refbench.report.drawn import Drawn
from refbench.report.study import Run, Study
from refbench.report.style import INK, MUTED, Style, rc
from refbench.schema import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASPECT = 4 / 3
"""Width to height of every cell."""
MARK = "#E4003A"
GAP, JOIN, SCORE, HEAD, SIDE = 0.035, 0.09, 0.125, 0.16, 0.24
"""Space between columns, between picture and inset, for a score, for the head line, for the row's name; inches
at 8 pt."""
MOST = 6
"""Contestants that fit beside draft, reference and target with cells of at least 0.55 in."""


@dataclass(frozen=True)
class Choice:
    """A sample and why it is shown."""

    label: str
    sample: str


def choose(study: Study, rule: str | Sequence[str], focus: str) -> tuple[tuple[Choice, ...], str]:
    """Samples to show, and the rule in words for the caption.

    Args:
        rule: "spread" (best, median and worst sample of `focus`), "categories" (its median sample in each
            category), or ids of samples.
        focus: name of a run; its failed samples are left out of both rules.

    Raises:
        RefbenchError: unknown rule or sample, or nothing to choose from.
    """
    run = study.run(focus)
    scores = run.samples["mean"].dropna()
    scores = scores[[s for s in scores.index if run.failed(s) is None]]
    order = sorted(scores.index, key=lambda s: (scores[s], s))
    if not isinstance(rule, str):
        unknown = [s for s in rule if s not in study.metas]
        if unknown or not rule:
            raise RefbenchError(
                f"Expected ids of planned samples to show, but '{unknown[0] if unknown else ''}' came; see the "
                "run's manifest."
            )
        return tuple(Choice("chosen", s) for s in rule), "Samples were chosen by hand."
    if not order:
        raise RefbenchError(f"Expected refined and scored samples of {focus} to show, but it has none; run it again.")
    if rule == "spread":
        middle = order[(len(order) - 1) // 2]
        picks = {"best": order[-1], "median": middle, "worst": order[0]}
        found = tuple(Choice(k, s) for k, s in picks.items() if list(picks.values()).index(s) == list(picks).index(k))
        return (
            found,
            f"Samples are the best, the median and the worst of {focus} by its mean recovery of {len(order)} "
            "refined samples.",
        )
    if rule == "categories":
        found = ()
        for category in dict.fromkeys(m.category for m in study.metas.values()):
            inside = [s for s in order if study.metas[s].category == category]
            if inside:
                found += (Choice(category, inside[(len(inside) - 1) // 2]),)
        return found, f"Samples are the median of {focus} in each category by its mean recovery."
    raise RefbenchError(
        f"Expected the rule 'spread' or 'categories' or ids of samples, but '{rule}' came; name one of these."
    )


def window(size: tuple[int, int], box: Box, aspect: float = ASPECT, *, tight: bool) -> Box:
    """The crop of an image (height, width) that a cell shows, of the cell's aspect where the image allows it.

    Args:
        box: region of interest, in px.
        tight: around the region with a little room (an inset), else as much of the image as fits the aspect,
            placed so that the region is inside as far as possible.
    """
    height, width = size
    x, y, w, h = box
    if tight:
        h2 = max(h * 1.12, w * 1.12 / aspect, 12.0)
        h2 = min(h2, height, width / aspect)
        w2 = h2 * aspect
    else:
        h2 = min(height, width / aspect)
        w2 = h2 * aspect
    left = min(max(x + w / 2 - w2 / 2, 0.0), width - w2)
    top = min(max(y + h / 2 - h2 / 2, 0.0), height - h2)
    wide, tall = max(int(w2), 1), max(int(h2), 1)
    return min(round(left), width - wide), min(round(top), height - tall), wide, tall


def _cut(image: Image, box: Box) -> Image:
    x, y, w, h = box
    return np.ascontiguousarray(image[y : y + h, x : x + w])


def grid(
    study: Study,
    style: Style,
    *,
    rule: str | Sequence[str] = "spread",
    focus: str | None = None,
    contestants: Sequence[str] | None = None,
    name: str = "qualitative",
) -> Drawn:
    """Draw the grid.

    Args:
        rule: see :func:`choose`.
        focus: the model the rule looks at; None is the first run.
        contestants: names of runs in the order of the columns; None is all, or the best ``MOST`` by mean recovery.

    Raises:
        RefbenchError: unknown run, sample or rule, or an output that is missing or broken.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    focus = focus or study.names[0]
    choices, words = choose(study, rule, focus)
    shown = [study.run(n) for n in contestants] if contestants else list(study.runs)
    left_out = len(shown) > MOST
    if left_out:
        best = {r.name for r in study.ranked[:MOST]} | {focus}
        shown = [r for r in shown if r.name in best]
    columns = 3 + len(shown)
    unit = style.font / 8
    cell = (style.text - SIDE * unit - (columns - 1) * GAP * unit) / columns
    tall = cell / ASPECT
    block = 2 * tall + JOIN * unit + SCORE * unit
    height = HEAD * unit + len(choices) * block + (len(choices) - 1) * 0.05 * unit
    scale = min(1.0, style.height / height)
    total = (style.text * scale, height * scale)
    rows = []
    with rc(style):
        figure = plt.figure(figsize=total)
        place = _Place(figure, style, scale, height)
        heads = ["Draft", "Reference", *(r.name for r in shown), "Target"]
        for c, head in enumerate(heads):
            place.text(_left(c, cell, unit) + cell / 2, HEAD * unit * 0.4, head, room=cell, bold=head == focus)
        for r, choice in enumerate(choices):
            top = HEAD * unit + r * (block + 0.05 * unit)
            middle, room = top + tall + JOIN * unit / 2, 2 * tall + JOIN * unit
            place.text(SIDE * unit * 0.28, middle, choice.label, room=room, bold=True, turned=True)
            place.text(SIDE * unit * 0.72, middle, choice.sample, room=room, soft=True, turned=True)
            for c, (image, box, note) in enumerate(_cells(study, choice.sample, shown)):
                place.cell(image, box, note, _left(c, cell, unit), top, cell, tall, unit)
            for run in study.runs:
                rows.append(
                    {
                        "rule": choice.label,
                        "sample": choice.sample,
                        "model": run.name,
                        "shown": run in shown,
                        "recovery": run.samples["mean"].get(choice.sample),
                        "failed": run.failed(choice.sample),
                    }
                )
    caption = (
        f"Draft, reference, refinements and target, with the masked region enlarged. {words} "
        "Numbers are the sample's mean recovery (0 trivial, 100 truth, clipped to [-100, 100])."
        + (f" Shown are the {len(shown)} best of {len(study.runs)} models." if left_out else "")
    )
    return Drawn(name, figure, pd.DataFrame(rows), caption, wide=True)


def _left(column: int, cell: float, unit: float) -> float:
    return SIDE * unit + column * (cell + GAP * unit)


def _cells(study: Study, sample: str, shown: Sequence[Run]) -> list[tuple[Image | None, Box | None, str]]:
    """Picture, region and note of each column of one row."""
    held = study.suite.sample(sample)
    box = mask_box(held.mask)
    cells: list[tuple[Image | None, Box | None, str]] = [
        (held.draft, box, ""), (held.reference, held.reference_box, ""),
    ]  # fmt: skip
    for run in shown:
        value = run.samples["mean"].get(sample, np.nan)
        if run.failed(sample) is not None:
            cells.append((None, None, "failed"))
        else:
            note = whole(value) if np.isfinite(value) else "not scored"
            cells.append((load_image(run.output(held.meta)), box, note))
    return [*cells, (study.suite.target(sample), box, "")]


def whole(value: float) -> str:
    """A number without decimals, with a minus sign for print and no minus zero."""
    return f"{round(value)}".replace("-", "\u2212")


class _Place:
    """Puts pictures, lines and words at inches from the top left of the unscaled figure."""

    def __init__(self, figure: Figure, style: Style, scale: float, height: float) -> None:
        self.figure, self.style, self.scale = figure, style, scale
        self.width, self.height = style.text, height

    def _rect(self, x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        room: float,
        bold: bool = False,
        soft: bool = False,
        turned: bool = False,
    ) -> None:
        """Write centred at (x, y); smaller, and then cut short, where it would be longer than `room` inches."""
        letter = (0.5 if self.style.family.startswith("STIX") else 0.57) * (1.1 if bold else 1.0)
        fits = room * self.scale * 72 / (letter * max(len(text), 1))
        least = 0.6 * self.style.small
        size = min(self.style.small * max(self.scale, 0.7), max(fits, least))
        if fits < least:
            text = text[: max(int(room * self.scale * 72 / (letter * least)) - 1, 1)] + "\u2026"
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            ha="center",
            va="center",
            rotation=90 if turned else 0,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=MUTED if soft else INK,
            parse_math=False,
        )

    def picture(self, image: Image, x: float, y: float, w: float, h: float) -> Any:
        ax = self.figure.add_axes(self._rect(x, y, w, h))
        # Pictures are brought to print resolution here, so that the PDF holds no more pixels than the printer shows.
        px = (max(round(h * self.scale * self.style.dpi), 1), max(round(w * self.scale * self.style.dpi), 1))
        ax.imshow(resize(image, px), interpolation="none", aspect="auto")
        ax.set_axis_off()
        return ax

    def cell(
        self, image: Image | None, box: Box | None, note: str, x: float, y: float, w: float, h: float, unit: float
    ) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        join, thin = JOIN * unit, 0.55 * self.style.line
        if image is None:
            ax = self.figure.add_axes(self._rect(x, y, w, 2 * h + join))
            ax.set_facecolor("#ececec")
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
            ax.text(
                0.5, 0.5, note, ha="center", va="center", color=MUTED, fontsize=self.style.small, transform=ax.transAxes
            )
            return
        if box is None:
            # Nothing is known about where the detail is: the whole picture, as large as the block allows.
            tall, wide = image.shape[:2]
            fit = min(w / wide, (2 * h + join) / tall)
            self.picture(image, x + (w - wide * fit) / 2, y + (2 * h + join - tall * fit) / 2, wide * fit, tall * fit)
            return
        outer, inner = window(image.shape[:2], box, tight=False), window(image.shape[:2], box, tight=True)
        ax = self.picture(_cut(image, outer), x, y, w, h)
        zoom = self.picture(_cut(image, inner), x, y + h + join, w, h)
        left, top = (inner[0] - outer[0]) / outer[2], (inner[1] - outer[1]) / outer[3]
        wide, tall = inner[2] / outer[2], inner[3] / outer[3]
        for colour, line in (("white", 2.2 * thin), (MARK, thin)):
            ax.add_patch(
                Rectangle((left, 1 - top - tall), wide, tall, transform=ax.transAxes, fill=False, edgecolor=colour,
                          linewidth=line, joinstyle="miter")
            )  # fmt: skip
        zoom.add_patch(
            Rectangle(
                (0, 0),
                1,
                1,
                transform=zoom.transAxes,
                fill=False,
                edgecolor=MARK,
                linewidth=2 * thin,
                joinstyle="miter",
            )
        )
        bottom = y + (min(top + tall, 1.0)) * h
        for start, end in ((left, 0.0), (left + wide, 1.0)):
            xs, ys = (x + start * w, x + end * w), (bottom, y + h + join)
            self.figure.add_artist(
                Line2D(
                    [v / self.width for v in xs],
                    [1 - v / self.height for v in ys],
                    color=MARK,
                    linewidth=thin,
                    zorder=5,
                )
            )
        if note:
            self.text(x + w / 2, y + 2 * h + join + SCORE * unit * 0.5, note, room=w)
