"""How results look on a terminal: JSON, tables, and short notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refbench.plaintext import harmless
from refbench.schema import AXES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from refbench.runs.api import Result
    from refbench.runs.protocols import Row

TITLES = {
    "texture_fidelity": "texture",
    "reference_alignment": "alignment",
    "local_consistency": "consistency",
    "mean": "mean",
}


def json_out(value: Any) -> None:
    """Print JSON on stdout; infinities become null, and what a terminal cannot show or would act on an escape."""
    import json

    from refbench.runs.jsontext import as_json

    text = as_json(value)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = as_json(value, ascii_only=True)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def line(text: object) -> None:
    """Text on stdout, with nothing in it that acts on a terminal; all that is printed comes through here or a table."""
    print(harmless(text))


def note(text: object) -> None:
    """The same on stderr."""
    print(harmless(text), file=sys.stderr)


def download(name: str) -> Callable[[int, int | None], None] | None:
    """Shows on a terminal's stderr how far a download has come; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        return None

    def heard(done: int, total: int | None) -> None:
        share = "" if not total else f" of {total / 1e6:,.0f}"
        sys.stderr.write(f"\r{name}: {done / 1e6:,.0f}{share} MB" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return heard


def protocol(rows: Sequence[Row], published: bool = False) -> None:
    """The table of a protocol, and why columns are empty."""
    from refbench.runs.protocols import table_of

    columns, lines = table_of(rows, published=published)
    about = rows[0].protocol
    table(f"{about.name} ({about.paper})", columns, lines, right=columns[1:])
    line(f"{about.note}.")
    for name, why in rows[0].unavailable.items():
        line(f"unavailable: {name}: it {why}")


def judged(found: Mapping[str, Any]) -> None:
    """The judge's means, apart from the score, and its drift."""
    cells = {name: {who: _vote(value) for who, value in cell.items()} for name, cell in found["means"].items()}
    lines = [[name, cell["output"], cell["draft"], cell["gain"]] for name, cell in cells.items()]
    columns = ["1 to 5", "output", "draft", "gain"]
    title = f"Judge {found['model']}, {found['votes']} votes on {found['rated']} samples: not reproducible, no score"
    table(title, columns, lines, right=columns[1:])
    drift = found["drift"]
    if drift["first_time"]:
        later = "kept to compare later runs with" if drift["kept"] else "not kept, as there is no cache to write to"
        line(f"drift: first time; {later}")
    elif drift["mean_change"] is not None:
        change = f"{drift['mean_change']:.2f} on average, {drift['largest_change']} at most"
        line(f"drift of the fixed pairs since the first time: {change}")
    for sample, why in list(found["unrated"].items())[:5]:
        line(f"not rated: {sample}: {why}")


def _vote(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def console() -> Console:
    """Where tables go: stdout, at least 100 columns wide when it is no terminal."""
    from rich.console import Console

    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(out.width, 160))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table on stdout; `right` names the columns that are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(title=_plain(title), title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        grid.add_column(_plain(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    console().print(grid)


def _plain(cell: str) -> Text:
    """A cell as it is: harmless, and neither markup nor emoji codes in it mean anything."""
    from rich.text import Text

    return Text(harmless(cell))


def interval(cell: Mapping[str, float | None]) -> str:
    """ "12.3 [10.1, 14.5]"; a dash where nothing is scored."""
    value, low, high = cell.get("value"), cell.get("low"), cell.get("high")
    if value is None:
        return "–"
    shown = _number(value)
    return shown if low is None or high is None else f"{shown} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """One decimal, and no minus before a zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def _beside(found: Result) -> set[str]:
    """Print the learned metrics that were measured, whose means stand beside the score; returns their names."""
    from refbench.metrics.registry import is_learned, make_metrics

    numbers = found.summary.numbers
    cells = {name: cell for name, cell in numbers.get("metrics", {}).items() if is_learned(name)}
    rows = [(name, cell["raw_mean"], cell["samples"]) for name, cell in cells.items()]
    rows += [(row["name"], row["value"], row["samples"]) for row in found.suite_level]
    if rows:
        cards = {name: metric.card_once for name, metric in make_metrics([name for name, _, _ in rows]).items()}
        lines = [
            [name, "–" if v is None else f"{v:.4g}", "higher" if cards[name].higher_is_better else "lower", str(n)]
            for name, v, n in rows
        ]
        table("Learned metrics, beside the score", ["", "mean", "better", "samples"], lines, right=["mean", "samples"])
    return {name for name, _, _ in rows}


def result(found: Result) -> None:
    """The final table of an evaluation: axes and their mean, by category, with 95 % intervals."""
    data = found.to_json()
    columns = [*AXES, "mean"]
    whole = {**data["axes"], "mean": data["mean"]}
    rows = [["all", *(interval(whole[column]) for column in columns)]]
    rows += [
        [name, *(interval(cells.get(column, {})) for column in columns)] for name, cells in data["categories"].items()
    ]
    failed = f", {data['failed']} failed" if data["failed"] else ""
    failed += f" ({data['refused']} of them refused)" if data["refused"] else ""
    failed += f", ${data['cost_usd']:.2f}" if data["cost_usd"] is not None else ""
    title = f"{data['model']} on {data['suite']} ({data['suite_hash'][:12]}), {data['samples']} samples{failed}"
    table(title, ["", *(TITLES[column] for column in columns)], rows, right=[TITLES[column] for column in columns])
    line("Recovery: 0 = a trivial answer, 100 = the ground truth; [95 % interval].")
    numbers = found.summary.numbers
    beside = _beside(found)
    for name, why in {**numbers.get("unscored", {}), **found.unavailable}.items():
        reason = why.removeprefix("not scored").lstrip(":, ")
        if name not in beside:
            line(f"not scored: {name}: {reason}")
    for record in found.failed[:5]:
        line(f"failed: {record.id}: {record.error}")
    if len(found.failed) > 5:
        line(f"failed: {len(found.failed) - 5} more, see {found.folder / 'records.jsonl'}")
    line(f"run: {found.folder}")
