"""What an adapter is, what counts as an answer, and what every opened adapter can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import from_pillow
from refbench.plaintext import one_line
from refbench.schema import Failure, Isolation, Refinement

if TYPE_CHECKING:
    from refbench.images import Image
    from refbench.schema import AdapterCard, Inputs

RANGE_TOLERANCE = 0.5 / 255
"""A float answer may leave [0, 1] by half a grey level (rounding); more is an error, not something to clip."""


class FailedError(RefbenchError):
    """A sample without an answer, with facts about it that are kept all the same; see :func:`split_answer`."""

    def __init__(self, message: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.price_usd, self.facts = told(facts or {})


class RefusedError(FailedError):
    """The model declined to answer (a safety filter, a policy); a status of its own, not a crash."""


class StopError(RefbenchError):
    """No further sample can succeed (wrong key, budget spent): the run stops here, and the sample stays open."""


class ChildError(Exception):
    """An adapter's process cannot go on; `failure` is what its sample gets, the message one sentence."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Account:
    """What a run gives to an adapter that costs money; see :class:`Paid`."""

    folder: Path
    """Where to keep every answer that was paid for, and what was spent; made at the first one."""
    max_cost_usd: float | None = None
    """What the run may spend in all, earlier starts included; None means no limit."""
    ask_refused_again: bool = False
    """Whether a refusal that was kept is to be asked for anew."""


@runtime_checkable
class Adapter(Protocol):
    """What an author writes: anything that turns the inputs of one sample into one image of the draft's size.

    A class is constructed as ``cls(device=..., **options)``. It may also be :class:`SetUp`, :class:`Batched`,
    :class:`Paid` or :class:`Closing`. An *answer* is what :func:`normalise_output` accepts, or a pair
    ``(answer, facts)``, see :func:`split_answer`.
    """

    @property
    def card(self) -> AdapterCard:
        """What a reader of the board must know; a class attribute will do."""

    def refine(self, inputs: Inputs, /) -> Any:
        """The answer to one sample."""


@runtime_checkable
class SetUp(Protocol):
    """An adapter that loads weights before the first sample."""

    def setup(self) -> None:
        """Called once."""


@runtime_checkable
class Batched(Protocol):
    """An adapter that answers several samples at once."""

    def refine_batch(self, batch: list[Inputs], /) -> Sequence[Any]:
        """The answers, in order."""


@runtime_checkable
class Paid(Protocol):
    """An adapter that costs money: it keeps every answer in the account's folder, and pays for none twice."""

    def use_account(self, account: Account) -> None:
        """Called before ``setup()`` in a run; raise :class:`StopError` before more is spent than the account allows."""


@runtime_checkable
class Closing(Protocol):
    """An adapter that gives something back at the end."""

    def close(self) -> None:
        """Called once."""


class Contained(Protocol):
    """An opened adapter of whatever kind (class, script, folder); what it does wrong costs its sample only."""

    card: AdapterCard
    isolation: Isolation
    """"worker" (class in a child process), "process" (script), "folder" or "in-process"."""
    pays: bool
    """Whether it keeps to an :class:`Account`."""

    def refine(self, inputs: Inputs, /) -> Refinement:
        """The refinement of one sample, with an image.

        Raises:
            RefbenchError: there is none; a refusal is a :class:`RefusedError`. In this process what a class raises.
        """

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input, in order; never raises because of a sample."""

    def remarks(self, every: Collection[str], planned: Collection[str]) -> list[str]:
        """What a user should know about the answers to a suite's samples: sentences, none where all is well."""

    def close(self) -> None:
        """End the child, if there is one, and remove what it left."""


def failed(
    inputs: Inputs,
    seconds: float,
    failure: Failure,
    error: str,
    price_usd: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Refinement:
    """The refinement of a sample that has no image."""
    return Refinement(
        inputs.id, None, seconds, one_line(error, 600), failure, price_usd, inputs.seed, dict(facts or {})
    )


def answered(refinement: Refinement) -> Refinement:
    """The refinement, if it has an image.

    Raises:
        RefbenchError: it has none; of the class that :attr:`~refbench.schema.Refinement.failure` says.
    """
    if refinement.image is not None:
        return refinement
    why = refinement.error or "There is no image."
    if refinement.failure == "stop":
        raise StopError(why)
    kind = RefusedError if refinement.failure == "refused" else FailedError
    error = kind(why, refinement.facts)
    error.price_usd = refinement.price_usd
    raise error


def told(facts: Mapping[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """An adapter's facts as a record takes them (numbers, booleans, short strings), the price in USD apart."""
    kept: dict[str, Any] = {}
    for key, value in list(facts.items())[:32]:
        if hasattr(value, "item") and getattr(value, "size", None) == 1:
            value = value.item()
        if isinstance(value, bool | int | float) or value is None:
            kept[one_line(key, 60)] = value
        elif isinstance(value, str):
            kept[one_line(key, 60)] = one_line(value)
    price = kept.pop("price_usd", None)
    return (float(price) if isinstance(price, int | float) else None), kept


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


def split_answer(value: Any) -> tuple[Any, float | None, dict[str, Any]]:
    """An adapter's answer, its price in USD and its facts.

    Args:
        value: the answer alone, or ``(answer, facts)`` with a dictionary of plain values about this sample, of which
            ``price_usd`` is what it cost.
    """
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        return value[0], *told(value[1])
    return value, None, {}
