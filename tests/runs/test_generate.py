"""Generating asks for what is missing, once, and writes down what happened to each sample."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny import manifest, tiny

from refbench.errors import RefbenchError
from refbench.images import load_image
from refbench.runs.executors.local import LocalProcesses
from refbench.runs.folder import RunFolder
from refbench.runs.generate import GenerateSetup, failures, generate, jobs_for, pixels_sha256, unfinished
from refbench.runs.plan import seed_for
from refbench.runs.progress import Silent
from refbench.schema import Inputs, Refinement
from refbench.tasks.suite import Suite


class Noise:
    """A contained adapter whose output depends on the sample's seed; it can fail and it can die."""

    def __init__(self, fail: Sequence[str] = (), stop_at: str | None = None) -> None:
        self.fail, self.stop_at = fail, stop_at
        self.asked: list[tuple[str, ...]] = []
        self.closed = 0
        self.lock = threading.Lock()

    card, isolation, pays = None, "in-process", False

    def remarks(self, every: object, planned: object) -> list[str]:
        return []

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        with self.lock:
            self.asked.append(tuple(inputs.id for inputs in batch))
        return [self.one(inputs) for inputs in batch]

    def one(self, inputs: Inputs) -> Refinement:
        if inputs.id == self.stop_at:
            raise KeyboardInterrupt
        if inputs.id in self.fail:
            return Refinement(inputs.id, None, 0.1, "It did not want to.", "refused")
        rng = np.random.default_rng(inputs.seed)
        return Refinement(inputs.id, rng.integers(0, 256, inputs.draft.shape).astype(np.uint8), 0.1)

    def close(self) -> None:
        self.closed += 1

    @contextlib.contextmanager
    def open(self) -> Iterator[Noise]:
        yield self


class Count(Silent):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        self.seen.append((samples, failed))


def started(path: Path, suite: Suite) -> RunFolder:
    run = RunFolder(path)
    run.write_manifest(manifest(samples=suite.ids))
    return run


def content(run: RunFolder) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in sorted(run.path.rglob("*.png"))}


SUITE = tiny(8)


def go(
    run: RunFolder,
    adapter: Noise,
    workers: int = 1,
    batch_size: int = 1,
    retry_failed: bool = False,
    progress: Silent | None = None,
) -> None:
    answered(run, SUITE, adapter.open, workers, batch_size, retry_failed, progress or Silent())


def answered(
    run: RunFolder,
    suite: Suite,
    opened: Callable[[], contextlib.AbstractContextManager[Noise]],
    workers: int = 1,
    batch_size: int = 1,
    retry_failed: bool = False,
    progress: Silent | None = None,
) -> None:
    """Let a model of the tests answer what is left of a run."""
    plan = run.read_manifest()
    left = unfinished(run, plan, retry_failed, repair=True)
    if left:
        setup = GenerateSetup(suite, plan.seed, lambda number: opened())  # type: ignore[arg-type, return-value]
        jobs = jobs_for(plan.samples, left, batch_size)
        with LocalProcesses(workers).pool(setup, jobs, print) as pool:
            generate(run, suite, plan, left, pool, progress or Silent())


def test_each_sample_gets_png_and_record(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise())
    records = run.read_records()
    assert set(records) == set(SUITE.ids)
    for sample in SUITE:
        image = load_image(tmp_path / "outputs" / sample.meta.task / f"{sample.id}.png")
        assert records[sample.id].sha256 == pixels_sha256(image)
        assert records[sample.id].task == sample.meta.task


def test_sample_sees_seed_of_run_and_its_id(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise())
    sample = SUITE.sample(SUITE.ids[3])
    wanted = np.random.default_rng(seed_for(0, sample.id)).integers(0, 256, sample.draft.shape).astype(np.uint8)
    assert np.array_equal(load_image(run.output(sample.meta.task, sample.id)), wanted)


def test_failed_sample_is_recorded_with_reason(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise(fail=SUITE.ids[:1]))
    (failed,) = failures(run, run.read_manifest())
    assert (failed.id, failed.error, failed.extra) == (SUITE.ids[0], "It did not want to.", {"failure": "refused"})
    assert failed.sha256 is None
    assert not run.output(failed.task, failed.id).exists()


def test_a_finished_run_asks_nothing(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise(fail=SUITE.ids[:1]))
    again = Noise()
    go(run, again)
    assert again.asked == []


def test_failed_samples_tried_again_only_when_asked(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise(fail=SUITE.ids[:2]))
    again = Noise(fail=SUITE.ids[1:2])
    go(run, again, retry_failed=True)
    assert again.asked == [(SUITE.ids[0],), (SUITE.ids[1],)]
    assert [record.id for record in failures(run, run.read_manifest())] == [SUITE.ids[1]]


@pytest.mark.parametrize("stop", range(8))
@pytest.mark.parametrize("batch_size", [1, 3])
def test_any_stop_ends_the_same(tmp_path: Path, stop: int, batch_size: int) -> None:
    whole = started(tmp_path / "whole", SUITE)
    go(whole, Noise(), batch_size=batch_size)
    torn = started(tmp_path / "torn", SUITE)
    with pytest.raises(KeyboardInterrupt):
        go(torn, Noise(stop_at=SUITE.ids[stop]), batch_size=batch_size)
    kept = set(torn.read_records())
    assert kept == set(SUITE.ids[: stop - stop % batch_size]), "all but the batch in flight is kept"
    second = Noise()
    go(torn, second, batch_size=batch_size)
    assert content(torn) == content(whole)
    assert not {sample for batch in second.asked for sample in batch} & kept


def test_torn_batch_is_asked_for_whole(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise(), batch_size=4)
    path = run.path / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    again = Noise()
    go(run, again, batch_size=4)
    assert again.asked == [SUITE.ids[4:]]
    assert path.read_bytes().startswith(b"".join(lines[:6]))
    assert len(run.read_records()) == 8


def test_output_that_was_deleted_made_again(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    go(run, Noise())
    before = content(run)
    run.output(SUITE.ids[2][:-4], SUITE.ids[2]).unlink()
    assert unfinished(run, run.read_manifest(), False) == {SUITE.ids[2]}
    go(run, Noise())
    assert content(run) == before


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing_but_the_time(tmp_path: Path, workers: int) -> None:
    one, many = started(tmp_path / "one", SUITE), started(tmp_path / "many", SUITE)
    go(one, Noise())
    adapter = Noise()
    go(many, adapter, workers=workers)
    assert content(one) == content(many)
    assert sorted(adapter.asked) == sorted((sample,) for sample in SUITE.ids)


def test_interrupt_records_no_failure(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    adapter = Noise(stop_at=SUITE.ids[3])
    with pytest.raises(KeyboardInterrupt):
        go(run, adapter, workers=2)
    assert adapter.closed >= 1
    assert all(record.status == "ok" for record in run.read_records().values())


def test_adapter_that_does_not_start_stops_stage(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)

    def refuse() -> contextlib.AbstractContextManager[Noise]:
        raise RefbenchError("Expected weights, but there are none.")

    with pytest.raises(RefbenchError, match="Expected weights"):
        answered(run, SUITE, refuse)


def test_full_disk_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(tmp_path, SUITE)
    real, written = RunFolder.write_output, []

    def save(self: RunFolder, task: str, sample: str, png: bytes) -> None:
        if len(written) == 3:
            raise RefbenchError("Expected to write, but No space left on device.")
        written.append(sample)
        real(self, task, sample, png)

    monkeypatch.setattr(RunFolder, "write_output", save)
    with pytest.raises(RefbenchError, match="No space left"):
        go(run, Noise())
    assert len(run.read_records()) == 3
    monkeypatch.setattr(RunFolder, "write_output", real)
    go(run, Noise())
    assert len(run.read_records()) == 8


def test_progress_counts_every_sample_and_failure(tmp_path: Path) -> None:
    run = started(tmp_path, SUITE)
    count = Count()
    go(run, Noise(fail=SUITE.ids[:2]), workers=2, progress=count)
    assert sum(n for n, _ in count.seen) == 8
    assert sum(n for _, n in count.seen) == 2
