"""Work in processes ends well, and pieces of a stopped work are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from refbench.errors import RefbenchError
from refbench.tasks.keeping import Kept
from refbench.tasks.working import check_workers, in_processes


def square(number: int) -> int:
    return number * number


def note(job: tuple[str, float]) -> str:
    """Leave a mark, after a while."""
    place, seconds = job
    time.sleep(seconds)
    Path(place).touch()
    return place


def die(number: int) -> int:
    os._exit(number)


def test_each_job_comes_with_its_result() -> None:
    assert sorted(in_processes(square, range(5), 2)) == [(n, n * n) for n in range(5)]


def test_running_is_finished_rest_dropped(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / str(k)), 0.5 * (k > 0)) for k in range(6)]
    made = in_processes(note, jobs, 1)
    next(made)
    time.sleep(0.2)  # the second has begun
    made.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(RefbenchError, match="fewer --workers"):
        list(in_processes(die, [1], 1))


@pytest.mark.parametrize("workers", [0, -1, 2000])
def test_senseless_numbers_of_workers_are_refused(workers: int) -> None:
    with pytest.raises(RefbenchError, match="--workers"):
        check_workers(workers)


def test_pieces_are_made_once_for_recipe(tmp_path: Path) -> None:
    made: list[str] = []

    def piece(kept: Kept, key: str, data: bytes | None) -> bytes | None:
        return kept.piece(key, lambda: made.append(key) or data)  # type: ignore[func-returns-value]

    path = tmp_path / "pieces"
    kept = Kept(path, "one")
    assert [piece(kept, "a", b"x"), piece(kept, "b", None)] == [b"x", None]
    kept.close(finished=False)
    again = Kept(path, "one")
    assert [piece(again, "a", b"y"), piece(again, "b", b"y")] == [b"x", None]
    again.close(finished=False)
    assert made == ["a", "b"]
    other = Kept(path, "two")
    assert piece(other, "a", b"z") == b"z"
    other.close(finished=True)
    assert not path.exists()


def test_damaged_pieces_are_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "pieces"
    path.write_bytes(b"no database" * 100)
    kept = Kept(path, "one")
    assert kept.piece("a", lambda: b"x") == b"x"
    kept.close(finished=True)
