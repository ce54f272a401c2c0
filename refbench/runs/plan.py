"""What a run is to do, decided before the first sample: the ids, the seed of each, the batches, the folder."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError, check_seed
from refbench.plaintext import check_utf8, one_line
from refbench.runs.executors.contract import Name, Placement
from refbench.runs.suites import recorded
from refbench.schema import SampleRecord

if TYPE_CHECKING:
    from refbench.adapters.spec import Spec
    from refbench.tasks.suite import Suite


WEIGHTS = (".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".gguf", ".yaml", ".yml")
"""Endings of what makes a checkpoint another one."""
LOADED = ("checkpoint", "ip_adapter", "model", "weights")
"""Options of models that name weights."""
EDGE = 1 << 20
"""Bytes at either end of a file that its hash is of."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One evaluation as the user asked for it; what a field says of a verb's option holds for the Python API too."""

    model: str
    """Registered name, file.py, file.py:Class, or folder of PNGs named by sample id."""
    suite: str = "core"
    """Name ("core", "mini") or folder of the suite."""
    tasks: tuple[str, ...] | None = None
    """Only these tasks."""
    limit: int | None = None
    """Only so many samples, taken from the tasks in turn."""
    seed: int = 0
    """Of the run; each sample's own seed follows from it and the sample's id."""
    device: str = "cpu"
    """Where the model and the learned metrics run: "cpu", "cuda", "cuda:1" or "mps"; the API also takes "auto"."""
    options: Mapping[str, Any] | None = None
    """Keyword arguments of the adapter."""
    passes: int = 1
    """How often; each pass gets the output of the one before as its draft, and is a run of its own. Of one run: which
    pass it is."""
    seeds: int = 1
    """Repeat with so many seeds, from `seed` on; each is a run of its own, and intervals hold their spread."""
    batch_size: int = 1
    """Samples handed to the model at once."""
    workers: int = 1
    """Models that generate, and processes that measure, at a time."""
    executor: Name = "local"
    """Where they are: "local" (this machine), "ray" or "slurm"; see docs/scale.md."""
    gpus_per_worker: float | None = None
    """Part of a GPU that each worker gets; None is 1 on "cuda" and else none."""
    address: str | None = None
    """Of a Ray cluster; "auto" is the one that this machine belongs to, None starts one on this machine."""
    executor_options: Mapping[str, Any] = field(default_factory=dict)
    """Of the executor, see :class:`refbench.runs.executors.contract.Placement`."""
    timeout_s: float = 600.0
    """Longest time for one sample, in seconds."""
    retry_failed: bool = False
    """Ask again for samples that failed in an earlier start; the model may have been mended, where no kept output could
    differ (none is kept, or it is a folder whose PNGs of the kept ones are the same)."""
    overwrite: bool = False
    """Start anew whatever run is in the folder; answers that were paid for are kept."""
    metrics: tuple[str, ...] | None = None
    """To measure beside the default ones, e.g. ("lpips_alex",) or ("learned",)."""
    max_cost_usd: float | None = None
    """What a service may cost in this run, earlier starts included; it stops before more is spent."""
    placement: Placement = field(init=False, repr=False)
    """Where and how wide the run is spread."""
    drafts: str | None = field(init=False, default=None)
    """Name of the run folder beside this one whose outputs are the drafts, see :mod:`refbench.runs.passes`."""
    spec: Spec = field(init=False, repr=False)
    """What the model is; found out once."""
    content: str | None = field(init=False, default=None)
    """Of the model, see :func:`content_of`; taken once."""

    def __post_init__(self) -> None:
        from refbench.adapters.spec import resolve

        self._set("model", os.fspath(self.model))
        self._set("spec", resolve(self.model))
        self._set("suite", os.fspath(self.suite))
        for name in ("tasks", "metrics"):
            given = getattr(self, name)
            self._set(name, tuple(given) if given else None)
        if self.passes < 1:
            raise RefbenchError(f"Expected 1 pass or more, but {self.passes} came; leave --passes out for one.")
        if self.seeds < 1:
            raise RefbenchError(f"Expected 1 seed or more, but {self.seeds} came; leave --seeds out for one.")
        if self.seeds > 1 and self.passes > 1:
            raise RefbenchError("Expected --seeds or --passes, but both came; repeat the last pass by --seed.")
        if self.limit is not None and self.limit < 1:
            raise RefbenchError(
                f"Expected a limit of 1 sample or more, but {self.limit} came; leave --limit out for all."
            )
        if self.max_cost_usd is not None and not self.max_cost_usd >= 0:
            raise RefbenchError(f"Expected a limit of 0 USD or more as --max-cost, but {self.max_cost_usd} came.")
        if self.workers < 1 or self.batch_size < 1:
            raise RefbenchError(
                f"Expected at least one worker and a batch of at least one, but {self.workers} and {self.batch_size} "
                "came."
            )
        self._set(
            "placement",
            Placement(self.executor, self.workers, self.gpus_per_worker, self.address, self.executor_options),
        )
        check_seed(self.seed)
        for text, what in ((self.model, "--model"), (recorded(self.suite), "--suite"), (self.device, "--device")):
            check_utf8(text, what)
        _plain(self.options)
        self._set("content", content_of(self.spec, self.options or {}))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def on(self, device: str) -> RunOptions:
        """The same on a device that is there; the model is not looked at again."""
        one = copy.copy(self)
        one._set("device", device)
        return one

    def repetitions(self) -> list[RunOptions]:
        """One for each of its seeds; the model is not looked at again."""
        found = []
        for number in range(self.seeds):
            one = copy.copy(self)
            one._set("seed", self.seed + number)
            one._set("seeds", 1)
            found.append(one)
        return found

    def as_pass(self, number: int, drafts: str | None) -> RunOptions:
        """The same for one of several passes; the model is not looked at again."""
        one = copy.copy(self)
        one._set("passes", number)
        one._set("drafts", drafts)
        return one

    @property
    def arguments(self) -> dict[str, Any]:
        """For the manifest: everything that decides what the outputs are, as given."""
        return {
            "suite": recorded(self.suite),
            "tasks": list(self.tasks) if self.tasks else None,
            "limit": self.limit,
            "options": _plain(self.options),
            "model_content": self.content,
            **({"passes": self.passes, "drafts": self.drafts} if self.passes > 1 else {}),
        }


def _plain(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """An adapter's options as a manifest holds them, which is as it gives them back; paths are absolute.

    Raises:
        RefbenchError: a value is no text, finite number, true, false, null, or list or mapping of such.
    """
    from refbench.adapters.spec import absolute_options

    given = dict(options or {})
    try:
        text = json.dumps(absolute_options(given), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise RefbenchError(
            "Expected adapter options of text, finite numbers, true, false, null and lists of such, but "
            f"{one_line(given, 200)} came; correct the value."
        ) from None
    check_utf8(text, "adapter options")
    return dict(json.loads(text))


def seed_for(run_seed: int, sample: str) -> int:
    """Seed of one sample, in [0, 2^31): from the run's seed and the id alone, whatever the order."""
    digest = hashlib.sha256(f"refbench seed {run_seed} {sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def batches(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """The plan cut into batches, always at the same places, so that a resumed batch is the batch it was."""
    for at in range(0, len(ids), size):
        yield tuple(ids[at : at + size])


def content_of(spec: Spec, options: Mapping[str, Any] | None = None) -> str | None:
    """12 hex digits that change when a model given by path changes, or files that its options name, a checkpoint say;
    None for a registered name without such.

    A file counts by its bytes and the class named in it, a folder by the names and bytes of its PNGs, an option's file
    or folder by :func:`_weights`.

    Raises:
        RefbenchError: the file or folder cannot be read.
    """
    found = _content(spec)
    named = [(name, Path(value).expanduser()) for name in LOADED if isinstance(value := (options or {}).get(name), str)]
    try:
        files = [f"{name} {line}" for name, path in named if path.exists() for line in _weights(path)]
    except OSError as error:
        raise RefbenchError(f"Expected readable files in the model's options, but {error}.") from None
    if not files:
        return found
    return hashlib.sha256("\0".join([found or spec.text, *files]).encode()).hexdigest()[:12]


def _weights(place: Path) -> Iterator[str]:
    """Name, size and hash of a file of weights or settings, or of those in a folder; of a large one its first and last
    MB, as weights that were trained on differ everywhere."""
    paths = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in WEIGHTS and p.is_file())
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(EDGE))
            size = path.stat().st_size
            file.seek(max(EDGE, size - EDGE))
            digest.update(file.read())
        yield f"{path.relative_to(place)} {size} {digest.hexdigest()}"


def _content(spec: Spec) -> str | None:
    if spec.path is None:
        return None
    if spec.kind == "folder":
        from refbench.adapters.folder import fingerprint

        return fingerprint(spec.path)[:12]
    try:
        source = spec.path.read_bytes()
    except OSError as error:
        raise RefbenchError(f"Expected a readable model at {spec.path}, but {error.strerror}.") from None
    return hashlib.sha256(source + f"\0{spec.attribute or ''}".encode()).hexdigest()[:12]


def model_slug(spec: Spec) -> str:
    """A folder name for a model: its registered name, or the stem of its file, or the name of its folder."""
    from refbench.adapters.registry import MODELS

    if spec.path is None or spec.text in MODELS:  # a script that has a name keeps it
        text = spec.text
    elif spec.kind == "folder":
        text = spec.path.parent.name if spec.path.name == "outputs" else spec.path.name
    else:
        text = f"{spec.path.stem}-{spec.attribute}" if spec.attribute else spec.path.stem
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "model"


def default_folder(options: RunOptions, suite: Suite) -> Path:
    """``runs/<suite>/<model>`` for the whole suite with seed 0; what differs from that is added to the name.

    The place depends on nothing but the options, so that the same command finds its run again.
    """
    name = model_slug(options.spec)
    if options.tasks:
        name += "+" + "+".join(options.tasks)
    if options.limit is not None:
        name += f"+limit-{options.limit}"
    if options.seed:
        name += f"+seed-{options.seed}"
    if options.device != "cpu":
        name += f"+{re.sub(r'[^A-Za-z0-9]+', '-', options.device)}"
    for key, value in sorted((options.options or {}).items()):
        text = key.replace("_", "-") if value is True else f"{key}-{value}"
        name += "+" + re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:40]
    if options.passes > 1:
        name += f"+pass-{options.passes}"
    return Path("runs") / suite.name / name


def pending(
    ids: Sequence[str], records: Mapping[str, SampleRecord], done: Mapping[str, bool], retry_failed: bool
) -> set[str]:
    """Ids that still need an output.

    Args:
        done: for each id recorded as ok, whether its output file is there.
        retry_failed: whether failed samples are tried again.
    """

    def open_still(sample: str) -> bool:
        record = records.get(sample)
        if record is None:
            return True
        return not done[sample] if record.status == "ok" else retry_failed

    return {sample for sample in ids if open_still(sample)}
