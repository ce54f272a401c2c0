"""From own pictures to a table, a comparison and a page, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from tiny import make

from refbench.images import save_png
from refbench.metrics import registry
from refbench.registry import Registry

from .conftest import Cli

KEPT = ("ssim", "squeeze_pooled", "contextual", "background_exact", "sharpness")


@pytest.fixture(autouse=True)
def _few_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METRICS", Registry("metric", {name: registry.METRICS[name] for name in KEPT}))


@pytest.fixture
def own(here: Path) -> Path:
    """Three own pictures with targets; outputs in A (flat, PNG) and B (by task, TIFF and JPEG, with others beside)."""
    folder = here / "own"
    for number in range(3):
        sample, target = make("logo-refine", number)
        name = f"IMG {number}"
        for place, picture in (("drafts", sample.draft), ("references", sample.reference), ("masks", sample.mask),
                               ("targets", target)):  # fmt: skip
            (folder / place).mkdir(parents=True, exist_ok=True)
            save_png(folder / place / f"{name}.png", picture)
        for place in ("A", "B/object-refine"):
            (here / place).mkdir(parents=True, exist_ok=True)
        half = ((sample.draft.astype(np.uint16) + target) // 2).astype(np.uint8)
        save_png(here / "A" / f"{name}.png", half)
        PILImage.fromarray(sample.draft).save(here / "B/object-refine" / f"{name}.{('TIF', 'tiff', 'JPG')[number]}")
    (here / "B/notes.txt").write_text("x")
    save_png(here / "B/contact sheet.png", sample.draft)
    return folder


def test_own_pictures_are_scored_and_compared(cli: Cli, own: Path, here: Path) -> None:
    done = cli("import", "folders", own, "--out", "mine")
    assert done.code == 0, done.err
    assert "mine: 3 of 3 samples of 3 sources, hash " in done.out
    assert "Licence: unknown for 3 samples." in done.out
    assert cli("tasks", "verify", "mine").code == 0
    done = cli("score", "A", "B", "--suite", "mine", "--json")
    assert done.code == 0, done.err
    assert "belong to no sample of the suite and are left out: contact sheet.png." in done.err
    assert "in a format that may lose detail (first: IMG 2.JPG)" in done.err
    found = json.loads(done.out)
    assert [(run["model"], run["run"], run["score_version"]) for run in found["runs"]] == [
        ("A", None, 2),
        ("B", None, 2),
    ]
    assert found["comparison"]["by"] == "mean"
    assert found["comparison"]["against_all"]["A"] == {"wins": 3, "ties": 0, "losses": 0}
    assert sorted(path.name for path in here.iterdir()) == ["A", "B", "mine", "own"]


def test_sample_without_picture_counts_as_draft(cli: Cli, own: Path, here: Path) -> None:
    cli("import", "folders", own, "--out", "mine")
    (here / "A/IMG 1.png").unlink()
    done = cli("score", "A", "--suite", "mine", "--out", "run")
    assert done.code == 1
    assert "3 samples, 1 failed" in done.out
    assert "failed: IMG 1: Expected IMG 1.png in " in done.out
    assert (here / "run/summary.json").is_file()
    again = cli("score", "A", "--suite", "mine", "--out", "run")
    assert (again.code, again.out) == (1, done.out)


def test_without_targets_axis_says_so_everywhere(cli: Cli, own: Path, here: Path) -> None:
    assert cli("import", "folders", own, "--out", "mine", "--no-targets").code == 0
    done = cli("score", "A", "B", "--suite", "mine", "--out", "runs")
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if line.split()[:1] in (["all"], ["A"], ["B"])]
    # Twice a title and a table, then both models in the comparison, which has no pixel fidelity.
    assert [row.count("not measured") for row in rows] == [0, 3, 0, 3, 2, 2]
    assert "score 2 without targets" in done.out
    assert "not compared: mean: the suite has no targets" in done.out
    assert "Sample by sample in reference alignment, " in done.out
    found = json.loads(cli("score", "A", "--suite", "mine", "--out", "runs/A", "--json").out)
    assert (found["targets"], found["score_version"]) == (False, "2 without targets")
    assert set(found["withheld"]) == {"texture_fidelity", "mean", "pixel_fidelity"}
    assert found["axes"]["local_consistency"]["value"] == 100.0  # A keeps the background to the bit
    assert found["axes"]["reference_alignment"]["value"] is not None
    assert cli("figures", "runs/A", "runs/B", "--out", "f").code == 0
    assert "table_categories.tex" not in {path.name for path in (here / "f").iterdir()}
    assert (here / "f/table.tex").read_text().count("not measured") == 6  # texture, score and pixel of each run
    assert "score 2 without targets" in (here / "f/qualitative.tex").read_text()
    assert cli("report", "runs/A", "runs/B", "--out", "page").code == 0
    page = (here / "page/index.html").read_text()
    assert '"targets":false' in page.replace(": ", ":")
    assert '"score":"2 without targets"' in page.replace(": ", ":")


def test_targetless_board_ranks_by_alignment(cli: Cli, own: Path, here: Path) -> None:
    cli("import", "folders", own, "--out", "named", "--no-targets", "--json")
    cli("score", "A", "--suite", "named", "--out", "run")
    assert "'IMG 0' is one" in cli("submit", "run", "--to", "entries", "--by", "me").sentence
    for path in [*own.rglob("IMG *"), *here.glob("[AB]/**/IMG *")]:
        path.rename(path.with_name(path.name.replace("IMG ", "img-")))
    cli("import", "folders", own, "--out", "mine", "--no-targets")
    cli("score", "A", "B", "--suite", "mine", "--out", "runs")
    done = cli("submit", "runs/A", "--to", "entries", "--by", "me")
    assert done.code == 0, done.err
    done = cli("verify", "entries/a", "--suite", "mine")
    assert done.code == 0, done.out
    done = cli("leaderboard", "add", "runs/A", "runs/B", "--board", "board", "--suite", "mine", "--by", "me")
    assert done.code == 0, done.err
    text = (here / "board/README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| A |", "| B |"))]
    assert [row.count("not measured") for row in rows[:4]] == [3, 3, 0, 0]  # overall, then by category: alignment
    assert "models and categories stand by alignment" in text
    assert "score 2 without targets, 3 samples" in text
    assert "target of" not in text
    found = json.loads((here / "board/board.json").read_text())
    assert found["targets"] is False
    best = [row["columns"]["reference_alignment"]["value"] for row in found["rows"]]
    assert best == sorted(best, reverse=True)


def test_targetless_numbers_stay_apart(cli: Cli, own: Path) -> None:
    for name, more in (("with", ()), ("without", ("--no-targets",))):
        cli("import", "folders", own, "--out", name, *more)
        cli("score", "A", "--suite", name, "--out", f"run-{name}")
    done = cli("compare", "run-with", "run-without")
    assert done.code == 2
    assert "is on the suite" in done.sentence


def test_gaps_are_told_and_exit_2(cli: Cli, own: Path, here: Path) -> None:
    (own / "masks/IMG 0.png").unlink()
    done = cli("import", "folders", own, "--out", "mine")
    assert (done.code, "left out" in done.out, "no mask" in done.out) == (1, True, True)
    for number in (1, 2):
        (own / f"drafts/IMG {number}.png").unlink()
    done = cli("import", "folders", own, "--out", "other", "--json")
    found = json.loads(done.out)
    assert (done.code, found["hash"], found["samples"], found["found"]) == (2, None, 0, 3)
    assert [gap["kind"] for gap in found["gaps"]] == ["missing"] * 3
    assert not (here / "other/suite.json").exists()


def test_a_layout_shows_licence_and_source(cli: Cli, own: Path, here: Path) -> None:
    row = {"condition_image_path": "drafts/IMG 0.png", "ref_image_path": "references/IMG 0.png", "caption": "Mend it.",
           "gt_image_path": "targets/IMG 0.png", "mask_path": "masks/IMG 0.png"}  # fmt: skip
    (own / "train.json").write_text(json.dumps([row]))
    done = cli("import", "table", own / "train.json", "--layout", "hp-image-40k", "--out", "mine")
    assert done.code == 0, done.err
    assert "source: huggingface.co/datasets/donghao-zhou/HP-Image-40K" in done.err
    assert "licence: Apache-2.0 (the authors' repository" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "nowhere"), "a folder of pictures named by sample id at nowhere"),
        (("score", "A", "A"), "one came twice"),
        (("import", "folders", "nowhere", "--out", "x"), "folder of pictures at nowhere"),
        (("import", "folders", "A", "--out", "x"), "drafts/, references/ and masks/"),
        (("import", "table", "A/t.xlsx", "--out", "x"), "A/t.xlsx"),
        (("import", "folders", "own", "--out", "x", "--category", "cat"), "category 'cat'"),
        (("import", "folders", "own", "--out", "x", "--layout", "criticbench"), "not guessed"),
    ],
)
def test_wrong_input_is_one_sentence(cli: Cli, own: Path, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert words in done.sentence
