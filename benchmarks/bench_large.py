"""Memory and time of one picture of 4,000 x 3,000 px, each set of metrics in a process of its own on one thread.

The embedded metrics are measured as `refbench measure` does it: reference, draft and a mask over most of the picture.
The learned metrics, all those with networks of torch, run on seeded random networks of real size, in one process: the
networks are let go one after another. Asked: under 4 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refbench.images import Image, resize
from refbench.metrics import Measurer
from refbench.metrics.learned.base import random_weights
from refbench.metrics.measurer import measure_one
from refbench.schema import Truth

LIMIT_GB = 4.0
HEIGHT, WIDTH = 3000, 4000
LEARNED = [
    *("lpips_alex", "lpips_squeeze", "background_lpips", "lpips_vgg", "vgg_distance", "dists"),
    *("dreamsim", "dreamsim_single", "dreamsim_reference", "clip_target", "clip_i", "clip_i_b32"),
    *("dinov2_target", "dinov2", "dinov2_small"),
]


def truth() -> Truth:
    """The first sample of `core` enlarged to 12 megapixels, its reference as well, with a mask over most of it."""
    from refbench.tasks.suite import load_suite

    suite = load_suite("core")
    small = suite.truth(suite.ids[0])
    assert small.draft is not None
    assert small.reference is not None
    target, draft, reference = (
        resize(np.ascontiguousarray(image), (HEIGHT, WIDTH)) for image in (small.target, small.draft, small.reference)
    )
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[150:-150, 150:-150] = True
    return Truth("large", target, draft, reference, mask)


def answer(large: Truth) -> Image:
    """Between draft and target, with noise everywhere."""
    assert large.draft is not None
    noise = np.random.default_rng(0).integers(-4, 5, large.target.shape, dtype=np.int8)
    mixed = large.draft // 2 + large.target // 2
    mixed = np.clip(mixed.astype(np.int16) + noise, 0, 255)
    return mixed.astype(np.uint8)


def measured(which: str, device: str) -> int:
    """Measure one set here and print what it took."""
    large = truth()
    output = answer(large)
    start, used = time.perf_counter(), time.process_time()
    if which == "embedded":
        scores = measure_one(output, large.target, large.reference, large.mask, large.draft)
    else:
        with random_weights(0):
            scores = Measurer(LEARNED, device=device, batch_size=1, threads=1).measure([large], [output])[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{which}: {len(scores)} metrics of {WIDTH:,} x {HEIGHT:,} px, {time.process_time() - used:.0f} s of a ", end=""
    )
    print(f"processor, {time.perf_counter() - start:.0f} s in all, peak memory {peak:.2f} GB (limit {LIMIT_GB:.0f})")
    return 0 if peak < LIMIT_GB else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=["embedded", "learned"], default=None, help="one of the two, in this process")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.set:
        return measured(arguments.set, arguments.device)
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    codes = [
        subprocess.run(
            [sys.executable, __file__, "--set", which, "--device", arguments.device], env=settings
        ).returncode
        for which in ("embedded", "learned")
    ]
    print("FAIL" if any(codes) else "pass")
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
