"""The doctor's result for a manifest: run once for a set of packages and metric cards, then taken from the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refbench.cache import cache_folder, keep
from refbench.runs.environment import versions
from refbench.runs.jsontext import as_json, read_json
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from refbench.metrics.doctor import Check


def doctor_result(cards: Mapping[str, MetricCard], device: str) -> dict[str, Any]:
    """``{"passed", "failed", "skipped", "failures": [...]}`` of ``refbench doctor`` for what is installed here.

    Args:
        cards: the metrics of the run; other cards or versions make the doctor look again.
        device: where learned metrics run.
    """
    known = json.dumps([versions(), {name: card.model_dump(mode="json") for name, card in cards.items()}, device])
    path = cache_folder() / f"doctor-{hashlib.sha256(known.encode()).hexdigest()[:16]}.json"
    found = read_json(path)
    if found is not None:
        return found
    from refbench.metrics.doctor import run_doctor

    result = summary_of(run_doctor(list(cards), device))
    keep(path, as_json(result).encode())
    return result


def summary_of(checks: Sequence[Check]) -> dict[str, Any]:
    """Counts, and every check that failed with what was expected and found."""
    failures = [check_row(check) for check in checks if check.passed is False]
    return {
        "passed": sum(check.passed is True for check in checks),
        "failed": len(failures),
        "skipped": sum(check.passed is None for check in checks),
        "failures": failures,
    }


def check_row(check: Check) -> dict[str, Any]:
    """A check as plain values."""
    return {**dataclasses.asdict(check), "difference": check.difference}
