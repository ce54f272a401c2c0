"""What the pages say exists: generated tables, links and anchors, commands and options, names in Python examples."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("reports/*.md"), ROOT / "README.md"])
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(path.read_text("utf-8")) if kind == language]


def prose(path: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text("utf-8")))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_tables_are_current(generate: ModuleType) -> None:
    old = [str(path.relative_to(ROOT)) for path in generate.stale()]
    assert old == [], "run `python docs/generate.py`"


def test_an_edited_table_is_stale(generate: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("| by hand |\n")
    generate.PAGES = {page: generate.findings}
    (text,) = generate.stale().values()
    assert text.startswith("# Findings of the verifier")
    assert "| finding | meaning |" in text
    page.write_text(text)
    assert generate.stale() == {}


def test_a_cell_cannot_break_its_table(generate: ModuleType) -> None:
    assert generate.cell("a|b\nc <path> `<kept>`") == "a\\|b c &lt;path&gt; `<kept>`"
    assert generate.bounds((None, None)) == "-∞ to ∞"


def anchors(path: Path) -> set[str]:
    """Of the headings, as the forge makes them."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text) for text in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_hold(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = path if not target else (path.parent / target).resolve()
        if not file.is_file() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def test_front_page_leads_to_every_page() -> None:
    front = (ROOT / "docs" / "index.md").read_text("utf-8")
    hubs = front + (ROOT / "docs" / "contributing.md").read_text("utf-8")
    pages = [str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if page != "index.md" and f"]({page})" not in hubs] == []


def commands_in(path: Path) -> Iterator[list[str]]:
    for text in (*blocks(path, "bash"), *blocks(path, "console"), *blocks(path, "")):
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split(" # ")[0].split("   #")[0].strip().removeprefix("$ ")
            if "refbench " in words and not words.startswith(("#", "git", "pip", "|")):
                yield shlex.split(words)


def known_commands() -> dict[str, set[str]]:
    import typer

    from refbench.cli.main import VERBS

    found: dict[str, set[str]] = {}
    for verb, (module, _) in VERBS.items():
        command: Any = typer.main.get_command(importlib.import_module(f"refbench.cli.{module}").app)
        below = getattr(command, "commands", None) or {"": command}
        for name, one in below.items():
            options = {option for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)}
            found[f"{verb} {name}".strip()] = {option for option in options if option.startswith("-")} | {"--help"}
    return found


def test_commands_and_options_in_pages_exist() -> None:
    known = known_commands()
    wrong, seen = [], 0
    for path in PAGES:
        for words in commands_in(path):
            rest = words[words.index("refbench") + 1 :] if "refbench" in words else []
            if not rest or rest[0].startswith("--"):
                continue
            name = next((name for name in (" ".join(rest[:2]), rest[0]) if name in known), None)
            options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            seen += 1
            if name is None or not options <= known[name]:
                wrong.append((path.name, " ".join(words)))
    assert wrong == []
    assert seen > 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_examples_import_what_exists(path: Path) -> None:
    for text in blocks(path, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "refbench":
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{path.name}: {node.module} has no {alias.name}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "refbench":
                assert hasattr(importlib.import_module("refbench"), node.attr), f"{path.name}: refbench.{node.attr}"


def test_the_example_of_a_metric_measures() -> None:
    from refbench.metrics.view import View
    from refbench.schema import Truth

    (text,) = blocks(ROOT / "docs" / "contributing-metric.md", "python")
    space: dict[str, Any] = {}
    exec(text, space)
    metric = space["RedShare"]()
    assert metric.lacking(Truth("red", np.zeros((64, 64, 3), np.uint8), None, None, None)) is None
    output = np.zeros((64, 64, 3), np.uint8)
    output[...] = (60, 20, 20)
    truth = Truth("red", np.full((64, 64, 3), 9, np.uint8), None, None, None)
    assert metric.value(View(truth, output)) == pytest.approx(0.6)
    assert not metric.card().scored


def test_example_of_column_is_one() -> None:
    from refbench.leaderboard import columns

    (text,) = blocks(ROOT / "docs" / "contributing-column.md", "python")
    before = list(columns.COLUMNS)
    try:
        exec(text, {"column": columns.column, "Row": columns.Row, "Value": columns.Value})
        (added,) = columns.COLUMNS[len(before) :]
        assert (added.view, added.kind, added.better) == ("cost", "number", "lower")
    finally:
        columns.COLUMNS[:] = before


def test_citation_says_what_package_says() -> None:
    import yaml

    from refbench import __version__

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == __version__
    assert cited["license"] == "Apache-2.0"
    assert f"version = {{{__version__}}}" in (ROOT / "docs" / "cite.md").read_text("utf-8")


@pytest.mark.parametrize("path", [p for p in PAGES if "reports" not in p.parts], ids=lambda path: path.name)
def test_pages_tell_no_history(path: Path) -> None:
    history = r"(?i)\b((until|as of|is|are)\snow|no\slonger|formerly|previously|session|version\sbefore)\b"
    assert re.findall(history, prose(path)) == []
