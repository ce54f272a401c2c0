"""Measuring: a plain loop over the same libraries, against the Measurer on a first and on a second model.

    python benchmarks/bench_measure.py [--suite core] [--limit N]

The plain loop calls each metric's second library image by image and shares nothing, on the threads that
the libraries take by default. The first model starts with an empty feature store. What depends on the truth alone is
then known to the second: the features of target, reference and draft, and the scores of the trivial answers and of the
target, which a recovery needs and which are measured once for a suite. Half of the outputs also change the background,
as editors without paste-back do. Prints the ratios, with and without the answers, and the largest difference of each
metric's values; exits 1 where a ratio misses its bound by both clocks (on a busy machine the wall clock measures the
others), or a difference does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from refbench.baselines import baseline_images
from refbench.images import Image
from refbench.metrics import FeatureStore, Measurer
from refbench.metrics.audit import picture_truths
from refbench.metrics.checks import by_piq
from refbench.metrics.registry import make_metrics
from refbench.schema import Score, Truth

SECOND = {name: metric.second.number for name, metric in make_metrics().items() if metric.second is not None}
"""Metric -> the same number by libraries."""
USUAL = SECOND | {name: by_piq(function).number for name, function in (("vifp", "vif_p"), ("fsimc", "fsim"))}
"""The same as one would call it, piq in single precision; compared is the double one, which is off by less."""
LEAST_FIRST, LEAST_SECOND, MOST_DIFFERENCE = 4.0, 2.0, 1e-5
TURN = 4


def clock(work: Callable[[], object]) -> tuple[float, float, object]:
    """(wall seconds, CPU seconds, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def model(truths: list[Truth], seed: int) -> list[Image]:
    """Outputs that differ from draft and target: a noisy blend inside, and outside too on every second sample."""
    generator = np.random.default_rng(seed)
    outputs = []
    for number, truth in enumerate(truths):
        draft = truth.draft if truth.draft is not None else truth.target
        mixed = 0.5 * draft + 0.5 * truth.target + generator.normal(0, 3, truth.target.shape)
        output = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        if number % 2 == 0 and truth.mask is not None:
            output = np.where(truth.mask[..., None], output, truth.target)
        outputs.append(output)
    return outputs


def plain_loop(truths: list[Truth], outputs: list[Image], measurer: Measurer) -> list[dict[str, float | None]]:
    """Every metric of every sample, by straight library calls."""
    found = []
    for truth, output in zip(truths, outputs, strict=True):
        lacking = measurer.lacking(truth)
        found.append(
            {name: USUAL[name](truth, output) for name in measurer.cards if name in USUAL and name not in lacking}
        )
    return found


def measure_answers(truths: list[Truth], store: FeatureStore) -> None:
    """Draft and target by all metrics, each other answer by the metrics whose cards call it trivial."""
    measurer = Measurer(features=store)
    for answer in ("draft", "target", "paste", "stretch"):
        names = [n for n, card in measurer.cards.items() if answer in ("draft", "target", card.trivial)]
        Measurer(names, features=store).measure(truths, [baseline_images(truth)[answer] for truth in truths])


def differences(
    truths: list[Truth], outputs: list[Image], plain: list[dict[str, float | None]], ours: list[list[Score]]
) -> dict[str, float]:
    """Largest difference a metric, with piq in double precision where single is not enough."""
    worst: dict[str, float] = {}
    for truth, output, values, scores in zip(truths, outputs, plain, ours, strict=True):
        by_name = {score.metric: score.value for score in scores}
        for name, value in values.items():
            if SECOND[name] is not USUAL[name]:
                value = SECOND[name](truth, output)
            if value is None or name not in by_name:
                worst[name] = max(worst.get(name, 0.0), 0.0 if value is None and name not in by_name else np.inf)
            elif value != by_name[name]:
                worst[name] = max(worst.get(name, 0.0), abs(value - by_name[name]))
            else:
                worst.setdefault(name, 0.0)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="core")
    parser.add_argument("--limit", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.suite == "pictures":
        truths = picture_truths()[: arguments.limit]
    else:
        from refbench.tasks.suite import load_suite

        suite = load_suite(arguments.suite).select(limit=arguments.limit)
        truths = [suite.truth(sample) for sample in suite.ids]
    first, second = model(truths, 1), model(truths, 2)
    warm = Measurer()
    warm.measure(truths[:1], first[:1])
    plain_loop(truths[:1], first[:1], warm)

    # In turns of four samples, so that whatever else the machine does falls on all alike.
    spent = {"plain loop, outputs": [0.0, 0.0], "first model, outputs": [0.0, 0.0]}
    spent |= {"its suite's answers": [0.0, 0.0], "second model": [0.0, 0.0]}
    plain: list[dict[str, float | None]] = []
    ours: list[list[Score]] = []

    def timed(what: str, work: Callable[[], Any]) -> Any:
        wall, cpu, result = clock(work)
        spent[what][0] += wall
        spent[what][1] += cpu
        return result

    with tempfile.TemporaryDirectory() as folder:
        early = FeatureStore(folder)
        for at in range(0, len(truths), TURN):
            some, one, two = truths[at : at + TURN], first[at : at + TURN], second[at : at + TURN]
            late = FeatureStore(folder)
            plain += timed("plain loop, outputs", lambda: plain_loop(some, one, warm))  # noqa: B023
            ours += timed("first model, outputs", lambda: Measurer(features=early).measure(some, one))  # noqa: B023
            timed("its suite's answers", lambda: measure_answers(some, early))  # noqa: B023
            timed("second model", lambda: Measurer(features=late).measure(some, two))  # noqa: B023
    count = len(truths)
    print(f"{count} samples, {len(warm.cards)} metrics, {warm.threads} threads; wall s (CPU s) a sample")
    for what, (wall, cpu) in spent.items():
        print(f"  {what:21s} {wall / count:.3f} ({cpu / count:.3f})")
    loop, one_model, answers, two_model = (np.array(spent[what]) for what in spent)
    ratios = {
        "first over plain, outputs alone": (loop / one_model, LEAST_FIRST),
        "second over first, outputs alone": (one_model / two_model, 0.0),
        "second over first, with answers": ((one_model + answers) / two_model, LEAST_SECOND),
    }
    for what, (ratio, least) in ratios.items():
        print(f"  {what:33s} {ratio[0]:.1f}x wall, {ratio[1]:.1f}x CPU" + (f" (at least {least:g}x)" if least else ""))
    worst = differences(truths, first, plain, ours)
    for name, value in worst.items():
        print(f"  {name:18s} largest difference {value:.1e}")
    good = all(ratio.max() >= least for ratio, least in ratios.values()) and max(worst.values()) <= MOST_DIFFERENCE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
