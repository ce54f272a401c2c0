"""Stage 2: measure every output, a chunk of samples at a time, and put the chunks together.

Memory does not grow with the number of samples: a chunk is decoded, measured, written as a part and forgotten.
What is measured already is never measured again: an unchanged chunk is copied, a changed metric card or a
changed output costs only its own rows. Nothing here can generate.
"""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.devices import spread
from refbench.errors import RefbenchError
from refbench.images import Image, load_image
from refbench.runs.answers import AnswerStore, Need, measure_answers, needed
from refbench.runs.environment import cores
from refbench.runs.folder import RunFolder
from refbench.runs.generate import pixels_sha256
from refbench.runs.plan import batches
from refbench.runs.progress import Progress
from refbench.runs.tables import KINDS, ChunkState, Kind, ScoreRow, Stored, finished, table, write
from refbench.schema import MetricCard, RunManifest, SampleRecord, Score, Truth

if TYPE_CHECKING:
    import pyarrow as pa

    from refbench.metrics.features import FeatureStore
    from refbench.metrics.measurer import Measurer
    from refbench.tasks.suite import Suite

CHUNK = 8
"""Samples measured together, kept in memory together, and lost together by a kill while measuring."""
FEATURES_MB = 16.0
"""Features of truths kept in memory; those of a chunk are all that is used again before it is forgotten."""


@dataclass(frozen=True, slots=True)
class Work:
    """All that measuring a chunk depends on; plain values, so that a worker process gets the same."""

    folder: Path
    suite: Suite
    """Whole or a selection, with at least the samples of the plan."""
    device: str
    threads: int | None
    """Of one measuring process; None leaves it to the measurer."""
    cache: Path | None
    records: Mapping[str, SampleRecord]
    chunks: tuple[tuple[str, ...], ...]
    suite_hash: str
    cards: Mapping[str, MetricCard]
    hashes: Mapping[str, str]

    @property
    def needs(self) -> tuple[Need, ...]:
        """Answers to measure."""
        return needed(self.cards, self.hashes)

    def scores_state(self, chunk: int) -> ChunkState:
        """What the scores of a chunk are to be made from."""
        shas = (self.records[sample].sha256 for sample in self.chunks[chunk])
        return ChunkState(
            self.chunks[chunk], tuple(sha and sha[:16] for sha in shas), tuple((n, self.hashes[n]) for n in self.cards)
        )

    def answers_state(self, chunk: int) -> ChunkState:
        """What the answers of a chunk are to be made from."""
        return ChunkState(self.chunks[chunk], (self.suite_hash,), tuple(tuple(need) for need in self.needs))

    def state(self, kind: Kind, chunk: int) -> ChunkState:
        """One of the two."""
        return self.scores_state(chunk) if kind == "scores" else self.answers_state(chunk)

    def final(self, kind: Kind) -> Path:
        """Where the whole table goes."""
        run = RunFolder(self.folder)
        return run.scores if kind == "scores" else run.answers

    def part(self, kind: Kind, chunk: int) -> Path:
        """Where a chunk's table waits for the others."""
        return RunFolder(self.folder).parts / f"{kind}-{chunk:05d}-{self.state(kind, chunk).key}.parquet"


class ChunkMeasurer:
    """Measures chunks of one run; made once in each process."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.store = AnswerStore(work.cache)
        self._measurers: dict[tuple[str, ...], Measurer] = {}
        self._features: FeatureStore | None = None
        self._old = Stored(work.final("scores"), "scores") if work.final("scores").exists() else None

    def measurer(self, names: tuple[str, ...]) -> Measurer:
        """A measurer of some metrics; they share what they can inside refbench.metrics."""
        from refbench.metrics.features import FeatureStore
        from refbench.metrics.measurer import Measurer

        if self._features is None:
            folder = None if self.work.cache is None else self.work.cache / "features"
            self._features = FeatureStore(folder, memory_mb=FEATURES_MB)
        if names not in self._measurers:
            self._measurers[names] = Measurer(
                names,
                device=self.work.device,
                batch_size=CHUNK,
                features=self._features,
                threads=self.work.threads,
            )
        return self._measurers[names]

    def do(self, chunk: int, kinds: Sequence[Kind]) -> int:
        """Measure one chunk and write its parts; returns the number of its samples."""
        truths: dict[str, Truth] = {}
        ids = self.work.chunks[chunk]
        if "answers" in kinds:
            self._answers(chunk, ids, truths)
        if "scores" in kinds:
            self._scores(chunk, ids, truths)
        return len(ids)

    def close(self) -> None:
        """Close what is open."""
        self.store.close()
        if self._old is not None:
            self._old.close()

    def _truth(self, sample: str, truths: dict[str, Truth]) -> Truth:
        if sample not in truths:
            truths[sample] = self.work.suite.truth(sample)
        return truths[sample]

    def _answers(self, chunk: int, ids: Sequence[str], truths: dict[str, Truth]) -> None:
        work = self.work
        try:
            rows = self._answer_rows(ids, truths)
        except sqlite3.Error as error:
            self.store.forget(error)
            rows = self._answer_rows(ids, truths)
        write(work.part("answers", chunk), "answers", iter([table("answers", rows)]), [work.answers_state(chunk)])

    def _answer_rows(self, ids: Sequence[str], truths: dict[str, Truth]) -> list[tuple[Any, ...]]:
        work = self.work
        left = self.store.missing(work.suite_hash, ids, work.needs)
        if left:
            measure_answers(
                self.store, work.suite_hash, [self._truth(sample, truths) for sample in left], left, self.measurer
            )
        return [
            (row.sample, work.records[sample].task, *row[1:])
            for sample in ids
            for row in self.store.rows(work.suite_hash, sample, work.needs)
        ]

    def _scores(self, chunk: int, ids: Sequence[str], truths: dict[str, Truth]) -> None:
        work, names = self.work, list(self.work.cards)
        kept, done = self._kept(chunk)
        groups: dict[tuple[str, ...], list[str]] = {}
        for sample in ids:
            left = tuple(name for name in names if name not in done.get(sample, ()))
            if left and work.records[sample].status == "ok":
                groups.setdefault(left, []).append(sample)
        rows = dict(kept)
        for left, members in groups.items():
            outputs = [self._output(sample) for sample in members]
            lists = self.measurer(left).measure([self._truth(sample, truths) for sample in members], outputs)
            for sample, scores in zip(members, lists, strict=True):
                rows[sample] = rows.get(sample, []) + [self._row(sample, score) for score in scores]
        order = {name: place for place, name in enumerate(names)}
        final = [
            row for sample in ids for row in sorted(rows.get(sample, []), key=lambda r: (order[r.metric], r.region))
        ]
        write(work.part("scores", chunk), "scores", iter([table("scores", final)]), [work.scores_state(chunk)])

    def _kept(self, chunk: int) -> tuple[dict[str, list[ScoreRow]], dict[str, set[str]]]:
        """Rows of an earlier measuring that still hold, and sample -> metrics that need no measuring."""
        wanted = self.work.scores_state(chunk)
        if self._old is None or chunk >= len(self._old.states) or self._old.states[chunk].ids != wanted.ids:
            return {}, {}
        had = self._old.states[chunk]
        same_cards = {card[0] for card in set(had.cards) & set(wanted.cards)}
        same_output = {
            i for i, old, new in zip(had.ids, had.outputs, wanted.outputs, strict=True) if old == new and new
        }
        rows: dict[str, list[ScoreRow]] = {}
        for row in self._old.rows(chunk).to_pylist():
            if row["sample"] in same_output and row["metric"] in same_cards:
                rows.setdefault(row["sample"], []).append(ScoreRow(**row))
        return rows, dict.fromkeys(same_output, same_cards)

    def _row(self, sample: str, score: Score) -> ScoreRow:
        return ScoreRow(
            sample,
            self.work.records[sample].task,
            score.metric,
            score.axis,
            score.region,
            float(score.value),
            score.higher_is_better,
            score.card,
        )

    def _output(self, sample: str) -> Image:
        record = self.work.records[sample]
        path = RunFolder(self.work.folder).output(record.task, sample)
        image = load_image(path)
        if pixels_sha256(image) != record.sha256:
            raise RefbenchError(
                f"Expected {path} to be the picture that was recorded, but its pixels have changed since; delete it "
                "and run 'refbench eval' again to generate it anew."
            )
        return image


def measure(
    folder: RunFolder,
    manifest: RunManifest,
    suite: Suite,
    cards: Mapping[str, MetricCard],
    *,
    device: str = "cpu",
    workers: int = 1,
    cache: Path | None,
    progress: Progress,
) -> bool:
    """Bring ``scores.parquet`` and ``answers.parquet`` of a generated run up to date.

    Args:
        folder: locked, with a record for each planned sample.
        manifest: of the run.
        suite: the suite of the manifest.
        cards: the metrics to measure, each with its card, in the order of the columns.
        device: where learned metrics run; with "cuda" several workers take the visible GPUs in turn.
        workers: processes that measure.
        cache: where answers are kept for the next model; None keeps none.

    Returns:
        Whether anything had to be measured.

    Raises:
        RefbenchError: a sample has no record, an output was changed, or the folder cannot be written.
    """
    work = _plan(folder, manifest, suite, cards, device, workers, cache)
    states = {kind: [work.state(kind, c) for c in range(len(work.chunks))] for kind in KINDS}
    left = [kind for kind in KINDS if not finished(work.final(kind), states[kind], kind)]
    if not left:
        shutil.rmtree(folder.parts, ignore_errors=True)
        return False
    stored = {kind: Stored(work.final(kind), kind) for kind in left}
    jobs = []
    for chunk in range(len(work.chunks)):
        missing = tuple(
            kind
            for kind in left
            if not _copied(stored[kind], chunk, states[kind][chunk]) and not work.part(kind, chunk).exists()
        )
        if missing:
            jobs.append((chunk, missing))
    waiting = sum(len(work.chunks[chunk]) for chunk, _ in jobs)
    progress.start("measure", len(manifest.samples), len(manifest.samples) - waiting)
    for count in _run(work, jobs, workers, progress):
        progress.advance(count)
    for kind in left:
        write(work.final(kind), kind, _merged(work, stored[kind], kind, states[kind]), states[kind])
        stored[kind].close()
    shutil.rmtree(folder.parts, ignore_errors=True)
    return True


def _plan(
    folder: RunFolder,
    manifest: RunManifest,
    suite: Suite,
    cards: Mapping[str, MetricCard],
    device: str,
    workers: int,
    cache: Path | None,
) -> Work:
    from refbench.metrics.contract import card_hash

    records = folder.read_records(manifest.samples)
    lacking = [sample for sample in manifest.samples if sample not in records]
    if lacking:
        raise RefbenchError(
            f"Expected an answer for each of {len(manifest.samples)} samples at {folder.path}, but {len(lacking)} are "
            "not generated yet; run 'refbench eval' or 'refbench generate' with the same arguments to go on."
        )
    return Work(
        folder=folder.path,
        suite=suite,
        device=device,
        threads=max(1, cores() // workers) if workers > 1 else None,
        cache=cache,
        records=records,
        chunks=tuple(batches(manifest.samples, CHUNK)),
        suite_hash=manifest.suite_hash,
        cards=dict(cards),
        hashes={name: card_hash(card) for name, card in cards.items()},
    )


def _copied(stored: Stored, chunk: int, wanted: ChunkState) -> bool:
    return chunk < len(stored.states) and stored.states[chunk] == wanted


def _merged(work: Work, stored: Stored, kind: Kind, states: Sequence[ChunkState]) -> Iterator[pa.Table]:
    for chunk, wanted in enumerate(states):
        if _copied(stored, chunk, wanted):
            yield stored.rows(chunk)
        else:
            part = Stored(work.part(kind, chunk), kind)
            yield part.rows(0)
            part.close()


def _run(work: Work, jobs: Sequence[tuple[int, tuple[Kind, ...]]], workers: int, progress: Progress) -> Iterator[int]:
    """Do the jobs, here or in worker processes; yields the samples of each finished one."""
    if not jobs:
        return
    if workers <= 1 or len(jobs) == 1:
        measurer = ChunkMeasurer(work)
        told = None
        try:
            for chunk, kinds in jobs:
                count = measurer.do(chunk, kinds)
                if measurer.store.note != told:
                    told = measurer.store.note
                    progress.note(str(told))
                yield count
        finally:
            measurer.close()
        return
    probe = AnswerStore(work.cache)
    if probe.note:
        progress.note(probe.note)
    probe.close()
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    context, workers = get_context("spawn"), min(workers, len(jobs))
    started = (work, spread(work.device, workers), context.Value("i", 0))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=started) as pool:
        try:
            for future in as_completed([pool.submit(_do_in_worker, chunk, kinds) for chunk, kinds in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise RefbenchError(
                "Expected the measuring processes to finish, but one died (often: out of memory); run the same command "
                "again with fewer --workers, what is measured is kept."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_in_worker: ChunkMeasurer | None = None


def _start_worker(work: Work, devices: Sequence[str], started: Any) -> None:
    """Set a worker process up: it takes the next of the devices, leaves Ctrl-C to the parent, and ends with it."""
    global _in_worker
    import multiprocessing
    import os

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    _in_worker = ChunkMeasurer(dataclasses.replace(work, device=devices[number % len(devices)]))


def _do_in_worker(chunk: int, kinds: tuple[Kind, ...]) -> int:
    assert _in_worker is not None
    return _in_worker.do(chunk, kinds)
