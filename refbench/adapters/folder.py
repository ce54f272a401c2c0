"""Refinements that exist already: a folder of pictures named ``<sample id>.png``.

Other formats are read where a sample has no PNG, and named, as what a lossy one has lost is measured as the model's own
error. Whatever is wrong with one file (damaged, a dangling link, a pipe, there twice) costs only its sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import stat
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from refbench.adapters.card import check_card
from refbench.adapters.contract import failed, normalise_output
from refbench.errors import RefbenchError
from refbench.images import LOSSY_ENDINGS, PICTURE_ENDINGS, Image, decode_image
from refbench.plaintext import one_line, printable
from refbench.schema import AdapterCard, Failure, Inputs, Isolation, Refinement

OTHER_FORMATS = frozenset({".heic", ".heif", ".jxl", ".npy"})
"""Endings of pictures that are not read; a sample that has such a file alone is told so."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 2**28
"""Larger files are no refinement of a sample."""


class MissingError(RefbenchError):
    """There is no file for a sample."""


class FolderAdapter:
    """Answers each sample with the picture of its id, from the folder or one folder below it.

    ``card.json`` beside the pictures, if there is one, holds the fields of the card; else the folder's name is the
    model's. The folder is listed once; a file is read when its sample is asked for.

    Reading it runs no foreign code, so that it needs no child.

    Args:
        folder: where the pictures are, flat or one folder a task (as a run's ``outputs``).
        timeout_s: longest time for one file, in seconds; a place that does not answer costs only its sample.

    Raises:
        RefbenchError: no picture at all, the folder cannot be read, or a broken card.
    """

    isolation: Isolation = "folder"
    pays = False

    def __init__(self, folder: Path, timeout_s: float = 600.0) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self.files: dict[str, list[Path]] = {}
        """Sample id -> what is named ``<id>.png``, else with another ending; one path where all is well."""
        self.beside: dict[str, list[Path]] = {}
        """Sample id -> pictures in other formats beside its PNG, which counts."""
        self.others: dict[str, Path] = {}
        """Name without ending -> a picture of a format that is not read."""
        for path in _listed(folder):
            ending = path.suffix.lower()
            if ending in PICTURE_ENDINGS:
                self.files.setdefault(path.stem, []).append(path)
            elif ending in OTHER_FORMATS:
                self.others[path.stem] = path
        for stem, paths in self.files.items():
            pngs = [path for path in paths if path.suffix.lower() == ".png"]
            if pngs and len(pngs) < len(paths):
                self.files[stem], self.beside[stem] = pngs, [path for path in paths if path not in pngs]
        if not self.files:
            endings = sorted({path.suffix for path in self.others.values()})
            what = f"only {len(self.others)} pictures in {', '.join(endings)}" if endings else "none"
            raise RefbenchError(
                f"Expected pictures named <sample id>.png in {folder}, but there are {what}; "
                + ("save them as PNG, which loses nothing." if endings else "check the folder, or give a Python file.")
            )
        self.card = self._card()

    def _card(self) -> AdapterCard:
        path = self.folder / "card.json"
        if not os.path.lexists(path):
            name = printable(self.folder.name, None)
            return AdapterCard(
                name=name, summary=f"Images made elsewhere, read from the folder '{name}'.", deterministic=True
            )
        try:
            return check_card(json.loads(_content(path)), str(path))
        except (ValueError, RecursionError) as error:
            raise RefbenchError(
                f"Expected a card in JSON at {path}, but {one_line(error)}; correct it or remove it."
            ) from None

    def picture(self, sample: str) -> Image:
        """What is there for a sample.

        Raises:
            MissingError: there is no file for it.
            RefbenchError: there is more than one, or it cannot be read.
        """
        paths = self.files.get(sample)
        if paths is None:
            raise MissingError(f"Expected {sample}.png in {self.folder}, but {self._instead(sample)}.")
        if len(paths) > 1:
            raise RefbenchError(
                f"Expected one picture for '{sample}' in {self.folder}, but it is there {len(paths)} times "
                f"({paths[0]} and {paths[1]}); remove one."
            )
        data = _content(paths[0])
        if paths[0].suffix.lower() == ".png" and not data.startswith(SIGNATURE):
            raise RefbenchError(
                f"Expected a PNG at {paths[0]}, but its content is "
                + ("empty" if not data else "that of another kind of file or damaged")
                + "; write it again as PNG."
            )
        return decode_image(data, str(paths[0]))

    def _instead(self, sample: str) -> str:
        """What is there in place of a sample's PNG, and what to do."""
        if sample in self.others:
            path = self.others[sample]
            return f"there is only {path.name}, a format that is not read; save it as PNG"
        near = [path for stem, paths in self.files.items() if _alike(stem) == _alike(sample) for path in paths]
        if near:
            return f"there is only '{near[0].name}', which is another name; rename it"
        return "it is not there; add it"

    def refine(self, inputs: Inputs, /) -> Refinement:
        """The picture made elsewhere for this sample.

        Raises:
            RefbenchError: as :meth:`picture`, or its size is not the draft's.
        """
        start = time.perf_counter()
        image = normalise_output(self.picture(inputs.id), inputs)
        return Refinement(inputs.id, image, time.perf_counter() - start, seed=inputs.seed)

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input; a missing or damaged file is that sample's failure."""
        return [self._one(inputs) for inputs in batch]

    def _one(self, inputs: Inputs) -> Refinement:
        start = time.perf_counter()
        answers: queue.SimpleQueue[Refinement] = queue.SimpleQueue()

        def without(failure: Failure, why: str) -> Refinement:
            return failed(inputs, time.perf_counter() - start, failure, why)

        def read() -> None:
            try:
                answers.put(self.refine(inputs))
            except RefbenchError as error:
                answers.put(without("missing" if isinstance(error, MissingError) else "invalid", str(error)))
            except Exception as error:  # whatever a damaged file does, somebody waits for an answer
                why = f"Expected a picture for '{inputs.id}', but reading it failed ({error!r})."
                answers.put(without("invalid", why))

        threading.Thread(target=read, daemon=True, name="refbench-folder").start()
        try:
            return answers.get(timeout=min(self.timeout_s, threading.TIMEOUT_MAX))
        except queue.Empty:
            why = f"Expected to read '{inputs.id}' within {self.timeout_s:g} s, but it took longer; see --timeout."
            return without("timeout", why)

    def remarks(self, every: Collection[str], planned: Collection[str]) -> list[str]:
        """Which pictures are left out (no sample's, or beside a PNG), and how many others may have lost detail."""
        found, known = [], set(every)
        named = {**{stem: paths[0] for stem, paths in self.files.items()}, **self.others}
        strangers = sorted(path for stem, path in named.items() if stem not in known)
        if strangers:
            names = ", ".join(path.name for path in strangers[:10])
            more = f" and {len(strangers) - 10} more" if len(strangers) > 10 else ""
            found.append(
                f"{len(strangers)} of the pictures in {self.folder} belong to no sample of the suite and are left out: "
                f"{names}{more}."
            )
        twice = sorted(path for sample in planned for path in self.beside.get(sample, ()))
        if twice:
            names = ", ".join(path.name for path in twice[:10])
            more = f" and {len(twice) - 10} more" if len(twice) > 10 else ""
            found.append(
                f"{len(twice)} of the pictures in {self.folder} lie beside a PNG of the same sample, which counts, "
                f"and are left out: {names}{more}."
            )
        mine = (self.files[sample][0] for sample in planned if sample in self.files)
        lossy = sorted(path for path in mine if path.suffix.lower() in LOSSY_ENDINGS)
        if lossy:
            found.append(
                f"{len(lossy)} of the pictures in {self.folder} are in a format that may lose detail (first: "
                f"{lossy[0].name}); what was lost counts as the model's."
            )
        return found

    def close(self) -> None:
        """Nothing to end."""


def fingerprint(folder: Path) -> str:
    """64 hex digits of the names and bytes of a folder's pictures and its card: no times, no paths, no other file."""
    state = hashlib.sha256()
    for path in sorted(_listed(folder), key=lambda path: (path.stem, str(path))):
        ending = path.suffix.lower()
        if ending in PICTURE_ENDINGS or path == folder / "card.json":
            try:
                content = hashlib.sha256(_content(path)).hexdigest()
            except RefbenchError:  # its sample fails, for whatever reason
                content = "none"
            state.update(os.fsencode(path.stem if ending == ".png" else path.name) + f"\0{content}\n".encode())
    return state.hexdigest()


def _listed(folder: Path) -> list[Path]:
    """What is in a folder and one folder below it, but for hidden things; sorted."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise RefbenchError(f"Expected a readable folder of pictures at {folder}, but {error.strerror}.") from None
    below: list[Path] = []
    for path in found:
        with contextlib.suppress(OSError):
            if path.is_dir():
                below += sorted(one for one in path.iterdir() if not one.name.startswith("."))
    return [*found, *below]


def _content(path: Path) -> bytes:
    """The bytes of a file that is one: a pipe or a device is not opened, as reading it might never end.

    Raises:
        RefbenchError: it is not there, is something else, too large, or cannot be read.
    """
    try:
        facts = path.stat()
    except OSError as error:
        if path.is_symlink():
            raise RefbenchError(
                f"Expected a file at {path}, but it is a link to {path.readlink()}, which is not there; put it there."
            ) from None
        raise RefbenchError(f"Expected a file at {path}, but {error.strerror}; put it there.") from None
    if not stat.S_ISREG(facts.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(facts.st_mode), "a device")
        raise RefbenchError(f"Expected a file at {path}, but it is {kind}; put the file itself there.")
    if facts.st_size > MOST_BYTES:
        raise RefbenchError(f"Expected a picture at {path}, but it has {facts.st_size} bytes; put the right one there.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefbenchError(f"Expected a readable file at {path}, but {error.strerror}.") from None


def _alike(name: str) -> str:
    """What two spellings of one sample id have in common: letters and digits."""
    return re.sub(r"[^a-z0-9]+", "", name.lower().removesuffix(".png"))
