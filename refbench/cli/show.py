"""How results look on a terminal: JSON, tables, and short notes on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refbench.plaintext import harmless
from refbench.schema import AXES, PIXEL

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from refbench.runs.protocols import Row
    from refbench.runs.result import Result
    from refbench.tasks.importing import Imported

TITLES = {
    "texture_fidelity": "texture",
    "reference_alignment": "alignment",
    "local_consistency": "consistency",
    "mean": "score",
    PIXEL: "pixel",
}


WITHOUT_TARGETS = (
    "Without targets texture and score are not measured. alignment: 0 = the draft, 100 =\n"
    "what a typical truth wins; consistency: the background alone; ± the 95 % interval.\n"
    "These numbers compare with no suite that has targets."
)
"""Under the table of a suite without targets."""


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


class Lines:
    """Where a training's progress goes: on a terminal a line that changes, elsewhere one now and then.

    Args:
        seconds: between two ticks where stderr is no terminal.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self._open, self._last = False, float("-inf")

    def note(self, text: str) -> None:
        """One line of its own."""
        sys.stderr.write("\r\x1b[K" * self._open + text + "\n")
        sys.stderr.flush()
        self._open, self._last = False, time.monotonic()

    def tick(self, text: str) -> None:
        """How far it is."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            self._open = True
            sys.stderr.flush()
        elif time.monotonic() - self._last >= self.seconds:
            self.note(text)

    def counted(self, what: str, done: int, total: int) -> None:
        """How many of so many samples are done."""
        self.tick(f"{what}: {done:,} of {total:,} samples prepared")

    def close(self) -> None:
        """End the line that changes."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False


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


def imported(found: Imported) -> None:
    """What an import came to: a row a sample that something is amiss with, then the suite and what to do with it."""
    rows = [[gap.sample, "used" if gap.used else "left out", gap.kind, gap.words] for gap in found.gaps]
    if rows:
        table("What is amiss", ["sample", "is", "amiss", "found"], rows, width=NARROW)
    if found.hash is None:
        return
    line(f"{found.folder}: {found.samples} of {found.found} samples of {found.sources} sources, hash {found.hash}")
    if "unknown" in found.licences:
        line(f"Licence: unknown for {found.licences['unknown']} samples. Say --licence before the suite is passed on.")
    if not found.targets:
        line("No targets: texture and score will not be measured, alignment and background will.")
    line(f"Next: refbench eval --model MODEL --suite {found.folder}, or refbench score FOLDER --suite {found.folder}")


def _vote(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


NARROW = 80
"""Columns of a narrow table where stdout is no terminal."""


def console(width: int | None = 0) -> Console:
    """Where tables go: stdout. Where it is no terminal, `width` columns wide, at least 160 for 0; None: no limit."""
    from rich.console import Console

    out = Console(highlight=False)
    if width is None:
        out.width = 1_000_000
    elif not out.is_terminal:
        out.width = width or max(out.width, 160)
    return out


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
    *,
    width: int | None = 0,
) -> None:
    """Print a table on stdout.

    Args:
        right: the columns that are aligned right.
        width: where stdout is no terminal, so many characters a line; 0 is that of :func:`console`. None sets each row
            on one line, however long, on a terminal too.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    tight = width == NARROW
    grid = Table(box=SIMPLE_HEAD, collapse_padding=tight, pad_edge=not tight)
    for number, column in enumerate(columns):
        whole = width != 0 and number == 0  # a name is not broken
        grid.add_column(_plain(column), justify="right" if column in right else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    out = console(width)
    out.print(Text(harmless(title), style="table.title"), grid, sep="")


def card(title: str, facts: Mapping[str, str]) -> None:
    """Print all about one thing: names left, words right, as wide as the terminal (80 where there is none)."""
    from rich.padding import Padding
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, words in facts.items():
        grid.add_row(name, _plain(words))
    out = console(NARROW)
    out.print(title, markup=False, style="italic")
    out.print(Padding(grid, (0, 0, 0, 2)))


def _plain(cell: str) -> Text:
    """A cell as it is: harmless, and neither markup nor emoji codes in it mean anything."""
    from rich.text import Text

    return Text(harmless(cell))


def interval(cell: Mapping[str, float | None]) -> str:
    """ "12.3 ±2.2": intervals are symmetric; a dash for what cannot be said."""
    value, low, high = cell.get("value"), cell.get("low"), cell.get("high")
    if value is None:
        return "–"
    shown = _number(value)
    return shown if low is None or high is None else f"{shown} ±{_number((high - low) / 2)}"


def reasons(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Under a table of cells, row -> column -> cell: why numbers are left out, each reason once with its rows."""
    from refbench.stats.gains import NO_TARGETS
    from refbench.stats.recovery import NOT_SCORED

    why: dict[str, dict[str, None]] = {}
    for name, cells in rows.items():
        for cell in cells.values():
            if cell.get("reason") and cell["reason"] not in (NOT_SCORED, NO_TARGETS):  # told below the table
                why.setdefault(cell["reason"], {})[name] = None
    for reason, names in why.items():
        console(NARROW).print(f"{', '.join(names)}: {reason}", markup=False)


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


def _diagnostics(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the diagnostics that were measured, whose means stand beside the score."""
    from refbench.runs.diagnostics import DIAGNOSTICS, shown

    lines = [
        [DIAGNOSTICS[name].title, shown(name, cell["mean"]), str(cell["samples"]), DIAGNOSTICS[name].help]
        for name, cell in found.items()
    ]
    if lines:
        columns = ["", "mean", "samples", "what it is"]
        table("Diagnostics, beside the score", columns, lines, right=["mean", "samples"], width=NARROW)


def passes(found: Sequence[Result]) -> None:
    """The score and its axes after each pass, of one model."""
    names = [f"pass {number}" for number in range(1, len(found) + 1)]
    _side_by_side("each pass on the one before", names, found)


def seeds(found: Sequence[Result]) -> None:
    """The score and its axes of each seed, of one model; the table above is of all together."""
    _side_by_side("each seed by itself", [f"repetition {number}" for number in range(1, len(found) + 1)], found)


def _side_by_side(title: str, names: Sequence[str], found: Sequence[Result]) -> None:
    columns = ["mean", *AXES, PIXEL]
    lines = []
    for name, one in zip(names, found, strict=True):
        data = one.to_json()
        cells = {**data["axes"], "mean": data["mean"], PIXEL: data[PIXEL]}
        lines.append([name, *(interval(cells[column]) for column in columns)])
    titles = [TITLES[column] for column in columns]
    table(f"{data['model']}, {title}", ["", *titles], lines, right=titles, width=NARROW)


def result(found: Result, *, kept: bool = True) -> None:
    """The final table of an evaluation: axes, score, pixel fidelity, by category, with 95 % intervals; diagnostics.

    Args:
        kept: whether the run folder stays when the command ends.
    """
    from refbench.stats.gains import NO_TARGETS

    data = found.to_json()
    columns = [*AXES, "mean", PIXEL]
    whole = {**data["axes"], "mean": data["mean"], PIXEL: data[PIXEL]}
    withheld = data["withheld"]

    def row(name: str, cells: Mapping[str, Any]) -> list[str]:
        why = {column: "not measured" if NO_TARGETS in text else "not scored" for column, text in withheld.items()}
        return [name, *(why.get(column) or interval(cells.get(column, {})) for column in columns)]

    rows = [row("all", whole), *(row(name, cells) for name, cells in data["categories"].items())]
    failed = f", {data['failed']} failed" if data["failed"] else ""
    failed += f" ({data['refused']} of them refused)" if data["refused"] else ""
    failed += f", ${data['cost_usd']:.2f}" if data["cost_usd"] is not None else ""
    about = f"{data['suite']} ({data['suite_hash'][:12]}), score {data['score_version']}"
    title = f"{data['model']} on {about}, {data['samples']} samples{failed}"
    titles = [TITLES[column] for column in columns]
    table(title, ["", *titles], rows, right=titles, width=NARROW)
    out = console()
    if data["targets"]:
        out.print("Recovery: 0 = a trivial answer, 100 = the ground truth; ± the 95 % interval.", markup=False)
        out.print("pixel: every pixel at its place, as published tables count; not in the score.", markup=False)
    else:
        out.print(WITHOUT_TARGETS, markup=False)
    for axis, why in withheld.items():
        if why != NO_TARGETS:
            out.print(f"no score here for {TITLES[axis]}: {why}", markup=False, soft_wrap=True)
    reasons({"all": whole, **data["categories"]})
    _diagnostics(data["diagnostics"])
    numbers = found.summary.numbers
    beside = _beside(found)
    unscored = {**numbers.get("unscored", {}), **found.unavailable}
    for name, why in unscored.items():
        reason = why.removeprefix("not scored").lstrip(":, ")
        if name not in beside and name not in data["diagnostics"] and why != NO_TARGETS:
            out.print(f"not scored: {name}: {reason}", markup=False, soft_wrap=True)
    lacking = [name for name, why in unscored.items() if why == NO_TARGETS]
    if lacking:
        out.print(f"not measured, as {NO_TARGETS}: {', '.join(lacking)}", markup=False, soft_wrap=True)
    listed = found.failed[: 5 if kept else 20]
    for record in listed:
        line(f"failed: {record.id}: {record.error}")
    if len(found.failed) > len(listed):
        where = f", see {found.folder}/records.jsonl" if kept else "; --out keeps them all"
        line(f"failed: {len(found.failed) - len(listed)} more{where}")
    line(f"run: {found.folder}" if kept else "run: not kept; --out FOLDER keeps it")
