"""Refine pictures of one's own, from files, with any model: loaded once, and each picture tells what was done."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refbench.crops import box_mask, check_reference, side_by_side
from refbench.errors import RefbenchError
from refbench.images import (
    PICTURE_ENDINGS,
    RGBA,
    Image,
    Mask,
    check_mask,
    check_output,
    load_image,
    load_mask,
    load_rgba,
    over_white,
    save_image,
    with_alpha_of,
)
from refbench.schema import Box, Inputs

if TYPE_CHECKING:
    from refbench.adapters.contract import Contained

PROMPT = "Restore the detail inside the mask from the reference."


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to refine."""

    draft: Path
    reference: Path
    mask: Path | None
    out: Path
    show: Path | None = None
    """Where draft, reference and result go side by side."""


@dataclass(frozen=True, slots=True)
class Refined:
    """What became of one picture."""

    job: Job
    masked: int
    """Pixels that were to be put right."""
    seconds: float
    """Of the model, without loading it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the model tells, at least as :func:`refbench.registration.placement.told`."""
    error: str | None = None
    """Why there is no picture, one sentence; only where there are several pictures."""

    def to_json(self) -> dict[str, Any]:
        """As ``refbench refine --json`` prints it; null where the model does not tell."""
        told = {name: self.facts.get(name) for name in ("pose", "score", "matches", "changed", "why")}
        paths = {"out": str(self.job.out), "show": self.job.show and str(self.job.show)}
        return {**paths, **told, "masked": self.masked, "seconds": round(self.seconds, 3), "error": self.error}

    def __str__(self) -> str:
        """In words: what was found, how sure that is, what changed and how long it took."""
        if self.error is not None:
            return f"{self.job.draft.name}: {self.error}"
        facts, parts = self.facts, []
        if not facts.get("changed"):
            parts.append(f"nothing changed: {facts.get('why', 'the model gave the draft back')}")
        elif "why" in facts:
            parts.append(str(facts["why"]))
        elif "pose" in facts:
            sure = f"score {facts['score']:.2f}; agreeing keypoints: {facts['matches']}"
            parts.append(f"reference found by {facts['pose']} ({sure})")
        if facts.get("changed"):
            parts.append(f"{facts['changed']:,} of {self.masked:,} masked pixels changed")
        return f"{self.job.draft.name}: {', '.join([*parts, f'{self.seconds:.1f} s'])}"


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith("."))


def jobs(
    drafts: Sequence[Path], reference: Path, out: Path, *, mask: Path | None = None, show: Path | None = None
) -> list[Job]:
    """Which picture is refined with which: files and folders as ``refbench refine`` takes them.

    Args:
        drafts: pictures, and folders of pictures.
        reference: one for all, or a folder that has one of each draft's name, whatever the ending.
        out: of one picture its file; of several, or of a folder's, the folder for ``<name>.png``.
        mask: as `reference`; None where a box says what is wrong.
        show: as `out`.

    Raises:
        RefbenchError: a file that is not there, a draft without its reference or mask, two drafts of one name, a file
            where a folder is needed, or a result that would be written over another file.
    """
    files = [file for given in drafts for file in (_pictures(given) if given.is_dir() else [given])]
    several = len(files) > 1 or any(given.is_dir() for given in drafts)
    if not files:
        raise RefbenchError(
            f"Expected pictures in {', '.join(map(str, drafts))}, but there are none; check the folder."
        )
    for what, target in (("--out", out), ("--show", show)):
        if several and target is not None and (target.is_file() or target.suffix.lower() in PICTURE_ENDINGS):
            raise RefbenchError(
                f"Expected a folder as {what} for {len(files)} pictures, but {target} is a file; name a folder."
            )
    known: dict[str, Path] = {}
    for file in files:
        if known.setdefault(file.stem, file) != file:
            raise RefbenchError(
                f"Expected drafts of different names, but {known[file.stem]} and {file} would be written to one file; "
                "refine them apart."
            )
    found = []
    for file in files:
        mine = _of(reference, file, "reference")
        marked = None if mask is None else _of(mask, file, "mask")
        for path in (file, mine, marked):
            if path is not None and not path.is_file():
                raise RefbenchError(f"Expected an image at {path}, but there is no such file; check the path.")
        name = f"{file.stem}.png"
        found.append(Job(file, mine, marked, out / name if several else out, show / name if several and show else show))
    _check_apart(found)
    return found


def _check_apart(asked: Sequence[Job]) -> None:
    """Refuse to write over what is read, or over what else is written.

    Raises:
        RefbenchError: naming the two.
    """
    read = {path.resolve(): what for job in asked for what, path in (
        ("a mask", job.mask), ("a reference", job.reference), ("a draft", job.draft),
    ) if path is not None}  # fmt: skip
    written: set[Path] = set()
    for job in asked:
        for option, target in (("--out", job.out), ("--show", job.show)):
            if target is None:
                continue
            place = target.resolve()
            taken = "another result" if place in written else read.get(place)
            if taken is not None:
                raise RefbenchError(
                    f"Expected {option} to be a file of its own, but {target} is {taken}'s too; name another file."
                )
            written.add(place)


def _of(given: Path, draft: Path, what: str) -> Path:
    """The file itself, or the one of a folder that has a draft's name."""
    if not given.is_dir():
        return given
    same = [path for path in _pictures(given) if path.stem == draft.stem]
    if len(same) != 1:
        many = "there is none" if not same else f"there are {len(same)}"
        raise RefbenchError(
            f"Expected one {what} named {draft.stem}.* in {given}, but {many}; the names must be the draft's."
        )
    return same[0]


def refine_files(
    asked: Sequence[Job], model: str, *, box: Box | None = None, reference_box: Box | None = None,
    prompt: str | None = None, seed: int = 0, device: str = "auto", options: Mapping[str, Any] | None = None,
    heard: Callable[[str], None] = lambda text: None,
) -> Iterator[Refined]:  # fmt: skip
    """Refine pictures one after the other with one model, and write each as soon as it is done.

    A draft with transparency keeps its alpha; the model sees it over white.

    Args:
        asked: see :func:`jobs`; each with a mask, or none and a `box`.
        model: a registered name, file.py or file.py:Class.
        box: x, y, width and height in every draft in px, in place of masks.
        reference_box: where the detail is in every reference, if known.
        prompt: an instruction; by default to restore the detail.
        seed: of every picture.
        device: see :func:`refbench.devices.resolve`.
        options: keyword arguments of the model.
        heard: gets a line on what is being done.

    Yields:
        One for each, in order; of several pictures one that fails is told in `error`, and the others go on.

    Raises:
        RefbenchError: neither or both of mask and box, a device or model that is not there; the only picture fails.
    """
    from refbench.adapters.load import load_adapter

    if any((job.mask is None) == (box is None) for job in asked):
        both = "both" if box else "neither"
        raise RefbenchError(
            f"Expected either a mask or a box, but got {both}; give --mask FILE or --box x,y,width,height."
        )
    first = read(asked[0], box, reference_box) if len(asked) == 1 else None
    heard(f"Loading {model} ...")
    adapter = load_adapter(model, device=device, **(options or {}))
    try:
        for job in asked:
            start = time.perf_counter()
            masked = 0
            try:
                pictures = first or read(job, box, reference_box)
                masked = int(pictures.mask.sum())
                if len(asked) > 1:
                    heard(f"Refining {job.draft.name} ...")
                one = refine_one(adapter, job, pictures, prompt=prompt, reference_box=reference_box, seed=seed)
            except RefbenchError as error:
                if len(asked) == 1:
                    raise
                one = Refined(job, masked, time.perf_counter() - start, error=str(error))
            yield one
    finally:
        adapter.close()


class Pictures(NamedTuple):
    """A job's files, decoded and checked."""

    draft: RGBA
    reference: Image
    mask: Mask


def read(job: Job, box: Box | None = None, reference_box: Box | None = None) -> Pictures:
    """Decode and check what a job names, so that what is wrong is told before a model is loaded.

    Raises:
        RefbenchError: a picture, mask or box that does not fit, or a place that cannot be written.
    """
    draft, reference = load_rgba(job.draft), load_image(job.reference)
    check_reference((reference.shape[0], reference.shape[1]), reference_box, f"the reference at {job.reference}")
    size = (draft.shape[0], draft.shape[1])
    check_output(job.out, "--out", size)
    if job.show is not None:
        check_output(job.show, "--show")
    if job.mask is None:
        assert box is not None
        mask = box_mask(box, size)
    else:
        mask = load_mask(job.mask)
    check_mask(mask, size, "the box" if job.mask is None else str(job.mask))
    return Pictures(draft, reference, mask)


def refine_one(
    adapter: Contained, job: Job, pictures: Pictures, *, prompt: str | None, reference_box: Box | None, seed: int
) -> Refined:
    """Let an opened model answer one job, and write its picture; arguments as :func:`refine_files`.

    Raises:
        RefbenchError: there is no answer, or it cannot be written.
    """
    draft, mask = over_white(pictures.draft), pictures.mask
    inputs = Inputs(job.draft.stem, draft, pictures.reference, mask, prompt or PROMPT, reference_box, seed)
    done = adapter.refine(inputs)
    image = done.image
    assert image is not None
    save_image(job.out, with_alpha_of(pictures.draft, image))
    if job.show is not None:
        save_image(job.show, side_by_side(draft, pictures.reference, mask, image))
    return Refined(job, int(mask.sum()), done.seconds, _told(draft, image, done.facts))


def command(
    job: Job, model: str, *, prompt: str | None, reference_box: Box | None, seed: int, device: str = "auto"
) -> str:
    """The command that does a job with a mask again, in the folder that holds its files by name."""
    assert job.mask is not None
    words = ["refbench", "refine", _argument(job.draft), f"--reference={job.reference.name}", f"--mask={job.mask.name}"]
    words += [f"--model={model}", f"--seed={seed}", f"--out={job.out.name}"]
    if reference_box is not None:
        words.append(f"--reference-box={','.join(map(str, reference_box))}")
    if prompt:
        words.append(f"--prompt={prompt}")
    if device != "auto":
        words.append(f"--device={device}")
    return shlex.join(words)


def _argument(path: Path) -> str:
    return f"./{path.name}" if path.name.startswith("-") else path.name


def _told(draft: Image, image: Image, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own facts; of one that does not tell what changed, that."""
    if "changed" in facts:
        return dict(facts)
    from refbench.registration.placement import told

    return {**told(draft, image), **facts}
