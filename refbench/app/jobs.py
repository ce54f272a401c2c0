"""Jobs of the page: one model answers at a time, in a child process that can crash, hang and be ended.

The model of the last job stays open, so that the next one need not load it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any, Literal

from refbench.app.store import GoneError, Store, Upload
from refbench.errors import RefbenchError
from refbench.runs.refining import Job, Refined, command, read, refine_one
from refbench.schema import Box

if TYPE_CHECKING:
    from refbench.adapters.child import Child
    from refbench.adapters.contract import Contained

MOST_WAITING = 16
State = Literal["waiting", "loading", "refining", "done", "failed", "cancelled"]
_PERCENT = re.compile(r"(\d{1,3})%\|")  # as the progress bars of diffusers and others say it


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user wants of a model, beside the pictures."""

    model: str
    prompt: str | None = None
    reference_box: Box | None = None
    seed: int = 0


@dataclass(slots=True)
class Entry:
    """A job, and how far it is."""

    id: str
    """Not guessable; whoever has it may see and cancel the job."""
    files: Job
    asked: Asked
    command: str
    """That does it again; see :func:`refbench.runs.refining.command`."""
    state: State = "waiting"
    since: float = 0.0
    """When the state began, by the monotonic clock."""
    seconds: float = 0.0
    """Loading and refining, once it has ended."""
    refined: Refined | None = None
    error: str | None = None
    stopping: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """Takes jobs and does them in order.

    Args:
        store: where their files lie.
        models: names that may be asked for -> what they are opened by.
        device: for the models.
        timeout_s: longest time for one picture, in seconds.
    """

    def __init__(
        self, store: Store, models: Mapping[str, str], *, device: str = "auto", timeout_s: float = 600.0
    ) -> None:
        from refbench.devices import resolve

        self.store, self.models = store, models
        self._asked_device, self._device, self._timeout_s = device, resolve(device), timeout_s
        self._entries: dict[str, Entry] = {}
        self._waiting: collections.deque[Entry] = collections.deque()
        self._now: Entry | None = None
        self._child: Child | None = None
        self._said = ""
        self._usual: dict[str, float] = {}
        self._open: tuple[str, Contained] | None = None
        self._models = ExitStack()
        self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True, name="refbench-app")
        self._thread.start()

    def add(self, draft: Upload, reference: Upload, mask: Upload, asked: Asked) -> Entry:
        """Put a job at the end of the line.

        Raises:
            RefbenchError: a model that is not offered, a reference or box in it below 8 px, a box outside it, a mask
                of another draft, or too many jobs are waiting.
        """
        from refbench.crops import check_reference
        from refbench.images import check_mask, load_mask

        if asked.model not in self.models:
            raise RefbenchError(
                f"Expected one of the models that are ready here, but '{asked.model}' came; choose one of "
                f"{', '.join(self.models)}."
            )
        check_reference(reference.size, asked.reference_box)
        check_mask(load_mask(mask.path), draft.size, "the mask")
        with self._change:
            if len(self._waiting) >= MOST_WAITING:
                raise RefbenchError(
                    f"Expected at most {MOST_WAITING} jobs that wait, but the line is full; try again in a minute."
                )
        name, folder = self.store.folder()
        names: set[str] = set()
        paths = [_linked(one, folder, kind, names) for one, kind in ((draft, "draft"), (reference, "reference"))]
        marked = _linked(mask, folder, "mask", names)
        out = folder / _free(f"{paths[0].stem}-refined.png", "result", names)
        files = Job(paths[0], paths[1], marked, out)
        again = command(
            files, self.models[asked.model], prompt=asked.prompt, reference_box=asked.reference_box,
            seed=asked.seed, device=self._asked_device,
        )  # fmt: skip
        entry = Entry(name, files, asked, again, since=time.monotonic())
        with self._change:
            for old in [one for one in self._entries if not self.store.holds(one)]:
                del self._entries[old]
            self._entries[name] = entry
            self._waiting.append(entry)
            self._change.notify_all()
        return entry

    def find(self, name: str) -> Entry:
        """A job by its name.

        Raises:
            GoneError: there is none.
        """
        found = self._entries.get(name)
        if found is None or not self.store.holds(name):
            raise GoneError("Expected a job of this page, but it is gone; run it again.")
        return found

    def cancel(self, name: str) -> Entry:
        """End a job: out of the line, or with the process that does it; one that has ended stays as it is."""
        entry = self.find(name)
        with self._change:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._end(entry, "cancelled")
            elif not entry.ended:
                entry.stopping = True
                if self._child is not None:
                    self._child.kill()
        return entry

    def told(self, entry: Entry) -> dict[str, Any]:
        """How far a job is, as plain values."""
        with self._change:
            ahead = 0
            if entry.state == "waiting":
                ahead = list(self._waiting).index(entry) + (self._now is not None) if entry in self._waiting else 0
            told: dict[str, Any] = {
                "id": entry.id,
                "state": entry.state,
                "ahead": ahead,
                "seconds": entry.seconds if entry.ended else time.monotonic() - entry.since,
                "usual": self._usual.get(entry.asked.model),
                "share": self._share() if entry is self._now and entry.state == "refining" else None,
                "error": entry.error,
                "command": entry.command,
            }
        if entry.refined is not None:
            said = str(entry.refined).removeprefix(f"{entry.files.draft.name}: ")
            told |= {"said": said, "out": entry.files.out.name}
        return told

    def close(self) -> None:
        """End what runs, and the thread."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            if self._now is not None:
                self._now.stopping = True
                if self._child is not None:
                    self._child.kill()
            self._change.notify_all()
        self._thread.join(timeout=20)

    # ---- what the thread does

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    break
                entry = self._now = self._waiting.popleft()
                self._begin(entry, "loading")
            began = time.monotonic()
            state: State = "failed"
            try:
                entry.refined = self._done(entry)
                state = "done"
            except RefbenchError as error:
                entry.error = str(error).replace(f"{entry.files.draft.parent}{os.sep}", "")
            except Exception as error:  # whatever it is, the next job is done
                entry.error = f"Something went wrong that refbench did not foresee ({type(error).__name__})."
            with self._change:
                entry.seconds = time.monotonic() - began
                self._now = None
                self._end(entry, "cancelled" if entry.stopping else state)
        with contextlib.suppress(RefbenchError):
            self._models.close()

    def _done(self, entry: Entry) -> Refined:
        pictures = read(entry.files, reference_box=entry.asked.reference_box)
        adapter = self._opened(self.models[entry.asked.model])
        if entry.stopping:
            raise RefbenchError("It was cancelled.")
        with self._change:
            self._begin(entry, "refining")
            self._said = self._child.last_words() if self._child is not None else ""
        asked = entry.asked
        done = refine_one(
            adapter, entry.files, pictures, prompt=asked.prompt, reference_box=asked.reference_box, seed=asked.seed
        )
        self._usual[asked.model] = time.monotonic() - entry.since
        return done

    def _opened(self, spec: str) -> Contained:
        from refbench.adapters.load import open_contained

        if self._open is not None and self._open[0] == spec and self._child is not None and self._child.alive:
            return self._open[1]
        self._models.close()
        self._open, self._child = None, None
        adapter = self._models.enter_context(
            open_contained(spec, device=self._device, timeout_s=self._timeout_s, born=self._born)
        )
        self._open = spec, adapter
        return adapter

    def _born(self, child: Child) -> None:
        with self._change:
            self._child = child
            if self._now is not None and self._now.stopping:
                child.kill()

    def _share(self) -> float | None:
        """How much of the work a model's own progress bar says is done, 0 to 1."""
        said = self._child.last_words() if self._child is not None else ""
        found = _PERCENT.search(said) if said != self._said else None
        return min(int(found[1]), 100) / 100 if found else None

    @staticmethod
    def _begin(entry: Entry, state: State) -> None:
        entry.state, entry.since = state, time.monotonic()

    def _end(self, entry: Entry, state: State) -> None:
        if state == "cancelled":
            entry.refined, entry.error = None, None
            entry.files.out.unlink(missing_ok=True)
        self.store.measure(entry.id)
        entry.state = state


def _linked(upload: Upload, folder: Path, kind: str, names: set[str]) -> Path:
    """A file of a job that stays when the upload goes."""
    path = folder / _free(upload.path.name, kind, names)
    try:
        path.hardlink_to(upload.path)
    except OSError:  # a file system without links
        copyfile(upload.path, path)
    return path


def _free(name: str, kind: str, names: set[str]) -> str:
    """A name that no other file of the job has."""
    while name.casefold() in names:
        name = f"{kind}-{name}"
    names.add(name.casefold())
    return name
