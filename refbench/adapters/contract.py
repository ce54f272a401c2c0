"""What an adapter is, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import from_pillow

if TYPE_CHECKING:
    from refbench.images import Image
    from refbench.schema import AdapterCard, Inputs, Refinement

RANGE_TOLERANCE = 0.5 / 255
"""A float answer may leave [0, 1] by half a grey level (rounding); more is an error, not something to clip."""


class FailedError(RefbenchError):
    """A sample without an answer, with facts about it that are kept all the same, such as what it cost."""

    def __init__(self, message: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


class RefusedError(FailedError):
    """The model declined to answer (a safety filter, a policy); a status of its own, not a crash."""


class StopError(RefbenchError):
    """No further sample can succeed (wrong key, budget spent): the run stops here, and the sample stays open."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a run gives to an adapter that costs money; see :class:`Adapter`."""

    folder: Path
    """Where to keep every answer that was paid for, and what was spent; made at the first one."""
    max_cost_usd: float | None = None
    """What the run may spend in all, earlier starts included; None means no limit."""
    ask_refused_again: bool = False
    """Whether a refusal that was kept is to be asked for anew."""


@runtime_checkable
class Adapter(Protocol):
    """Anything that turns the inputs of one sample into one image of the draft's size.

    A class is constructed as ``cls(device=..., **options)``. Beside the two members below it may have

    - ``refine_batch(list[Inputs]) -> list[answer]``: several samples at once, answers in order;
    - ``setup()``: called once before the first sample (load weights here);
    - ``close()``: called once at the end;
    - ``use_account(account)``: for what costs money; called before ``setup()`` in a run. The adapter then keeps every
      answer in the account's folder, pays for none twice, and raises :class:`StopError` before it spends too much.

    An *answer* is what :func:`normalise_output` accepts, or a pair ``(answer, facts)`` where facts is a
    dictionary of plain values about this sample, such as ``{"price_usd": 0.04}``.
    """

    @property
    def card(self) -> AdapterCard:
        """What a reader of the board must know; a class attribute will do."""

    def refine(self, inputs: Inputs, /) -> Any:
        """The refined image of one sample."""


@runtime_checkable
class Contained(Protocol):
    """An adapter behind a wall: it may fail, die or hang, and each costs only the sample it was busy with."""

    card: AdapterCard
    isolation: str
    """"worker" (class in a child process), "process" (script), "folder" or "in-process"."""

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input, in order; never raises because of a sample."""

    def close(self) -> None:
        """End the child, if there is one, and remove what it left."""


def _as_array(value: Any, who: str) -> np.ndarray[Any, Any]:
    """A numpy array from numpy, PIL or torch; images of other modes go through the one decoder."""
    if isinstance(value, np.ndarray):
        return value
    if type(value).__module__.split(".")[0] == "PIL":
        return from_pillow(value, who)
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach"):
        tensor = value.detach().cpu()
        array: np.ndarray[Any, Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return array
    raise RefbenchError(
        f"Expected an image (numpy array, PIL image or torch tensor) from {who}, but it returned "
        f"{type(value).__name__}; return one image of the draft's size."
    )


def normalise_output(value: Any, inputs: Inputs) -> Image:
    """Turn an adapter's answer into (H, W, 3) uint8 of the draft's size, or say what is wrong with it.

    Accepts uint8 or floating point in [0, 1], as numpy array, torch tensor or PIL image; channels last or
    first, with or without a leading batch axis of one. Nothing is resized and nothing is clipped: an answer
    of the wrong size or range is a mistake that would only look like a bad model.

    Raises:
        RefbenchError: nothing, no image, wrong size, wrong dtype, NaN or infinity, or out of range.
    """
    height, width = inputs.draft.shape[:2]
    who = f"the adapter for sample '{inputs.id}'"
    if value is None:
        raise RefbenchError(
            f"Expected an image of {width} x {height} px from {who}, but it returned nothing; return the refined image."
        )
    array = _as_array(value, who)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise RefbenchError(
            f"Expected an RGB image of shape ({height}, {width}, 3) from {who}, but its shape is "
            f"{tuple(array.shape)}; return three channels."
        )
    if array.shape[:2] != (height, width):
        raise RefbenchError(
            f"Expected {width} x {height} px (the draft's size) from {who}, but it returned "
            f"{array.shape[1]} x {array.shape[0]} px; resize the answer to the draft."
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise RefbenchError(
            f"Expected uint8, or floating point in [0, 1], from {who}, but the dtype is {array.dtype}; convert it."
        )
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise RefbenchError(
            f"Expected finite values from {who}, but {bad} of {array.size} are NaN or infinite; "
            "look for a division by zero or an overflow in half precision."
        )
    low, high = float(array.min()), float(array.max())
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise RefbenchError(
            f"Expected floating point values in [0, 1] from {who}, but they span [{low:.4g}, {high:.4g}]; "
            "scale and clip them, or return uint8."
        )
    return np.ascontiguousarray(np.rint(np.clip(array, 0, 1) * np.float64(255)).astype(np.uint8))


def split_answer(value: Any) -> tuple[Any, dict[str, Any]]:
    """An adapter's answer and the facts that may come with it."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        return value[0], value[1]
    return value, {}
