"""Several passes: each gets the output of the pass before as its draft, and is a run in a folder of its own.

Reference, mask and prompt stay; every pass is measured like any run, from the suite's draft. The folders lie side by
side, and the manifest of pass k names the folder of the pass before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.runs.folder import RESPONSES, RunFolder
from refbench.runs.plan import RunOptions, default_folder
from refbench.runs.storage import Local
from refbench.schema import RunManifest

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

DRAFT_SHA256 = "draft_sha256"
"""In a record's extra: of the output that was its draft; None where the pass before has none."""


def chain(options: RunOptions, suite: Suite, out: str | os.PathLike[str] | None) -> list[tuple[RunOptions, RunFolder]]:
    """The runs of options with several passes, in order; one for a single pass.

    Args:
        out: folder of the last pass; the others are beside it. None takes the default ones.

    Raises:
        RefbenchError: several passes of a folder of PNGs.
    """
    if options.passes > 1 and options.spec.kind == "folder":
        raise RefbenchError(
            f"Expected a model that can answer again for {options.passes} passes, but {options.model} is a folder of "
            "PNGs; leave --passes out."
        )
    found: list[tuple[RunOptions, RunFolder]] = []
    for number in range(1, options.passes + 1):
        one = options.as_pass(number, found[-1][1].name if found else None)
        last = RunFolder(default_folder(one, suite) if out is None else out)
        alone = out is None or number == options.passes
        found.append((one, last if alone else last.beside(f"{last.name}+pass-{number}")))
    return found


def pass_before(folder: RunFolder, manifest: RunManifest) -> RunFolder | None:
    """The run whose outputs are the drafts of this one; None for a first pass.

    Raises:
        RefbenchError: it is not there any more.
    """
    name = manifest.arguments.get("drafts")
    if name is None:
        return None
    found = folder.beside(str(name))
    if not found.exists():
        raise RefbenchError(
            f"Expected the pass before {folder.place} at {found.place}, since its outputs are the drafts, but there is "
            "no run; run the same command again from the first pass."
        )
    return found


def left_to_spend(limit: float | None, before: Sequence[RunFolder]) -> float | None:
    """What the passes before leave of a limit in USD."""
    if limit is None or not before:
        return limit
    from refbench.adapters.web.ledger import spent

    return max(0.0, limit - sum(spent(run.path / RESPONSES) for run in before if isinstance(run.storage, Local)))
