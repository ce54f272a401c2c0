"""CSV as refbench writes it: no cell is a formula to a spreadsheet, whatever names its content has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet computes."""


def csv_cell(text: str) -> str:
    """A text as a cell: what would start a formula is preceded by an apostrophe."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def csv_text(cell: str) -> str:
    """The text of a cell that :func:`csv_cell` wrote."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def csv_bytes(table: pd.DataFrame, *, digits: int | None = None) -> bytes:
    """A table in UTF-8 with a header and line feeds; texts and column names as :func:`csv_cell`, numbers as they are.

    Args:
        table: the rows, without their index.
        digits: significant digits of real numbers; None writes all.
    """
    safe = table.map(lambda value: csv_cell(value) if isinstance(value, str) else value)
    safe = safe.rename(columns=lambda name: csv_cell(str(name)))
    text: str = safe.to_csv(index=False, lineterminator="\n", float_format=None if digits is None else f"%.{digits}g")
    return text.encode()
