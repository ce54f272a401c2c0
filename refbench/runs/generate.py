"""Stage 1: ask the model for every sample that has no output yet, and write down what happened.

A worker opens a contained adapter (a child process for classes and scripts) and answers batches with rows; the one
process that started them writes rows into the run folder. Batches are cut from the plan at fixed places: a batch that a
kill has torn is asked for whole again, and only its missing samples are written, so that an adapter whose answer
depends on its batch gives the same images as in one go.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, encode_png
from refbench.runs.environment import hardware
from refbench.runs.executors.contract import Hello, Job, LostError, Pool
from refbench.runs.folder import RunFolder
from refbench.runs.jsontext import finite
from refbench.runs.passes import DRAFT_SHA256, pass_before
from refbench.runs.plan import batches, pending, seed_for
from refbench.runs.progress import Progress
from refbench.runs.suites import SuiteAt
from refbench.schema import Inputs, Refinement, RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.adapters.contract import Contained
    from refbench.tasks.suite import Suite

_READING = threading.Lock()  # a suite keeps the last sample it decoded: threads take turns


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's answer."""

    record: SampleRecord
    png: bytes | None


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one batch."""

    rows: list[Row]
    stop: str | None = None
    """Why no further sample can succeed; those of the batch that have no row are asked for in the next start."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """Of a later pass: the outputs of the run before."""

    before: RunFolder
    records: Mapping[str, SampleRecord]


@dataclass(frozen=True)
class GenerateSetup:
    """How a worker that generates is set up."""

    suite: Suite | SuiteAt
    seed: int
    """Of the run."""
    open_adapter: Callable[[int], AbstractContextManager[Contained]]
    """Opens the model for a worker's number; can be pickled where workers are elsewhere."""
    drafts: Drafts | None = None
    device: str = "cpu"
    """Where the model runs."""
    identity: str = ""
    in_thread: bool = field(default=True, init=False)

    def __call__(self, number: int, /) -> GenerateWorker:
        """Open suite and model."""
        return GenerateWorker(self, number)


class GenerateWorker:
    """A model that is loaded, and the suite it answers."""

    def __init__(self, setup: GenerateSetup, number: int) -> None:
        self.setup = setup
        self.suite = setup.suite.opened() if isinstance(setup.suite, SuiteAt) else setup.suite
        self._context = setup.open_adapter(number)
        self.adapter = self._context.__enter__()
        self._stopped: str | None = None

    def hello(self) -> Hello:
        """The card, how the model is contained, whether it keeps an account, and what a user should know."""
        adapter = self.adapter
        facts: dict[str, Any] = {"card": adapter.card, "isolation": adapter.isolation, "pays": adapter.pays}
        facts["remarks"] = adapter.remarks(self.suite.every, self.suite.ids)
        return Hello(facts, hardware=hardware(self.setup.device))

    def do(self, batch: tuple[str, ...], /) -> Answers:
        """The rows of one batch of the plan; once the model has asked to stop, nothing more is asked of it."""
        if self._stopped is not None:
            return Answers([], self._stopped)
        with _READING:
            samples = [self.suite.sample(sample) for sample in batch]
        tasks = {sample.id: sample.meta.task for sample in samples}
        inputs = [sample.inputs(seed_for(self.setup.seed, sample.id)) for sample in samples]
        del samples
        refinements: list[Refinement] = []
        if self.setup.drafts is not None:
            inputs, refinements = _next_pass(self.setup.drafts, inputs)
        rows: list[Row] = []
        for refinement in [*refinements, *(self.adapter.refine_batch(inputs) if inputs else ())]:
            if refinement.failure == "stop":
                self._stopped = refinement.error or "The adapter asked to stop."
                return Answers(rows, self._stopped)
            rows.append(self._row(refinement, tasks[refinement.id]))
        return Answers(rows)

    def _row(self, refinement: Refinement, task: str) -> Row:
        extra = refinement.recorded
        if self.setup.drafts is not None:
            extra[DRAFT_SHA256] = _sha256(self.setup.drafts.records, refinement.id)
        image = refinement.image
        record = SampleRecord(
            id=refinement.id,
            task=task,
            status="ok" if image is not None else "refused" if refinement.failure == "refused" else "failed",
            error=(refinement.error or "The adapter gave no image.") if image is None else None,
            seconds=round(refinement.seconds, 4),
            sha256=None if image is None else pixels_sha256(image),
            extra=finite(extra),
        )
        return Row(record, None if image is None else encode_png(image))

    def close(self) -> None:
        """End the model."""
        self.adapter.close()
        self._context.__exit__(None, None, None)


def pixels_sha256(image: Image) -> str:
    """Hash of an image's shape and pixels, independent of how it is encoded."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _next_pass(drafts: Drafts, batch: Sequence[Inputs]) -> tuple[list[Inputs], list[Refinement]]:
    """The inputs with the outputs of the pass before as drafts, and the failures of those that have none."""
    inputs, failed = [], []
    for one in batch:
        record = drafts.records.get(one.id)
        if record is None or record.sha256 is None:
            failed.append(Refinement(one.id, None, 0.0, "The pass before has no output."))
            continue
        draft = drafts.before.read_output(record)
        if pixels_sha256(draft) != record.sha256:
            raise RefbenchError(
                f"Expected the output of the pass before as it was recorded for '{one.id}' at {drafts.before.place}, "
                "but the image has changed; delete it, and the same command makes it again."
            )
        inputs.append(dataclasses.replace(one, draft=draft))
    return inputs, failed


def _sha256(records: Mapping[str, SampleRecord], sample: str) -> str | None:
    return records[sample].sha256 if sample in records else None


def unfinished(folder: RunFolder, manifest: RunManifest, retry_failed: bool, *, repair: bool = False) -> set[str]:
    """Ids of the plan that still need an output; errors as :meth:`RunFolder.read_records`."""
    records = folder.read_records(manifest.samples, repair=repair)
    before = pass_before(folder, manifest)
    if before is not None:  # what was made of another draft is asked for again
        drafts = before.read_records(manifest.samples)
        records = {k: r for k, r in records.items() if r.extra.get(DRAFT_SHA256) == _sha256(drafts, k)}
    return pending(manifest.samples, records, folder.answered(records.values()), retry_failed)


def jobs_for(samples: Sequence[str], left: set[str], batch_size: int) -> list[Job]:
    """The batches of the plan that have a sample left."""
    cut = enumerate(batches(samples, batch_size))
    return [Job(f"{number:07d}", batch) for number, batch in cut if left.intersection(batch)]


def generate(
    folder: RunFolder, suite: Suite, manifest: RunManifest, left: set[str], pool: Pool, progress: Progress
) -> None:
    """Write one record for each sample that is left of the plan, and the outputs.

    Args:
        folder: locked, with its manifest written.
        suite: of the manifest.
        manifest: of the run.
        left: what was to be asked for, see :func:`unfinished`.
        pool: at the jobs of :func:`jobs_for`.
        progress: told of each sample.

    Raises:
        RefbenchError: the folder cannot be written, or a worker says that no sample can succeed.
    """
    tasks = {meta.id: meta.task for meta in suite.metas}
    progress.start("generate", len(manifest.samples), len(manifest.samples) - len(left))
    todo = set(left)
    for outcome in pool.outcomes():
        answers = outcome.rows
        if isinstance(outcome.error, LostError):
            answers = Answers([_lost(sample, tasks[sample], outcome.error) for sample in outcome.job.content])
        elif outcome.error is not None:
            raise outcome.error
        for row in answers.rows:
            if row.record.id not in todo:
                continue
            if row.png is not None:
                folder.write_output(row.record.task, row.record.id, row.png)
            folder.append_record(row.record)
            todo.discard(row.record.id)
            progress.advance(1, int(row.record.status != "ok"))
        if answers.stop is not None:
            raise RefbenchError(answers.stop)
    if todo:
        raise RefbenchError(
            f"Expected an answer for each of {len(manifest.samples)} samples, but {len(todo)} have none "
            f"(first: {sorted(todo)[0]}); run the same command again to go on."
        )


def _lost(sample: str, task: str, error: LostError) -> Row:
    """The failure of a sample whose worker was lost with it again and again."""
    record = SampleRecord(
        id=sample, task=task, status="failed", error=str(error), seconds=0.0, extra={"failure": "lost"}
    )
    return Row(record, None)


def failures(folder: RunFolder, manifest: RunManifest) -> list[SampleRecord]:
    """Records of the samples that have no output, in the order of the plan."""
    records = folder.read_records(manifest.samples)
    return [records[sample] for sample in manifest.samples if sample in records and records[sample].status != "ok"]
