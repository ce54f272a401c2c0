"""Own pictures become a suite: pixel by pixel what was given, with everything that is amiss told."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refbench.errors import RefbenchError
from refbench.images import encode_png, load_image, resize, save_png
from refbench.tasks import importing
from refbench.tasks.entries import Found, from_dataset, from_folders, from_table, mapping
from refbench.tasks.importing import RIM, Gap, Imported, Rules, import_suite
from refbench.tasks.layouts import LAYOUTS, from_layout, layout_named
from refbench.tasks.suite import load_suite

from .own import SIZE, pictures, write_folders, write_layout

RULES = Rules(licence="CC0-1.0")


def imported(found: Found, out: Path, rules: Rules = RULES, **more: object) -> Imported:
    return import_suite(found.entries, out, rules, **{"targets": found.targets, **more})  # type: ignore[arg-type]


def test_folders_become_suite_pixel_by_pixel(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 3)
    (own / "masks/000.png").rename(own / "masks/000_Mask.PNG")
    (own / "drafts/notes.txt").write_text("x")
    (own / "boxes.csv").write_text("id,x,y,width,height\n001,4,5,20,21\n")
    (own / "prompts.csv").write_text("id,prompt,category,text\n002.png,Mend the label.,text,MILK\n")
    done = imported(from_folders(own), tmp_path / "suite")
    assert (done.samples, done.found, done.sources, done.gaps) == (3, 3, 3, ())
    suite = load_suite(tmp_path / "suite")
    suite.verify()
    assert (suite.hash, suite.targets, suite.tasks) == (done.hash, True, ("object-refine", "text-refine"))
    for number in range(3):
        sample = suite.sample(f"{number:03d}")
        for have, want in zip((sample.draft, sample.reference, sample.mask, suite.target(sample)), pictures(number),
                              strict=True):  # fmt: skip
            np.testing.assert_array_equal(have, want)
    assert [suite.sample(name).reference_box for name in ("000", "001")] == [None, (4, 5, 20, 21)]
    assert suite.sample("000").prompt == "Restore the detail from the reference."
    assert (suite.sample("002").prompt, suite.sample("002").meta.text) == ("Mend the label.", "MILK")
    assert {meta.licence for meta in suite.metas} == {"CC0-1.0"}


def test_table_and_dataset_give_folders_suite(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 3)
    wanted = imported(from_folders(own), tmp_path / "suite").hash
    rows = [
        {"in": f"drafts/{n:03d}.png", "reference": f"references/{n:03d}.png", "m": f"masks/{n:03d}.png",
         "target": f"targets/{n:03d}.png"} for n in range(3)
    ]  # fmt: skip
    (own / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    with (own / "t.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), own / "t.parquet")
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        found = from_table(own / name, mapping("draft=in, mask=m"))
        assert imported(found, tmp_path / f"suite-{name}").hash == wanted
    datasets = pytest.importorskip("datasets")
    kept = {
        "id": [f"{n:03d}" for n in range(3)],
        **{column: [str(own / place / f"{n:03d}.png") for n in range(3)]
           for column, place in (("in", "drafts"), ("reference", "references"), ("m", "masks"), ("target", "targets"))},
    }  # fmt: skip
    made = datasets.Dataset.from_dict(kept)
    for column in ("in", "reference", "m", "target"):
        made = made.cast_column(column, datasets.Image())
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train.parquet")
    done = imported(from_dataset(str(tmp_path / "set"), mapping("draft=in,mask=m")), tmp_path / "suite-set")
    assert (done.hash, done.gaps) == (wanted, ())


def test_load_dataset_reads_the_suite(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    imported(from_folders(write_folders(tmp_path / "own", 2, targets=False)), tmp_path / "suite")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "suite/data/*.parquet"), split="train")
    assert (rows[0]["target"], rows[0]["licence"]) == (None, "CC0-1.0")
    np.testing.assert_array_equal(np.asarray(rows[1]["draft_patch"].convert("RGB")), pictures(1)[0])


def test_without_targets_nothing_claims_one(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 2)
    whole = imported(from_folders(own), tmp_path / "with")
    done = imported(from_folders(own), tmp_path / "without", targets=False)
    assert done.hash != whole.hash
    suite = load_suite(tmp_path / "without")
    suite.verify()
    truth = suite.truth("000")
    assert (suite.targets, truth.has_target) == (False, False)
    np.testing.assert_array_equal(truth.target, pictures(0)[0])
    assert truth.key != load_suite(tmp_path / "with").truth("000").key
    with pytest.raises(RefbenchError, match="with targets, but 'without' has none"):
        suite.target("000")


def _mask(own: Path, level: np.ndarray) -> None:  # type: ignore[type-arg]
    PILImage.fromarray(level).save(own / "masks/001.png")


def _alpha(own: Path) -> None:
    mask = pictures(1)[2]
    _mask(own, np.dstack([np.zeros((*SIZE, 3), np.uint8), np.where(mask, np.uint8(0), np.uint8(255))]))


def _soft(own: Path) -> None:
    level = pictures(1)[2].astype(np.uint8) * np.uint8(255)
    level[10, 20:50] = 200  # 30 of 3,072 px
    _mask(own, level)


def _other_target(own: Path) -> None:
    target = load_image(own / "targets/001.png")
    target[:5] ^= 4
    save_png(own / "targets/001.png", target)


def _spoilt_corner(own: Path) -> None:
    target = load_image(own / "targets/001.png")
    target[0, 0] = np.where(target[0, 0] > 100, target[0, 0] - 9, target[0, 0] + 9)
    save_png(own / "targets/001.png", target)


def _copy(own: Path) -> None:
    for place in ("drafts", "references", "masks", "targets"):
        (own / place / "001.png").write_bytes((own / place / "000.png").read_bytes())


FAULTS: dict[str, tuple[Callable[[Path], object], str, bool, str]] = {
    "no draft": (lambda own: (own / "drafts/001.png").unlink(), "missing", False, "no draft"),
    "two gone": (
        lambda own: [(own / p / "001.png").unlink() for p in ("masks", "references")],
        "missing", False, "no reference and no mask",
    ),
    "no target": (lambda own: (own / "targets/001.png").unlink(), "missing", False, "no target"),
    "twice": (lambda own: (own / "drafts/001.jpg").write_bytes(b"x"), "twice", False, "001.jpg and 001.png"),
    "damaged": (lambda own: (own / "references/001.png").write_bytes(b"x"), "unreadable", False, "reference: "),
    "draft size": (
        lambda own: save_png(own / "drafts/001.png", np.zeros((24, 32, 3), np.uint8)),
        "size", False, "draft 32 x 24 px, not 64 x 48; --resize",
    ),
    "mask size": (lambda own: _mask(own, np.zeros((24, 32), np.uint8)), "size", False, "mask 32 x 24 px"),
    "black": (lambda own: _mask(own, np.zeros(SIZE, np.uint8)), "empty mask", False, "all of it is black"),
    "white": (lambda own: _mask(own, np.full(SIZE, 255, np.uint8)), "empty mask", False, "all of it is white"),
    "inverted": (
        lambda own: save_png(own / "masks/001.png", ~pictures(1)[2]), "inverted mask", False, "80% of it is white",
    ),
    "picture as mask": (
        lambda own: save_png(own / "masks/001.png", pictures(5)[3]), "grey mask", False, "neither black nor white",
    ),
    "soft": (_soft, "grey mask", True, "1.0% of it is grey"),
    "alpha": (_alpha, "alpha mask", False, "--alpha transparent or --alpha opaque"),
    "copy": (_copy, "duplicate", False, "as '000'"),
    "outside": (_other_target, "outside differs", True, "of the pixels outside the mask, by 4 levels on average"),
    "nothing wrong": (
        lambda own: (own / "targets/001.png").write_bytes((own / "drafts/001.png").read_bytes()),
        "nothing wrong", False, "equal inside the mask",
    ),
    "box": (
        lambda own: (own / "boxes.csv").write_text("id,x,y,width,height\n001,90,0,5,5\n"),
        "box", True, "outside the reference",
    ),
    "category": (
        lambda own: (own / "prompts.csv").write_text("id,prompt,category\n001,Mend it.,cat\n"),
        "category", False, "'cat' is none of text",
    ),
    "one pixel outside": (
        _spoilt_corner, "outside differs", True, "less than 0.1% of the pixels outside the mask, by 9 levels",
    ),
    "row of nothing": (
        lambda own: (own / "prompts.csv").write_text("id,prompt\n7,Mend it.\n"), "missing", False, "has no picture",
    ),
}  # fmt: skip
"""What is done to sample 001, and what is told of it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_only_its_sample(tmp_path: Path, fault: str) -> None:
    spoil, kind, used, words = FAULTS[fault]
    own = write_folders(tmp_path / "own", 3)
    spoil(own)
    found = from_folders(own)
    done = imported(found, tmp_path / "suite")
    (gap,) = (*found.gaps, *done.gaps)
    assert (gap.kind, gap.used) == (kind, used)
    assert words in gap.words
    assert gap.sample == ("7" if fault == "row of nothing" else "001")
    assert load_suite(tmp_path / "suite").ids == (
        ("000", "001", "002") if used or gap.sample == "7" else ("000", "002")
    )


def test_names_that_differ_in_case_are_partners(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 2)
    for place, name in (("drafts", "Can"), ("references", "can"), ("masks", "CAN_mask"), ("targets", "can")):
        (own / place / "000.png").rename(own / place / f"{name}.png")
    done = imported(from_folders(own), tmp_path / "suite")
    assert (done.gaps, load_suite(tmp_path / "suite").ids) == ((), ("001", "Can"))
    for place in ("drafts", "references", "masks", "targets"):
        (own / place / "001.png").rename(own / place / "cAN.png")
    assert [entry["id"] for entry in from_folders(own).entries] == ["CAN", "Can", "cAN", "can"]  # which, nobody knows


def test_folders_below_are_told(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 2)
    (own / "drafts/more").mkdir()
    (own / "drafts/000.png").rename(own / "drafts/more/000.png")
    (own / "drafts/notes").mkdir()
    gap = Gap("drafts/more", "folder", "pictures in a folder of their own (1); move them up into drafts/")
    assert from_folders(own).gaps == (gap,)
    (own / "drafts/001.png").rename(own / "drafts/more/001.png")
    with pytest.raises(RefbenchError, match="nothing in drafts/; move up what is in drafts/more, name"):
        from_folders(own)


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    import datasets

    own = write_folders(tmp_path / "own", 2)
    rows = datasets.Dataset.from_dict(
        {what: [str(own / f"{what}s/{n:03d}.png") for n in range(2)] for what in ("draft", "reference", "mask")}
    )
    for what in ("draft", "mask"):
        rows = rows.cast_column(what, datasets.Image())
    wanted = imported(from_folders(own), tmp_path / "suite", targets=False).hash
    rows = rows.add_column("id", ["000", "001"])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(test=rows).save_to_disk(tmp_path / "dict")
    assert imported(from_dataset(str(tmp_path / "one"), {}), tmp_path / "from one").hash == wanted
    found = from_dataset(str(tmp_path / "dict"), {}, split="test")
    assert imported(found, tmp_path / "from dict").hash == wanted
    with pytest.raises(RefbenchError, match="split 'train', but it cannot be loaded"):
        from_dataset(str(tmp_path / "dict"), {})


def test_too_small_pictures_told_and_used(tmp_path: Path) -> None:
    found = from_folders(write_folders(tmp_path / "own", 1))
    smallest = {"face_id": (64, ("face",)), "vast": (49, None), "fine": (48, None)}
    done = imported(found, tmp_path / "suite", smallest=smallest)
    assert done.gaps == (Gap("000", "small", "64 x 48 px; not measured: vast (49)", True),)


def test_nothing_usable_writes_nothing(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 2)
    for number in range(2):
        save_png(own / f"masks/{number:03d}.png", np.zeros(SIZE, bool))
    done = imported(from_folders(own), tmp_path / "suite")
    assert (done.hash, done.samples, len(done.gaps)) == (None, 0, 2)
    assert not (tmp_path / "suite/suite.json").exists()


def test_rules_say_how_masks_are_meant(tmp_path: Path) -> None:
    mask = pictures(1)[2]
    own = write_folders(tmp_path / "own", 2)
    for number in range(2):
        save_png(own / f"masks/{number:03d}.png", ~mask)
    imported(from_folders(own), tmp_path / "turned", dataclasses.replace(RULES, invert=True))
    np.testing.assert_array_equal(load_suite(tmp_path / "turned").sample("001").mask, mask)
    imported(from_folders(own), tmp_path / "meant", dataclasses.replace(RULES, invert=False), targets=False)
    np.testing.assert_array_equal(load_suite(tmp_path / "meant").sample("001").mask, ~mask)
    _alpha(own)
    rules = dataclasses.replace(RULES, invert=False, alpha="transparent")
    imported(from_folders(own), tmp_path / "alpha", rules, targets=False)
    np.testing.assert_array_equal(load_suite(tmp_path / "alpha").sample("001").mask, mask)


def test_resize_brings_draft_to_target(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 1)
    draft, _, mask, target = pictures(0)
    small = np.ascontiguousarray(draft[::2, ::2])
    save_png(own / "drafts/000.png", small)
    save_png(own / "masks/000.png", np.ascontiguousarray(mask[::2, ::2]))
    imported(from_folders(own), tmp_path / "suite", dataclasses.replace(RULES, resize=True))
    suite = load_suite(tmp_path / "suite")
    np.testing.assert_array_equal(suite.sample("000").draft, resize(small, SIZE))
    np.testing.assert_array_equal(suite.sample("000").mask, mask)
    np.testing.assert_array_equal(suite.target("000")[mask], target[mask])


def test_samples_of_one_thing_share_source(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 4)
    (own / "references/003.png").write_bytes((own / "references/001.png").read_bytes())
    done = imported(from_folders(own), tmp_path / "suite")
    assert done.sources == 3
    assert [meta.source_id for meta in load_suite(tmp_path / "suite").metas] == ["000", "001", "002", "001"]


def test_a_killed_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = from_folders(write_folders(tmp_path / "own", 7))
    monkeypatch.setattr(importing, "SHARD", 2)
    wanted = imported(found, tmp_path / "suite").hash
    read: list[str] = []
    real = importing.read_sample

    def slow(name: str, *rest: object) -> object:
        if len(read) == 5:
            raise KeyboardInterrupt
        read.append(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "read_sample", slow)
    (tmp_path / "other").mkdir()
    with pytest.raises(KeyboardInterrupt):
        imported(found, tmp_path / "other" / "suite")
    read.clear()
    assert imported(found, tmp_path / "other" / "suite").hash == wanted
    assert read == ["004", "005", "006"]  # two shards of two were whole
    assert sorted(path.name for path in (tmp_path / "other/suite").iterdir()) == ["README.md", "data", "suite.json"]


def test_what_is_in_way_is_kept(tmp_path: Path) -> None:
    found = from_folders(write_folders(tmp_path / "own", 1))
    with pytest.raises(RefbenchError, match="holds other things"):
        imported(found, tmp_path / "own")
    done = imported(found, tmp_path / "suite")
    with pytest.raises(RefbenchError, match="a suite is there already"):
        imported(found, tmp_path / "suite")
    assert imported(found, tmp_path / "suite", overwrite=True).hash == done.hash


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("draft", "--map FIELD=COLUMN"),
        ("drfat=a", "field 'drfat'"),
        ("draft=nowhere", "column 'nowhere' (for draft)"),
        ("draft=a", "none is named for reference or mask"),
    ],
)
def test_a_wrong_map_is_one_sentence(tmp_path: Path, given: str, words: str) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RefbenchError) as error:
        from_table(tmp_path / "t.csv", mapping(given))
    assert words in str(error.value)


def test_box_in_draft_is_mask(tmp_path: Path) -> None:
    own = write_folders(tmp_path / "own", 1)
    row = {"draft": "drafts/000.png", "reference": "references/000.png", "mask_box": [20, 10, 30, 20]}
    (own / "t.json").write_text(json.dumps([row]))
    imported(from_table(own / "t.json", {}), tmp_path / "suite")
    sample = load_suite(tmp_path / "suite").sample("000")
    np.testing.assert_array_equal(sample.mask, pictures(0)[2])
    assert sample.meta.mask_kind == "box"


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts(tmp_path: Path, name: str) -> None:
    given, layout = write_layout(name, tmp_path / "public"), layout_named(name)
    found = from_layout(name, given) if layout.folders else from_table(given, layout.columns)
    done = imported(found, tmp_path / "suite", dataclasses.replace(RULES, resize=layout.resize))
    suite = load_suite(tmp_path / "suite")
    draft, reference, mask, target = pictures(1)
    sample = suite.sample(suite.ids[-1])
    np.testing.assert_array_equal(sample.reference, reference)
    if name == "refine-anything":  # its first sample has no reference
        assert [(gap.sample, gap.words) for gap in done.gaps] == [("input0", "no reference")]
        assert not suite.targets
        np.testing.assert_array_equal(sample.draft, draft)
        return
    assert (done.samples, suite.targets) == (2, True)
    np.testing.assert_array_equal(suite.target(sample)[sample.mask], target[sample.mask])
    if name in ("critic-10k", "hp-image-40k"):
        np.testing.assert_array_equal(sample.draft, draft)
        np.testing.assert_array_equal(sample.mask, mask)
        assert sample.prompt == "A can 1"
    else:
        assert (sample.mask.sum(), sample.mask[RIM, RIM]) == ((SIZE[0] - 2 * RIM) * (SIZE[1] - 2 * RIM), True)
        small = target[::4, ::4] if name == "ref-sr" else resize(target, (12, 16))
        np.testing.assert_array_equal(sample.draft, resize(np.ascontiguousarray(small), SIZE))


def test_unknown_layout_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="were not found, and are not guessed"):
        from_layout("criticbench", tmp_path)
    with pytest.raises(RefbenchError, match="did you mean critic-10k"):
        layout_named("critic10k")


def test_bytes_are_pictures_too(tmp_path: Path) -> None:
    draft, reference, mask, _ = pictures(0)
    entry = {"id": "a", "draft": encode_png(draft), "reference": {"bytes": encode_png(reference), "path": None},
             "mask": encode_png(mask)}  # fmt: skip
    done = import_suite([entry], tmp_path / "suite", RULES, targets=False)
    assert done.samples == 1
