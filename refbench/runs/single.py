"""Measure one image beside its target, from files or arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import check_mask, check_same_size, load_image, load_mask

if TYPE_CHECKING:
    from refbench.images import Image, Mask
    from refbench.schema import Score


def measure_files(
    output: str | os.PathLike[str] | Image,
    target: str | os.PathLike[str] | Image,
    reference: str | os.PathLike[str] | Image | None,
    mask: str | os.PathLike[str] | Mask | None,
    draft: str | os.PathLike[str] | Image | None,
    metrics: Sequence[str] | None,
    *,
    device: str,
) -> list[Score]:
    """Scores of one image; arguments and errors as :func:`refbench.runs.api.measure`."""
    from refbench.metrics.registry import make_metrics

    make_metrics(metrics)  # an unknown name is told before a picture is read
    wanted = _image(target, "target")
    size = (wanted.shape[0], wanted.shape[1])
    image = _image(output, "output")
    check_same_size(image, size, _where(output, "output"), "the target")
    drafted = None if draft is None else _image(draft, "draft")
    if drafted is not None:
        check_same_size(drafted, size, _where(draft, "draft"), "the target")
    marked = None if mask is None else _mask(mask)
    if marked is not None:
        check_mask(marked, size, _where(mask, "mask"))
    shown = None if reference is None else _image(reference, "reference")
    from refbench.metrics.measurer import measure_one

    return measure_one(image, wanted, shown, marked, drafted, metrics, device=device)


def _where(given: object, what: str) -> str:
    return os.fspath(given) if isinstance(given, str | os.PathLike) else f"the {what} array"


def _image(given: str | os.PathLike[str] | Image, what: str) -> Image:
    if isinstance(given, str | os.PathLike):
        return load_image(given)
    if not isinstance(given, np.ndarray):
        raise RefbenchError(
            f"Expected a path or an (H, W, 3) uint8 array as {what}, but got a {type(given).__name__}; of an adapter "
            "that answers with an image and facts give the image alone."
        )
    array = given
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise RefbenchError(
            f"Expected an (H, W, 3) uint8 array as {what}, but got {array.dtype} of shape {array.shape}; convert it to "
            "RGB with values 0 to 255."
        )
    return np.ascontiguousarray(array)


def _mask(given: str | os.PathLike[str] | Mask) -> Mask:
    if isinstance(given, str | os.PathLike):
        return load_mask(given)
    array = np.asarray(given)
    if array.dtype != np.bool_ or array.ndim != 2:
        raise RefbenchError(
            f"Expected an (H, W) bool array as mask, but got {array.dtype} of shape {array.shape}; compare it with a "
            "threshold first."
        )
    return np.ascontiguousarray(array)
