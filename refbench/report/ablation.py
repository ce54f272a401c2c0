"""(f) What each training stage brings: recovery of base, SFT and GRPO, and the curves they were trained by.

Training logs are JSON lines with a whole number ``step``, a ``stage`` and named values, as refbench.omnirefiner
writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.report.charts import COLUMNS, interval, limits, row
from refbench.report.drawn import Drawn
from refbench.report.style import INK, MUTED, RULE, Style, colours, markers, rc, text_width
from refbench.results.resultset import RunSet
from refbench.results.run import RunResult

if TYPE_CHECKING:
    import pandas as pd

SHARE = 20
"""The drawn line is a centred running mean over a twentieth of the curve; the raw values stand behind it."""
SHORT = {
    "texture_fidelity": "Texture",
    "reference_alignment": "Alignment",
    "local_consistency": "Consistency",
    "mean": "Score",
}


def read_log(path: Path) -> pd.DataFrame:
    """A training log as a table by `step`; lines of one step are merged, a cut-off last line is dropped.

    Raises:
        RefbenchError: no such file, a line that is no JSON object with a whole `step`, or no line at all.
    """
    import pandas as pd

    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RefbenchError(
            f"Expected a training log (JSON lines) at {path}, but "
            f"{getattr(error, 'strerror', None) or error}; a stage writes a line each 20 to 100 steps: train longer, "
            "or name another."
        ) from None
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            step = found["step"]
            if not isinstance(step, int):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            if number == len(lines):
                break
            raise RefbenchError(
                f"Expected a JSON object with a whole number 'step' in line {number} of {path}; remove that line."
            ) from None
        rows[step] = rows.get(step, {}) | found
    if not rows:
        raise RefbenchError(f"Expected lines with 'step' in {path}, but it has none; train for longer.")
    return pd.DataFrame([rows[step] for step in sorted(rows)])


def curve_names(log: pd.DataFrame) -> list[str]:
    """The quantities of a log that tell most: rewards of GRPO, else loss and validation PSNR; at most two."""
    numeric = [c for c in log.columns if log[c].map(lambda v: isinstance(v, int | float)).any()]
    wanted = [c for c in numeric if c.startswith("reward")]
    wanted += [c for c in numeric if c in ("loss", "val_loss")]
    wanted += [c for c in numeric if c.endswith(("/right", "/psnr"))]
    return wanted[:2]


def curve_title(name: str) -> str:
    """A logged value's name as a reader knows it: near/right is the PSNR with the right reference, laid near."""
    head, _, tail = name.partition("/")
    if tail == "right":
        return f"PSNR, dB ({head})" if head else "PSNR, dB"
    if head == "reward":
        return f"{tail} reward"
    return name.replace("_", " ").replace("/", ", ")


def smooth(values: Sequence[float]) -> list[float]:
    """Centred running mean over 1/SHARE of the values (so it does not lag); the window shrinks at both ends."""
    array = np.asarray(values, dtype=np.float64)
    half = len(array) // (2 * SHARE)
    total = np.concatenate([[0.0], np.cumsum(array)])
    at = np.arange(len(array))
    reach = np.minimum(half, np.minimum(at, len(array) - 1 - at))
    mean: list[float] = ((total[at + reach + 1] - total[at - reach]) / (2 * reach + 1)).tolist()
    return mean


def ablation_chart(
    results: RunSet,
    style: Style,
    stages: Mapping[str, str],
    logs: Mapping[str, Path],
    curves: Sequence[str] | None = None,
) -> Drawn:
    """Draw the stages side by side, and beside them their training curves.

    Args:
        stages: label of a stage -> name of its run, in the order of training.
        logs: label of a stage (one of `stages`) -> its training log.
        curves: names of the values to draw; None picks two a log (:func:`curve_names`).

    Raises:
        RefbenchError: unknown run or stage, or a log that cannot be read or has none of the curves.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    runs = {label: results.run(name) for label, name in stages.items()}
    strange = [label for label in logs if label not in stages]
    if strange:
        raise RefbenchError(
            f"Expected logs of the stages {', '.join(stages)}, but '{strange[0]}' came; name one of these."
        )
    drawn = []
    for label, path in logs.items():
        log = read_log(path)
        names = [c for c in curves if c in log.columns] if curves else curve_names(log)
        if not names:
            raise RefbenchError(
                f"Expected values to draw in {path}, but it has only {', '.join(map(str, log.columns))}; name "
                "some with --curves."
            )
        drawn += [(label, name, log[["step", name]].dropna()) for name in names]
    tint = colours(results.names)
    with rc(style):
        lines = max(1, -(-len(drawn) // 2))
        width = style.text if drawn else style.column
        height = max(1.75 * style.font / 8, 0.95 * lines * style.font / 8)
        figure = plt.figure(figsize=(width, min(height, style.height)), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1.35)) if drawn else (figure, None)
        left, right = halves
        figure.set_layout_engine("constrained", h_pad=0.05, w_pad=0.05)
        _stages(left.subplots(), runs, results, style)
        if right is not None:
            # An odd number of curves leaves no hole: the first is as wide as two.
            cells = right.add_gridspec(lines, 2)
            places = [cells[0, :]] if len(drawn) % 2 else []
            places += [cells[line, side] for line in range(len(places), lines) for side in (0, 1)]
            for number, (place, (label, name, values)) in enumerate(zip(places, drawn, strict=True)):
                ax = right.add_subplot(place)
                colour = tint[runs[label].name]
                ax.plot(values["step"], values[name], color=colour, alpha=0.3, linewidth=0.5 * style.line)
                ax.plot(values["step"], smooth(values[name].tolist()), color=colour)
                ax.set_title(f"{label}: {curve_title(name)}", fontsize=style.small, parse_math=False)
                ax.margins(x=0.02)
                ax.locator_params(nbins=4)
                ax.yaxis.grid(True)
                _short_steps(ax, values["step"].max())
                if number >= len(drawn) - 2:
                    ax.set_xlabel("Step", fontsize=style.small)
    rows = [
        {"part": "recovery", "stage": s, "name": a, **row(r, r.numbers.cell(a))}
        for s, r in runs.items()
        for a in COLUMNS
    ]
    rows += [
        {"part": "training", "stage": s, "name": n, "model": runs[s].name, "step": int(x), "value": float(y)}
        for s, n, values in drawn for x, y in values.itertuples(index=False)
    ]  # fmt: skip
    caption = "Recovery after each training stage, with 95 % intervals" + (
        f", and training curves: raw values, and their running mean over 1/{SHARE} of the curve." if drawn else "."
    )
    return Drawn("ablation", figure, pd.DataFrame(rows), caption, wide=bool(drawn))


def _short_steps(ax: Any, largest: float) -> None:
    from matplotlib.ticker import FuncFormatter

    if largest >= 2000:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if v else "0"))


def _stages(ax: Any, runs: Mapping[str, RunResult], results: RunSet, style: Style) -> None:
    tint, shape = colours(results.names), markers(results.names)
    step = 0.6 / max(len(runs), 1)
    span = limits([r.numbers.cell(a) for r in runs.values() for a in COLUMNS])
    ax.axhline(0, color=RULE, linewidth=0.8, zorder=0)
    for place, axis in enumerate(COLUMNS):
        xs = [place + (k - (len(runs) - 1) / 2) * step for k in range(len(runs))]
        ys = [r.numbers.cell(axis).value for r in runs.values()]
        ax.plot(
            xs,
            [np.nan if y is None else max(y, span[0]) for y in ys],
            color=MUTED,
            linewidth=0.6 * style.line,
            zorder=1,
        )
        for x, run in zip(xs, runs.values(), strict=True):
            interval(ax, x, run.numbers.cell(axis), tint[run.name], shape[run.name], across=False, style=style)
    for place, axis in enumerate(COLUMNS):
        if axis in results.withheld:
            ax.text(place, 0, "not measured", rotation=90, ha="center", va="center", color=MUTED, fontsize=style.small)
    for label, run in runs.items():
        ax.plot([], [], color=tint[run.name], marker=shape[run.name], linewidth=0, label=label)
    room = 0.36 * style.text / len(COLUMNS)
    widest = max(text_width(SHORT[a], style.small, style) for a in COLUMNS)
    ax.set_xticks(range(len(COLUMNS)), [SHORT[a] for a in COLUMNS], fontsize=style.small * min(1.0, room / widest))
    ax.tick_params(axis="x", length=0, labelcolor=INK)
    ax.set_xlim(-0.5, len(COLUMNS) - 0.5)
    ax.set_ylim(*span)
    ax.set_ylabel("Recovery")
    ax.yaxis.grid(True)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(runs), handletextpad=0.2, borderaxespad=0.2)
