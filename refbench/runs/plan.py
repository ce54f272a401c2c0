"""What a run is to do, decided before the first sample: the ids, the seed of each, the batches, the folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError, check_seed
from refbench.plaintext import check_utf8, one_line
from refbench.runs.suites import recorded
from refbench.schema import SampleRecord

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
    content: str | None = field(init=False, default=None)
    """Of the model, see :func:`content_of`; taken once."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise RefbenchError(f"Expected 1 pass or more, but {self.passes} came; leave --passes out for one.")
        if self.limit is not None and self.limit < 1:
            raise RefbenchError(
                f"Expected a limit of 1 sample or more, but {self.limit} came; leave --limit out for all."
            )
        check_seed(self.seed)
        for text, what in ((self.model, "--model"), (recorded(self.suite), "--suite"), (self.device, "--device")):
            check_utf8(text, what)
        _plain(self.options)
        object.__setattr__(self, "content", content_of(self.model))

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


def content_of(model: str) -> str | None:
    """12 hex digits that change when a model given by path changes; None for a registered name.

    A file counts by its bytes and the class named in it, a folder by the names and bytes of its PNGs.

    Raises:
        RefbenchError: the model is unknown (with near names), or nothing is at its path.
    """
    from refbench.adapters.spec import resolve

    spec = resolve(model)
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


def model_slug(model: str) -> str:
    """A folder name for a model: its registered name, or the stem of its file, or the name of its folder."""
    from refbench.adapters.registry import MODELS
    from refbench.adapters.spec import resolve

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
