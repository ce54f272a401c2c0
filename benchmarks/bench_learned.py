"""The learned metrics on seeded random networks of real size, against a plain loop over the original libraries.

Asked: all that a run with recovery needs (the outputs of two models, and the draft and the target as answers), by every
learned metric that has an original library, on the same crops. The plain loop passes both pictures of every pair
through every network, one sample at a time, as evaluation scripts do. refbench passes an output once for each network,
takes what depends on the truth (target, reference, draft) from disk after the first model, and knows that an output
which equals the target needs no pass. Values must be equal.

On a GPU 64 samples are the default; on a processor 2, because one pass of all networks takes some ten seconds there.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refbench.images import Image
from refbench.metrics import FeatureStore, Measurer
from refbench.metrics.learned.base import random_weights
from refbench.metrics.learned.plain import PLAIN
from refbench.schema import Truth
from refbench.trivial import trivial_answers

LEAST = 3.0
EQUAL = 2e-5
"""Largest difference: single precision in another order, and LPIPS' stored features in half precision."""


def pictures(count: int) -> list[Truth]:
    """Truths of the suite `core`, without its metadata."""
    from refbench.tasks.suite import load_suite

    suite = load_suite("core").select(limit=count)
    return [suite.truth(sample) for sample in suite.ids]


def answer(truth: Truth, share: float) -> Image:
    """A model's answer: between draft and target, with noise of its own outside that no two models share."""
    assert truth.draft is not None
    mixed = np.rint((1 - share) * truth.draft + share * truth.target).astype(np.int16)
    noise = np.random.default_rng(int(share * 1000)).integers(-1, 2, mixed.shape)
    return np.clip(mixed + noise, 0, 255).astype(np.uint8)


def ours(names: list[str], truths: list[Truth], outputs: list[Image], folder: str, device: str, size: int) -> Any:
    """Scores by refbench, from what the folder holds."""
    measurer = Measurer(names, device=device, batch_size=size, features=FeatureStore(folder), threads=1)
    return [{s.metric: s.value for s in found} for found in measurer.measure(truths, outputs)]


def plain(names: list[str], truths: list[Truth], outputs: list[Image], device: str) -> list[dict[str, float]]:
    """Values by the libraries, one sample and one metric at a time."""
    import torch

    with torch.inference_mode():
        return [
            {name: PLAIN[name](truth, output, device) for name in names}
            for truth, output in zip(truths, outputs, strict=True)
        ]


def timed(what: str, spent: dict[str, float], device: str, work: Callable[[], Any]) -> Any:
    """Run and add up wall time on a GPU, processor time elsewhere (the machine is shared)."""
    import torch

    clock = time.perf_counter if device != "cpu" else time.process_time
    start = clock()
    found = work()
    if device != "cpu":
        torch.cuda.synchronize()
    spent[what] = spent.get(what, 0.0) + clock() - start
    return found


def large_image(device: str) -> tuple[float, float]:
    """(seconds, peak memory in GB) of the local metrics on 4,000 x 3,000 px without a mask."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    target = np.ascontiguousarray(small.repeat(10, axis=0).repeat(10, axis=1))
    output = np.clip(target.astype(np.int16) + generator.integers(-9, 10, target.shape, dtype=np.int16), 0, 255)
    names = ["lpips_alex", "lpips_squeeze", "dists", "dreamsim_single"]
    if device != "cpu":  # VGG16 takes ten minutes of a processor for 12 megapixels
        names += ["lpips_vgg", "vgg_distance"]
    measurer = Measurer(names, device=device, batch_size=1, threads=1)
    start = time.perf_counter()
    measurer.measure([Truth("large", target, None, None, None)], [output.astype(np.uint8)])
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--metrics", default=",".join(name for name in PLAIN if name != "background_lpips"))
    parser.add_argument("--no-large", action="store_true", help="leave the 12-megapixel image out")
    parser.add_argument("--only-large", action="store_true", help="the 12-megapixel image alone")
    arguments = parser.parse_args()
    device, names = arguments.device, arguments.metrics.split(",")
    count = arguments.samples or (64 if device != "cpu" else 2)
    torch.set_num_threads(1)
    with random_weights(0):
        if arguments.only_large:
            seconds, peak = large_image(device)
            print(f"4,000 x 3,000 px: {seconds:.0f} s, peak memory of the process {peak:.2f} GB (limit 4)")
            return 0 if peak < 4.0 else 1
        truths = pictures(count)
        models = [[answer(truth, share) for truth in truths] for share in (0.35, 0.7)]
        answers = {name: [trivial_answers(truth)[name] for truth in truths] for name in ("draft", "target")}
        with tempfile.TemporaryDirectory() as folder:  # networks are built before the clock starts
            ours(names, truths[:1], models[0][:1], folder, device, 1)
        spent: dict[str, float] = {}
        worst: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            for place, outputs in enumerate(models):
                for what, pictures_of in (("outputs", outputs), *answers.items()):
                    theirs = timed("plain loop", spent, device, lambda: plain(names, truths, pictures_of, device))  # noqa: B023
                    if what != "outputs" and place > 0:
                        continue  # refbench keeps the answers' values from the first model on
                    found = timed(
                        f"refbench, model {place + 1}",
                        spent,
                        device,
                        lambda: ours(names, truths, pictures_of, folder, device, arguments.batch_size),  # noqa: B023
                    )
                    for one, two in zip(theirs, found, strict=True):
                        for name in names:
                            worst[name] = max(
                                worst.get(name, 0.0), abs(one[name] - two[name]) / max(1.0, abs(one[name]))
                            )
    kind = "wall" if device != "cpu" else "processor"
    print(f"{count} samples, {len(names)} metrics, {device}, {kind} s a sample for output, draft and target:")
    for what, seconds in spent.items():
        models_in = 2 if what == "plain loop" else 1
        print(f"  {what:20s} {seconds / count / models_in:.2f}")
    mine = sum(seconds for what, seconds in spent.items() if what != "plain loop")
    ratio = spent["plain loop"] / mine
    print(
        f"  two models: {ratio:.2f}x the plain loop (asked: {LEAST}); the second alone: "
        f"{spent['plain loop'] / 2 / spent['refbench, model 2']:.2f}x"
    )
    print("  largest difference: " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
    memory = (
        torch.cuda.max_memory_allocated() / 2**30
        if device != "cpu"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    print(f"  peak memory at --batch-size {arguments.batch_size}: {memory:.2f} GB")
    good = ratio >= LEAST and max(worst.values()) <= EQUAL
    if not arguments.no_large:
        import subprocess

        code = subprocess.run([sys.executable, __file__, "--only-large", "--device", device], check=False).returncode
        good = good and code == 0
    print("pass" if good else "FAIL")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
