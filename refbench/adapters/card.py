"""What a model says of itself: a card that is whole, and whether what it requires can be imported here."""

from __future__ import annotations

import importlib.util
from typing import Any

from refbench.errors import RefbenchError
from refbench.plaintext import check_utf8, one_line
from refbench.schema import AdapterCard


def check_card(card: Any, spec: str) -> AdapterCard:
    """A valid card from an adapter's `card`, which may also be a dictionary of its fields.

    Raises:
        RefbenchError: missing, or a field is wrong.
    """
    from pydantic import ValidationError

    if isinstance(card, AdapterCard):
        return _whole(card, spec)
    if not isinstance(card, dict):
        raise RefbenchError(
            f"Expected the model '{spec}' to have a `card` (refbench.schema.AdapterCard), but it is "
            f"{type(card).__name__}; describe the model there."
        )
    try:
        return _whole(AdapterCard.model_validate(card), spec)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RefbenchError(
            f"Expected a valid card from the model '{spec}', but '{one_line(field, 60)}': "
            f"{one_line(first['msg'], 120)}."
        ) from None


def _whole(card: AdapterCard, spec: str) -> AdapterCard:
    """The card, if all of its text can be written down."""
    for field, value in card.model_dump().items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                check_utf8(text, f"the field '{field}' of the card of the model '{spec}'")
    return card


def missing_requirements(card: AdapterCard) -> tuple[str, ...]:
    """The modules that a card requires and this environment has not."""
    return tuple(m for m in card.requires if importlib.util.find_spec(m.partition(".")[0]) is None)
