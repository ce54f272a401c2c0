"""What a run is to do, decided before the first sample: the ids, the seed of each, the batches, the folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.schema import RunManifest, SampleRecord

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite


@dataclass(frozen=True, slots=True)
class Request:
    """One evaluation as the user asked for it; defaults are the command line's."""

    model: str
    """Registered name, file.py, file.py:Class, or folder of PNGs."""
    suite: str = "core"
    """Name or folder of the suite."""
    tasks: tuple[str, ...] | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    options: Mapping[str, Any] | None = None
    """Passed to the adapter's constructor."""
    passes: int = 1
    """Which pass this is; of a user's request, how many."""
    drafts: str | None = None
    """Name of the run folder beside this one whose outputs are the drafts, see :mod:`refbench.runs.passes`."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise RefbenchError(f"Expected 1 pass or more, but {self.passes} came; leave --passes out for one.")
        if self.limit is not None and self.limit < 1:
            raise RefbenchError(
                f"Expected a limit of 1 sample or more, but {self.limit} came; leave --limit out for all."
            )
        if self.seed < 0:
            raise RefbenchError(f"Expected a seed of 0 or more, but {self.seed} came.")

    @property
    def arguments(self) -> dict[str, Any]:
        """For the manifest: everything that decides what the outputs are, as given."""
        return {
            "suite": self.suite,
            "tasks": list(self.tasks) if self.tasks else None,
            "limit": self.limit,
            "options": dict(self.options or {}),
            "model_content": content_of(self.model),
            **({"passes": self.passes, "drafts": self.drafts} if self.passes > 1 else {}),
        }


def seed_for(run_seed: int, sample: str) -> int:
    """Seed of one sample, in [0, 2^31): from the run's seed and the id alone, whatever the order."""
    digest = hashlib.sha256(f"refbench seed {run_seed} {sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def batches(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """The plan cut into batches, always at the same places, so that a resumed batch is the batch it was."""
    for at in range(0, len(ids), size):
        yield tuple(ids[at : at + size])


def content_of(model: str) -> str | None:
    """12 hex digits that change when a model given by path changes; None for a registered name.

    A file counts by its content, a folder by the names, sizes and times of the PNGs in it.

    Raises:
        RefbenchError: the model is unknown (with near names), or nothing is at its path.
    """
    from refbench.adapters.load import resolve

    spec = resolve(model)
    if spec.path is None:
        return None
    digest = hashlib.sha256()
    if spec.kind == "folder":
        for file in sorted([*spec.path.glob("*.png"), *spec.path.glob("*/*.png")]):
            stat = file.stat()
            name = file.relative_to(spec.path).as_posix()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    else:
        digest.update(spec.path.read_bytes())
    return digest.hexdigest()[:12]


def model_slug(model: str) -> str:
    """A folder name for a model: its registered name, or the stem of its file, or the name of its folder."""
    from refbench.adapters.load import resolve
    from refbench.adapters.registry import MODELS

    spec = resolve(model)
    if spec.path is None or model in MODELS:  # a script that has a name keeps it
        text = model
    elif spec.kind == "folder":
        text = spec.path.parent.name if spec.path.name == "outputs" else spec.path.name
    else:
        text = f"{spec.path.stem}-{spec.attribute}" if spec.attribute else spec.path.stem
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "model"


def default_folder(request: Request, suite: Suite, root: str | Path = "runs") -> Path:
    """``runs/<suite>/<model>`` for the whole suite with seed 0; what differs from that is added to the name.

    The place depends on nothing but the request, so that the same command finds its run again.
    """
    name = model_slug(request.model)
    if request.tasks:
        name += "+" + "+".join(request.tasks)
    if request.limit is not None:
        name += f"+limit-{request.limit}"
    if request.seed:
        name += f"+seed-{request.seed}"
    if request.device != "cpu":
        name += f"+{re.sub(r'[^A-Za-z0-9]+', '-', request.device)}"
    for key, value in sorted((request.options or {}).items()):
        text = key.replace("_", "-") if value is True else f"{key}-{value}"
        name += "+" + re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:40]
    if request.passes > 1:
        name += f"+pass-{request.passes}"
    return Path(root) / suite.name / name


def refuse_other_run(manifest: RunManifest, request: Request, suite: Suite, where: Path) -> None:
    """Refuse to go on with a run that was started on something else.

    Raises:
        RefbenchError: naming the first thing that differs, with both values.
    """
    if manifest.suite_hash != suite.hash:
        raise RefbenchError(
            f"Expected a run of the suite '{suite.name}' with hash {suite.hash[:12]} at {where}, but that run is of "
            f"'{manifest.suite}' with hash {manifest.suite_hash[:12]}, and results of different suites never mix; "
            "name another folder with --out."
        )
    mine = request.arguments
    pairs: list[tuple[str, Any, Any]] = [
        ("model", manifest.model, request.model),
        ("seed", manifest.seed, request.seed),
        ("device", manifest.device, request.device),
        ("tasks", manifest.arguments.get("tasks"), mine["tasks"]),
        ("limit", manifest.arguments.get("limit"), mine["limit"]),
        ("adapter options", manifest.arguments.get("options") or {}, mine["options"]),
        ("pass", manifest.arguments.get("passes", 1), request.passes),
        ("samples", manifest.samples, suite.ids),
    ]
    for what, old, new in pairs:
        if old != new:
            if what == "samples":
                old, new = f"{len(old)} of them", f"{len(new)}, not the same"
            raise RefbenchError(
                f"Expected the run at {where} to have the same {what} as asked for now, but it was started with "
                f"{_word(old)} and now it is {_word(new)}; name another folder with --out."
            )
    if manifest.arguments.get("model_content") != mine["model_content"]:
        raise RefbenchError(
            f"Expected the model {request.model} to be what it was when the run at {where} was started, but it has "
            "changed since; name another folder with --out."
        )


def _word(value: Any) -> str:
    return "none" if value is None or value == {} else f"{value}"


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
