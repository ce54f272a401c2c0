"""A run belongs to the content of its model; what the program advises after a failure is what it then does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny import NOISE, adapter_file, tiny

from refbench.errors import RefbenchError
from refbench.images import save_png
from refbench.runs.api import generate_only
from refbench.runs.folder import RunFolder

SUITE = str(tiny(4).folder)
IDS = tiny(4).ids


def fill(folder: Path, *left_out: str) -> Path:
    """A folder of PNGs: the drafts, but for some."""
    for sample in tiny(4):
        if sample.id not in left_out:
            save_png(folder / f"{sample.id}.png", sample.draft)
    return folder


def run(model: object, out: Path, **options: object) -> dict[str, str]:
    """Generate; id -> status."""
    path, _ = generate_only(str(model), SUITE, out=out, **options)  # type: ignore[arg-type]
    return {sample: record.status for sample, record in RunFolder(path).read_records().items()}


def refused(model: object, out: Path, words: str, **options: object) -> None:
    with pytest.raises(RefbenchError, match=words):
        run(model, out, **options)


class TestFolder:
    def test_touched_or_copied_it_stays_equal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, out = fill(tmp_path / "pngs"), tmp_path / "run"
        run(folder, out)
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        monkeypatch.chdir(tmp_path)
        before = (out / "records.jsonl").read_bytes()
        for name in (f"{folder}/", "pngs", "./pngs/", "../" + tmp_path.name + "/pngs"):
            run(name, out)
        shutil.copytree(folder, tmp_path / "elsewhere" / "pngs")
        run(tmp_path / "elsewhere" / "pngs", out)
        assert (out / "records.jsonl").read_bytes() == before

    def test_missing_png_is_added_and_retried(self, tmp_path: Path) -> None:
        folder, out = fill(tmp_path / "pngs", IDS[0]), tmp_path / "run"
        assert run(folder, out)[IDS[0]] == "failed"
        kept = {path: path.stat().st_mtime_ns for path in (out / "outputs").rglob("*.png")}
        fill(folder)
        refused(folder, out, "no kept output could differ, so run the same command with --retry-failed")
        assert set(run(folder, out, retry_failed=True).values()) == {"ok"}
        assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
        assert set(run(folder, out).values()) == {"ok"}

    def test_kept_output_that_differs_says_overwrite(self, tmp_path: Path) -> None:
        folder, out = fill(tmp_path / "pngs", IDS[0]), tmp_path / "run"
        run(folder, out)
        save_png(folder / f"{IDS[1]}.png", 255 - tiny(4).sample(IDS[1]).draft)
        refused(folder, out, f"1 of the kept outputs .first: {IDS[1]}.* --overwrite", retry_failed=True)
        fill(folder, IDS[1])
        assert set(run(folder, out, overwrite=True).values()) == {"ok"}

    def test_extra_file_or_another_card_goes_on(self, tmp_path: Path) -> None:
        folder, out = fill(tmp_path / "pngs"), tmp_path / "run"
        run(folder, out)
        save_png(folder / "other.png", tiny(4).sample(IDS[0]).draft)
        (folder / "card.json").write_text('{"name": "named", "summary": "s"}')
        assert set(run(folder, out).values()) == {"ok"}
        assert RunFolder(out).read_manifest().card.name == "named"

    def test_its_own_run_is_not_overwritten(self, tmp_path: Path) -> None:
        run(fill(tmp_path / "pngs"), tmp_path / "run")
        refused(tmp_path / "run" / "outputs", tmp_path / "run", "would be removed", overwrite=True)
        assert len(list((tmp_path / "run").rglob("*.png"))) == 4


class TestClass:
    def test_one_that_always_failed_is_mended(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        refused(adapter_file(tmp_path, "return None"), out, "correct the model and add --retry-failed")
        mended = adapter_file(tmp_path, NOISE)
        refused(mended, out, "with --retry-failed")
        assert set(run(mended, out, retry_failed=True).values()) == {"ok"}

    def test_one_with_kept_outputs_says_overwrite(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        run(adapter_file(tmp_path, f"if inputs.id == {IDS[0]!r}: return None\n{NOISE}"), out)
        mended = adapter_file(tmp_path, NOISE)
        for retry in (True, False):
            refused(mended, out, "3 of the kept outputs .* with --overwrite to start anew", retry_failed=retry)
        assert set(run(mended, out, overwrite=True).values()) == {"ok"}
        assert len((out / "records.jsonl").read_text().splitlines()) == 4

    def test_moved_it_is_same_and_another_is_not(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        run(adapter_file(tmp_path / "one", NOISE), out)
        records = (out / "records.jsonl").read_bytes()
        assert set(run(adapter_file(tmp_path / "two", NOISE), out).values()) == {"ok"}
        assert (out / "records.jsonl").read_bytes() == records
        refused(adapter_file(tmp_path / "three", "return inputs.draft"), out, "with which the run .* is another")
        refused("identity", out, "same model")


def test_options_by_path_are_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = adapter_file(tmp_path, NOISE), tmp_path / "run"
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    run(model, out, options={"strength": "./weights"})
    records = (out / "records.jsonl").read_bytes()
    monkeypatch.chdir(tmp_path / "weights")
    assert set(run(model, out, options={"strength": "../weights/"}).values()) == {"ok"}
    assert (out / "records.jsonl").read_bytes() == records
    refused(model, out, "adapter options", options={"strength": "weights"})


def test_overwrite_needs_no_whole_manifest(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run("identity", out)
    (out / "manifest.json").write_text("{")
    (out / "responses").mkdir()
    (out / "responses" / "paid.body").write_text("kept")
    refused("sharpen", out, "broken")
    assert set(run("sharpen", out, overwrite=True).values()) == {"ok"}
    assert (out / "responses" / "paid.body").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("")
    refused("identity", tmp_path / "thesis", "other files", overwrite=True)
