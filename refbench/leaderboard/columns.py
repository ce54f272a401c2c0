"""The board's columns: an ordered registry with one producer a column. A new column is one function here.

A column belongs to a *view* (a table of the board). Its producer takes a :class:`Row` and returns a value of
the column's kind; what it returns is checked, so that a wrong column is told by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from refbench.leaderboard.entry import Entry
from refbench.leaderboard.verdict import Verdict
from refbench.schema import AXES, CATEGORIES, MODES, PIXEL
from refbench.stats.gains import NO_TARGETS
from refbench.stats.ranking import Standing
from refbench.stats.recovery import Cell, Summary

View: TypeAlias = Literal["overall", "categories", "modes", "difficulty", "cost", "claims"]
Kind: TypeAlias = Literal["cell", "rating", "place", "number", "text", "flag"]
VIEWS: dict[View, str] = {
    "overall": "Overall",
    "categories": "By category",
    "modes": "By mode and view",
    "difficulty": "By difficulty",
    "cost": "Cost and licence",
    "claims": "Claimed and verified",
}
"""Views in the order of the board, with their headings."""


@dataclass(frozen=True, slots=True)
class Place:
    """A range of places."""

    best: int
    worst: int


Value: TypeAlias = Cell | Place | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the board, as the producers see it."""

    entry: Entry
    verdict: Verdict | None
    summary: Summary
    """Recomputed from the entry's scores and the board's baseline sheet."""
    standing: Standing
    leads: Mapping[str, bool] = field(default_factory=dict)
    """Column key -> whether no other model is better there (with 95 % confidence, jointly)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one view."""

    key: str
    title: str
    view: View
    kind: Kind
    help: str
    produce: Callable[[Row], Value]
    better: Literal["higher", "lower", None] = None
    scope: tuple[str, str, str] | None = None
    """For recovery cells: metadata column ("" for all samples), name in it, and axis or "mean"."""

    def value(self, row: Row) -> Value:
        """The value for a row, of the column's kind.

        Raises:
            TypeError: the producer returned something else.
        """
        found = self.produce(row)
        if not _fits(self.kind, found):
            raise TypeError(f"Column '{self.key}' of kind '{self.kind}' produced {found!r} for '{row.entry.name}'.")
        return found


def _fits(kind: Kind, value: Value) -> bool:
    if value is None:
        return kind != "text"
    if kind in ("cell", "rating"):
        return isinstance(value, Cell)
    if kind == "place":
        return isinstance(value, Place)
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str)


COLUMNS: list[Column] = []
"""All columns in order. Tests check that keys are unique and every view has some."""


def column(
    key: str,
    title: str,
    view: View,
    kind: Kind,
    help: str,
    *,
    better: Literal["higher", "lower", None] = None,
    scope: tuple[str, str, str] | None = None,
) -> Callable[[Callable[[Row], Value]], Callable[[Row], Value]]:
    """Register the decorated producer as the next column."""

    def register(produce: Callable[[Row], Value]) -> Callable[[Row], Value]:
        COLUMNS.append(Column(key, title, view, kind, help, produce, better, scope))
        return produce

    return register


def columns_of(view: View, columns: Sequence[Column] | None = None) -> list[Column]:
    """The columns of a view, in order."""
    return [one for one in (COLUMNS if columns is None else columns) if one.view == view]


# ---- overall


@column("place", "place", "overall", "place", "Range of places: models that cannot be told apart share them.")
def _place(row: Row) -> Value:
    return Place(row.standing.best_place, row.standing.worst_place)


@column(
    "mean",
    "score",
    "overall",
    "cell",
    "Texture and alignment, the lower one by three quarters, times consistency; in recovery points.",
    better="higher",
    scope=("", "", "mean"),
)
def _mean(row: Row) -> Value:
    return row.summary.mean


def _axis(axis: str) -> Callable[[Row], Value]:
    return lambda row: row.summary.axes[axis]


for _axis_name, _title in zip(AXES, ("texture", "alignment", "consistency"), strict=True):
    column(
        _axis_name,
        _title,
        "overall",
        "cell",
        f"{_axis_name.replace('_', ' ').capitalize()}: 0 is a trivial answer, 100 the truth.",
        better="higher",
        scope=("", "", _axis_name),
    )(_axis(_axis_name))


@column(
    PIXEL,
    "pixel (not in the score)",
    "overall",
    "cell",
    "Pixel fidelity: every pixel at its place, as published tables count; beside the score.",
    better="higher",
    scope=("", "", PIXEL),
)
def _pixel(row: Row) -> Value:
    return row.summary.pixel_fidelity


@column(
    "rating",
    "rating",
    "overall",
    "rating",
    "Bradley-Terry rating from sample-by-sample comparisons, pool mean 1000.",
    better="higher",
)
def _rating(row: Row) -> Value:
    return Cell(value=row.standing.rating, low=row.standing.rating_low, high=row.standing.rating_high)


@column("duels", "won–tied–lost", "overall", "text", "Sample-by-sample comparisons with every other model.")
def _duels(row: Row) -> Value:
    return f"{row.standing.wins}–{row.standing.ties}–{row.standing.losses}"


@column(
    "failed", "failed", "overall", "number", "Samples without an answer; they score as the draft does.", better="lower"
)
def _failed(row: Row) -> Value:
    return row.summary.failed


@column("status", "checked", "overall", "text", "Whether every claim was recomputed from the images.")
def _status(row: Row) -> Value:
    return row.verdict.verdict if row.verdict else "claimed only"


# ---- by category, mode, view, difficulty: the score there, or without targets the first axis that is measured


def _inside(kind: str, name: str) -> Callable[[Row], Value]:
    def produce(row: Row) -> Value:
        tables = {"category": row.summary.categories, "mode": row.summary.modes, **row.summary.others}
        cells = tables.get(kind, {}).get(name, {})
        measured = [one for one in ("mean", *AXES) if one in cells and cells[one].reason != NO_TARGETS]
        return cells[measured[0]] if measured else None

    return produce


for _view, _kind, _names in (
    ("categories", "category", CATEGORIES),
    ("modes", "mode", MODES),
    ("modes", "view", ("true", "composed")),
    ("difficulty", "difficulty", ("easy", "medium", "hard")),
):
    for _name in _names:
        _words = {
            "category": f"Samples of the category {_name}.",
            "mode": f"Samples to {_name}.",
            "view": f"Samples whose reference is a {_name} view.",
            "difficulty": f"The third of the suite whose drafts are {_name}, by their PSNR.",
        }[_kind]
        column(
            f"{_kind}_{_name}",
            f"{_name} views" if _kind == "view" else _name,
            _view,  # type: ignore[arg-type]
            "cell",
            _words,
            better="higher",
            scope=(_kind, _name, "mean"),
        )(_inside(_kind, _name))


# ---- cost and licence


@column(
    "seconds",
    "s / image",
    "cost",
    "number",
    "Median seconds for a sample, on that hardware.",
    better="lower",
)
def _seconds(row: Row) -> Value:
    return row.entry.cost.seconds


@column("hardware", "hardware", "cost", "text", "Where those seconds were measured.")
def _hardware(row: Row) -> Value:
    return row.entry.cost.hardware


@column("vram", "VRAM, GB", "cost", "number", "Graphics memory that the model needs.", better="lower")
def _vram(row: Row) -> Value:
    return row.entry.cost.vram_gb


@column("price", "USD / image", "cost", "number", "Price of one sample.", better="lower")
def _price(row: Row) -> Value:
    return row.entry.cost.price_usd


@column("parameters", "parameters, M", "cost", "number", "Millions of parameters.", better="lower")
def _parameters(row: Row) -> Value:
    return None if row.entry.card.parameters is None else row.entry.card.parameters / 1e6


@column("download", "download, MB", "cost", "number", "Size of the weights.", better="lower")
def _download(row: Row) -> Value:
    return row.entry.card.download_mb


@column("licence", "licence", "cost", "text", "Licence of code and weights.")
def _licence(row: Row) -> Value:
    return row.entry.card.licence


@column("open", "open weights", "cost", "flag", "Whether anybody can run it; empty where there are no weights.")
def _open(row: Row) -> Value:
    return row.entry.card.open_weights


@column("needs_reference", "needs reference", "cost", "flag", "Whether it looks at the reference.")
def _needs_reference(row: Row) -> Value:
    return row.entry.card.needs_reference


# ---- claimed and verified


@column("claimed", "claimed score", "claims", "cell", "The submitter's number.")
def _claimed(row: Row) -> Value:
    return row.entry.claims.mean


@column("verified", "verified score", "claims", "cell", "Recomputed from the outputs by the verifier.")
def _verified(row: Row) -> Value:
    return row.verdict.mean if row.verdict and row.verdict.verdict == "verified" else None


@column("compared", "numbers compared", "claims", "number", "Scores and claims that were recomputed.")
def _compared(row: Row) -> Value:
    return row.verdict.compared if row.verdict else None


@column("regenerated", "answered again", "claims", "number", "Samples that the model answered again alike.")
def _regenerated(row: Row) -> Value:
    return row.verdict.regenerated if row.verdict else None


@column("submitter", "submitted by", "claims", "text", "Person or group.")
def _submitter(row: Row) -> Value:
    return row.entry.submitter


@column("created", "run made", "claims", "text", "Date of the run.")
def _created(row: Row) -> Value:
    return row.entry.created[:10]
