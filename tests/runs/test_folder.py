"""The run folder keeps what was written, repairs what a kill tears, and refuses what does not fit."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import manifest

from refbench.errors import RefbenchError
from refbench.runs.folder import RunFolder
from refbench.schema import SampleRecord


def record(sample: str, **changes: object) -> SampleRecord:
    return SampleRecord(**{"id": sample, "task": "a", "status": "ok", "seconds": 0.5, "sha256": "0" * 64, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.write_manifest(manifest())
    return run


class TestManifest:
    def test_it_comes_back_as_it_was(self, folder: RunFolder) -> None:
        assert folder.read_manifest() == manifest()

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b"", "EOF"), (b"{", "EOF"), (b"[]", "object"), (b'{"format": 1}', "required"), (b"\xff\xfe", "")],
    )
    def test_broken_one_named_in_one_sentence(self, folder: RunFolder, content: bytes, words: str) -> None:
        (folder.path / "manifest.json").write_bytes(content)
        with pytest.raises(RefbenchError, match=r"manifest\.json, but it is broken") as caught:
            folder.read_manifest()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_an_unknown_field_is_refused(self, folder: RunFolder) -> None:
        data = {**json.loads(manifest().model_dump_json()), "colour": "red"}
        (folder.path / "manifest.json").write_text(json.dumps(data))
        with pytest.raises(RefbenchError, match="colour"):
            folder.read_manifest()


class TestRecords:
    def test_they_come_back_in_full(self, folder: RunFolder) -> None:
        folder.append_record(record("a-000"))
        folder.append_record(record("a-001", status="failed", error="No.", sha256=None, extra={"price_usd": 0.1}))
        found = folder.read_records(manifest().samples)
        assert list(found) == ["a-000", "a-001"]
        assert found["a-001"].extra == {"price_usd": 0.1}

    def test_latest_record_of_sample_counts(self, folder: RunFolder) -> None:
        folder.append_record(record("a-000", status="failed", sha256=None, error="No."))
        folder.append_record(record("a-000"))
        assert folder.read_records()["a-000"].status == "ok"

    def test_no_file_is_no_records(self, folder: RunFolder) -> None:
        assert folder.read_records() == {}

    @settings(max_examples=60, deadline=None)
    @given(cut=st.integers(1, 200))
    def test_wherever_kill_cuts_last_line_others_stay(self, tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
        run = RunFolder(tmp_path_factory.mktemp("run"))
        for name in ("a-000", "a-001"):
            run.append_record(record(name))
        path = run.path / "records.jsonl"
        whole = path.read_bytes()
        last = whole.index(b"\n") + 1
        torn = whole[: -min(cut, len(whole) - last)]
        path.write_bytes(torn)
        assert list(run.read_records()) == ["a-000"]
        assert path.read_bytes() == torn, "reading alone repairs nothing"
        run.read_records(repair=True)
        assert path.read_bytes() == whole[:last]
        run.append_record(record("a-001"))
        assert path.read_bytes() == whole

    def test_garbage_in_last_line_cut_off(self, folder: RunFolder) -> None:
        folder.append_record(record("a-000"))
        with (folder.path / "records.jsonl").open("ab") as handle:
            handle.write(b"\0\0\0\n")
        assert list(folder.read_records(repair=True)) == ["a-000"]
        folder.append_record(record("a-001"))
        assert list(folder.read_records()) == ["a-000", "a-001"]

    def test_broken_line_before_last_named_by_number(self, folder: RunFolder) -> None:
        for name in ("a-000", "a-001", "a-002"):
            folder.append_record(record(name))
        path = folder.path / "records.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(lines[0] + '{"id": "a-001", "task"\n' + lines[2])
        before = path.read_bytes()
        with pytest.raises(RefbenchError, match=r"line 2 of .*records\.jsonl"):
            folder.read_records(repair=True)
        assert path.read_bytes() == before

    def test_sample_that_is_not_planned_named(self, folder: RunFolder) -> None:
        folder.append_record(record("b-000"))
        with pytest.raises(RefbenchError, match=r"line 1 .*'b-000' is not in the manifest"):
            folder.read_records(manifest().samples)

    def test_full_disk_leaves_whole_lines_only(self, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.append_record(record("a-000"))
        before = (folder.path / "records.jsonl").read_bytes()
        import refbench.runs.folder as module

        real = module.os.write
        monkeypatch.setattr(module.os, "write", lambda handle, data: real(handle, data[: len(data) // 2]))
        with pytest.raises(RefbenchError, match="No space left"):
            folder.append_record(record("a-001"))
        assert (folder.path / "records.jsonl").read_bytes() == before


class TestPlace:
    def test_nothing_there_is_no_run(self, tmp_path: Path) -> None:
        assert not RunFolder(tmp_path / "none").exists()
        assert not RunFolder(tmp_path).exists()

    def test_folder_with_other_things_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(RefbenchError, match="holds other files"):
            RunFolder(tmp_path).exists()

    def test_file_in_its_place_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("")
        for path in (tmp_path / "run", tmp_path / "run" / "below"):
            with pytest.raises(RefbenchError, match="is a file"):
                RunFolder(path).exists()

    def test_killed_start_is_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / ".lock").write_text("")
        (tmp_path / ".manifest.json.abc").write_text("{")
        assert not RunFolder(tmp_path).exists()

    def test_open_asks_for_a_run(self, tmp_path: Path) -> None:
        with pytest.raises(RefbenchError, match="Expected a run folder"):
            RunFolder.open(tmp_path / "none")

    def test_one_process_works_on_a_run(self, folder: RunFolder) -> None:
        with folder.locked():
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                assert "another refbench process" in pool.apply(_try_to_lock, (folder.path,))
        with folder.locked():
            pass

    def test_what_kill_left_half_written_removed(self, folder: RunFolder) -> None:
        output = folder.output("a", "a-000")
        output.parent.mkdir(parents=True)
        output.write_bytes(b"whole")
        half = [
            output.with_name(".a-000.png.x1"),
            folder.path / ".scores.parquet.tmp",
            (folder.path / ".parts") / ".scores-0.tmp",
        ]
        (folder.path / ".parts").mkdir()
        for path in half:
            path.write_bytes(b"half")
        part = (folder.path / ".parts") / "scores-00000.parquet"
        part.write_bytes(b"part")
        with folder.locked():
            assert not any(path.exists() for path in half)
            assert output.read_bytes() == b"whole"
            assert part.exists()
            assert folder.read_manifest() == manifest()

    def test_failed_start_leaves_nothing(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path / "runs" / "core" / "run").locked():
            pass
        assert list(tmp_path.iterdir()) == []

    def test_place_that_cannot_be_written_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RefbenchError, match="--out"), RunFolder(tmp_path / "file" / "run").locked():
            pass


def _try_to_lock(path: Path) -> str:
    try:
        with RunFolder(path).locked():
            return "locked"
    except RefbenchError as error:
        return str(error)
