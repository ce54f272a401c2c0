"""Stage 2: measure every output, a chunk of samples at a time, and put the chunks together.

Memory does not grow with the number of samples: a worker decodes a chunk, measures it and forgets it, and its rows are
written as a part. What is measured already is never measured again: an unchanged chunk is copied, a changed metric card
or a changed output costs only its own rows. Nothing here can generate.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.runs.answers import AnswerStore, Measured, Need, measure_answers, needed
from refbench.runs.environment import cores
from refbench.runs.executors import executor_of
from refbench.runs.executors.contract import Executor, Hello, Job, Outcome, Placement
from refbench.runs.folder import ANSWERS, PARTS, SCORES, RunFolder
from refbench.runs.generate import pixels_sha256
from refbench.runs.plan import batches
from refbench.runs.progress import Progress
from refbench.runs.storage import joined
from refbench.runs.suites import SuiteAt
from refbench.runs.tables import KINDS, ChunkState, Kind, ScoreRow, Stored, table
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
FINAL: dict[Kind, str] = {"scores": SCORES, "answers": ANSWERS}
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """What is to be measured of one chunk."""

    chunk: int
    outputs: tuple[tuple[Names, tuple[SampleRecord, ...]], ...] = ()
    """Metrics, and the outputs to measure by them."""
    answers: tuple[tuple[frozenset[Need], Names], ...] = ()
    """Answers, and the samples that lack them."""


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """What was measured of one chunk."""

    scores: list[tuple[str, list[Score]]]
    answers: list[Measured]


@dataclass(frozen=True)
class MeasureSetup:
    """How a worker that measures is set up."""

    folder: RunFolder
    suite: Suite | SuiteAt
    devices: tuple[str, ...]
    """Worker n takes the n-th, and again from the first."""
    threads: int | None
    """Of one worker; None leaves it to the measurer."""
    cache: Path | None
    """Where features of truths are kept on this machine."""
    identity: str = ""
    in_thread: bool = field(default=False, init=False)

    @property
    def device(self) -> str:
        """Where learned metrics run."""
        return self.devices[0]

    def __call__(self, number: int, /) -> MeasureWorker:
        """Open the suite."""
        return MeasureWorker(self, number)


class MeasureWorker:
    """Measures chunks of one run."""

    def __init__(self, setup: MeasureSetup, number: int) -> None:
        self.setup, self.device = setup, setup.devices[number % len(setup.devices)]
        elsewhere = isinstance(setup.suite, SuiteAt)
        self.suite = setup.suite.opened() if isinstance(setup.suite, SuiteAt) else setup.suite
        if elsewhere and not setup.folder.exists():
            raise RefbenchError(
                f"Expected the run folder {setup.folder.place} on every machine that measures, but it is not here; "
                "name an address or a mount with --out that all machines reach."
            )
        self._measurers: dict[Names, Measurer] = {}
        self._features: FeatureStore | None = None

    def hello(self) -> Hello:
        """Nothing of its own."""
        return Hello()

    def measurer(self, names: Names) -> Measurer:
        """A measurer of some metrics; they share what they can inside refbench.metrics."""
        from refbench.metrics.features import FeatureStore
        from refbench.metrics.measurer import Measurer

        if self._features is None:
            folder = None if self.setup.cache is None else self.setup.cache / "features"
            self._features = FeatureStore(folder, memory_mb=FEATURES_MB)
        if names not in self._measurers:
            self._measurers[names] = Measurer(
                names, device=self.device, batch_size=CHUNK, features=self._features, threads=self.setup.threads
            )
        return self._measurers[names]

    def do(self, job: ChunkJob, /) -> ChunkRows:
        """Measure one chunk."""
        truths: dict[str, Truth] = {}

        def truth(sample: str) -> Truth:
            if sample not in truths:
                truths[sample] = self.suite.truth(sample)
            return truths[sample]

        answers: list[Measured] = []
        left: dict[str, Set[Need]] = {sample: needs for needs, samples in job.answers for sample in samples}
        if left:
            answers = measure_answers([truth(sample) for sample in left], left, self.measurer)
        scores: list[tuple[str, list[Score]]] = []
        for names, records in job.outputs:
            outputs = [self._output(record) for record in records]
            lists = self.measurer(names).measure([truth(record.id) for record in records], outputs)
            scores += [(record.id, found) for record, found in zip(records, lists, strict=True)]
        return ChunkRows(scores, answers)

    def _output(self, record: SampleRecord) -> Image:
        image = self.setup.folder.read_output(record)
        if pixels_sha256(image) != record.sha256:
            where = joined(self.setup.folder.place, self.setup.folder.output_name(record.task, record.id))
            raise RefbenchError(
                f"Expected {where} to be the picture that was recorded, but its pixels have changed since; delete it "
                "and run 'refbench eval' again to generate it anew."
            )
        return image

    def close(self) -> None:
        """Nothing to end."""


class Measuring:
    """One run's tables on their way: what they are to hold, what is there, and what is left to do."""

    def __init__(
        self, folder: RunFolder, manifest: RunManifest, cards: Mapping[str, MetricCard], cache: Path | None
    ) -> None:
        from refbench.metrics.contract import card_hash

        self.folder, self.suite_hash, self.cards = folder, manifest.suite_hash, cards
        self.records = folder.read_records(manifest.samples)
        lacking = [sample for sample in manifest.samples if sample not in self.records]
        if lacking:
            raise RefbenchError(
                f"Expected an answer for each of {len(manifest.samples)} samples at {folder.place}, but {len(lacking)} "
                "are not generated yet; run 'refbench eval' or 'refbench generate' with the same arguments to go on."
            )
        self.hashes = {name: card_hash(card) for name, card in cards.items()}
        self.needs = needed(cards, self.hashes)
        self.chunks = tuple(batches(manifest.samples, CHUNK))
        self.states = {kind: [self._state(kind, ids) for ids in self.chunks] for kind in KINDS}
        self.left: list[Kind] = [k for k in KINDS if not folder.holds(FINAL[k], k, self.states[k])]
        self.stored: dict[Kind, Stored] = {kind: folder.table(FINAL[kind], kind) for kind in self.left}
        self.store = AnswerStore(cache)
        self.told: str | None = None

    def _state(self, kind: Kind, ids: Names) -> ChunkState:
        """What a chunk of a table is to be made from."""
        if kind == "answers":
            return ChunkState(ids, (self.suite_hash,), tuple(tuple(need) for need in self.needs))
        shas = (self.records[sample].sha256 for sample in ids)
        return ChunkState(ids, tuple(sha and sha[:16] for sha in shas), tuple((n, self.hashes[n]) for n in self.cards))

    def _part(self, kind: Kind, chunk: int) -> str:
        """Where a chunk's table waits for the others."""
        return f"{PARTS}/{kind}-{chunk:05d}-{self.states[kind][chunk].key}.parquet"

    def _copied(self, kind: Kind, chunk: int) -> bool:
        states = self.stored[kind].states
        return chunk < len(states) and states[chunk] == self.states[kind][chunk]

    def jobs(self) -> list[Job]:
        """A job for each chunk that lacks something."""
        parts, found = self.folder.storage.names(PARTS), []
        shared: dict[frozenset[Need], frozenset[Need]] = {}
        for chunk, ids in enumerate(self.chunks):
            lacking = [k for k in self.left if not self._copied(k, chunk) and self._part(k, chunk) not in parts]
            if lacking:
                outputs = self._outputs(chunk) if "scores" in lacking else ()
                answers = self._answers(ids, shared) if "answers" in lacking else ()
                state = "".join(self.states[kind][chunk].key for kind in lacking)
                found.append(Job(f"{chunk:07d}-{state}", ChunkJob(chunk, outputs, answers)))
        return found

    def _outputs(self, chunk: int) -> tuple[tuple[Names, tuple[SampleRecord, ...]], ...]:
        groups: dict[Names, list[SampleRecord]] = {}
        done = self._kept(chunk)[1]
        for sample in self.chunks[chunk]:
            names = tuple(name for name in self.cards if name not in done.get(sample, ()))
            if names and self.records[sample].status == "ok":
                groups.setdefault(names, []).append(self.records[sample])
        return tuple((names, tuple(records)) for names, records in groups.items())

    def _answers(
        self, ids: Names, shared: dict[frozenset[Need], frozenset[Need]]
    ) -> tuple[tuple[frozenset[Need], Names], ...]:
        groups: dict[frozenset[Need], list[str]] = {}
        try:
            missing = self.store.missing(self.suite_hash, ids, self.needs)
        except sqlite3.Error as error:
            self.store.forget(error)
            missing = self.store.missing(self.suite_hash, ids, self.needs)
        for sample, needs in missing.items():
            one = frozenset(needs)
            groups.setdefault(shared.setdefault(one, one), []).append(sample)
        return tuple((needs, tuple(samples)) for needs, samples in groups.items())

    def _kept(self, chunk: int) -> tuple[dict[str, list[ScoreRow]], dict[str, set[str]]]:
        """Rows of an earlier measuring that still hold, and sample -> metrics that need no measuring."""
        wanted, old = self.states["scores"][chunk], self.stored["scores"]
        if chunk >= len(old.states) or old.states[chunk].ids != wanted.ids:
            return {}, {}
        had = old.states[chunk]
        same_cards = {card[0] for card in set(had.cards) & set(wanted.cards)}
        same_output = {
            i for i, old, new in zip(had.ids, had.outputs, wanted.outputs, strict=True) if old == new and new
        }
        rows: dict[str, list[ScoreRow]] = {}
        for row in old.rows(chunk).to_pylist():
            if row["sample"] in same_output and row["metric"] in same_cards:
                rows.setdefault(row["sample"], []).append(ScoreRow(**row))
        return rows, dict.fromkeys(same_output, same_cards)

    def take(self, outcome: Outcome) -> int:
        """Write what was measured of a chunk; returns its samples, 0 where it is to be measured again."""
        if outcome.error is not None:
            raise outcome.error
        job: ChunkJob = outcome.job.content
        rows: ChunkRows = outcome.rows
        if "answers" in self.left and not self._copied("answers", job.chunk):
            try:
                self._take_answers(job.chunk, rows.answers)
            except sqlite3.Error as error:  # in memory from here on, with nothing known: this chunk once more
                self.store.forget(error)
                return 0
        if "scores" in self.left and not self._copied("scores", job.chunk):
            self._take_scores(job.chunk, rows.scores)
        return len(self.chunks[job.chunk])

    def _take_answers(self, chunk: int, measured: Sequence[Measured]) -> None:
        for needs, found in measured:
            self.store.put(self.suite_hash, needs, found)
        ids = self.chunks[chunk]
        if self.store.missing(self.suite_hash, ids, self.needs):
            raise sqlite3.DatabaseError("what was in it is gone")
        rows = [
            (row.sample, self.records[sample].task, *row[1:])
            for sample in ids
            for row in self.store.rows(self.suite_hash, sample, self.needs)
        ]
        self._write("answers", chunk, rows)

    def _take_scores(self, chunk: int, scores: Sequence[tuple[str, list[Score]]]) -> None:
        rows = dict(self._kept(chunk)[0])
        for sample, found in scores:
            rows[sample] = rows.get(sample, []) + [self._row(sample, score) for score in found]
        order = {name: place for place, name in enumerate(self.cards)}
        self._write(
            "scores",
            chunk,
            [
                row
                for sample in self.chunks[chunk]
                for row in sorted(rows.get(sample, []), key=lambda r: (order[r.metric], r.region))
            ],
        )

    def _write(self, kind: Kind, chunk: int, rows: Sequence[tuple[Any, ...]]) -> None:
        self.folder.write_table(self._part(kind, chunk), kind, iter([table(kind, rows)]), [self.states[kind][chunk]])

    def _row(self, sample: str, score: Score) -> ScoreRow:
        return ScoreRow(
            sample,
            self.records[sample].task,
            score.metric,
            score.axis,
            score.region,
            float(score.value),
            score.higher_is_better,
            score.card,
        )

    def merge(self) -> None:
        """Make the tables of what is there and of the parts."""
        for kind in self.left:
            self.folder.write_table(FINAL[kind], kind, self._merged(kind), self.states[kind])
            self.stored[kind].close()
        self.folder.drop_parts()

    def _merged(self, kind: Kind) -> Iterator[pa.Table]:
        for chunk in range(len(self.chunks)):
            if self._copied(kind, chunk):
                yield self.stored[kind].rows(chunk)
            else:
                part = self.folder.table(self._part(kind, chunk), kind)
                yield part.rows(0)
                part.close()


def measure(
    folder: RunFolder,
    manifest: RunManifest,
    suite: Suite,
    cards: Mapping[str, MetricCard],
    *,
    device: str = "cpu",
    placement: Placement | None = None,
    suite_place: str | None = None,
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
        placement: where and by how many workers; None is one, here.
        suite_place: the suite's name, folder or address for workers elsewhere.
        cache: where answers are kept for the next model; None keeps none.
        progress: told of each chunk.

    Returns:
        Whether anything had to be measured.

    Raises:
        RefbenchError: a sample has no record, an output was changed, or the folder cannot be written.
    """
    placement = placement or Placement()
    state = Measuring(folder, manifest, cards, cache)
    try:
        if not state.left:
            folder.drop_parts()
            return False
        setup = _setup(folder, suite, placement, device, suite_place, cache)
        executor, jobs, begun = executor_of(placement), state.jobs(), False
        while jobs:
            waiting = sum(len(state.chunks[job.content.chunk]) for job in jobs)
            if not begun:
                progress.start("measure", len(manifest.samples), len(manifest.samples) - waiting)
            begun = True
            _run(state, executor, setup, jobs, progress)
            jobs = state.jobs()
        if not begun:
            progress.start("measure", len(manifest.samples), len(manifest.samples))
        state.merge()
    finally:
        state.store.close()
    return True


def _run(state: Measuring, executor: Executor, setup: MeasureSetup, jobs: list[Job], progress: Progress) -> None:
    with executor.pool(setup, jobs, progress.note) as pool:
        for outcome in pool.outcomes():
            progress.advance(state.take(outcome))
            if state.store.note != state.told:
                state.told = state.store.note
                progress.note(str(state.told))


def _setup(
    folder: RunFolder, suite: Suite, placement: Placement, device: str, place: str | None, cache: Path | None
) -> MeasureSetup:
    if placement.elsewhere:
        at = SuiteAt(place or str(suite.folder), suite.hash)
        identity = hashlib.sha256(f"measure {folder.whole_place} {suite.hash}".encode()).hexdigest()[:16]
        return MeasureSetup(folder.shared(), at, (device,), placement.cpus(), None, identity)
    threads = max(1, cores() // placement.workers) if placement.workers > 1 else None
    return MeasureSetup(folder, suite, placement.devices(device), threads, cache)
