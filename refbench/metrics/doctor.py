"""The doctor: is every metric, here and now, the number that its card defines?

Each metric is held against what it says of itself: closed forms (inputs whose value can be worked out on paper, or was
published), a second library on a real picture, what the target itself scores, and whether output and target can change
places. A check that needs a package that is not installed is skipped by name; a metric that names no check is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

from refbench.errors import RefbenchError
from refbench.metrics.checks import inside, scene
from refbench.metrics.registry import default_metrics, make_metrics
from refbench.metrics.view import View

if TYPE_CHECKING:
    from refbench.images import Image
    from refbench.metrics.contract import Metric
    from refbench.schema import Truth

ROUNDING = 1e-6
"""Largest difference of a value that the definition gives exactly; VIFp's 1e-8 in both sums needs most of it."""
UNCHECKED = "it names no closed form, no second library, no perfect value, no symmetry"

Kind: TypeAlias = Literal["closed form", "second library", "perfect", "symmetric", "run", "none"]
"""What a check is: "run" that the metric runs here at all, "none" that it names no check."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison."""

    metric: str
    kind: Kind
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


def compared(name: str, kind: Kind, what: str, expected: float | None, found: float | None, tolerance: float) -> Check:
    """What a metric should give beside what it gives; None is a value that is undefined."""
    if found is None or expected is None:
        same = found is None and expected is None
        note = "undefined in both" if same else "undefined in one"
        return Check(name, kind, what, math.nan, math.nan, tolerance, same, note)
    passed = found == expected or abs(found - expected) <= tolerance
    return Check(name, kind, what, expected, found, tolerance, passed)


def unheld(name: str, kind: Kind, what: str, note: str, passed: bool | None = None) -> Check:
    """A check that could not be made, and why."""
    return Check(name, kind, what, math.nan, math.nan, 0.0, passed, note)


def checks_of(name: str, metric: Metric) -> Iterator[Check]:
    """What the metric says of itself, held to, in the order of :data:`Kind`."""
    for what, expected, found, tolerance in metric.closed_forms():
        yield compared(name, "closed form", what, expected, found, tolerance)
    second = metric.second
    truth, output = (scene if second is None or second.scene is None else second.scene)()

    def value(truth: Truth, output: Image) -> float | None:
        return metric.values([View(truth, output)])[0]

    if second is not None:
        what = f"a real picture, by {second.words}"
        if find_spec(second.module) is None:
            package = second.module.replace("_", "-")
            yield unheld(name, "second library", what, f"skipped: {package} is not installed")
        else:
            there, here = second.number(truth, output), value(truth, output)
            yield compared(name, "second library", what, there, here, second.tolerance)
    if metric.perfect is not None:
        yield compared(name, "perfect", "the target itself", metric.perfect, value(truth, truth.target), ROUNDING)
    if metric.symmetric:
        output = inside(truth, output)  # outside the region both are the target, so that compositing is symmetric too
        there, back = value(truth, output), value(replace(truth, target=output), truth.target)
        yield compared(
            name, "symmetric", "output and target change places", there, back, ROUNDING * max(abs(there or 0), 1)
        )


def run_doctor(names: Sequence[str] | None = None, device: str = "cpu") -> list[Check]:
    """Check every metric but the learned ones (or those named) on the spot, in some fifteen seconds.

    Returns:
        Checks in the order of the metrics; a metric that is unavailable here, or names no check, has one skipped check
        that says so.

    Raises:
        RefbenchError: an unknown metric.
    """
    from refbench.metrics.measurer import single_threaded

    checks: list[Check] = []
    with single_threaded(device):
        for name, metric in make_metrics(default_metrics() if names is None else names, device).items():
            missing = metric.missing()
            if missing is not None:
                checks.append(unheld(name, "run", "available", f"skipped: {missing}"))
                continue
            before = len(checks)
            try:
                checks.extend(checks_of(name, metric))
                if len(checks) == before:
                    checks.append(unheld(name, "none", "has a check", UNCHECKED))
            except Exception as error:  # whatever a broken library raises is what the doctor is asked for
                note = (
                    str(error) if isinstance(error, RefbenchError | ImportError) else f"{type(error).__name__}: {error}"
                )
                checks.append(unheld(name, "run", "runs", note, passed=False))
    return checks
