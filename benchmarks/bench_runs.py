"""What a run costs beyond its model and metrics: `python benchmarks/bench_runs.py`; exit code 1 over a limit.

- Overhead: time of a sample in the two stages of an evaluation of the no-op model `identity`, less the time spent in
  decoding, encoding and measuring, taken in the same run, so that a busy machine disturbs both alike.
- Memory: peak of the evaluating process with 2,000 samples over that with 200.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

METRICS = ("psnr", "ssim", "squeeze", "palette", "background_mse", "seam")
"""On all axes, with and without a network."""


def procedural(folder: Path, samples: int, size: int) -> Path:
    """A suite of made-up pictures of `size` px, written as suites are."""
    from refbench import images
    from refbench.schema import SampleMeta
    from refbench.tasks.writing import file_entry, parquet_bytes, row_of, write_header

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    rows = []
    for number in range(samples):
        waves = np.sin(2 * np.pi * (rng.uniform(2, 9, 3) * x[..., None] + rng.uniform(2, 9, 3) * y[..., None]))
        target_webp = images.encode_webp(np.uint8(127 + 90 * waves), 90, method=0)
        target = images.decode_image(target_webp)
        mask = np.zeros((size, size), bool)
        mask[size // 4 : size * 5 // 8, size // 4 : size * 5 // 8] = True
        draft = np.where(mask[..., None], np.uint8(255) - target, target)
        reference_webp = images.encode_webp(np.ascontiguousarray(target[:, ::-1]), 90, method=0)
        meta = SampleMeta(
            id=f"pattern-refine-{number:05d}", task="pattern-refine", category="pattern", mode="refine",
            source_id=f"s{number // 4}", view="composed", degradation="inverted", strength=1.0, mask_kind="box",
            mask_share=float(mask.mean()), licence="CC0-1.0", attribution="", source="procedural", seed=number,
        )  # fmt: skip
        question = SimpleNamespace(
            meta=meta, prompt="Restore the pattern", draft=draft, target=target, mask=mask, reference_box=None,
            reference=images.decode_image(reference_webp), target_webp=target_webp, reference_webp=reference_webp,
        )  # fmt: skip
        rows.append(row_of(question, method=0))  # type: ignore[arg-type]
    files = {}
    for start in range(0, samples, 32):  # as an import writes
        data, name = parquet_bytes(rows[start : start + 32]), f"data/shard-{start // 32:05d}.parquet"
        images.write_atomic(folder / name, data)
        files[name] = file_entry(data)
    entries = [("pattern-refine", [(row["id"], row["sha256"]) for row in rows])]
    write_header(folder, "procedural", "1", entries, files)
    return folder


def fewer_metrics() -> None:
    from refbench.metrics import registry
    from refbench.registry import Registry

    registry.METRICS = Registry("metric", {name: registry.METRICS[name] for name in METRICS})


def evaluated(suite: Path, out: Path, progress: object = False) -> None:
    """A whole evaluation of `identity`."""
    from refbench.runs.api import evaluate

    evaluate("identity", suite, out=out, progress=progress)  # type: ignore[arg-type]


def now() -> np.ndarray:
    """(wall, processor) clock of this process, in ms."""
    return 1000 * np.array([time.perf_counter(), time.process_time()])


class Stages:
    """Time from the start of each stage to its last sample."""

    def __init__(self) -> None:
        self.spans: list[list[np.ndarray]] = []

    def start(self, stage: str, total: int, done: int) -> None:
        self.spans.append([now()] * 2)

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        self.spans[-1][1] = now()

    def note(self, text: str) -> None:
        print(text)

    @property
    def spent(self) -> np.ndarray:
        return sum(end - begin for begin, end in self.spans)  # type: ignore[return-value]


def overhead(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(wall, processor) milliseconds of harness a sample, and of all that a sample takes; the better of two runs."""
    from refbench import images
    from refbench.metrics.measurer import Measurer
    from refbench.runs import measure as stage
    from refbench.tasks.suite import Suite

    suite, samples, inside = procedural(folder / "overhead", 96, size), 96, np.zeros(2)

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal inside
            start = now()
            try:
                return function(*arguments, **options)
            finally:
                inside = inside + now() - start

        return call

    evaluated(suite, folder / "warm")  # imports, the answers, the doctor
    for owner, name in (
        (Suite, "sample"), (Suite, "truth"), (images, "encode_png"), (stage, "load_image"), (Measurer, "measure"),
    ):  # fmt: skip
        setattr(owner, name, timed(getattr(owner, name)))
    own, whole = [], []
    for number in range(2):
        inside, stages = np.zeros(2), Stages()
        evaluated(suite, folder / f"timed{number}", stages)
        own.append((stages.spent - inside) / samples)
        whole.append(stages.spent / samples)
    return np.min(own, axis=0), np.min(whole, axis=0)


def peak_mb(suite: Path, folder: Path) -> float:
    """Peak memory of a process that evaluates the suite, in MB."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "import bench_runs, resource\nfrom pathlib import Path\nbench_runs.fewer_metrics()\n"
        f"bench_runs.evaluated(Path({str(suite)!r}), Path({str(folder)!r}))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def suite_of(folder: Path, samples: int, size: int, assets: str | None) -> Path:
    """Generated by `refbench tasks generate` where there are prepared assets, else made up."""
    if assets is None:
        return procedural(folder, samples, size)
    from refbench.tasks.generate import generate

    generate(samples, folder, size=size, workers=2, assets=assets)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", help="folder of `refbench tasks assets`; without it pictures are made up")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures of the memory benchmark, px")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["REFBENCH_CACHE"] = f"{name}/cache"
        fewer_metrics()
        from timing import line, timed

        own, whole = overhead(folder, 384)
        print(f"a sample of 384 px takes {whole[0]:.1f} ms ({whole[1]:.1f} ms of processor), by {len(METRICS)} metrics")
        passed = [timed("of which harness", (float(own[0]), float(own[1])), 10, "ms")]
        few, many = (
            peak_mb(suite_of(folder / f"suite{n}", n, chosen.size, chosen.assets), folder / f"run{n}")
            for n in (200, 2000)
        )
        print(f"peak memory: {few:.0f} MB with 200 samples, {many:.0f} MB with 2,000")
        passed.append(line("peak memory, 2,000 over 200 samples", many / few, 1.10, "x"))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
