"""refbench: how well does a model put a wrong detail right from a reference, and leave the rest alone?

The verbs of the library are loaded on first use, so that ``import refbench`` stays light:

- :func:`refbench.load_suite` opens a suite and streams its samples;
- :func:`refbench.evaluate` runs a model on a suite and scores it;
- :func:`refbench.measure` measures one image;
- :func:`refbench.load_run` reads a measured run as tables;
- :func:`refbench.load_adapter` gives a model that refines one sample at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refbench.adapters.load import load_adapter
    from refbench.results.run import load_run
    from refbench.runs.api import evaluate, measure
    from refbench.tasks.suite import load_suite

__version__ = "0.1.0"

_WHERE = {
    "load_suite": "refbench.tasks.suite",
    "evaluate": "refbench.runs.api",
    "measure": "refbench.runs.api",
    "load_adapter": "refbench.adapters.load",
    "load_run": "refbench.results.run",
}

__all__ = ["__version__", "evaluate", "load_adapter", "load_run", "load_suite", "measure"]


def __getattr__(name: str) -> Any:
    """Import a public function on first use (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'refbench' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
