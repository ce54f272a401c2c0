"""Let the model answer some samples again, where it cannot see targets, outputs or the network, and compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.leaderboard.entry import Entry
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.textsafe import printable
from refbench.leaderboard.verdict import Finding
from refbench.runs.plan import seed_for

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

MEAN_LEVELS = 1.0
"""Another processor rounds differently: inside the mask the images may differ by this many grey levels on average."""


def chosen(entry: Entry, answered: Sequence[str], count: int) -> list[str]:
    """The samples to regenerate: by the hash of seal and id, so that a submitter cannot prepare for them."""
    order = sorted(answered, key=lambda sample: hashlib.sha256(f"{entry.seal} {sample}".encode()).digest())
    return order[:count]


def why_not(entry: Entry, adapter: str | None) -> str | None:
    """Why the model of an entry cannot be run again here, or None if it can."""
    from refbench.adapters.card import missing_requirements
    from refbench.adapters.registry import MODELS

    if not entry.card.deterministic:
        return "No sample was regenerated: the model's card says that it is not deterministic."
    if adapter is None and entry.model not in MODELS:
        return (
            f"No sample was regenerated: '{printable(entry.model, 60)}' is not a registered model; "
            "name its file with --adapter."
        )
    if entry.card.needs_network:
        return "No sample was regenerated: the model needs the network."
    missing = missing_requirements(entry.card)
    if missing:
        return f"No sample was regenerated: {', '.join(missing)} is not installed here."
    if entry.device != "cpu":
        import torch

        if entry.device.startswith("cuda") and not torch.cuda.is_available():
            return f"No sample was regenerated: the run was made on {printable(entry.device, 20)}, which is not here."
    return None


def regenerate(
    entry: Entry,
    suite: Suite,
    image_of: Callable[[str], Image],
    answered: Sequence[str],
    *,
    count: int,
    adapter: str | None,
    hide: Sequence[Path],
    timeout_s: float,
) -> tuple[int, str, list[Finding]]:
    """Regenerate some samples and compare them with the entry's.

    Args:
        image_of: decoded output of a sample.
        answered: ids of the samples that have an output.
        count: how many to regenerate.
        adapter: file, file:Class or name to run instead of the entry's registered model.
        hide: folders that the model must find empty (suites, caches, the entry).

    Returns:
        How many came out the same, a sentence about it, and a finding for each that did not.

    Raises:
        RefusedError: "reads-hidden-files", where the model looked for what is hidden from it.
    """
    from refbench.adapters.load import open_contained

    reason = why_not(entry, adapter) if count > 0 and answered else "No sample was regenerated: none was asked for."
    if reason:
        return 0, reason, []
    same, exact, wrong = 0, 0, []
    ids = chosen(entry, answered, count)
    try:
        with open_contained(
            adapter or entry.model,
            device=entry.device,
            timeout_s=timeout_s,
            options=entry.options,
            hide=[folder for folder in hide if folder.exists()],
            network=False,
        ) as model:
            for sample_id in ids:
                sample = suite.sample(sample_id)
                (answer,) = model.refine_batch([sample.inputs(seed_for(entry.seed, sample_id))])
                if answer.failure == "forbidden":
                    raise RefusedError("reads-hidden-files", printable(answer.error or "", 400))
                if answer.image is None:
                    why = printable(answer.error or "", 300)
                    wrong.append(Finding(name="regeneration-failed", message=f"{sample_id}: {why}"))
                    continue
                given = image_of(sample_id)
                levels = np.abs(answer.image.astype(np.int16) - given.astype(np.int16))[sample.mask].mean()
                outside = np.abs(answer.image.astype(np.int16) - given.astype(np.int16)).mean()
                if max(levels, outside) > MEAN_LEVELS:
                    wrong.append(
                        Finding(
                            name="regeneration-differs",
                            message=f"Expected {sample_id} as submitted, but the model's answer here is on average "
                            f"{levels:.1f} grey levels away inside the mask; seed, options or "
                            "images are not the run's.",
                        )
                    )
                    continue
                same += 1
                exact += int(np.array_equal(answer.image, given))
    except RefusedError:
        raise
    except RefbenchError as error:
        return same, f"No more samples were regenerated: {printable(error, 300)}", wrong
    return same, f"{same} of {len(ids)} regenerated samples are as submitted ({exact} to the bit).", wrong
