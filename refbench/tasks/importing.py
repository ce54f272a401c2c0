"""Own pictures to a suite: every sample is checked, what is amiss is told, what can be used is written as suites are.

Nothing stops at the first fault: a sample that cannot be used is left out with its reason (:class:`Gap`), and one that
can, but not as it came, is told too. Samples are written in shards, each in one step, so that a killed import goes on
where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from refbench import decoding, images
from refbench.errors import RefbenchError, in_words
from refbench.images import Image, Mask
from refbench.plaintext import one_line
from refbench.schema import CATEGORIES, MODES, Box, Category, Mode, SampleMeta
from refbench.tasks.cards import suite_card
from refbench.tasks.suite import digest, load_suite
from refbench.tasks.writing import Question, check_writable, file_entry, parquet_bytes, row_of, write_header

Entry: TypeAlias = Mapping[str, Any]
"""One sample as it was found: :data:`PICTURES` as a path, bytes, or a mapping with "bytes" or "path", and
:data:`FACTS`; `mask` may be :data:`FRAME`, and `shrink` says that the draft is the target brought down and up again."""
Progress: TypeAlias = Callable[[str, int, int], None]
Smallest: TypeAlias = Mapping[str, tuple[int, Sequence[str] | None]]
"""Metric -> shortest side in px on which it is defined, and the categories it is for (None: all)."""

PICTURES = ("draft", "reference", "mask", "target")
FACTS = (
    "id", "prompt", "reference_box", "mask_box", "category", "mode", "text", "source_id", "licence", "attribution",
    "source",
)  # fmt: skip
FRAME = "frame"
"""A mask of the whole frame but its rim, since a suite's mask has an outside."""
RIM = 8
"""px of rim that :data:`FRAME` leaves alone."""
SHARD = 32
"""Samples in one file; lost together by a kill."""
GREY = 0.25
"""Share of pixels that are neither black nor white from which a picture is no mask."""
PARTS = ".import"


@dataclass(frozen=True, slots=True)
class Rules:
    """How what is found is to be read, and what stands where a sample does not say it."""

    invert: bool | None = None
    """Whether black means "put right"; None asks where a mask is mostly white."""
    alpha: Literal["opaque", "transparent"] | None = None
    """What means "put right" where the mask lies in the alpha channel; None asks."""
    resize: bool = False
    """Bring draft and mask to the size of the target (of the draft where there is none)."""
    category: Category = "object"
    mode: Mode = "refine"
    licence: str = "unknown"
    attribution: str = "unknown"
    source: str = "own pictures"


@dataclass(frozen=True, slots=True)
class Gap:
    """What is amiss with a sample."""

    sample: str
    kind: str
    """In a word or two: missing, size, duplicate, inverted mask, ..."""
    words: str
    """What was found, and what to do."""
    used: bool = False
    """Whether the sample is in the suite nevertheless."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to."""

    folder: Path
    hash: str | None
    """Of the suite; None where no sample could be used, and nothing was written."""
    found: int
    """Samples that were found."""
    samples: int
    """Samples in the suite."""
    sources: int
    """Different things among them: what the intervals count."""
    targets: bool
    licences: dict[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}


class _Unusable(Exception):
    """A sample that has to be left out: (kind, words)."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


@dataclass
class _Seen:
    """What earlier samples were, so that copies are known and pictures of one thing share a source."""

    ids: set[str] = field(default_factory=set)
    copies: dict[str, str] = field(default_factory=dict)
    """Digest of draft, reference and mask -> id."""
    things: dict[str, str] = field(default_factory=dict)
    """Digest of a draft or a reference -> source."""


def import_suite(
    entries: Sequence[Entry],
    out: str | Path,
    rules: Rules,
    *,
    targets: bool,
    smallest: Smallest | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Write a suite of what can be used.

    Args:
        entries: one a sample, in order; taken one shard at a time.
        out: folder of the suite; an unfinished import of the same entries by the same rules is gone on with.
        rules: how to read them.
        targets: whether samples have targets; one without is left out then. Without targets the suite has none.
        smallest: of the metrics that pictures may be too small for.
        overwrite: replace a suite that is in `out`.
        progress: called with "import", samples done and samples in all.

    Raises:
        RefbenchError: the folder cannot be written, or holds something else.
    """
    folder = _free(Path(out), overwrite)
    seen, gaps, files, key = _Seen(), [], {}, ""
    tasks: dict[str, list[tuple[str, str]]] = {}

    def tick(done: int) -> None:
        if progress:
            progress("import", done, len(entries))

    tick(0)
    for number, start in enumerate(range(0, len(entries), SHARD)):
        chunk = [entries[at] for at in range(start, min(start + SHARD, len(entries)))]
        key = _key(key, chunk, rules, targets)
        path, note = folder / "data" / f"shard-{number:05d}.parquet", folder / PARTS / f"{number:05d}.json"
        done = _done(note, path, key)
        if done is None:
            done = _shard(chunk, start, rules, targets, smallest or {}, seen, path, tick)
            images.write_atomic(note, json.dumps({**done, "key": key}).encode())
        seen.copies |= done["copies"]
        seen.things |= done["things"]
        gaps += [Gap(**gap) for gap in done["gaps"]]
        for task, name, sha256 in done["samples"]:
            seen.ids.add(name)
            tasks.setdefault(task, []).append((name, sha256))
        if done["samples"]:
            files[f"data/{path.name}"] = file_entry(path.read_bytes())
        tick(start + len(chunk))
    if not tasks:
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        return Imported(folder, None, len(entries), 0, 0, targets, {}, tuple(gaps))
    found = write_header(folder, folder.resolve().name, "imported", sorted(tasks.items()), files, targets=targets)
    metas = load_suite(folder).metas
    images.write_atomic(folder / "README.md", suite_card(folder.resolve().name, metas, targets).encode())
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    licences: dict[str, int] = {}
    for meta in metas:
        licences[meta.licence] = licences.get(meta.licence, 0) + 1
    sources = len({meta.source_id for meta in metas})
    return Imported(folder, found, len(entries), len(metas), sources, targets, licences, tuple(gaps))


def _free(folder: Path, overwrite: bool) -> Path:
    """The folder of the suite, empty or with an unfinished import."""
    if (folder / "suite.json").is_file():
        if not overwrite:
            raise RefbenchError(
                f"Expected a free folder for the suite at {folder}, but a suite is there already; choose another with "
                "--out, or replace it with --overwrite."
            )
        for path in (folder / "suite.json", folder / "README.md"):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / "data", ignore_errors=True)
    elif folder.is_dir() and not (folder / PARTS).is_dir() and any(folder.iterdir()):
        raise RefbenchError(
            f"Expected a free folder for the suite at {folder}, but it holds other things; choose another with --out."
        )
    check_writable(folder)
    check_writable(folder / PARTS)
    return folder


def _key(before: str, chunk: Sequence[Entry], rules: Rules, targets: bool) -> str:
    """What a shard is made of, and those before it: other files, names, sizes, times or rules give another key."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            try:
                facts = value.stat()
            except OSError:
                return [str(value)]
            return [str(value), facts.st_size, facts.st_mtime_ns]
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        return {name: plain(one) for name, one in value.items()} if isinstance(value, Mapping) else repr(value)

    facts = [before, repr(rules), targets, [plain(entry) for entry in chunk]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _done(note: Path, path: Path, key: str) -> dict[str, Any] | None:
    """What was noted of a finished shard; None where it is not there, or was made of something else."""
    try:
        found: dict[str, Any] = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.get("key") == key and (path.is_file() or not found["samples"]) else None


def _shard(
    chunk: Sequence[Entry],
    start: int,
    rules: Rules,
    targets: bool,
    smallest: Smallest,
    seen: _Seen,
    path: Path,
    tick: Callable[[int], None],
) -> dict[str, Any]:
    """Read and write one shard; what is to be noted of it."""
    gaps: list[Gap] = []
    rows: list[dict[str, Any]] = []
    mine = _Seen(set(seen.ids), dict(seen.copies), dict(seen.things))
    for at, entry in enumerate(chunk, start):
        tick(at)
        name = str(entry.get("id") or f"{at:05d}")
        told: list[Gap] = []
        try:
            question = read_sample(name, entry, rules, targets, told)
            rows.append(row_of(_placed(question, entry, mine), method=2))
        except _Unusable as reason:
            gaps.append(Gap(name, reason.kind, str(reason)))
            continue
        height, width = question.draft.shape[:2]
        small = [
            f"{metric} ({px})"
            for metric, (px, categories) in smallest.items()
            if px > min(height, width) and (categories is None or question.meta.category in categories)
        ]
        if small:
            told.append(Gap(name, "small", f"{width} x {height} px; not measured: {', '.join(small)}", True))
        gaps += told
    if rows:
        images.write_atomic(path, parquet_bytes(rows))
    new = [dict(set(there.items()) - set(before.items())) for there, before in
           ((mine.copies, seen.copies), (mine.things, seen.things))]  # fmt: skip
    return {
        "samples": [(row["task"], row["id"], row["sha256"]) for row in rows],
        "gaps": [dataclasses.asdict(gap) for gap in gaps],
        "copies": new[0],
        "things": new[1],
    }


def _placed(question: Question, entry: Entry, seen: _Seen) -> Question:
    """The sample with its source; a copy, or a name that is taken, is refused."""
    name = question.meta.id
    if name in seen.ids:
        raise _Unusable("id", "another sample has this name; give each its own")
    draft, reference = digest(question.draft), digest(question.reference)
    whole = digest(draft, reference, question.mask)
    if whole in seen.copies:
        raise _Unusable("duplicate", f"the same draft, reference and mask as '{seen.copies[whole]}'")
    source = str(entry.get("source_id") or "") or seen.things.get(draft) or seen.things.get(reference) or name
    seen.ids.add(name)
    seen.copies[whole] = name
    seen.things.setdefault(draft, source)
    seen.things.setdefault(reference, source)
    return dataclasses.replace(question, meta=question.meta.model_copy(update={"source_id": source}))


def read_sample(name: str, entry: Entry, rules: Rules, targets: bool, gaps: list[Gap]) -> Question:
    """One sample of what was found; its `source_id` is its own name.

    Args:
        name: of the sample, which is the name of a model's output file.
        entry: what was found.
        rules: how to read it.
        targets: whether it has to have a target; without, a target that is there is not looked at.
        gaps: receives what is amiss and does not keep the sample out.

    Raises:
        _Unusable: it has to be left out.
    """

    def tell(kind: str, words: str) -> None:
        gaps.append(Gap(name, kind, words, True))

    if name.startswith(".") or not name.isprintable() or any(mark in name for mark in "/\\") or len(name) > 120:
        raise _Unusable("id", "no name for a file; give it another of at most 120 characters, without slashes")
    needed = ["reference", *(["target"] if targets or "shrink" in entry else [])]
    needed += ["draft"] if "shrink" not in entry else []
    needed += [] if entry.get("mask_box") else ["mask"]
    lacking = [what for what in needed if not _there(entry.get(what))]
    if lacking:
        raise _Unusable("missing", in_words([f"no {what}" for what in lacking], "and"))
    target = _picture(entry, "target") if "target" in needed else None
    reference = _picture(entry, "reference")
    if target is not None and "shrink" in entry:
        height, width = target.shape[:2]
        small = images.resize(target, (max(height // entry["shrink"], 1), max(width // entry["shrink"], 1)))
        draft = images.resize(small, (height, width))
    else:
        draft = _picture(entry, "draft")
    size = (draft if target is None else target).shape[:2]
    draft = _fitted(draft, size, "draft", rules, tell)
    mask = _mask(entry, size, rules, tell)
    if not targets:
        target = None
    if target is not None:
        target = _over(target, draft, mask, tell)
    category, mode = (str(entry.get(what) or getattr(rules, what)) for what in ("category", "mode"))
    for what, value, known in (("category", category, CATEGORIES), ("mode", mode, MODES)):
        if value not in known:
            raise _Unusable(what, f"'{one_line(value, 40)}' is none of {in_words(known)}")
    x, y, width, height = images.mask_box(mask)
    whole = bool(mask[y : y + height, x : x + width].all())
    meta = SampleMeta(
        id=name, task=f"{category}-{mode}", category=category, mode=mode, source_id=name,  # type: ignore[arg-type]
        view="true", degradation="unknown", strength=0.0, mask_kind="box" if whole else "tight",
        mask_share=round(float(mask.mean()), 6), text=str(entry["text"]) if entry.get("text") else None, seed=0,
        **{what: str(entry.get(what) or getattr(rules, what)) for what in ("licence", "attribution", "source")},
    )  # fmt: skip
    thing = "detail" if category == "object" else category
    prompt = f"{'Replace' if mode == 'replace' else 'Restore'} the {thing} from the reference."
    return Question(
        meta, str(entry.get("prompt") or prompt), draft, target, reference, mask, _box(entry, reference, tell),
        None if target is None else images.encode_webp(target, None, method=2),
        images.encode_webp(reference, None, method=2),
    )  # fmt: skip


def _there(value: Any) -> bool:
    """Whether a picture is there to be read."""
    if isinstance(value, Mapping):
        return bool(value.get("bytes")) or _there(Path(str(value["path"])) if value.get("path") else None)
    return value.is_file() if isinstance(value, Path) else bool(value)


def _content(entry: Entry, what: str) -> tuple[bytes, str]:
    """A picture's bytes, and where they are from."""
    value = entry[what]
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") else Path(str(value["path"]))
    return (images.read_bytes(value), str(value)) if isinstance(value, Path) else (bytes(value), what)


def _picture(entry: Entry, what: str) -> Image:
    try:
        return images.decode_image(*_content(entry, what))
    except RefbenchError as error:
        raise _Unusable("unreadable", f"{what}: {one_line(error)}") from None


def _fitted(image: Image, size: tuple[int, int], what: str, rules: Rules, tell: Callable[[str, str], None]) -> Image:
    """An image at `size` (height, width)."""
    if image.shape[:2] == size:
        return image
    words = f"{what} {image.shape[1]} x {image.shape[0]} px, not {size[1]} x {size[0]}"
    if not rules.resize:
        raise _Unusable("size", f"{words}; --resize brings it there")
    tell("size", f"{words}: brought there")
    return images.resize(image, size)


def _mask(entry: Entry, size: tuple[int, int], rules: Rules, tell: Callable[[str, str], None]) -> Mask:
    """The mask at `size` (height, width), with some pixels inside and some outside."""
    given = entry.get("mask")
    if isinstance(given, str) and given == FRAME:
        mask = np.zeros(size, dtype=bool)
        mask[RIM:-RIM, RIM:-RIM] = True
    elif not _there(given):
        x, y, width, height = _numbers(entry["mask_box"], "mask_box")
        mask = np.zeros(size, dtype=bool)
        mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    else:
        mask = _fitted_mask(_marked(entry, rules, tell), size, rules, tell)
        if rules.invert:
            mask = ~mask
        elif rules.invert is None and mask.mean() > 0.5 and not mask.all():
            raise _Unusable(
                "inverted mask",
                f"{mask.mean():.0%} of it is white, which means put right; say --invert, or --no-invert if it is meant",
            )
    if mask.all() or not mask.any():
        raise _Unusable("empty mask", f"all of it is {'white' if mask.all() else 'black'}; mark the wrong detail alone")
    return mask


def _marked(entry: Entry, rules: Rules, tell: Callable[[str, str], None]) -> Mask:
    """What a mask's picture marks: the white, or what its alpha channel does."""
    try:
        decoded = decoding.decode(*_content(entry, "mask"))
    except RefbenchError as error:
        raise _Unusable("unreadable", f"mask: {one_line(error)}") from None
    level = decoded.colour.mean(axis=2)
    if decoded.alpha is not None:
        if rules.alpha is None:
            raise _Unusable(
                "alpha mask", "it lies in the alpha channel; say --alpha transparent or --alpha opaque: what is wrong"
            )
        top = np.iinfo(decoded.alpha.dtype).max
        level = decoded.alpha.astype(np.float64) / top * 255.0
        level = level if rules.alpha == "opaque" else 255.0 - level
        tell("alpha mask", f"read from its alpha channel, {rules.alpha} means put right")
    grey = float(((level > 8) & (level < 247)).mean())
    if grey > GREY:
        raise _Unusable("grey mask", f"{grey:.0%} of it is neither black nor white; save a mask in two colours")
    if grey:
        tell("grey mask", f"{_share(grey)} of it is grey, counted as white from half on")
    return np.ascontiguousarray(level >= 128)


def _fitted_mask(mask: Mask, size: tuple[int, int], rules: Rules, tell: Callable[[str, str], None]) -> Mask:
    from PIL import Image as PILImage

    if mask.shape == size:
        return mask
    _fitted(np.zeros((*mask.shape, 3), np.uint8), size, "mask", rules, tell)
    nearest = PILImage.fromarray(mask).resize((size[1], size[0]), PILImage.Resampling.NEAREST)
    return np.asarray(nearest, dtype=bool)


def _over(target: Image, draft: Image, mask: Mask, tell: Callable[[str, str], None]) -> Image:
    """The target inside the mask over the draft, since outside the draft is the truth."""
    apart = np.abs(target.astype(np.int16) - draft).max(axis=2)
    if not apart[mask].any():
        raise _Unusable("nothing wrong", "draft and target are equal inside the mask, so there is nothing to put right")
    outside = apart[~mask]
    if outside.any():
        tell(
            "outside differs",
            f"draft and target differ on {_share((outside > 0).mean())} of the pixels outside the mask, by "
            f"{outside[outside > 0].mean():.0f} levels on average; there the draft counts as right",
        )
    return np.where(mask[..., None], target, draft)


def _share(part: float) -> str:
    """A part of 1 in percent, never as 0."""
    return f"{part:.1%}" if part >= 0.0005 else "less than 0.1%"


def _numbers(value: Any, what: str) -> Box:
    """x, y, width and height in px, of a text "x,y,width,height" or a list."""
    try:
        parts = json.loads(f"[{value.strip('[]() ')}]") if isinstance(value, str) else list(value)
        x, y, width, height = (round(float(part)) for part in parts)
    except (TypeError, ValueError):
        raise _Unusable("box", f"{what} is '{one_line(value, 60)}', not x,y,width,height in px") from None
    return x, y, width, height


def _box(entry: Entry, reference: Image, tell: Callable[[str, str], None]) -> Box | None:
    """Where the detail is in the reference, clipped to it; None where it is not said."""
    if entry.get("reference_box") in (None, "", []):
        return None
    x, y, width, height = _numbers(entry["reference_box"], "reference_box")
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, reference.shape[1]), min(y + height, reference.shape[0])
    if right <= left or bottom <= top:
        tell("box", f"reference_box {x},{y},{width},{height} lies outside the reference; the whole reference is taken")
        return None
    return left, top, right - left, bottom - top
