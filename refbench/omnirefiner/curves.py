"""Learning curves: what a stage's ``log.jsonl`` holds, as a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refbench.errors import RefbenchError


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a training log; a last line cut off by a kill is dropped.

    Raises:
        RefbenchError: there is no log, or it is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise RefbenchError(f"Expected a training log at {path}, but there is no such file; name a stage's log.jsonl.")
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if not rows:
        raise RefbenchError(f"Expected lines of JSON in {path}, but it is empty; train for longer.")
    return rows


def series(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Minutes and values of one quantity where it was logged."""
    found = [(row["minutes"], row[name]) for row in rows if name in row and "minutes" in row]
    return [x for x, _ in found], [y for _, y in found]


def draw_curves(log: str | Path, out: str | Path) -> Path:
    """Draw every logged quantity over minutes: validation with right, shuffled and no reference on one axis.

    Returns:
        `out`, a PNG or SVG by its suffix.
    """
    from matplotlib.figure import Figure

    rows = read_log(log)
    skipped = {"stage", "step", "samples", "minutes", "progress", "backbone"}
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n not in skipped]
    panels: dict[str, list[str]] = {}
    for name in names:
        head, _, tail = name.partition("/")
        mode = tail.removesuffix("_recovery")
        title = name.replace("_", " ")
        if mode in ("draft", "bound", "none", "right", "shuffled", "one_step"):
            title = f"{'recovery' if mode != tail else 'PSNR, dB,'} inside the mask, {head}"
        panels.setdefault(title, []).append(name)
    columns = 3
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * lines), layout="constrained")
    for number, (title, members) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, number + 1)
        for name in members:
            x, y = series(rows, name)
            label = name.rpartition("/")[2].removesuffix("_recovery")
            axes.plot(x, y, label=label, linewidth=1.3, marker="." if len(x) < 40 else None)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        if len(members) > 1:
            axes.legend(fontsize=7)
    figure.supxlabel("minutes of training", fontsize=9)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)
    return out
