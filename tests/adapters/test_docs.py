"""The examples of docs/adapters.md run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refbench.adapters.selftest import check_adapter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"
BLOCKS = [b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S) if "refine" in b]


@pytest.mark.parametrize(("block", "isolation"), [(0, "worker"), (1, "process")])
def test_an_example_passes_the_self_test(block: int, isolation: str, tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(BLOCKS[block], encoding="utf-8")
    rows = check_adapter(path)
    assert f"isolated as {isolation}" in rows[0].detail
    assert [r for r in rows if r.status == "fail"] == []
