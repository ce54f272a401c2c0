"""The learned metrics on seeded random networks of real size, against a plain loop over the original libraries.

The plain loop is what one writes by hand with lpips, piq, dreamsim, open_clip and transformers: for each model, each
sample and each metric, both pictures pass through the network. refbench passes an output once for each network, finds
what depends on the truth (target, reference, draft) on disk after the first model, and knows that an output which
equals the target needs no pass. Same crops, same networks, one thread each, under inference mode; values must be equal.

Two questions are answered for the same three models' outputs:
  outputs   the outputs alone;
  a run     the outputs, and what recovery asks for once a suite: the draft by every metric, and the target against the
            reference (against itself it is known, so that the plain loop does not compute it).

The set has 64 samples (`--samples`). A pass of all networks takes some ten seconds of a processor, so that there only
`--measured` of them (2) are timed, at even quantiles of the region's area, which the networks without a fixed size
depend on; a GPU times all. Each network's two sides take turns, so that a busy machine is busy for both; processor
time is counted on a processor, wall time on a GPU. What is printed for 64 samples is the mean of the timed ones x 64,
and says so. `--state FILE` keeps what is timed, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
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
from refbench.metrics.learned.base import forget_networks, random_weights
from refbench.metrics.learned.similarity import Similarity
from refbench.metrics.registry import make_metrics
from refbench.metrics.view import Known, View
from refbench.schema import Truth
from tests.metrics.learned_reference import PLAIN

LEAST = 3.0
"""Asked of a run of :data:`MODELS`: the plain loop's time over ours. Every model but the first is spared the truth's
passes, so that the ratio grows with the number of models; printed is also from how many on a run reaches it."""
MOST_MODELS = 9
"""Models on the committed board; the most that is computed for."""
EQUAL = 1e-5
"""Largest difference of a value: single precision in another order, and targets' stages in half precision."""
MODELS = 3
FAMILIES = {
    "CLIP ViT-L/14-336": ("clip_target", "clip_i"),
    "CLIP ViT-B/32": ("clip_i_b32",),
    "DINOv2 ViT-L/14": ("dinov2_target", "dinov2"),
    "DINOv2 ViT-S/14": ("dinov2_small",),
    "DreamSim ensemble": ("dreamsim", "dreamsim_reference"),
    "DreamSim single": ("dreamsim_single",),
    "VGG16 (LPIPS, distance)": ("lpips_vgg", "vgg_distance"),
    "VGG16 (DISTS)": ("dists",),
    "AlexNet": ("lpips_alex",),
    "SqueezeNet": ("lpips_squeeze",),
}
"""What shares a network."""
AGAINST_REFERENCE = ("clip_i", "clip_i_b32", "dinov2", "dinov2_small", "dreamsim_reference")


def pictures(count: int) -> list[Truth]:
    """Truths of the suite `core`."""
    from refbench.tasks.suite import load_suite

    suite = load_suite("core").select(limit=count)
    return [suite.truth(sample) for sample in suite.ids]


def area(truth: Truth) -> int:
    """Pixels of the region's box."""
    box = Known(truth).box
    return box[2] * box[3]


def chosen(truths: list[Truth], count: int) -> list[Truth]:
    """`count` of them at even quantiles of the region's area."""
    ordered = sorted(truths, key=area)
    return [ordered[int((at + 0.5) * len(ordered) / count)] for at in range(count)]


def answer(truth: Truth, model: int) -> Image:
    """A model's answer: between draft and target, with noise of its own outside that no two models share."""
    assert truth.draft is not None
    share = (model + 1) / (MODELS + 1)
    mixed = np.rint((1 - share) * truth.draft + share * truth.target).astype(np.int16)
    noise = np.random.default_rng(model).integers(-1, 2, mixed.shape)
    return np.clip(mixed + noise, 0, 255).astype(np.uint8)


def ours(names: list[str], truths: list[Truth], outputs: list[Image], folder: str, device: str, size: int) -> Any:
    """Scores by refbench as a new process would find them: from what the folder holds."""
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


def warm(names: list[str], truth: Truth, device: str) -> None:
    """Build the networks of both sides and pass one picture, before the clock starts."""
    assert truth.draft is not None
    plain(names, [truth], [truth.draft], device)
    for metric in make_metrics(names, device).values():
        if isinstance(metric, Similarity):
            metric.embedder.embed([truth.draft], device)
        else:
            metric.values([View(truth, truth.draft)])


def timed(device: str, work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and wall seconds on a GPU, processor seconds elsewhere (the machine is shared)."""
    import torch

    clock = time.perf_counter if device != "cpu" else time.process_time
    start = clock()
    found = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return found, clock() - start


def measure_batch(names: list[str], truths: list[Truth], device: str, size: int) -> dict[str, Any]:
    """Seconds a sample of each row by both ways, in turns, and the largest difference of each metric."""
    rows = [(f"model {at + 1}", [answer(truth, at) for truth in truths]) for at in range(MODELS)]
    answers = [("draft", [truth.draft for truth in truths]), ("target", [truth.target for truth in truths])]
    seconds: dict[str, dict[str, float]] = {"plain": {}, "refbench": {}}
    worst = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for what, outputs in [rows[0], *answers, *rows[1:]]:
            asked = [name for name in names if what != "target" or name in AGAINST_REFERENCE]
            theirs, took = timed(device, lambda: plain(asked, truths, outputs, device))  # noqa: B023
            seconds["plain"][what] = took / len(truths)
            mine, took = timed(device, lambda: ours(names, truths, outputs, folder, device, size))  # noqa: B023
            seconds["refbench"][what] = took / len(truths)
            for one, two in zip(theirs, mine, strict=True):
                for name in asked:
                    worst[name] = max(worst[name], abs(one[name] - two[name]))
    return {"seconds": seconds, "worst": worst}


def titled(what: str, models: int) -> str:
    """Name of a question about so many models."""
    return f"{what}, {models} model{'s' if models > 1 else ''}"


def scenarios(seconds: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """(plain, refbench) seconds a sample of each question; models beyond those timed count as the later ones' mean."""
    side = {}
    for who, row in seconds.items():
        first, later = row["model 1"], [row[f"model {at + 1}"] for at in range(1, MODELS)]
        following = float(np.mean([first, *later] if who == "plain" else later))
        once = row["draft"] + row["target"]
        side[who] = {
            titled(what, models): first + (models - 1) * following + extra
            for what, extra in (("outputs", 0.0), ("a run", once))
            for models in range(1, MOST_MODELS + 1)
        }
    return {what: (side["plain"][what], side["refbench"][what]) for what in side["plain"]}


def peak_gb() -> float:
    """Most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def batch_memory(names: list[str], count: int, device: str, size: int) -> tuple[float, float]:
    """(peak GB of the process, peak GB of the GPU) of all networks and one batch of the sample with the largest box."""
    import torch

    truth = max(pictures(count), key=area)
    outputs = [np.roll(answer(truth, 0), at, axis=1) for at in range(size)]
    Measurer(names, device=device, batch_size=size, threads=1).measure([truth] * size, outputs)
    return peak_gb(), torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else 0.0


def child(flag: str, arguments: argparse.Namespace) -> int:
    """This file again, in a process whose memory is its own."""
    options = [f"--{name}={getattr(arguments, name)}" for name in ("device", "samples", "families")]
    return subprocess.run(
        [sys.executable, __file__, flag, f"--batch-size={arguments.batch_size}", *options], check=False
    ).returncode


def collected(arguments: argparse.Namespace, truths: list[Truth]) -> list[dict[str, Any]]:
    """One record a family and batch: timed now, or found in the state file."""
    import torch

    done: dict[str, dict[str, Any]] = {}
    if arguments.state and Path(arguments.state).is_file():
        for line in Path(arguments.state).read_text().splitlines():
            record = json.loads(line)
            done[record["key"]] = record
    out = []
    for family in arguments.families.split("; "):
        names = list(FAMILIES[family])
        for start in range(0, len(truths), arguments.batch_size):
            batch = truths[start : start + arguments.batch_size]
            key = repr((family, [t.key for t in batch], arguments.device, torch.__version__, MODELS))
            if key not in done:
                warm(names, batch[0], arguments.device)
                record = measure_batch(names, batch, arguments.device, arguments.batch_size)
                done[key] = {"key": key, "family": family, "samples": len(batch), **record}
                if arguments.state:
                    with Path(arguments.state).open("a") as handle:
                        handle.write(json.dumps(done[key]) + "\n")
            out.append(done[key])
            sides = [sum(done[key]["seconds"][who].values()) for who in ("plain", "refbench")]
            print(f"  {family:24s} {start + len(batch):3d}/{len(truths)}  plain {sides[0]:7.2f} s  ", end="")
            print(f"refbench {sides[1]:6.2f} s a sample, all rows", flush=True)
        forget_networks()
        gc.collect()
    return out


def report(records: list[dict[str, Any]], samples: int, timed_on: int, kind: str) -> bool:
    """Print the ratios and differences; whether they are as asked."""
    total: dict[str, dict[str, float]] = {"plain": {}, "refbench": {}}
    worst: dict[str, float] = {}
    for record in records:
        for who, rows in record["seconds"].items():
            for what, seconds in rows.items():
                total[who][what] = total[who].get(what, 0.0) + seconds * record["samples"] / timed_on
        for name, value in record["worst"].items():
            worst[name] = max(worst.get(name, 0.0), value)
    for who, rows in total.items():
        print(
            f"  {who:8s} "
            + ", ".join(f"{what} {seconds:.2f}" for what, seconds in rows.items())
            + f" {kind} s a sample"
        )
    how = "timed" if timed_on == samples else f"{timed_on} of them timed, their mean x {samples}"
    print(
        f"{samples} samples ({how}), {len(worst)} metrics, {kind} s; {MODELS} models timed, more from the later ones:"
    )
    found = scenarios(total)
    ratios = {what: theirs / mine for what, (theirs, mine) in found.items()}
    for what, (theirs, mine) in found.items():
        if what in (titled(q, n) for q in ("outputs", "a run") for n in (1, MODELS, MOST_MODELS)):
            print(
                f"  {what:18s} plain {theirs * samples:8.0f} s  refbench {mine * samples:8.0f} s  {ratios[what]:.2f}x"
            )
    enough = [n for n in range(1, MOST_MODELS + 1) if ratios[titled("a run", n)] >= LEAST]
    print(f"asked: {LEAST:.0f}x; a run reaches it from {enough[0] if enough else 'over ' + str(MOST_MODELS)} models on")
    print("largest difference: " + ", ".join(f"{name} {value:.0e}" for name, value in worst.items()))
    return ratios[titled("a run", MODELS)] >= LEAST and max(worst.values()) <= EQUAL


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=64, help="of the set")
    parser.add_argument("--measured", type=int, default=None, help="how many are timed; 2 on a processor, all on a GPU")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--families", default="; ".join(FAMILIES), help="networks, '; ' between")
    parser.add_argument("--state", default=None, help="a file that keeps what is timed, to go on after a stop")
    parser.add_argument("--no-memory", action="store_true", help="leave out the measurement of memory")
    parser.add_argument("--only-memory", action="store_true", help="the memory of a batch alone")
    arguments = parser.parse_args()
    device, count = arguments.device, arguments.samples
    torch.set_num_threads(1)
    with random_weights(0):
        if arguments.only_memory:
            names = [name for family in arguments.families.split("; ") for name in FAMILIES[family]]
            peak, card = batch_memory(names, count, device, arguments.batch_size)
            print(f"--batch-size {arguments.batch_size}: peak memory of the process {peak:.2f} GB", end="")
            print(f", of the GPU {card:.2f} GB" if device != "cpu" else " (all networks loaded)")
            return 0
        truths = pictures(count)
        timed_on = min(arguments.measured or (count if device != "cpu" else 2), len(truths))
        records = collected(arguments, chosen(truths, timed_on))
    good = report(records, count, timed_on, "wall" if device != "cpu" else "processor")
    if not arguments.no_memory:
        good = child("--only-memory", arguments) == 0 and good
    print("pass" if good else "FAIL")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
