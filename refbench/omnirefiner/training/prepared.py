"""Training data made once and kept: shards of drawn samples on disk, each a function of recipe, seed and number.

A folder of prepared data is named by its recipe's hash, which covers the assets, the settings, the weights that took
part and the source code that draws, so that what another recipe made is never read. A shard is written in one atomic
step: a preparation killed anywhere goes on where it was and ends with the same bytes, by any number of processes.

What can be prepared is a :class:`Drawing`. A new kind of scene is a new one; nothing here changes.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.images import write_atomic
from refbench.tasks.working import check_workers, in_processes
from refbench.tasks.writing import check_writable

SHARD = 32
"""Samples of a shard."""
Kind: TypeAlias = Literal["picture", "share"]
"""How a tensor is kept: values in [-1, 1] or in [0, 1] as 8 bits."""
Progress = Callable[[str, int, int], None]

CODE = (
    "crops", "decoding.colour", "decoding.metadata", "decoding.opening", "decoding.rare", "decoding.samples",
    "decoding.shaper", "images", "omnirefiner.retouch.scenes", "omnirefiner.tensors", "omnirefiner.training.prepared",
    "registration.exchange", "registration.hypotheses", "registration.placement", "registration.learned",
    "registration.light", "registration.lighterglue", "registration.looks", "registration.opencv",
    "registration.outline", "registration.pose", "registration.selection", "registration.wording",
    "registration.xfeat", "shipped",
    "tasks.composition", "tasks.degradations", "tasks.drawing", "tasks.lettering", "tasks.masks", "tasks.prints",
    "tasks.recipes",
)  # fmt: skip
"""Modules of refbench whose code decides what is drawn."""


class Drawing(Protocol):
    """Endless samples of one kind. It is pickled to the processes that draw."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """How each tensor of a sample is kept, in order."""
        ...

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the samples, as JSON: settings, hashes of assets and weights."""
        ...

    def open(self) -> Any:
        """What samples are drawn from; its ``generator`` decides them."""
        ...

    def samples(self, opened: Any) -> Iterator[tuple[Tensor, ...]]:
        """Endless samples."""
        ...


def code_digest() -> str:
    """SHA-256 of the source of :data:`CODE`."""
    digest = hashlib.sha256()
    for name in CODE:
        spec = find_spec(f"refbench.{name}")
        assert spec is not None
        assert spec.origin is not None
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()


def recipe_of(drawing: Drawing, seed: int) -> dict[str, Any]:
    """The whole recipe of a folder of prepared data."""
    return {**drawing.recipe(), "seed": seed, "shard": SHARD, "kinds": list(drawing.kinds), "code": code_digest()}


def recipe_hash(recipe: dict[str, Any]) -> str:
    """16 hex digits of the recipe's SHA-256."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _kept(part: Tensor, kind: Kind) -> Tensor:
    low, span = (-1.0, 2.0) if kind == "picture" else (0.0, 1.0)
    return ((part - low) * (255 / span)).round().clamp(0, 255).to(torch.uint8)


def _shown(part: Tensor, kind: Kind) -> Tensor:
    return part.float() / 127.5 - 1 if kind == "picture" else part.float() / 255


_WORKER: dict[str, Any] = {}


def _start(drawing: bytes, folder: str, recipe: str, seed: int) -> None:
    from refbench.registration.opencv import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    made: Drawing = pickle.loads(drawing)
    _WORKER.update(drawing=made, opened=made.open(), folder=Path(folder), recipe=recipe, seed=seed)


def _shard(number: int) -> None:
    """Draw and write one shard."""
    from safetensors.torch import save

    drawing: Drawing = _WORKER["drawing"]
    recipe, seed = _WORKER["recipe"], _WORKER["seed"]
    state = int(hashlib.sha256(f"{seed}:{number}:{recipe}".encode()).hexdigest()[:15], 16)
    _WORKER["opened"].generator.manual_seed(state)
    torch.manual_seed(state)
    parts = zip(*islice(drawing.samples(_WORKER["opened"]), SHARD), strict=True)
    tensors = {
        f"{place:02d}": _kept(torch.stack(part), kind).contiguous()
        for place, (part, kind) in enumerate(zip(parts, drawing.kinds, strict=True))
    }
    write_atomic(_path(_WORKER["folder"], number), save(tensors, {"recipe": recipe}))


def _path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _finished(path: Path, recipe: str) -> bool:
    """Whether a whole shard of this recipe is there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as shard:
            return bool((shard.metadata() or {}).get("recipe") == recipe)
    except (OSError, SafetensorError):
        return False


def prepare(
    drawing: Drawing,
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Prepared:
    """Make what is missing of `count` samples (rounded up to whole shards) below `folder`, and open them.

    Args:
        drawing: what is drawn.
        folder: holds one folder a recipe, named by its hash.
        count: samples that must be there.
        seed: with the recipe it decides every sample.
        workers: processes; each uses one thread, and the bytes do not depend on their number.
        progress: called with what is prepared, samples done and samples in all.

    Raises:
        RefbenchError: numbers out of range, the folder cannot be written, or as `drawing` opens.
    """
    from filelock import FileLock, Timeout

    check_workers(workers)
    if count < 1:
        raise RefbenchError(f"Expected at least one sample to prepare, got {count}; correct --samples.")
    recipe = recipe_of(drawing, seed)
    name = recipe_hash(recipe)
    place = check_writable(Path(folder) / f"{recipe['kind']}-{name}", "--prepared")
    total = -(-count // SHARD)

    def left() -> list[int]:
        return [number for number in range(total) if not _finished(_path(place, number), name)]

    def tell(done: int, what: str = "") -> None:
        if progress:
            progress(f"{recipe['kind']}{what}", done * SHARD, total * SHARD)

    missing = left()
    tell(total - len(missing))
    if not missing:  # another process may be making more
        return Prepared(place, total, drawing.kinds)
    drawing.open()  # what it lacks is told here, once, and not by every process
    lock = FileLock(place / ".lock")  # of several processes that train together one prepares, and the others wait
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        tell(total - len(missing), ", waiting for another process that makes them")
        held = lock.acquire()
    with held:
        write_atomic(place / "recipe.json", (json.dumps(recipe, indent=1, sort_keys=True) + "\n").encode())
        missing = left()
        done = total - len(missing)
        if missing:
            arguments = (pickle.dumps(drawing), str(place), name, seed)
            for _ in in_processes(_shard, missing, min(workers, len(missing)), _start, arguments):
                done += 1
                tell(done)
    return Prepared(place, total, drawing.kinds)


class Prepared:
    """Prepared samples, read from disk as they are asked for.

    Args:
        folder: that :func:`prepare` wrote.
        shards: how many of its shards are used.
        kinds: how each tensor is kept.
    """

    def __init__(self, folder: Path, shards: int, kinds: tuple[Kind, ...]) -> None:
        from safetensors.torch import load_file

        self.folder, self.kinds = folder, kinds
        self.shards = [load_file(_path(folder, number)) for number in range(shards)]  # mapped, not read

    def __len__(self) -> int:
        return SHARD * len(self.shards)

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """The samples of these numbers (N,), as a tuple of float tensors with them as their first axis."""
        places = [divmod(number, SHARD) for number in index.tolist()]
        return tuple(
            _shown(torch.stack([self.shards[shard][f"{part:02d}"][row] for shard, row in places]), kind)
            for part, kind in enumerate(self.kinds)
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """`count` samples at random, with replacement."""
        return self.rows(torch.randint(len(self), (count,), generator=generator, device=generator.device).cpu())
