"""How a measured time or size is told, beside what it may be: the lines of the benchmarks."""

from __future__ import annotations

import os


def timed(what: str, found: tuple[float, float], limit: float, unit: str = "s") -> bool:
    """Judge a command: by the clock, or on a machine with more work than cores by processor time, and say so."""
    wall, processor = found
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    judged = " (machine busy: processor time)" if busy and wall > limit else ""
    return line(what + judged, processor if judged else wall, limit, unit)


def line(what: str, value: float, limit: float, unit: str = "s") -> bool:
    """Print one result."""
    passed = value <= limit
    print(f"{what:<72} {value:8.3f} {unit:<4} limit {limit:g} {unit:<4} {'pass' if passed else 'FAIL'}")
    return passed
