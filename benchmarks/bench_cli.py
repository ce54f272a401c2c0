"""Start-up times of the command line: `python benchmarks/bench_cli.py`; exit code 1 where a limit is missed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
REPEATS = 5


def seconds(arguments: list[str], where: str | Path | None = None) -> float:
    """Wall time of one `refbench` command, the best of five: the others were disturbed."""
    times = []
    command = [sys.executable, "-c", "import sys; from refbench.cli.main import main; sys.exit(main())", *arguments]
    root = str(Path(__file__).resolve().parents[1])
    command[2] = f"import sys; sys.path.insert(0, {root!r}); " + command[2]
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=where)
        times.append(time.perf_counter() - start)
    return min(times)


def line(what: str, value: float, limit: float, unit: str = "s") -> bool:
    """Print one result."""
    passed = value <= limit
    print(f"{what:<44} {value:8.3f} {unit:<4} limit {limit:g} {unit:<4} {'pass' if passed else 'FAIL'}")
    return passed


def main() -> int:
    import os

    from bench_runs import procedural

    passed = [line("refbench --help", seconds(["--help"]), 0.4)]
    for what in ("models", "metrics", "tasks"):
        arguments = ["list", what]
        if what == "tasks" and not (Path(__file__).resolve().parents[1] / "tasks" / "core" / "suite.json").exists():
            arguments += ["--suite", str(procedural(Path(tempfile.mkdtemp()) / "s", 16, 96))]
        passed.append(line(f"refbench {' '.join(arguments[:2])}", seconds(arguments), 1.0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("REFBENCH_CACHE", f"{folder}/cache")
        suite = procedural(Path(folder) / "suite", 16, 96)
        command = ["eval", "--model", "identity", "--suite", str(suite), "--json"]
        root = Path(__file__).resolve().parents[1]
        subprocess.run(
            [sys.executable, "-m", "refbench", *command],
            check=True, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        passed.append(line("a finished evaluation, run again", seconds(command, folder), 2.0))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
