"""(a) The qualitative grid: draft, reference, models, target, with insets of the region joined by lines.

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
from refbench.report.layout import ANGLE, NARROW, Layout, flat_lines, plan
from refbench.report.style import INK, MUTED, Style, rc, sideways, text_width
from refbench.results.resultset import RunSet
from refbench.results.run import RunResult
from refbench.schema import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARK = "#E4003A"
MOST = 6
"""Models that fit beside draft, reference and target on an upright page with cells of at least 0.55 in."""


@dataclass(frozen=True)
class Choice:
    """A sample and why it is shown."""

    label: str
    sample: str


def choose(results: RunSet, rule: str | Sequence[str], focus: str) -> tuple[tuple[Choice, ...], str]:
    """Samples to show, and the rule in words for the caption.

    Args:
        rule: "spread" (best, median and worst sample of `focus`), "categories" (its median sample in each
            category), "typical" (in each category the median sample by the mean of all runs, no run preferred), or ids
            of samples.
        focus: name of a run; its failed samples are left out of the first two rules.

    Raises:
        RefbenchError: unknown rule or sample, or nothing to choose from.
    """
    run = results.run(focus)
    scores = run.points[results.by].dropna()
    scores = scores[[s for s in scores.index if run.failed(s) is None]]
    order = sorted(scores.index, key=lambda s: (scores[s], s))
    if not isinstance(rule, str):
        unknown = [s for s in rule if s not in results.metas]
        if unknown or not rule:
            raise RefbenchError(
                f"Expected ids of planned samples to show, but '{unknown[0] if unknown else ''}' came; see the "
                "run's manifest."
            )
        return tuple(Choice("chosen", s) for s in rule), "Samples were chosen by hand."
    if rule == "typical":
        means = results.sample_scores().mean(axis=1).dropna()
        ranks = sorted(means.index, key=lambda s: (means[s], s))
        return (
            _medians(results, ranks),
            f"Samples are the median of each category by the mean {results.by_name} of all {len(results.models)} "
            "models.",
        )
    if not order:
        raise RefbenchError(f"Expected refined and scored samples of {focus} to show, but it has none; run it again.")
    if rule == "spread":
        middle = order[(len(order) - 1) // 2]
        picks = {"best": order[-1], "median": middle, "worst": order[0]}
        found = tuple(Choice(k, s) for k, s in picks.items() if list(picks.values()).index(s) == list(picks).index(k))
        return (
            found,
            f"Samples are the best, the median and the worst of {focus} by its {results.by_name} of {len(order)} "
            "refined samples.",
        )
    if rule == "categories":
        words = f"Samples are the median of {focus} in each category by its {results.by_name}."
        return _medians(results, order), words
    raise RefbenchError(
        f"Expected the rule 'spread', 'categories' or 'typical' or ids of samples, but '{rule}' came; name one of "
        "these."
    )


def _medians(results: RunSet, order: Sequence[str]) -> tuple[Choice, ...]:
    """The middle one of each category of samples that are in rising order."""
    found = []
    for category in dict.fromkeys(m.category for m in results.metas.values()):
        inside = [s for s in order if results.metas[s].category == category]
        if inside:
            found.append(Choice(category, inside[(len(inside) - 1) // 2]))
    return tuple(found)


def window(size: tuple[int, int], box: Box, aspect: float = NARROW, *, tight: bool) -> Box:
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


def fills(size: tuple[int, int], box: Box, aspect: float = NARROW) -> bool:
    """Whether an inset of the region would enlarge it by less than a quarter, and so repeat the picture above it."""
    inner, outer = (window(size, box, aspect, tight=tight) for tight in (True, False))
    return inner[2] > 0.8 * outer[2]


def _cut(image: Image, box: Box) -> Image:
    x, y, w, h = box
    return np.ascontiguousarray(image[y : y + h, x : x + w])


def grid(
    results: RunSet,
    style: Style,
    *,
    rule: str | Sequence[str] = "spread",
    focus: str | None = None,
    models: Sequence[str] | None = None,
    name: str = "qualitative",
    everyone: bool = False,
) -> Drawn:
    """Draw the grid.

    Args:
        rule: see :func:`choose`.
        focus: the model the rule looks at; None is the first run.
        models: names of runs in the order of the columns; None is all, or the best ``MOST`` by score.
        everyone: show every run (best first, where `models` names none), on a page turned by 90 degrees.

    Raises:
        RefbenchError: unknown run, sample or rule, or an output that is missing or broken.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    focus = focus or results.names[0]
    choices, words = choose(results, rule, focus)
    shown = [results.run(n) for n in models] if models else list(results.ranked if everyone else results.models)
    if not everyone and len(shown) > MOST:
        best = {r.name for r in results.ranked[:MOST]} | {focus}
        shown = [r for r in shown if r.name in best]
    if everyone:
        style = sideways(style)
    heads = ["Draft", "Reference", *(r.name for r in shown), *(["Target"] if results.suite.targets else [])]
    laid = plan(style, heads, [(c.label, c.sample) for c in choices])
    rows = []
    with rc(style):
        figure = plt.figure(figsize=(laid.width, laid.height))
        place = _Place(figure, style, laid)
        for c, lines in enumerate(laid.heads):
            place.head(c, lines, bold=heads[c] == focus)
        for r, choice in enumerate(choices):
            place.side(r, choice.label, choice.sample)
            for c, (image, box, note) in enumerate(_cells(results, choice.sample, shown)):
                place.cell(image, box, note, laid.left(c), laid.top(r))
            for run in results.models:
                rows.append(
                    {
                        "rule": choice.label,
                        "sample": choice.sample,
                        "model": run.name,
                        "shown": run in shown,
                        "recovery": run.points[results.by].get(choice.sample),
                        "failed": run.failed(choice.sample),
                    }
                )
    targets = results.suite.targets
    pictures = "draft, reference, refinements and target" if targets else "draft, reference and refinements"
    what = f"{pictures.capitalize()}, with the masked region enlarged"
    what = what if laid.context else f"The masked region of {pictures}"
    everywhere = laid.context and any(
        fills(held.mask.shape, mask_box(held.mask), laid.cell / laid.tall)
        for held in (results.suite.sample(choice.sample) for choice in choices)
    )
    what += " where it does not fill the picture. " if everywhere else ". "
    caption = (
        f"{what}{words} "
        f"Numbers are the sample's {results.by_name} (score {results.score}: 0 trivial, 100 truth, in [-100, 100])."
        + (f" Shown are {len(shown)} of {len(results.models)} models" if len(shown) < len(results.models) else "")
        + ((", the best." if not models else ".") if len(shown) < len(results.models) else "")
    )
    return Drawn(name, figure, pd.DataFrame(rows), caption, wide=True, sideways=everyone)


def _cells(results: RunSet, sample: str, shown: Sequence[RunResult]) -> list[tuple[Image | None, Box | None, str]]:
    """Picture, region and note of each column of one row."""
    held = results.suite.sample(sample)
    box = mask_box(held.mask)
    cells: list[tuple[Image | None, Box | None, str]] = [
        (held.draft, box, ""), (held.reference, held.reference_box, ""),
    ]  # fmt: skip
    for run in shown:
        value = run.points[results.by].get(sample, np.nan)
        if run.failed(sample) is not None:
            cells.append((None, None, "failed"))
        else:
            note = whole(value) if np.isfinite(value) else "not scored"
            cells.append((load_image(run.output(held.meta)), box, note))
    return [*cells, *([(results.suite.target(sample), box, "")] if results.suite.targets else [])]


def whole(value: float) -> str:
    """A number without decimals, with a minus sign for print and no minus zero."""
    return f"{round(value)}".replace("-", "\u2212")


class _Place:
    """Puts pictures, lines and words at inches from the top left of the figure."""

    def __init__(self, figure: Figure, style: Style, laid: Layout) -> None:
        self.figure, self.style, self.laid = figure, style, laid

    def _rect(self, x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        wide, tall = self.laid.width, self.laid.height
        return x / wide, 1 - (y + h) / tall, w / wide, h / tall

    def text(self, x: float, y: float, text: str, size: float, **more: Any) -> None:
        """Write at (x, y), centred unless told otherwise."""
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "parse_math": False} | more
        self.figure.text(x / self.laid.width, 1 - y / self.laid.height, text, fontsize=size, **look)

    def head(self, column: int, lines: Sequence[str], *, bold: bool) -> None:
        """Write a column's name above it; bold where that still fits."""
        laid, middle = self.laid, self.laid.left(column) + self.laid.cell / 2
        leans = laid.slanted and column < len(laid.heads) - 1
        wide = max(text_width(line, laid.head_size, self.style, bold=True) for line in lines)
        look: dict[str, Any] = {"va": "baseline"}
        if bold and (leans or wide <= laid.cell + laid.gap):
            look["fontweight"] = "bold"
        if leans:
            look |= {"rotation": ANGLE, "rotation_mode": "anchor", "ha": "left"}
        base = laid.head - 0.03 - 0.25 * laid.head_size / 72
        for number, line in enumerate(reversed(lines)):
            self.text(middle, base - number * 1.1 * laid.head_size / 72, line, laid.head_size, **look)

    def side(self, row: int, label: str, sample: str) -> None:
        """Write a row's label and sample at its left."""
        laid = self.laid
        middle = laid.top(row) + laid.room / 2
        if laid.flat:
            lines = flat_lines(label, sample)
            step = 1.2 * laid.side_size / 72
            for number, line in enumerate(lines):
                look = {"fontweight": "bold"} if number == 0 else {"color": MUTED}
                at = middle + (number - (len(lines) - 1) / 2) * step
                self.text(0.02, at, line, laid.side_size, ha="left", **look)
            return
        # A turned name may be as long as row and score together; it stays inside the figure.
        half = text_width(sample, laid.side_size, self.style) / 2
        centre = min(middle, laid.height - half) if half > laid.room / 2 else middle
        self.text(laid.side * 0.28, middle, label, laid.side_size, fontweight="bold", rotation=90)
        self.text(laid.side * 0.7, centre, sample, laid.side_size, color=MUTED, rotation=90)

    def picture(self, image: Image, x: float, y: float, w: float, h: float) -> Any:
        ax = self.figure.add_axes(self._rect(x, y, w, h))
        # Pictures are brought to print resolution here, so that the PDF holds no more pixels than the printer shows.
        px = (max(round(h * self.style.dpi), 1), max(round(w * self.style.dpi), 1))
        ax.imshow(resize(image, px), interpolation="none", aspect="auto")
        ax.set_axis_off()
        return ax

    def cell(self, image: Image | None, box: Box | None, note: str, x: float, y: float) -> None:
        """Draw one answer: the picture, below it the region joined by lines, below it a note."""
        laid = self.laid
        w, h, room = laid.cell, laid.tall, laid.room
        if image is None:
            ax = self.figure.add_axes(self._rect(x, y, w, room))
            ax.set_facecolor("#ececec")
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
            size = self.style.small
            ax.text(0.5, 0.5, note, ha="center", va="center", color=MUTED, fontsize=size, transform=ax.transAxes)
            return
        if box is None or (laid.context and fills(image.shape[:2], box, w / h)):
            # Nothing is known about where the detail is, or it is everywhere: the whole picture, as large as the block
            # allows.
            tall, wide = image.shape[:2]
            fit = min(w / wide, room / tall)
            self.picture(image, x + (w - wide * fit) / 2, y + (room - tall * fit) / 2, wide * fit, tall * fit)
        else:
            inner = window(image.shape[:2], box, w / h, tight=True)
            if laid.context:
                self.joined(image, window(image.shape[:2], box, w / h, tight=False), inner, x, y)
            else:
                self.picture(_cut(image, inner), x, y, w, h)
        if note:
            wide = text_width(note, self.style.small, self.style)
            self.text(x + w / 2, y + room + laid.score / 2, note, self.style.small * min(1.0, w / max(wide, 1e-6)))

    def joined(self, image: Image, outer: Box, inner: Box, x: float, y: float) -> None:
        """Draw a picture and, below it, its region, with a frame around both and lines between."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        w, h, join, thin = self.laid.cell, self.laid.tall, self.laid.join, 0.55 * self.style.line
        ax = self.picture(_cut(image, outer), x, y, w, h)
        zoom = self.picture(_cut(image, inner), x, y + h + join, w, h)
        left, top = (inner[0] - outer[0]) / outer[2], (inner[1] - outer[1]) / outer[3]
        wide, tall = inner[2] / outer[2], inner[3] / outer[3]
        for colour, line in (("white", 2.2 * thin), (MARK, thin)):
            ax.add_patch(
                Rectangle((left, 1 - top - tall), wide, tall, transform=ax.transAxes, fill=False, edgecolor=colour,
                          linewidth=line, joinstyle="miter")
            )  # fmt: skip
        frame: dict[str, Any] = {"fill": False, "edgecolor": MARK, "linewidth": 2 * thin, "joinstyle": "miter"}
        zoom.add_patch(Rectangle((0, 0), 1, 1, transform=zoom.transAxes, **frame))
        bottom = y + (min(top + tall, 1.0)) * h
        for start, end in ((left, 0.0), (left + wide, 1.0)):
            xs, ys = (x + start * w, x + end * w), (bottom, y + h + join)
            line_x, line_y = [v / self.laid.width for v in xs], [1 - v / self.laid.height for v in ys]
            self.figure.add_artist(Line2D(line_x, line_y, color=MARK, linewidth=thin, zorder=5))
