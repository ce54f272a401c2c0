"""A board as README.md, index.html, board.csv, board.tex and board.json. Pure: equal boards give equal bytes.

Every text of an entry is a stranger's, so it is escaped here for each format although it was checked before.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

from refbench.leaderboard import textsafe as safe
from refbench.leaderboard.columns import VIEWS, Column, Place, Row, Value, columns_of
from refbench.leaderboard.table import Board
from refbench.stats.gains import NO_TARGETS
from refbench.stats.recovery import Cell

DASH = "–"
PICTURES = ("draft", "reference", "target")
"""What the sheet has small pictures of, in the order of the rows; of a suite without targets not the last."""


def render(board: Board) -> dict[str, bytes]:
    """File name -> content, for all five."""
    return {
        "README.md": markdown(board).encode(),
        "index.html": html(board).encode(),
        "board.csv": as_csv(board).encode(),
        "board.tex": latex(board).encode(),
        "board.json": as_json(board).encode(),
    }


def number(value: float, digits: int = 3) -> str:
    """A short number without an exponent: 0.0123, 4.56, 789, 12,345."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def plain(column: Column, value: Value) -> str:
    """A value as printable text, not escaped for any format."""
    if value is None or value == "":
        return DASH
    if isinstance(value, Place):
        return f"{value.best}" if value.best == value.worst else f"{value.best}–{value.worst}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Cell):
        return cell_text(value, 0 if column.kind == "rating" else 1)
    return safe.printable(value, 200) if isinstance(value, str) else number(value)


def cell_text(cell: Cell, digits: int) -> str:
    """ "41.2 ±3.4"; the intervals are symmetric by construction."""
    if cell.value is None:
        return "not measured" if cell.reason == NO_TARGETS else DASH
    value = f"{cell.value:.{digits}f}"
    value = value.removeprefix("-") if float(value) == 0 else value
    if cell.low is None or cell.high is None:
        return value
    return f"{value} ±{(cell.high - cell.low) / 2:.{digits}f}"


def best_of(board: Board, column: Column) -> set[str]:
    """Names of the models with the best value of a column (recovery columns only)."""
    if column.scope is None:
        return set()
    values = {row.entry.name: column.value(row) for row in board.rows}
    known = {name: v.value for name, v in values.items() if isinstance(v, Cell) and v.value is not None}
    top = max(known.values(), default=0.0)
    return {name for name, value in known.items() if value == top}


def _table_columns(board: Board, view: Any) -> list[Column]:
    return columns_of(view, board.columns)


def _title(board: Board) -> str:
    head = board.sheet.head
    suite = f"{head.suite} {head.suite_version} ({head.suite_hash[:12]})"
    version = f"{board.rows[0].summary.score_version}{' without targets' if head.without else ''}"
    return f"{suite}, score {version}, {len(board.sheet.metas)} samples"


def _without(board: Board) -> str:
    """What a board of a suite without targets says of its numbers; nothing on others."""
    told = " This suite has no targets: texture and score are not measured; models and categories stand by alignment."
    return told if board.sheet.head.without else ""


# ---- Markdown


def markdown(board: Board) -> str:
    """The board for GitHub: one table a view."""
    lines = [
        "# Leaderboard",
        "",
        f"Suite {safe.markdown(_title(board))}. Recovery points: 0 is a trivial answer, 100 the ground truth; ± is the "
        "95 % interval from a studentised bootstrap over source assets. **Bold** is the best of "
        "a column, <u>underlined</u> "
        "what cannot be told apart from it. A model shares its place with those it is not better than, all such claims "
        f"together holding with 95 % confidence.{_without(board)}",
        "",
        "The same as [a page with sorting and filters](index.html), [CSV](board.csv), [LaTeX](board.tex) and "
        "[JSON](board.json). How to submit, and to challenge an entry: [docs/submitting.md](../docs/submitting.md).",
        "",
        "<!-- made by `refbench leaderboard build`; edits are overwritten -->",
    ]
    for view, heading in VIEWS.items():
        columns = _table_columns(board, view)
        if not columns:
            continue
        best = {column.key: best_of(board, column) for column in columns}
        lines += ["", f"## {heading}", "", f"| model | {' | '.join(c.title for c in columns)} |"]
        lines += ["|---|" + "|".join("---" if c.kind == "text" else "---:" for c in columns) + "|"]
        for row in board.rows:
            cells = [_markdown_cell(column, row, best[column.key]) for column in columns]
            lines.append(f"| {_markdown_name(row)} | {' | '.join(cells)} |")
    lines += ["", *_markdown_pictures(board)]
    return "\n".join(lines) + "\n"


def _markdown_name(row: Row) -> str:
    name, link = safe.markdown(row.entry.card.name), safe.web_link(row.entry.card.paper)
    return f"[{name}]({link})" if link else name


def _markdown_cell(column: Column, row: Row, best: set[str]) -> str:
    value = column.value(row)
    text = safe.markdown(plain(column, value)) if isinstance(value, str) else plain(column, value)
    if row.entry.name in best:
        return f"**{text}**"
    return f"<u>{text}</u>" if row.leads.get(column.key) else text


def _pictures(board: Board) -> list[str]:
    """Ids of the samples that the sheet has small pictures of."""
    found = sorted((board.sheet.folder / "thumbs").glob("*-draft.webp"))
    return [path.name.removesuffix("-draft.webp") for path in found]


def _kinds(board: Board) -> tuple[str, ...]:
    return PICTURES[:2] if board.sheet.head.without else PICTURES


def _markdown_pictures(board: Board) -> list[str]:
    samples = _pictures(board)
    if not samples:
        return []
    lines = ["## What the answers look like", "", "| | " + " | ".join(samples) + " |", "|---|" + "---|" * len(samples)]
    for kind in _kinds(board):
        images = [f'<img src="sheet/thumbs/{s}-{kind}.webp" width="96" alt="{kind} of {s}">' for s in samples]
        lines.append(f"| {kind} | " + " | ".join(images) + " |")
    for row in board.rows:
        folder, name = board.folders[row.entry.name], row.entry.name
        cells = [
            f'<img src="entries/{name}/thumbs/{s}.webp" width="96" alt="{name} on {s}">'
            if (folder / "thumbs" / f"{s}.webp").is_file()
            else DASH
            for s in samples
        ]
        lines.append(f"| {safe.markdown(row.entry.card.name)} | " + " | ".join(cells) + " |")
    return lines


# ---- CSV and JSON


def as_csv(board: Board) -> str:
    """One row a model; columns with an interval have three: value, _low, _high."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["entry", "model"]
    for column in board.columns:
        parts = {"cell": ("", "_low", "_high"), "rating": ("", "_low", "_high"), "place": ("_best", "_worst")}
        header += [f"{column.key}{part}" for part in parts.get(column.kind, ("",))]
    writer.writerow(header)
    for row in board.rows:
        line = [row.entry.name, safe.csv(row.entry.card.name)]
        for column in board.columns:
            line += _csv_cells(column, column.value(row))
        writer.writerow(line)
    return buffer.getvalue()


def _csv_cells(column: Column, value: Value) -> list[str]:
    if column.kind in ("cell", "rating"):
        parts = (value.value, value.low, value.high) if isinstance(value, Cell) else (None, None, None)
        return ["" if part is None else f"{part:.2f}" for part in parts]
    if isinstance(value, Place):
        return [str(value.best), str(value.worst)]
    if value is None:
        return [""]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [safe.csv(value)] if isinstance(value, str) else [f"{value:.6g}"]


def as_json(board: Board) -> str:
    """The whole board for programs, numbers rounded to two decimals of a recovery point."""
    head = board.sheet.head
    rows = []
    for row in board.rows:
        values = {column.key: _json_value(column.value(row)) for column in board.columns}
        metrics = {name: _json_value(cell) for name, cell in row.summary.metrics.items()}
        rows.append(
            {
                "entry": row.entry.name,
                "card": row.entry.card.model_dump(mode="json"),
                "columns": values,
                "metrics": metrics,
                "better_than": list(row.standing.better_than),
            }
        )
    first = board.rows[0].summary
    data = {
        "suite": head.suite,
        "suite_version": head.suite_version,
        "suite_hash": head.suite_hash,
        "score_version": first.score_version,
        **({"targets": False} if head.without else {}),
        "samples": len(board.sheet.metas),
        "clusters": first.clusters,
        "method": first.method,
        "metric_cards": head.metric_cards,
        "unscored": first.unscored,
        "unscored_in": first.unscored_in,
        "columns": [
            {"key": c.key, "title": c.title, "view": c.view, "kind": c.kind, "help": c.help} for c in board.columns
        ],
        "rows": rows,
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _json_value(value: Value) -> Any:
    if isinstance(value, Cell):
        return {
            key: None if v is None else round(v, 2)
            for key, v in (("value", value.value), ("low", value.low), ("high", value.high))
        }
    return [value.best, value.worst] if isinstance(value, Place) else value


# ---- LaTeX


def latex(board: Board) -> str:
    """One booktabs table a view; best bold, those not distinguishable from it underlined."""
    lines = [
        "% made by `refbench leaderboard build`; needs \\usepackage{booktabs}",
        f"% suite {safe.latex(_title(board))}",
    ]
    for view, heading in VIEWS.items():
        columns = [c for c in _table_columns(board, view) if c.kind in ("cell", "rating", "place", "number", "flag")]
        if not columns:
            continue
        best = {column.key: best_of(board, column) for column in columns}
        lines += ["", f"% {heading}", f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\toprule"]
        lines.append("model & " + " & ".join(safe.latex(c.title) for c in columns) + r" \\")
        lines.append("\\midrule")
        for row in board.rows:
            cells = [_latex_cell(column, row, best[column.key]) for column in columns]
            lines.append(f"{safe.latex(row.entry.card.name)} & " + " & ".join(cells) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex_cell(column: Column, row: Row, best: set[str]) -> str:
    value = column.value(row)
    text = plain(column, value)
    if text == DASH:
        return "--"
    main, plus, half = text.partition(" ±")
    main = f"${main}$" if main.startswith("-") else main.replace("–", "--").replace(",", "{,}")
    if row.entry.name in best:
        main = f"\\textbf{{{main}}}"
    elif row.leads.get(column.key):
        main = f"\\underline{{{main}}}"
    return f"{main} {{\\scriptsize$\\pm${half}}}" if plus else main


# ---- HTML


def html(board: Board) -> str:
    """A page that needs nothing else: tables by view, sorting, filters, intervals on hover, light and dark."""
    from jinja2 import Environment, StrictUndefined

    template = (Path(__file__).parent / "templates" / "board.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    views: list[dict[str, Any]] = []
    for view, heading in VIEWS.items():
        columns = _table_columns(board, view)
        if columns:
            best = {column.key: best_of(board, column) for column in columns}
            rows = [[_html_cell(column, row, best[column.key]) for column in columns] for row in board.rows]
            views.append({"id": view, "heading": heading, "columns": columns, "rows": rows})
    head = board.sheet.head
    samples = _pictures(board)
    sheet = {
        kind: [_data_uri(board.sheet.folder / "thumbs" / f"{s}-{kind}.webp") for s in samples] for kind in _kinds(board)
    }
    pictures = [
        [_data_uri(board.folders[row.entry.name] / "thumbs" / f"{s}.webp") for s in samples] for row in board.rows
    ]
    models = [
        {
            "name": safe.printable(row.entry.card.name, 80),
            "link": safe.web_link(row.entry.card.paper),
            "summary": safe.printable(row.entry.card.summary, 300),
            "licence": safe.printable(row.entry.card.licence, 60),
            "open": {True: "open", False: "commercial", None: "no weights"}[row.entry.card.open_weights],
            "reference": "yes" if row.entry.card.needs_reference else "no",
            "megabytes": row.entry.card.download_mb or 0,
            "better": [other.entry.name in row.standing.better_than for other in board.rows],
            "against": [row.standing.against.get(other.entry.name) for other in board.rows],
        }
        for row in board.rows
    ]
    first = board.rows[0].summary
    page = environment.from_string(template).render(
        title=_title(board),
        without=_without(board),
        suite=head.suite,
        views=views,
        models=models,
        samples=samples,
        sheet=sheet,
        pictures=pictures,
        licences=sorted({model["licence"] for model in models}),
        unscored=first.unscored,
        clusters=first.clusters,
    )
    return page.rstrip() + "\n"


def _html_cell(column: Column, row: Row, best: set[str]) -> dict[str, Any]:
    value = column.value(row)
    sort: float | str = ""
    hover = ""
    bar = None
    if isinstance(value, Cell):
        sort = "" if value.value is None else round(value.value, 4)
        if value.low is not None and value.high is not None:
            hover = f"95 % interval {value.low:.1f} to {value.high:.1f}"
            if column.kind == "cell":
                bar = [max(min(v, 100.0), 0.0) for v in (value.low, value.high)]
    elif isinstance(value, Place):
        sort = value.best + value.worst / 1000
    elif isinstance(value, bool):
        sort = int(value)
    elif value is not None:
        sort = plain(column, value) if isinstance(value, str) else value
    name = row.entry.name
    mark = "best" if name in best else "lead" if row.leads.get(column.key) else ""
    text = plain(column, value)
    return {
        "text": text,
        "sort": sort,
        "hover": hover,
        "mark": mark,
        "kind": column.kind,
        "bar": bar,
        "key": column.key,
    }


def _data_uri(path: Path) -> str:
    """A small picture inside the page; empty where there is none."""
    if not path.is_file():
        return ""
    return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()
