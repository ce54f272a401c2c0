"""Stage 1: ask the contained adapter for every sample that has no output yet, and write down what happened.

Each worker is a thread that feeds one contained adapter (a child process for classes and scripts), so that
decoding, encoding and waiting overlap. Batches are cut from the plan at fixed places: a batch that a kill
has torn is asked for whole again, and only its missing samples are written, so that an adapter whose answer
depends on its batch gives the same images as in one go.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, save_png
from refbench.runs.folder import RunFolder
from refbench.runs.jsontext import finite
from refbench.runs.plan import batches, pending, seed_for
from refbench.runs.progress import Progress
from refbench.schema import Inputs, Refinement, RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

STOP_GRACE_S = 0.1
"""How long a failure is held back: an adapter that dies because the user pressed Ctrl-C is no failed sample."""


class Contained(Protocol):
    """What generating needs of a contained adapter (see refbench.adapters.contract)."""

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input; never raises because of a sample."""

    def close(self) -> None:
        """End the child."""


Opener = Callable[[], AbstractContextManager[Contained]]


def pixels_sha256(image: Image) -> str:
    """Hash of an image's shape and pixels, independent of how it is encoded."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


class _Stage:
    """What the workers of one start share."""

    def __init__(self, folder: RunFolder, suite: Suite, manifest: RunManifest, left: set[str], batch_size: int) -> None:
        self.folder, self.suite, self.seed, self.left = folder, suite, manifest.seed, left
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
        refinements = adapter.refine_batch([sample.inputs(seed_for(self.seed, sample.id)) for sample in samples])
        del samples
        for refinement in refinements:
            if refinement.id not in self.left:
                continue
            if refinement.image is None:
                self.stop.wait(STOP_GRACE_S)
            if self.stop.is_set():
                return
            if refinement.extra.get("failure") == "stop":  # no record: the sample is asked for in the next start
                raise RefbenchError(refinement.error or "The adapter asked to stop.")
            record = self._written(refinement, tasks[refinement.id])
            self.folder.append_record(record)
            self.events.put(record)

    def _written(self, refinement: Refinement, task: str) -> SampleRecord:
        sha256 = None
        if refinement.image is not None:
            save_png(self.folder.output(task, refinement.id), refinement.image)
            sha256 = pixels_sha256(refinement.image)
        return SampleRecord(
            id=refinement.id,
            task=task,
            status="ok" if sha256 else "refused" if refinement.extra.get("failure") == "refused" else "failed",
            error=(refinement.error or "The adapter gave no image.") if refinement.image is None else None,
            seconds=round(refinement.seconds, 4),
            sha256=sha256,
            extra=finite(refinement.extra),
        )


def unfinished(folder: RunFolder, manifest: RunManifest, retry_failed: bool, *, repair: bool = False) -> set[str]:
    """Ids of the plan that still need an output; errors as :meth:`RunFolder.read_records`."""
    records = folder.read_records(manifest.samples, repair=repair)
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
