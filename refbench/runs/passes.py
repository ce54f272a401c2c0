"""Several passes: each gets the output of the pass before as its draft, and is a run in a folder of its own.

Reference, mask and prompt stay; every pass is measured like any run, from the suite's draft. The folders lie side by
side, and the manifest of pass k names the folder of the pass before.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.runs.folder import RESPONSES, RunFolder
from refbench.runs.plan import Request, default_folder
from refbench.schema import RunManifest

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

DRAFT_SHA256 = "draft_sha256"
"""In a record's extra: of the output that was its draft; None where the pass before has none."""


def chain(request: Request, suite: Suite, out: str | os.PathLike[str] | None) -> list[tuple[Request, RunFolder]]:
    """The runs of a request with several passes, in order; one for a single pass.

    Args:
        out: folder of the last pass; the others are beside it. None takes the default ones.

    Raises:
        RefbenchError: several passes of a folder of PNGs.
    """
    from refbench.adapters.spec import resolve

    if request.passes > 1 and resolve(request.model).kind == "folder":
        raise RefbenchError(
            f"Expected a model that can answer again for {request.passes} passes, but {request.model} is a folder of "
            "PNGs; leave --passes out."
        )
    found: list[tuple[Request, RunFolder]] = []
    for number in range(1, request.passes + 1):
        one = dataclasses.replace(request, passes=number, drafts=found[-1][1].path.name if found else None)
        if out is None:
            path = default_folder(one, suite)
        elif number == request.passes:
            path = Path(out)
        else:
            last = Path(out).resolve()
            path = last.with_name(f"{last.name}+pass-{number}")
        found.append((one, RunFolder(path)))
    return found


def pass_before(folder: RunFolder, manifest: RunManifest) -> RunFolder | None:
    """The run whose outputs are the drafts of this one; None for a first pass.

    Raises:
        RefbenchError: it is not there any more.
    """
    name = manifest.arguments.get("drafts")
    if name is None:
        return None
    found = RunFolder(folder.path.resolve().parent / str(name))
    if not found.exists():
        raise RefbenchError(
            f"Expected the pass before {folder.path} at {found.path}, since its outputs are the drafts, but there is "
            "no run; run the same command again from the first pass."
        )
    return found


def left_to_spend(limit: float | None, before: Sequence[Path]) -> float | None:
    """What the passes before leave of a limit in USD."""
    if limit is None or not before:
        return limit
    from refbench.adapters.web.ledger import spent

    return max(0.0, limit - sum(spent(path / RESPONSES) for path in before))
