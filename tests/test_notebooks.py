"""The notebooks run from the first cell to the last, as a reader runs them, and show what they promise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


def run(path: Path, folder: Path) -> Any:
    notebook = jupytext.read(path)
    environment = {
        **os.environ,
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def shown(notebook: Any) -> list[dict[str, Any]]:
    """What each code cell's outputs hold, by type."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        {kind: data for one in cell.outputs for kind, data in (one.get("data") or {"text": one.get("text")}).items()}
        for cell in cells
    ]


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["evaluate-your-model", "figures-for-your-paper"]


def test_model_of_notebook_is_evaluated(tmp_path: Path) -> None:
    found = shown(run(NOTEBOOKS[0], tmp_path))
    told = "\n".join(str(data) for cell in found for data in cell.values())
    assert sum("image/png" in cell for cell in found) == 2
    assert "<Result tint on mini: " in told
    assert "8 samples" in told
    assert "'local_consistency': " in told
    assert "tint" in found[-2]["text/plain"]
    assert "sharpen" in found[-2]["text/plain"]


def test_figures_of_notebook_are_drawn(tmp_path: Path) -> None:
    found = shown(run(NOTEBOOKS[1], tmp_path))
    assert sum("image/png" in cell for cell in found) == 2
    told = "\n".join(str(data) for cell in found for data in cell.values())
    assert "axes.pdf" in told
    assert "\\includegraphics" in told
    assert "text/html" in found[-1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_sources_hold_no_outputs_and_no_paths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "/work/" not in text
    assert [cell for cell in jupytext.read(path).cells if cell.cell_type == "code" and cell.outputs] == []
