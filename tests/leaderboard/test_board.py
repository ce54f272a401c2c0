"""The board: computed from entries alone, refused as a whole when they differ, escaped in every format."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from refbench.errors import RefbenchError
from refbench.leaderboard import board as b
from refbench.leaderboard import columns as c
from refbench.leaderboard.baseline_sheet import difficulty
from refbench.leaderboard.render import html, latex, markdown, number, render
from refbench.leaderboard.submission import board_copy
from refbench.leaderboard.table import gather
from refbench.results.resultset import compare_runs, open_results
from refbench.schema import AXES, PIXEL, SCORE_VERSION
from refbench.stats.recovery import Cell

from .conftest import METRICS, World
from .spoil import change_json, put, reseal


@pytest.fixture
def board(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "board"))


def test_rendered_board_is_what_entries_give(board: Path) -> None:
    assert b.stale(board) == []
    (board / "README.md").write_text("edited by hand")
    assert b.stale(board) == ["README.md"]
    b.build(board)
    assert b.stale(board) == []


def test_board_needs_neither_suite_nor_metrics(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        raise AssertionError("the board reads committed files only")

    for name in ("refbench.tasks.suite.load_suite", "refbench.runs.api.metric_state"):
        monkeypatch.setattr(name, no)
    assert b.stale(board) == []


def test_every_format_has_every_model(board: Path) -> None:
    found = gather(board)
    means = [row.summary.mean.value for row in found.rows]
    assert means == sorted(means, reverse=True)
    names = {row.entry.name for row in found.rows}
    assert names == {"identity", "sharpen", "reference-paste"}
    rows = list(csv.DictReader(io.StringIO((board / "board.csv").read_text())))
    assert {row["entry"] for row in rows} == names
    data = json.loads((board / "board.json").read_text())
    assert {row["entry"] for row in data["rows"]} == names
    for name in ("README.md", "index.html", "board.tex"):
        assert all(one in (board / name).read_text() for one in names)


def test_values_agree_between_formats(board: Path) -> None:
    data = json.loads((board / "board.json").read_text())
    rows = {row["entry"]: row for row in csv.DictReader(io.StringIO((board / "board.csv").read_text()))}
    for row in data["rows"]:
        cell = row["columns"]["mean"]
        assert float(rows[row["entry"]]["mean"]) == pytest.approx(cell["value"])
        assert float(rows[row["entry"]]["mean_low"]) == pytest.approx(cell["low"])
        half = (cell["high"] - cell["low"]) / 2
        assert f"{cell['value']:.1f} ±{half:.1f}" in (board / "README.md").read_text()


def test_pixel_fidelity_is_named_everywhere(board: Path) -> None:
    files = {name: (board / name).read_text() for name in ("README.md", "index.html", "board.csv", "board.tex")}
    data = json.loads((board / "board.json").read_text())
    assert data["score_version"] == SCORE_VERSION
    for name in ("README.md", "index.html", "board.tex"):
        assert "pixel (not in the score)" in files[name]
        assert f"score {SCORE_VERSION}, 8 samples" in files[name]
    held = {row["entry"]: row for row in csv.DictReader(io.StringIO(files["board.csv"]))}
    for row in data["rows"]:
        assert float(held[row["entry"]][PIXEL]) == pytest.approx(row["columns"][PIXEL]["value"])
    (identity,) = (row for row in data["rows"] if row["entry"] == "identity")
    assert identity["columns"][PIXEL]["value"] == identity["columns"]["mean"]["value"] == 0


def test_claimed_and_verified_stand_together(board: Path) -> None:
    text = (board / "README.md").read_text()
    assert "| model | claimed score | verified score |" in text
    (board / "entries" / "sharpen" / "verdict.json").unlink()
    row = next(row for row in gather(board).rows if row.entry.name == "sharpen")
    by_key = {column.key: column for column in c.COLUMNS}
    assert by_key["status"].value(row) == "claimed only"
    assert by_key["verified"].value(row) is None
    assert by_key["claimed"].value(row) is not None


def test_verdict_on_other_content_does_not_count(board: Path) -> None:
    change_json(board / "entries" / "sharpen", "verdict.json", put("seal", to="0" * 64))
    row = next(row for row in gather(board).rows if row.entry.name == "sharpen")
    assert row.verdict is None


def test_unequal_entries_are_refused_with_differences(board: Path) -> None:
    one, two = board / "entries" / "sharpen", board / "entries" / "identity"
    reseal(one, put("suite_hash", to="ab" * 32))
    change_json(two, "manifest.json", lambda m: m.update(samples=m["samples"][1:]))
    reseal(two)
    with pytest.raises(RefbenchError) as told:
        gather(board)
    assert "sharpen is on the suite abababababab" in str(told.value)
    assert "identity lacks 1 samples and has 0 others" in str(told.value)


def test_edited_entry_is_refused(board: Path) -> None:
    path = board / "entries" / "sharpen" / "entry.json"
    path.write_text(path.read_text().replace("The testers", "Someone").replace("tests", "Someone"))
    with pytest.raises(RefbenchError, match="broken-seal"):
        gather(board)


def test_second_name_needs_replace(board: Path, world: World, entry: Path) -> None:
    with pytest.raises(RefbenchError, match="new name"):
        b.add(board, world.entry, suite=world.spec, samples=0, metrics=METRICS)
    kept = (board / "entries" / "sharpen" / "entry.json").read_bytes()
    verdict = b.add(board, world.entry, suite=world.spec, samples=0, metrics=METRICS, replace=True)
    assert verdict.verdict == "verified"
    assert (board / "entries" / "sharpen" / "entry.json").read_bytes() != kept  # another submitter
    reseal(entry, put("claims", "mean", "value", to=99.0))
    before = sorted(path.name for path in (board / "entries").iterdir())
    assert b.add(board, entry, suite=world.spec, samples=0, metrics=METRICS, replace=True).verdict == "differs"
    assert sorted(path.name for path in (board / "entries").iterdir()) == before


def test_merged_entry_is_verified_in_place(board: Path, world: World) -> None:
    lies = board / "entries" / "sharpen"
    shutil.rmtree(lies)
    board_copy(world.entry, lies)
    held = {path.name: path.read_bytes() for path in lies.iterdir() if path.is_file()}
    for _ in range(2):  # the second time, say in a challenge, with the verdict beside it
        verdict = b.add(board, lies, outputs=world.archive, suite=world.spec, samples=0, metrics=METRICS, replace=True)
        assert verdict.verdict == "verified"
        assert {name: (lies / name).read_bytes() for name in held} == held
        assert (lies / "verdict.json").is_file()


def test_board_without_sheet_says_what_to_do(board: Path, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="leaderboard add RUN"):
        gather(tmp_path)
    shutil.rmtree(board / "entries")
    with pytest.raises(RefbenchError, match="none"):
        gather(board)


# ---- columns


def test_columns_have_unique_keys() -> None:
    keys = [column.key for column in c.COLUMNS]
    assert len(set(keys)) == len(keys)
    assert keys[:6] == ["place", "mean", *AXES, PIXEL]
    for view in c.VIEWS:
        assert c.columns_of(view)


def test_a_new_column_is_one_function(board: Path) -> None:
    before = list(c.COLUMNS)
    try:

        @c.column("letters", "letters", "cost", "number", "Letters in the name.")
        def _letters(row: c.Row) -> c.Value:
            return len(row.entry.card.name)

        text = markdown(gather(board, c.COLUMNS))
        assert "| letters |" in text
        assert "| 15 |" in text  # reference-paste
    finally:
        c.COLUMNS[:] = before


def test_wrong_kind_is_told_by_column(board: Path) -> None:
    row = gather(board).rows[0]
    for kind, value in (("cell", 3.0), ("number", "3"), ("text", None), ("flag", 1), ("number", float("nan"))):
        wrong = c.Column("wrong", "wrong", "cost", kind, "x", lambda _, value=value: value)  # type: ignore[arg-type,misc]
        with pytest.raises(TypeError, match="wrong"):
            wrong.value(row)


def test_columns_without_any_value_are_not_shown(board: Path) -> None:
    shown = {column.key for column in gather(board).columns}
    assert "vram" not in shown
    assert "seconds" in shown
    assert "category_face" not in shown  # the tiny suite has no faces


# ---- escaping

NASTY = "a|b`c`<script>alert(1)</script>*x*_y_[z](javascript:alert(1))\x1b[31m\u202e&%$#{}~^\\\n| row |"


def nasty(found: b.Board) -> b.Board:
    """The board as if such a text had passed every earlier check."""
    first = found.rows[0]
    card = first.entry.card.model_copy(
        update={"name": NASTY, "summary": NASTY, "licence": NASTY, "paper": "javascript:alert(1)"}
    )
    entry = first.entry.model_copy(update={"card": card, "submitter": "=cmd|' /C calc'!A0"})
    return replace(found, rows=(replace(first, entry=entry), *found.rows[1:]))


class Page(HTMLParser):
    """Tags and handlers of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_hostile_text_is_inert_in_every_format(board: Path) -> None:
    plain, found = gather(board), nasty(gather(board))
    files = {name: data.decode() for name, data in render(found).items()}
    for text in files.values():
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script" not in files["README.md"]
    assert "](javascript" not in files["README.md"]
    rows = [line for line in files["README.md"].splitlines() if line.startswith("|")]
    normal = [line for line in markdown(plain).splitlines() if line.startswith("|")]
    assert [line.count("|") for line in rows] == [line.count("|") for line in normal]
    page, usual = Page(), Page()
    page.feed(files["index.html"])
    usual.feed(html(plain))
    assert page.tags.count("script") == usual.tags.count("script") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name == "href" and not str(value).startswith("https://")]
    line = next(line for line in files["board.tex"].splitlines() if "alert" in line and "&" in line)
    assert not re.search(r"(?<!\\)[#%_{}]{1}script", line.replace("{}", ""))  # behind the names of commands
    assert r"\textbackslash{}" in line
    cells = next(csv.reader(io.StringIO(files["board.csv"].splitlines()[1])))
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert json.loads(files["board.json"])["rows"][0]["card"]["name"]


def test_the_page_is_self_contained(board: Path) -> None:
    text = (board / "index.html").read_text()
    page = Page()
    page.feed(text)
    assert "default-src 'none'" in text
    assert not [v for n, v in page.attributes if n == "src" and not str(v).startswith("data:")]
    assert "@import" not in text
    assert "link" not in page.tags


def test_latex_is_booktabs_with_marks(board: Path) -> None:
    text = latex(gather(board))
    assert text.count("\\toprule") == text.count("\\bottomrule") == text.count("\\begin{tabular}")
    assert "\\textbf{" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (4.5678, "4.57"), (123.4, "123"), (12345.0, "12,345")]
)
def test_numbers_are_short_without_exponents(value: float, text: str) -> None:
    assert number(value) == text


def test_cells_write_intervals_as_plus_minus() -> None:
    from refbench.leaderboard.render import cell_text

    assert cell_text(Cell(value=41.24, low=37.24, high=45.24), 1) == "41.2 ±4.0"
    assert cell_text(Cell(value=-0.01, low=None, high=None), 1) == "0.0"
    assert cell_text(Cell(value=None, low=None, high=None), 1) == "–"


def test_difficulty_is_thirds_by_drafts_psnr() -> None:
    import pandas as pd

    ids = [f"s{i}" for i in range(9)]
    rows = [{"sample": s, "answer": "draft", "metric": "psnr", "value": 10.0 + i} for i, s in enumerate(ids)]
    assert difficulty(pd.DataFrame(rows), [*ids, "x"]) == ["hard"] * 3 + ["medium"] * 3 + ["easy"] * 3 + ["unknown"]


# ---- the page's own arithmetic


def test_ratings_of_page_are_statistics(board: Path, tmp_path: Path) -> None:
    """The page recomputes ratings for a filtered pool; for the whole pool it must arrive at the board's."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    found = gather(board)
    text = (board / "index.html").read_text()
    script = text.partition('"use strict";')[2].partition("</script>")[0]
    models = next(line for line in script.splitlines() if line.startswith("const models"))
    body = script[script.index("function ratings") : script.index("const original")]
    program = tmp_path / "ratings.js"
    program.write_text(
        f"{models}\n{body}\nconsole.log(JSON.stringify([ratings([0, 1, 2]), ratings([0, 2]), ratings([1])]));"
    )
    whole, pair, single = json.loads(subprocess.run([node, program], capture_output=True, check=True).stdout)
    assert whole == pytest.approx([row.standing.rating for row in found.rows], abs=1e-6)
    win, _, loss = found.rows[0].standing.against[found.rows[2].entry.name]
    import math

    assert pair[0] - pair[1] == pytest.approx(400 * math.log10((win + 0.5) / (loss + 0.5)), abs=1e-6)
    assert single == [1000]


# ---- runs


def test_runs_are_compared_from_their_folders(built: Path, world: World) -> None:
    runs = built.parent / "runs"
    found = compare_runs([world.run, runs / "identity", runs / "reference-paste"], resamples=200)
    assert found.models == ("sharpen", "identity", "reference-paste")
    assert len(found.pairs) == 3
    assert found.samples == 8


def test_incomparable_runs_are_refused_with_list(built: Path, world: World, tmp_path: Path) -> None:
    other = Path(shutil.copytree(built.parent / "runs" / "identity", tmp_path / "identity"))
    change_json(other, "manifest.json", put("suite_hash", to="cd" * 32))
    with pytest.raises(RefbenchError, match="identity is on the suite cdcdcdcdcdcd"):
        compare_runs([world.run, other])
    with pytest.raises(RefbenchError, match="at least two"):
        compare_runs([world.run])
    with pytest.raises(RefbenchError, match="twice"):
        open_results([world.run, world.run])
