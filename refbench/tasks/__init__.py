"""Suites: load, validate and build them; degradations, composition, masks, sources, training data."""

from __future__ import annotations

from typing import Any

_LAZY = {
    "load_suite": "refbench.tasks.suite",
    "Suite": "refbench.tasks.suite",
    "build_core": "refbench.tasks.build",
    "generate": "refbench.tasks.generate",
    "fetch": "refbench.tasks.fetching",
    "prepare_training_assets": "refbench.tasks.training_assets",
    "QuadrupletSampler": "refbench.tasks.sampler",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'refbench.tasks' has no attribute '{name}'")
