"""What stands beside the score in units of its own: its names, how tables show it, its values and means.

Each is a metric's value but `outside_touched`, which is 1 - background_exact. Failed samples have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Diagnostic(NamedTuple):
    """How a diagnostic is shown."""

    title: str
    unit: str
    """Shown behind the number; empty for a bare one."""
    scale: float
    """What the value is multiplied by to be in that unit."""
    help: str


DIAGNOSTICS = {
    "ghosting": Diagnostic("ghosting", "", 1.0, "draft shining through: 0 none, 1 a double exposure everywhere"),
    "sharpness_change": Diagnostic("sharpness change", "%", 1.0, "detail lost (negative) or added against the target"),
    "copied": Diagnostic("copied", "%", 100.0, "share of the region that lies unturned in the reference"),
    "outside_touched": Diagnostic("touched outside", "%", 100.0, "share of the unmasked pixels that changed"),
    "outside_shift": Diagnostic("shift", "px", 1.0, "how far the unmasked part moved"),
    "outside_zoom": Diagnostic("zoom", "%", 1.0, "by how much the unmasked part grew"),
    "outside_drift": Diagnostic("drift", "Lab", 1.0, "change of the unmasked part's mean colour, CIELAB distance"),
}
"""Name -> how it is shown, in the order of tables."""


def diagnostics_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Sample (index) x :data:`DIAGNOSTICS`, of scores in long form; NaN where undefined or not measured."""
    values = scores.pivot(index="sample", columns="metric", values="value")
    if "background_exact" in values:
        values["outside_touched"] = 1.0 - values["background_exact"]
    return values.reindex(columns=list(DIAGNOSTICS)).rename_axis(columns=None)


def means(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Diagnostic -> its mean over the samples that have it, and how many; without those that no sample has."""
    table = diagnostics_of(scores)
    return {
        name: {"mean": float(column.mean()), "samples": int(column.count())}
        for name, column in table.items()
        if column.count()
    }


def shown(name: str, value: float) -> str:
    """A value of a diagnostic in words: "12.3 %"."""
    how = DIAGNOSTICS[name]
    text = f"{value * how.scale:.2f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return f"{text} {how.unit}".strip()
