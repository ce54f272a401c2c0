"""One's own pictures through the command line: what it tells, several at once, and what is wrong in one sentence."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import make

from refbench.adapters.load import load_adapter
from refbench.images import load_image, save_png
from refbench.runs.refining import PROMPT

from .conftest import Cli

SAMPLE, _ = make("logo-refine", 0)
FIELDS = {"out", "show", "pose", "score", "matches", "changed", "why", "masked", "seconds", "error"}


@pytest.fixture
def files(here: Path) -> Path:
    """d.png, r.png, m.png, and the folders drafts, references and masks with two of each."""
    for name, array in (("d", SAMPLE.draft), ("r", SAMPLE.reference), ("m", SAMPLE.mask)):
        save_png(here / f"{name}.png", array)
    for number in (0, 1):
        sample, _ = make("logo-refine", number)
        for folder, array in (("drafts", sample.draft), ("references", sample.reference), ("masks", sample.mask)):
            save_png(here / folder / f"s{number}.png", array)
    return here


def answer(number: int) -> tuple[np.ndarray, dict[str, object]]:
    """What warp-blend says of a sample that comes without a box and a prompt."""
    inputs = dataclasses.replace(make("logo-refine", number)[0].inputs(), prompt=PROMPT, reference_box=None)
    refined = load_adapter("warp-blend").refine(inputs)
    assert refined.image is not None
    return refined.image, refined.facts


ONE = ["refine", "d.png", "-r", "r.png", "--mask", "m.png", "--out", "o.png", "-m", "warp-blend"]
SEVERAL = ["refine", "drafts", "-r", "references", "--mask", "masks", "--out", "out", "-m", "warp-blend"]


def test_it_tells_what_the_adapter_tells(cli: Cli, files: Path) -> None:
    image, facts = answer(0)
    done = cli(*ONE, "--json", "--show", "s.png")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert set(found) == FIELDS
    assert {name: found[name] for name in ("pose", "score", "matches", "changed")} == {
        name: facts[name] for name in ("pose", "score", "matches", "changed")
    }
    assert found["changed"] == np.count_nonzero((image != SAMPLE.draft).any(-1))
    assert found["masked"] == SAMPLE.mask.sum()
    assert np.array_equal(load_image("o.png"), image)
    assert load_image("s.png").shape[1] > 2 * image.shape[1]


def test_words_on_stderr_path_on_stdout(cli: Cli, files: Path) -> None:
    done = cli(*ONE)
    assert done.out == "o.png\n"
    assert done.err.splitlines()[0] == "Loading warp-blend ..."
    assert "d.png: " in done.err
    assert done.err.rstrip().endswith(" s")


def test_nothing_changed_is_said_with_reason(cli: Cli, files: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, SAMPLE.reference.shape, np.uint8)
    save_png("r.png", noise)
    done = cli(*ONE, "--json")
    found = json.loads(done.out)
    assert (found["pose"], found["changed"]) == ("none", 0)
    assert found["why"].startswith("the reference was not found in the draft (score ")
    assert f"nothing changed: {found['why']}" in done.err
    told = cli(*ONE[:-1], "identity", "--json")
    assert json.loads(told.out)["why"] == "the model gave the draft back"


def test_folders_are_matched_by_name(cli: Cli, files: Path) -> None:
    done = cli(*SEVERAL, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["out"] for row in rows] == ["out/s0.png", "out/s1.png"]
    for number, row in enumerate(rows):
        image, _ = answer(number)
        assert np.array_equal(load_image(row["out"]), image)


def test_hidden_files_are_no_pictures(cli: Cli, files: Path) -> None:
    Path("drafts/._s0.png").write_bytes(b"a sidecar of another system")
    done = cli(*SEVERAL, "--json")
    assert done.code == 0, done.err
    assert [row["out"] for row in json.loads(done.out)] == ["out/s0.png", "out/s1.png"]


def test_several_drafts_may_share_a_reference(cli: Cli, files: Path) -> None:
    done = cli(
        "refine", "drafts/s0.png", "drafts/s1.png", "-r", "r.png", "--mask", "masks", "--out", "o", "-m", "identity"
    )
    assert done.code == 0, done.err
    assert done.out.split() == ["o/s0.png", "o/s1.png"]


def test_one_bad_picture_costs_only_itself(cli: Cli, files: Path) -> None:
    (files / "drafts" / "s0.png").write_bytes(b"no picture")
    done = cli(*SEVERAL, "--json")
    assert done.code == 1
    first, second = json.loads(done.out)
    assert "drafts/s0.png" in first["error"]
    assert second["error"] is None
    assert not (files / "out" / "s0.png").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--box", "0,0,9,9"], "either a mask or a box, but got both"),
        (["-r", "nowhere.png"], "nowhere.png, but there is no such file"),
        (["--mask", "drafts"], "one mask named d.* in drafts, but there is none"),
        (["-m", "warp-blnd"], "did you mean warp-blend"),
        (["--device", "abacus"], "'abacus' came"),
        (["--steps", "3"], "it has no 'steps'"),
        (["-r", "dot.png"], "the reference at dot.png to have 8 x 8 px or more, but it has 300 x 1 px"),
        (["--reference-box", "5,5,7,20"], "the box in the reference to have 8 x 8 px or more, but it has 7 x 20 px"),
        (["--out", "d.png"], "--out to be a file of its own, but d.png is a draft's too"),
        (["--out", "m.png"], "--out to be a file of its own, but m.png is a mask's too"),
        (["--out", "r.png"], "--out to be a file of its own, but r.png is a reference's too"),
        (["--show", "d.png"], "--show to be a file of its own, but d.png is a draft's too"),
        (["--show", "o.png"], "--show to be a file of its own, but o.png is another result's too"),
    ],
)
def test_what_is_wrong_is_a_sentence(cli: Cli, files: Path, change: list[str], words: str) -> None:
    save_png(files / "dot.png", np.zeros((1, 300, 3), np.uint8))
    before = {path: path.read_bytes() for path in files.glob("*.png")}
    done = cli(*ONE, *change)
    assert done.code == 2
    assert words in done.sentence
    assert {path: path.read_bytes() for path in files.glob("*.png")} == before
    assert not (files / "o.png").exists()


def test_several_pictures_need_a_folder(cli: Cli, files: Path) -> None:
    assert "a folder as --out for 2 pictures" in cli(*SEVERAL, "--out", "o.png").sentence
    (files / "masks" / "s1.png").unlink()
    assert "one mask named s1.* in masks" in cli(*SEVERAL).sentence


def test_a_missing_extra_is_named(cli: Cli, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "needs.py").write_text(
        "import diffusers\n\nclass A:\n    def refine(self, inputs):\n        return None\n"
    )
    monkeypatch.setitem(sys.modules, "diffusers", None)
    done = cli(*ONE[:-1], "needs.py")
    assert done.code == 2
    assert done.sentence == (
        "Expected the package diffusers for needs.py, but it is not installed; install the extra 'models': "
        "`pip install 'refbench[models]'`."
    )
    train = cli("train", "sft", "--assets", files)
    assert train.code == 2
    assert "did not foresee" not in train.err


def test_the_shipped_refiner_by_a_box(cli: Cli, files: Path) -> None:
    from refbench.omnirefiner.refine import refine

    done = cli("refine", "d.png", "-r", "r.png", "--box", "20,20,30,24", "--out", "o.png")
    assert done.code == 0, done.err
    assert np.array_equal(load_image("o.png"), refine("d.png", "r.png", box=(20, 20, 30, 24)))
