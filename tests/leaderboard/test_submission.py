"""Packing a run: what is in the entry, what is kept out of it, and which runs cannot be packed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import RefbenchError
from refbench.images import load_image, save_png
from refbench.leaderboard.entry import BOARD_BYTES, canonical, parse_entry, sealed, strict_json
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.submission import THUMB_PX, board_copy, submit, thumbnail
from refbench.runs.folder import RunFolder

from .conftest import World
from .spoil import change_json


def test_entry_holds_claims_and_hashes(world: World) -> None:
    entry = parse_entry((world.entry / "entry.json").read_bytes(), "entry.json")
    assert entry.name == "sharpen"
    assert entry.submitter == "The testers"
    assert entry.suite_hash == world.suite.hash
    assert entry.claims.samples == 8
    assert set(entry.files) == {
        path.relative_to(world.entry).as_posix()
        for path in world.entry.rglob("*")
        if path.is_file() and path.name != "entry.json"
    }
    assert sum(name.startswith("outputs/") for name in entry.files) == 8
    assert sum(name.startswith("thumbs/") for name in entry.files) == 2
    assert entry.cost.seconds is not None
    assert entry.cost.seconds > 0


def test_outputs_are_the_runs_pixels(world: World) -> None:
    run, _ = RunFolder.open(world.run)
    for path in (world.entry / "outputs").rglob("*.png"):
        assert np.array_equal(load_image(path), load_image(run.output(path.parent.name, path.stem)))


def test_light_entry_is_small_enough(world: World, tmp_path: Path) -> None:
    light = board_copy(world.entry, tmp_path / "light")
    assert sum(path.stat().st_size for path in light.rglob("*") if path.is_file()) < BOARD_BYTES
    assert not list(light.rglob("*.png"))


def test_no_folder_of_submitter_is_published(world: World) -> None:
    for name in ("entry.json", "manifest.json", "records.jsonl"):
        text = (world.entry / name).read_text()
        assert world.spec not in text
        assert str(world.run.parent) not in text


def test_packing_twice_gives_the_same_seal(world: World, tmp_path: Path) -> None:
    again = submit(world.run, tmp_path, submitter="The testers")
    one, two = (json.loads((folder / "entry.json").read_text())["seal"] for folder in (world.entry, again))
    assert one == two


def test_the_seal_covers_every_field(world: World) -> None:
    entry = parse_entry((world.entry / "entry.json").read_bytes(), "entry.json")
    assert sealed(entry).seal == entry.seal
    changed = entry.model_copy(update={"notes": "x"})
    assert canonical(changed) != canonical(entry)
    assert sealed(changed).seal != entry.seal


def test_filled_folder_and_bad_name_refused(world: World, tmp_path: Path) -> None:
    submit(world.run, tmp_path, submitter="t")
    with pytest.raises(RefbenchError, match="new folder"):
        submit(world.run, tmp_path, submitter="t")
    with pytest.raises(RefbenchError, match="small letters"):
        submit(world.run, tmp_path / "b", submitter="t", name="../Evil")


def test_unfit_texts_are_told_at_once(world: World, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="markup"):
        submit(world.run, tmp_path, submitter="<b>me</b>")
    with pytest.raises(RefusedError, match="U\\+001B"):
        submit(world.run, tmp_path / "b", submitter="me", notes="\x1b[31mred")


def test_run_over_part_of_suite_refused(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(world.run, run)
    data = json.loads((run / "manifest.json").read_text())
    data["samples"] = data["samples"][:4]
    (run / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(RefbenchError, match="all 8 samples"):
        submit(run, tmp_path / "out", submitter="t")


def test_changed_output_and_lost_summary_refused(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(world.run, run)
    path = sorted((run / "outputs").rglob("*.png"))[0]
    save_png(path, load_image(path) // 2)
    with pytest.raises(RefbenchError, match="pixels have changed"):
        submit(run, tmp_path / "out", submitter="t")
    (run / "summary.json").unlink()
    with pytest.raises(RefbenchError, match="summary"):
        submit(run, tmp_path / "other", submitter="t")


def test_a_thumbnail_shows_the_masks_surroundings() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[40:200, 100:300] = True
    image[mask] = 255
    small = thumbnail(image, mask)
    assert small.shape == (THUMB_PX, THUMB_PX, 3)
    assert small.mean() > 120
    tiny = thumbnail(image, np.pad(np.ones((20, 20), bool), ((270, 10), (370, 10))))
    assert max(tiny.shape[:2]) <= THUMB_PX


def test_strict_json_takes_plain_json_only() -> None:
    assert strict_json(b'{"a": [1, 2.5, null]}', "x") == {"a": [1, 2.5, None]}
    for bad, name in (
        (b'{"a": NaN}', "not-finite"),
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b"\xff", "not-utf8"),
        (b"{", "broken-json"),
    ):
        with pytest.raises(RefusedError) as told:
            strict_json(bad, "x")
        assert told.value.name == name


def test_run_of_several_passes_is_no_entry(world: World, tmp_path: Path) -> None:
    run = Path(shutil.copytree(world.run, tmp_path / "run"))
    change_json(run, "manifest.json", lambda m: m["arguments"].update(passes=2, drafts="x"))
    with pytest.raises(RefbenchError, match=r"Expected a run of one pass .* is pass 2"):
        submit(run, tmp_path / "to", submitter="tests", suite=world.spec)
