"""Stage 1: ask the contained adapter for every sample that has no output yet, and write down what happened.

Each worker is a thread that feeds one contained adapter (a child process for classes and scripts), so that
decoding, encoding and waiting overlap. Batches are cut from the plan at fixed places: a batch that a kill
has torn is asked for whole again, and only its missing samples are written, so that an adapter whose answer
depends on its batch gives the same images as in one go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, load_image, save_png
from refbench.runs.folder import RunFolder
from refbench.runs.jsontext import finite
from refbench.runs.passes import DRAFT_SHA256, pass_before
from refbench.runs.plan import batches, pending, seed_for
from refbench.runs.progress import Progress
from refbench.schema import Inputs, Refinement, RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.adapters.contract import Contained
    from refbench.tasks.suite import Suite

STOP_GRACE_S = 0.1
"""How long a failure is held back: an adapter that dies because the user pressed Ctrl-C is no failed sample."""


Opener = Callable[[], AbstractContextManager["Contained"]]


def pixels_sha256(image: Image) -> str:
    """Hash of an image's shape and pixels, independent of how it is encoded."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


class _Stage:
    """What the workers of one start share."""

    def __init__(self, folder: RunFolder, suite: Suite, manifest: RunManifest, left: set[str], batch_size: int) -> None:
        self.folder, self.suite, self.seed, self.left = folder, suite, manifest.seed, left
        self.before = pass_before(folder, manifest)
        self.drafts = {} if self.before is None else self.before.read_records(manifest.samples)
        self.todo: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()
        for batch in batches(manifest.samples, batch_size):
            if left.intersection(batch):
                self.todo.put(batch)
        self.events: queue.SimpleQueue[SampleRecord | BaseException | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.reading = threading.Lock()

    def work(self, open_adapter: Opener, crew: list[Contained]) -> None:
        """One worker: open an adapter, take batches until there are none."""
        try:
            with open_adapter() as adapter:
                crew.append(adapter)
                while not self.stop.is_set():
                    try:
                        batch = self.todo.get_nowait()
                    except queue.Empty:
                        break
                    self._one_batch(adapter, batch)
        except BaseException as error:  # handed to the main thread, which raises it
            self.events.put(error)
        finally:
            self.events.put(None)

    def _one_batch(self, adapter: Contained, batch: tuple[str, ...]) -> None:
        with self.reading:
            samples = [self.suite.sample(sample) for sample in batch]
        tasks = {sample.id: sample.meta.task for sample in samples}
        inputs = [sample.inputs(seed_for(self.seed, sample.id)) for sample in samples]
        del samples
        if self.before is not None:
            inputs, refinements = self._next_pass(self.before, inputs, tasks)
        else:
            refinements = []
        for refinement in [*refinements, *(adapter.refine_batch(inputs) if inputs else ())]:
            if refinement.id not in self.left:
                continue
            if refinement.image is None:
                self.stop.wait(STOP_GRACE_S)
            if self.stop.is_set():
                return
            if refinement.failure == "stop":  # no record: the sample is asked for in the next start
                raise RefbenchError(refinement.error or "The adapter asked to stop.")
            record = self._written(refinement, tasks[refinement.id])
            self.folder.append_record(record)
            self.events.put(record)

    def _next_pass(
        self, before: RunFolder, batch: Sequence[Inputs], tasks: Mapping[str, str]
    ) -> tuple[list[Inputs], list[Refinement]]:
        """The inputs with the outputs of the pass before as drafts, and the failures of those that have none."""
        inputs, failed = [], []
        for one in batch:
            record = self.drafts.get(one.id)
            if record is None or record.sha256 is None:
                failed.append(Refinement(one.id, None, 0.0, "The pass before has no output."))
                continue
            path = before.output(tasks[one.id], one.id)
            draft = load_image(path)
            if pixels_sha256(draft) != record.sha256:
                raise RefbenchError(
                    f"Expected the output of the pass before as it was recorded at {path}, but the image has changed; "
                    "delete it, and the same command makes it again."
                )
            inputs.append(dataclasses.replace(one, draft=draft))
        return inputs, failed

    def _written(self, refinement: Refinement, task: str) -> SampleRecord:
        sha256, extra = None, refinement.recorded
        if self.before is not None:
            extra[DRAFT_SHA256] = _sha256(self.drafts, refinement.id)
        if refinement.image is not None:
            save_png(self.folder.output(task, refinement.id), refinement.image)
            sha256 = pixels_sha256(refinement.image)
        return SampleRecord(
            id=refinement.id,
            task=task,
            status="ok" if sha256 else "refused" if refinement.failure == "refused" else "failed",
            error=(refinement.error or "The adapter gave no image.") if refinement.image is None else None,
            seconds=round(refinement.seconds, 4),
            sha256=sha256,
            extra=finite(extra),
        )


def _sha256(records: Mapping[str, SampleRecord], sample: str) -> str | None:
    return records[sample].sha256 if sample in records else None


def unfinished(folder: RunFolder, manifest: RunManifest, retry_failed: bool, *, repair: bool = False) -> set[str]:
    """Ids of the plan that still need an output; errors as :meth:`RunFolder.read_records`."""
    records = folder.read_records(manifest.samples, repair=repair)
    before = pass_before(folder, manifest)
    if before is not None:  # what was made of another draft is asked for again
        drafts = before.read_records(manifest.samples)
        records = {k: r for k, r in records.items() if r.extra.get(DRAFT_SHA256) == _sha256(drafts, k)}
    there = {r.id: folder.output(r.task, r.id).is_file() for r in records.values() if r.status == "ok"}
    return pending(manifest.samples, records, there, retry_failed)


def generate(
    folder: RunFolder,
    suite: Suite,
    open_adapters: Sequence[Opener],
    *,
    batch_size: int = 1,
    retry_failed: bool = False,
    progress: Progress,
) -> None:
    """Fill the run folder with one record for each planned sample.

    Args:
        folder: locked, with its manifest written.
        suite: the suite of the manifest, with at least its samples.
        open_adapters: one for each worker; each is entered in the worker's own thread.
        batch_size: samples handed to the adapter at once.
        retry_failed: ask again for samples recorded as failed.

    Raises:
        RefbenchError: the folder cannot be written, an adapter does not start, or it says that no sample can succeed.
        KeyboardInterrupt: passed on after the adapters are ended; what is recorded is kept.
    """
    manifest = folder.read_manifest()
    left = unfinished(folder, manifest, retry_failed, repair=True)
    if not left:
        return
    stage = _Stage(folder, suite, manifest, left, batch_size)
    crew: list[Contained] = []
    threads = [
        threading.Thread(target=stage.work, args=(opener, crew), daemon=True, name=f"refbench-generate-{n}")
        for n, opener in enumerate(open_adapters)
    ]
    progress.start("generate", len(manifest.samples), len(manifest.samples) - len(left))
    try:
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            try:
                event = stage.events.get(timeout=0.5)
            except queue.Empty:  # wake up, so that a signal is handled at once on every platform
                continue
            if event is None:
                running -= 1
            elif isinstance(event, SampleRecord):
                progress.advance(1, int(event.status != "ok"))
            else:
                raise event
    except BaseException:
        stage.stop.set()
        for adapter in list(crew):
            with contextlib.suppress(Exception):
                adapter.close()
        for thread in threads:
            thread.join(timeout=10)
        raise
    still = unfinished(folder, manifest, False)
    if still:
        raise RefbenchError(
            f"Expected an answer for each of {len(manifest.samples)} samples, but {len(still)} have none "
            f"(first: {sorted(still)[0]}); run the same command again to go on."
        )


def failures(folder: RunFolder, manifest: RunManifest) -> list[SampleRecord]:
    """Records of the samples that have no output, in the order of the plan."""
    records = folder.read_records(manifest.samples)
    return [records[sample] for sample in manifest.samples if sample in records and records[sample].status != "ok"]
