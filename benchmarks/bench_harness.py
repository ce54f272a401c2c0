"""What the wall around an adapter costs: milliseconds a sample for `identity` in its worker, and for a script.

    python benchmarks/bench_harness.py [--samples 64] [--size 400] [--json]

The bound (issue: "under 10 ms a sample beyond decode, encode and metrics") is checked for the worker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from refbench.adapters.load import open_contained
from refbench.adapters.scaffold import new_adapter
from refbench.schema import Inputs

BOUND_MS = 10.0


def made_up(count: int, size: int) -> list[Inputs]:
    """Noise images with a square mask; nothing compresses, which is the worst case for the script's PNGs."""
    generator = np.random.default_rng(0)
    mask = np.zeros((size, size), bool)
    mask[size // 4 : size // 2, size // 4 : size // 2] = True
    images = generator.integers(0, 256, (8, size, size, 3), np.uint8)
    return [Inputs(f"bench-{n:03d}", images[n % 8], images[(n + 1) % 8], mask, "nothing", seed=n) for n in range(count)]


def measure(spec: str, samples: list[Inputs], batch_size: int, runner: str = "auto") -> dict[str, float]:
    """Seconds to open, and the median milliseconds a sample of five passes."""
    start = time.perf_counter()
    with open_contained(spec, batch_size=batch_size, runner=runner) as contained:  # type: ignore[arg-type]
        opened = time.perf_counter() - start
        contained.refine_batch(samples[:4])
        passes = []
        for _ in range(5):
            start = time.perf_counter()
            done = contained.refine_batch(samples)
            passes.append((time.perf_counter() - start) / len(samples) * 1e3)
            if any(r.image is None for r in done):
                raise SystemExit(f"{spec}: a sample failed: {next(r.error for r in done if r.error)}")
    return {"open_s": round(opened, 3), "ms_per_sample": round(statistics.median(passes), 3)}


def main() -> int:
    """Measure and print; exit code 1 when the worker is over the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    samples = made_up(arguments.samples, arguments.size)
    results = {
        "worker, one by one": measure("identity", samples, 1),
        "worker, batches of 8": measure("identity", samples, 8),
    }
    with tempfile.TemporaryDirectory() as folder:
        script = new_adapter("bench-script", kind="script", out=Path(folder) / "bench_script.py")
        results["script, PNG both ways"] = measure(str(script), samples[:16], 1, "python")
    if arguments.json:
        sys.stdout.write(json.dumps({"size": arguments.size, "bound_ms": BOUND_MS, "results": results}) + "\n")
    else:
        for name, row in results.items():
            sys.stdout.write(f"{name:24s} {row['ms_per_sample']:7.2f} ms a sample   ({row['open_s']:.2f} s to open)\n")
    over = results["worker, one by one"]["ms_per_sample"] > BOUND_MS
    sys.stdout.write(f"bound for the worker: {BOUND_MS:g} ms: {'FAILED' if over else 'kept'}\n" * (not arguments.json))
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
