"""The tables that the docs take from the code: `python docs/generate.py` writes them, `--check` says which are stale.

Pages below docs/reference are written whole; in other pages the part between `<!-- NAME -->` and `<!-- /NAME -->` is.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MADE = "Made from the code by `python docs/generate.py`."
AXES = {
    "texture_fidelity": "Texture fidelity",
    "reference_alignment": "Reference alignment",
    "local_consistency": "Local consistency",
    "pixel_fidelity": "Pixel fidelity, beside the score",
    "diagnostics": "Diagnostics, beside the score",
}


def cell(value: object) -> str:
    """Text for a cell of a Markdown table."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    return re.sub(r"(?<!`)<([^<>`]*)>(?!`)", r"&lt;\1&gt;", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines) + "\n"


def joined(parts: Iterable[str]) -> str:
    """Paragraphs, headings and tables as one page."""
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def bounds(range_: Sequence[float | None]) -> str:
    """A range in words, as in "0 to 1"."""
    low, high = ("∞" if end is None else f"{end:g}" for end in range_)
    return f"{'-' if low == '∞' else ''}{low} to {high}"


def metrics() -> str:
    """Every metric by axis, out of its card; what needs downloaded weights apart."""
    from refbench.metrics.registry import is_learned, list_cards

    cards = [card for card, _ in list_cards()]
    parts = [
        "# Table of metrics",
        f"{MADE} `refbench list metric NAME` shows one's card in full, with its colour space, rules, library and hash.",
        "Arrows point to the better side. *Scored* metrics make the score; the unit is a typical gap between the "
        "trivial answer and the truth ([metrics and score](../metrics.md)).",
    ]
    for axis, title in AXES.items():
        own = [card for card in cards if card.axis == axis and not is_learned(card.name)]
        parts += [f"## {title}", _metrics(own)]
    learned = [card for card in cards if is_learned(card.name)]
    parts += [
        "## With downloaded weights",
        "Measured when asked for, and in no score ([learned metrics](../learned-metrics.md)).",
        table(("metric", "what is computed", "resized", "range, better", "library", "note"), map(_learned, learned)),
        "## Sources",
        table(("metric", "source"), [(f"`{card.name}`", _linked(card.paper)) for card in cards]),
    ]
    return joined(parts)


def _metrics(cards: Iterable[Any]) -> str:
    rows = []
    for card in cards:
        only = f" ({', '.join(card.categories)} only)" if card.categories else ""
        scored = "no" if not card.scored else "yes" if card.unit is None else f"yes, {card.unit:g}"
        range_ = f"{bounds(card.range)} {'↑' if card.higher_is_better else '↓'}"
        rows.append((f"`{card.name}`", card.definition + only, card.region, range_, scored, card.note))
    return table(("metric", "what is computed", "region", "range, better", "scored, unit", "note"), rows)


def _learned(card: Any) -> Sequence[object]:
    from refbench.metrics.learned.base import NOT_SCORED

    library = re.sub(r" (\d[\w.]*|\(not installed\))|, torch\b", "", card.backend)  # whatever is installed here
    note = card.note.removeprefix(NOT_SCORED).removeprefix("; ")
    range_ = f"{bounds(card.range)} {'↑' if card.higher_is_better else '↓'}"
    return f"`{card.name}`", card.definition, card.resize_rule, range_, library, note


def _linked(paper: str) -> str:
    paper = re.sub(r"doi (10\.\S+\w)", r"[doi \1](https://doi.org/\1)", paper)
    return re.sub(r"arXiv[ :](\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def metric_functions() -> str:
    """A page that takes the docstrings of every module with an embedded metric."""
    from refbench.metrics.registry import METRICS, is_learned

    parts = ["# Metric functions", f"{MADE} Pure functions first, then the class that gives one its card."]
    modules = dict.fromkeys(METRICS[name].partition(":")[0] for name in METRICS if not is_learned(name))
    for room in dict.fromkeys(module.split(".")[2] for module in modules):
        own = [module for module in modules if module.split(".")[2] == room]
        directives = "\n".join(f".. automodule:: {module}\n   :members:" for module in own)
        parts += [f"## {room.capitalize()}", f"```{{eval-rst}}\n{directives}\n```"]
    return joined(parts)


def tasks() -> str:
    """The tasks of the suites that are embedded, and every degradation in them."""
    from refbench.runs.catalogue import tasks as rows_of
    from refbench.tasks.suite import load_suite

    parts = ["# Table of tasks", f"{MADE} `refbench list task NAME` shows one in full."]
    columns = ("task", "category", "mode", "samples", "true views", "sources", "masked share")
    for name in ("core", "mini"):
        suite = load_suite(name)
        rows = []
        for row in rows_of(name):
            shown = (
                f"[`{row['task']}`](../../tasks/core/{row['task']}/README.md)" if name == "core" else f"`{row['task']}`"
            )
            rows.append(
                [
                    shown,
                    row["category"],
                    row["mode"],
                    row["samples"],
                    row["true views"],
                    row["sources"],
                    row["mask share"],
                ]
            )
        parts += [
            f"## `{name}`, {len(suite)} samples",
            f"Version {suite.version}, hash `{suite.hash[:12]}`.",
            table(columns, rows),
        ]
    metas = load_suite("core").metas
    names = sorted({meta.degradation for meta in metas})
    rows = []
    for name in names:
        own = [meta for meta in metas if meta.degradation == name]
        strengths = [meta.strength for meta in own]
        spread = f"{min(strengths):.2f} to {max(strengths):.2f}"
        rows.append([f"`{name}`", len(own), spread, ", ".join(sorted({meta.category for meta in own}))])
    parts += [
        "## Degradations in `core`",
        "What each does: [tasks](../tasks.md#how-a-sample-is-made). Strength is 0 (none) to 1 (nothing left).",
        table(("degradation", "samples", "strength", "categories"), rows),
    ]
    return joined(parts)


def commands() -> str:
    """Every command with its options, as its `--help` has them, and the exit codes."""
    import typer

    from refbench.cli.main import EXIT_CODES, VERBS

    found: dict[str, Any] = {}
    for verb, (module, _) in VERBS.items():
        command: Any = typer.main.get_command(importlib.import_module(f"refbench.cli.{module}").app)
        below: Mapping[str, Any] | None = getattr(command, "commands", None)
        found |= {f"{verb} {name}": one for name, one in below.items()} if below else {verb: command}
    parts = [
        "# Commands, options, exit codes",
        f"{MADE} `refbench COMMAND --help` says the same in the terminal.",
        table(
            ("command", "what it does"), [(f"[`{v}`](#{_anchor(v, found)})", text) for v, (_, text) in VERBS.items()]
        ),
        "## Exit codes",
        table(("code", "meaning"), [(code, text) for code, text in EXIT_CODES.items()]),
        "Where a command means more by them:",
        table(("command", "exit codes"), [(f"`{name}`", text) for name, one in found.items() if (text := _exits(one))]),
        "## Commands",
    ]
    for name, command in found.items():
        parts += [f"### {name}", joined(_quoted(" ".join(one.split())) for one in (command.help or "").split("\n\n"))]
        context = typer.Context(command)
        records = [(one, one.get_help_record(context)) for one in command.params if not getattr(one, "hidden", False)]
        parts.append(table(("argument or option", "what"), [(f"`{r[0]}`", _what(r[1])) for _, r in records if r]))
    return joined(parts)


def _anchor(verb: str, found: Mapping[str, Any]) -> str:
    return next(name for name in found if name.split()[0] == verb).replace(" ", "-")


def _quoted(text: str) -> str:
    """Options as code, where they are not yet."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(re.sub(r"(--[a-z][a-z-]*)", r"`\1`", part) if part[:1] != "`" else part for part in parts)


def _what(text: str) -> str:
    return re.sub(r"\s*\[(default: [^]]*|required)\]\s*$", r" *\1*", _quoted(text))


def _exits(command: Any) -> str:
    text = " ".join((command.help or "").split())
    found = re.search(r"[Ee]xit(?: with)?(?: codes?:?)? (\d[^.]*)\.?", text)
    return found[1] if found else ""


def findings() -> str:
    """Every finding of the verifier with its meaning."""
    from refbench.leaderboard.refused import FINDINGS

    rows = [(f"`{name}`", meaning) for name, meaning in FINDINGS.items()]
    return joined(("# Findings of the verifier", MADE, table(("finding", "meaning"), rows)))


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "metrics.md": metrics,
    REFERENCE / "metric-functions.md": metric_functions,
    REFERENCE / "tasks.md": tasks,
    REFERENCE / "commands.md": commands,
    REFERENCE / "findings.md": findings,
}
"""Page -> what writes it whole."""


def made() -> dict[Path, str]:
    """Path -> the text that the code gives, for every generated page."""
    return {path: write() for path, write in PAGES.items()}


def stale() -> dict[Path, str]:
    """Pages that differ from what the code gives, with the text it gives."""
    return {path: text for path, text in made().items() if not path.is_file() or path.read_text("utf-8") != text}


def main(arguments: Sequence[str]) -> int:
    """Write the stale pages, or with --check only name them; exit code 1 where there are any."""
    check = "--check" in arguments
    old = stale()
    for path, text in old.items():
        sys.stderr.write(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if old and check else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # the code beside these pages, whatever is installed
    sys.exit(main(sys.argv[1:]))
