"""Start-up times of the command line: `python benchmarks/bench_cli.py`; exit code 1 where a limit is missed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
REPEATS = 5


def seconds(arguments: list[str], where: str | Path | None = None) -> tuple[float, float]:
    """(wall, processor) time of one `refbench` command, each the best of five: the others were disturbed."""
    walls, processors = [], []
    root = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); from refbench.cli.main import main; sys.exit(main())"
    for _ in range(REPEATS):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=where)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(processors)


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


def main() -> int:
    from bench_runs import procedural

    passed = [timed("refbench --help", seconds(["--help"]), 0.4)]
    for what in ("models", "metrics", "tasks"):
        arguments = ["list", what]
        if what == "tasks" and not (Path(__file__).resolve().parents[1] / "tasks" / "core" / "suite.json").exists():
            arguments += ["--suite", str(procedural(Path(tempfile.mkdtemp()) / "s", 16, 96))]
        passed.append(timed(f"refbench {' '.join(arguments[:2])}", seconds(arguments), 1.0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("REFBENCH_CACHE", f"{folder}/cache")
        suite = procedural(Path(folder) / "suite", 16, 96)
        command = ["eval", "--model", "identity", "--suite", str(suite), "--json"]
        root = Path(__file__).resolve().parents[1]
        subprocess.run(
            [sys.executable, "-m", "refbench", *command],
            check=True, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        passed.append(timed("a finished evaluation, run again", seconds(command, folder), 2.0))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
