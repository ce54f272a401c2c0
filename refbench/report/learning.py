"""Every quantity of one stage's training log over minutes, as one picture."""

from __future__ import annotations

from pathlib import Path

from refbench.errors import RefbenchError
from refbench.report.ablation import read_log

SKIPPED = {"stage", "step", "samples", "minutes", "progress", "backbone"}
MODES = ("draft", "bound", "none", "right", "shuffled", "one_step")
"""References that a validation line is of; lines of one quantity with these share one panel."""


def draw_curves(log: str | Path, out: str | Path) -> Path:
    """Draw every logged quantity over minutes: validation with right, shuffled and no reference on one axis.

    Returns:
        `out`, a PNG or SVG by its suffix.

    Raises:
        RefbenchError: there is no log, or it cannot be read, or is empty.
    """
    from matplotlib.figure import Figure

    rows = read_log(Path(log))
    panels: dict[str, list[str]] = {}
    for name in rows.columns:
        if name in SKIPPED:
            continue
        head, _, tail = name.partition("/")
        mode = tail.removesuffix("_recovery")
        title = name.replace("_", " ")
        if mode in MODES:
            title = f"{'recovery' if mode != tail else 'PSNR, dB,'} inside the mask, {head}"
        panels.setdefault(title, []).append(name)
    if not panels:
        raise RefbenchError(
            f"Expected values over minutes in the training log {log}, but there are none; train longer."
        )
    columns = 3
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * lines), layout="constrained")
    for number, (title, members) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, number + 1)
        for name in members:
            values = rows[["minutes", name]].dropna()
            label = name.rpartition("/")[2].removesuffix("_recovery")
            marker = "." if len(values) < 40 else None
            axes.plot(values["minutes"], values[name], label=label, linewidth=1.3, marker=marker)
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
