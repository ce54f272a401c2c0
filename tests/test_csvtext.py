"""CSV cells: no name becomes a formula, numbers stay numbers, and what is written can be read."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest

from refbench.csvtext import csv_bytes, csv_cell, csv_text

FORMULAS = ("=1+1", "+1", "-run", "@SUM(A1)", "\t=1", "\r=1", "'=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_written_as_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert csv_text(csv_cell(text)) == text


@pytest.mark.parametrize("text", ["", "a=b", "warp-blend", "'quoted'", "3.5", "Ünï"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert csv_cell(text) == text == csv_text(text)


def test_numbers_of_a_table_stay_numbers() -> None:
    table = pd.DataFrame({"=name": ["=cmd()", "ok"], "value": [-1.23456789, float("nan")], "count": [-3, 4]})
    rows = list(csv.reader(io.StringIO(csv_bytes(table, digits=4).decode())))
    assert rows == [["'=name", "value", "count"], ["'=cmd()", "-1.235", "-3"], ["ok", "", "4"]]
