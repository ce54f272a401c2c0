"""Metrics on three axes, each with a card; imported lazily, so that listing them needs neither torch nor OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refbench.metrics.audit import run_audit
    from refbench.metrics.contract import card_hash
    from refbench.metrics.doctor import run_doctor
    from refbench.metrics.features import FeatureStore
    from refbench.metrics.measurer import Measurer, measure_one
    from refbench.metrics.registry import METRICS, list_cards

_WHERE = {
    "METRICS": "registry",
    "FeatureStore": "features",
    "Measurer": "measurer",
    "card_hash": "contract",
    "list_cards": "registry",
    "measure_one": "measurer",
    "run_audit": "audit",
    "run_doctor": "doctor",
}

__all__ = [
    "METRICS",
    "FeatureStore",
    "Measurer",
    "card_hash",
    "list_cards",
    "measure_one",
    "run_audit",
    "run_doctor",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'refbench.metrics' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"refbench.metrics.{_WHERE[name]}"), name)
