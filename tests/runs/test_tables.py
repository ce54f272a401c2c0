"""Score tables remember what they were made from, and the same rows give the same bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from refbench.errors import RefbenchError
from refbench.runs.folder import RunFolder
from refbench.runs.tables import ChunkState, ScoreRow, schema, table

STATES = [
    ChunkState(("a-000", "a-001"), ("0" * 16, None), (("psnr", "c" * 12),)),
    ChunkState(("a-002",), (None,), (("psnr", "c" * 12),)),
]
ROW = ScoreRow("a-000", "a", "psnr", "texture_fidelity", "inside", math.inf, True, "c" * 12)


def write_example(path: Path) -> None:
    chunks = iter([table("scores", [ROW]), table("scores", [])])
    RunFolder(path.parent).write_table(path.name, "scores", chunks, STATES)


def test_rows_and_state_come_back(tmp_path: Path) -> None:
    write_example(tmp_path / "scores.parquet")
    stored = RunFolder(tmp_path).table("scores.parquet", "scores")
    assert stored.states == tuple(STATES)
    assert stored.rows(0).to_pylist() == [ROW._asdict()]
    assert len(stored.rows(1)) == 0, "a chunk whose samples all failed is there and empty"
    assert RunFolder(tmp_path).holds("scores.parquet", "scores", STATES)


def test_the_columns_are_the_documented_ones() -> None:
    documented = ["sample", "task", "metric", "axis", "region", "value", "higher_is_better", "card"]
    assert schema("scores").names == documented
    assert set(schema("answers").names) == {*documented, "answer"}


def test_any_reader_of_parquet_reads_it(tmp_path: Path) -> None:
    write_example(tmp_path / "scores.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").to_pandas()["value"].tolist() == [math.inf]


def test_same_rows_give_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_example(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        STATES[0]._replace(ids=("a-001", "a-000")),
        STATES[0]._replace(outputs=("1" * 16, None)),
        STATES[0]._replace(cards=(("psnr", "d" * 12),)),
    ],
)
def test_another_card_is_another_state(tmp_path: Path, other: ChunkState) -> None:
    write_example(tmp_path / "scores.parquet")
    assert other.key != STATES[0].key
    assert not RunFolder(tmp_path).holds("scores.parquet", "scores", [other, STATES[1]])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text"])
def test_damaged_table_is_not_finished(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.parquet"
    path.write_bytes(content)
    with pytest.raises(RefbenchError, match=r"scores\.parquet, but it is damaged"):
        RunFolder(tmp_path).table("scores.parquet", "scores")
    assert not RunFolder(tmp_path).holds("scores.parquet", "scores", STATES)


def test_parquet_file_of_others_is_refused(tmp_path: Path) -> None:
    pq.write_table(table("scores", [ROW]), tmp_path / "scores.parquet")
    with pytest.raises(RefbenchError, match="damaged"):
        RunFolder(tmp_path).table("scores.parquet", "scores")


def test_write_that_fails_leaves_old_table(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_example(path)
    before = path.read_bytes()

    def broken():  # type: ignore[no-untyped-def]
        yield table("scores", [ROW])
        raise OSError(28, "No space left on device")

    with pytest.raises(RefbenchError, match="No space left"):
        RunFolder(tmp_path).write_table("scores.parquet", "scores", broken(), STATES)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]
