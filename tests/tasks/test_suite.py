"""Suites load one sample at a time, keep draft and target equal outside the mask, and notice every change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import RefbenchError
from refbench.tasks.suite import lay_patch, load_suite, sample_digest
from tests.tasks.conftest import question, write_suite


def test_suite_gives_back_every_pixel(tiny_suite: Path) -> None:
    suite = load_suite(tiny_suite)
    assert suite.ids == tuple(f"{t}-{k:03d}" for t in ("pattern-refine", "text-refine") for k in range(3))
    assert suite.tasks == ("pattern-refine", "text-refine")
    assert len(suite) == 6
    for sample in suite:
        made = question(int(sample.id[-3:]), sample.meta.task)
        truth = suite.truth(sample.id)
        assert np.array_equal(sample.draft, made.draft)
        assert np.array_equal(sample.reference, made.reference)
        assert np.array_equal(suite.target(sample), made.target)
        assert np.array_equal(sample.mask, made.mask)
        assert np.array_equal(sample.draft[~sample.mask], truth.target[~sample.mask])
        assert sample.reference_box == (1, 2, 30, 31)
        assert sample.prompt == "Restore it."
        assert sample.meta == made.meta
    suite.verify()


def test_changed_pixel_changes_hash_and_key(tmp_path: Path) -> None:
    first = question(0)
    hash_before = write_suite(tmp_path / "a", [first])
    draft = first.draft.copy()
    draft[15, 25, 0] ^= 1
    hash_after = write_suite(tmp_path / "b", [dataclasses.replace(first, draft=draft)])
    assert hash_before != hash_after
    keys = {load_suite(tmp_path / name).truth(first.meta.id).key for name in "ab"}
    assert len(keys) == 2


@pytest.mark.parametrize("change", ["prompt", "box", "meta", "target", "reference", "mask"])
def test_every_part_enters_the_hash(change: str) -> None:
    q = question(0)
    parts = {
        "meta": q.meta, "prompt": q.prompt, "reference_box": q.reference_box, "draft": q.draft, "target": q.target,
        "reference": q.reference, "mask": q.mask,
    }  # fmt: skip
    before = sample_digest(**parts)  # type: ignore[arg-type]
    if change == "prompt":
        parts["prompt"] = "Restore it!"
    elif change == "box":
        parts["reference_box"] = None
    elif change == "meta":
        parts["meta"] = q.meta.model_copy(update={"strength": 0.5})
    else:
        array = parts[change].copy()  # type: ignore[union-attr]
        array[0, 0] = ~array[0, 0]
        parts[change] = array
    assert sample_digest(**parts) != before  # type: ignore[arg-type]


def test_equal_samples_give_equal_hashes(tmp_path: Path) -> None:
    assert write_suite(tmp_path / "a", [question(0)]) == write_suite(tmp_path / "b", [question(0)])


def test_selection_takes_tasks_in_turn(tiny_suite: Path) -> None:
    suite = load_suite(tiny_suite)
    part = suite.select(limit=3)
    assert part.ids == ("pattern-refine-000", "text-refine-000", "pattern-refine-001")
    assert part.hash == suite.hash
    assert suite.select(tasks=["text-refine"]).ids == tuple(f"text-refine-{k:03d}" for k in range(3))
    assert suite.select(ids=["text-refine-002"]).ids == ("text-refine-002",)
    assert [meta.id for meta in part.metas] == list(part.ids)


def test_unknown_names_are_refused_with_nearest(tiny_suite: Path) -> None:
    suite = load_suite(tiny_suite)
    with pytest.raises(RefbenchError, match="text-refine-002"):
        suite.sample("text-refine-02")
    with pytest.raises(RefbenchError, match="did you mean text-refine"):
        suite.select(tasks=["text-refin"])
    with pytest.raises(RefbenchError, match="Unknown sample"):
        suite.select(ids=["nothing"])
    with pytest.raises(RefbenchError, match="1 or more"):
        suite.select(limit=0)
    with pytest.raises(RefbenchError, match="did you mean core"):
        load_suite("cor")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "x"}'])
def test_broken_description_is_told(tiny_suite: Path, content: str) -> None:
    (tiny_suite / "suite.json").write_text(content)
    with pytest.raises(RefbenchError, match=r"suite\.json"):
        load_suite(tiny_suite)


def test_folder_without_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match=r"no suite\.json"):
        load_suite(tmp_path)


def test_changed_truncated_or_missing_data_refused(tiny_suite: Path) -> None:
    path = tiny_suite / "text-refine" / "data.parquet"
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for content in (bytes(flipped), data[: len(data) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(RefbenchError, match="content differs"):
            load_suite(tiny_suite)
    path.unlink()
    with pytest.raises(RefbenchError, match="no such file"):
        load_suite(tiny_suite)


def test_description_of_other_data_is_refused(tiny_suite: Path) -> None:
    where = tiny_suite / "suite.json"
    header = json.loads(where.read_text())
    header["hash"] = "0" * 64
    where.write_text(json.dumps(header))
    with pytest.raises(RefbenchError, match="do not belong together"):
        load_suite(tiny_suite)
    header["tasks"][0]["samples"].append("pattern-refine-009")
    where.write_text(json.dumps(header))
    with pytest.raises(RefbenchError, match="pattern-refine-009"):
        load_suite(tiny_suite)


def test_unfit_patch_is_refused() -> None:
    q = question(0)
    with pytest.raises(RefbenchError, match="10 x 30 px"):
        lay_patch(q.target, q.mask, q.draft[:10, :10], (0, 0, 10, 30))


def test_datasets_composes_the_draft(tiny_suite: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(
        "parquet", data_files=str(tiny_suite / "text-refine" / "data.parquet"), split="train", cache_dir=str(tmp_path)
    )
    row, made = rows[1], question(1, "text-refine")
    target, mask = np.array(row["target"]), np.array(row["mask"]).astype(bool)
    x, y, width, height = row["draft_box"]
    draft = target.copy()
    inside = mask[y : y + height, x : x + width]
    draft[y : y + height, x : x + width][inside] = np.array(row["draft_patch"])[inside]
    assert np.array_equal(draft, made.draft)
    assert row["prompt"] == made.prompt
    assert list(row["reference_box"]) == [1, 2, 30, 31]


def test_suite_read_by_threads_and_processes(tiny_suite: Path) -> None:
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    suite = load_suite(tiny_suite)
    expected = [suite.truth(name).key for name in suite.ids]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda name: suite.truth(name).key, suite.ids * 5)) == expected * 5
    again = pickle.loads(pickle.dumps(suite))
    assert [again.truth(name).key for name in again.ids] == expected
