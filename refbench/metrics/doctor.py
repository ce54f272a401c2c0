"""The doctor: is every metric, here and now, the number that its card defines?

Each metric is held against closed forms (inputs whose value can be worked out on paper, or was published) and
against a second library on a real picture. A check that needs a package that is not installed is skipped by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.metrics.checks import Second, scene
from refbench.metrics.registry import default_metrics, make_metrics
from refbench.metrics.view import View

if TYPE_CHECKING:
    from refbench.metrics.contract import Metric


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison."""

    metric: str
    name: str
    """What was held against what."""
    expected: float
    found: float
    tolerance: float
    passed: bool | None
    """None where it was skipped."""
    note: str = ""
    """Why it was skipped, or what went wrong."""

    @property
    def difference(self) -> float:
        """|found - expected|; 0 where both are the same infinity."""
        return 0.0 if self.found == self.expected else abs(self.found - self.expected)


def second_library(name: str, metric: Metric, second: Second) -> Check:
    """The metric on a picture against its second library."""
    from importlib.util import find_spec

    what = f"a real picture, by {second.words}"
    if find_spec(second.module) is None:
        package = second.module.replace("_", "-")
        return Check(name, what, math.nan, math.nan, 0.0, None, f"skipped: {package} is not installed")
    truth, output = (second.scene or scene)()
    found = metric.values([View(truth, output)])[0]
    expected = second.number(truth, output)
    if found is None or expected is None:
        same = found is None and expected is None
        note = "undefined in both" if same else "undefined in one"
        return Check(name, what, math.nan, math.nan, second.tolerance, same, note)
    return Check(name, what, expected, found, second.tolerance, abs(found - expected) <= second.tolerance)


def run_doctor(names: Sequence[str] | None = None, device: str = "cpu") -> list[Check]:
    """Check every metric but the learned ones (or those named) on the spot, in about ten seconds.

    Returns:
        Checks in the order of the metrics; a metric that is unavailable here has one skipped check that says why.

    Raises:
        RefbenchError: an unknown metric.
    """
    from refbench.metrics.measurer import single_threaded

    checks: list[Check] = []
    with single_threaded(device):
        for name, metric in make_metrics(default_metrics() if names is None else names, device).items():
            missing = metric.missing()
            if missing is not None:
                checks.append(Check(name, "available", math.nan, math.nan, 0.0, None, f"skipped: {missing}"))
                continue
            try:
                for what, expected, found, tolerance in metric.closed_forms():
                    passed = found == expected or abs(found - expected) <= tolerance
                    checks.append(Check(name, what, expected, found, tolerance, passed))
                if metric.second is not None:
                    checks.append(second_library(name, metric, metric.second))
            except Exception as error:  # whatever a broken library raises is what the doctor is asked for
                note = (
                    str(error) if isinstance(error, RefbenchError | ImportError) else f"{type(error).__name__}: {error}"
                )
                checks.append(Check(name, "runs", math.nan, math.nan, 0.0, False, note))
    return checks
