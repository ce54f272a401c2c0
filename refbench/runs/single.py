"""Measure one image beside its target, from files, PIL images or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refbench.images import check_mask, check_same_size
from refbench.pictures import Marked, Picture, as_image, as_mask, where

if TYPE_CHECKING:
    from refbench.schema import Score


def measure_files(
    output: Picture,
    target: Picture,
    reference: Picture | None,
    mask: Marked | None,
    draft: Picture | None,
    metrics: Sequence[str] | None,
    *,
    device: str,
) -> list[Score]:
    """Scores of one image; arguments and errors as :func:`refbench.runs.api.measure`."""
    from refbench.metrics.registry import make_metrics

    make_metrics(metrics)  # an unknown name is told before a picture is read
    wanted = as_image(target, "target")
    size = (wanted.shape[0], wanted.shape[1])
    image = as_image(output, "output")
    check_same_size(image, size, where(output, "output"), "the target")
    drafted = None if draft is None else as_image(draft, "draft")
    if drafted is not None:
        check_same_size(drafted, size, where(draft, "draft"), "the target")
    marked = None if mask is None else as_mask(mask)
    if marked is not None:
        check_mask(marked, size, where(mask, "mask"))
    shown = None if reference is None else as_image(reference, "reference")
    from refbench.metrics.measurer import measure_one

    return measure_one(image, wanted, shown, marked, drafted, metrics, device=device)
