"""The runs as functions: evaluate a model on a suite, measure a run again, measure one image."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.devices import AUTO, resolve
from refbench.errors import RefbenchError
from refbench.plaintext import check_utf8
from refbench.runs import engine
from refbench.runs.aggregate import aggregate_seeds
from refbench.runs.engine import metric_state
from refbench.runs.executors.contract import Placement, placed
from refbench.runs.folder import RunFolder
from refbench.runs.generate import failures
from refbench.runs.passes import chain, left_to_spend
from refbench.runs.plan import RunOptions, model_slug
from refbench.runs.progress import Progress, showing
from refbench.runs.result import Result
from refbench.runs.storage import Local, joined
from refbench.runs.suites import open_suite, suite_of
from refbench.runs.tracking import Tracked, scores_of
from refbench.schema import SampleRecord, Score
from refbench.trackers import Tracking, tracking

if TYPE_CHECKING:
    from refbench.pictures import Marked, Picture
    from refbench.tasks.suite import Suite

__all__ = ["Result", "evaluate", "evaluate_all", "generate_only", "measure", "metric_state", "score"]

Place = str | os.PathLike[str]


def evaluate(
    model: Place,
    suite: Place = "core",
    *,
    out: Place | None = None,
    progress: bool | Progress = False,
    log: str | None = None,
    **options: Any,
) -> Result:
    """Run a model on a suite and score it: generate, measure, aggregate.

    What an earlier start has finished is kept; a finished run is returned at once.

    Args:
        model: a registered name, file.py, file.py:Class, or a folder of PNGs named by sample id.
        suite: "core", "mini", or a folder with suite.json.
        out: the run folder; by default ``runs/<suite>/<model>``. Of several passes, that of the last; the others are
            beside it.
        progress: True for a bar on stderr, or an object of your own.
        log: a tracker that is told of progress and scores: "trackio", "tensorboard" or "wandb".
        **options: the other fields of :class:`refbench.runs.plan.RunOptions`, e.g. ``limit=20, workers=2,
            options={"steps": 8}``; `device` is "auto" by default.

    Raises:
        RefbenchError: wrong input, a run folder of something else, or every sample failed.
    """
    return _repeated(_options(model, suite, options), out, progress, tracking(log))


def evaluate_all(
    models: Sequence[str],
    suite: Place = "core",
    *,
    out: Place | None = None,
    progress: bool | Progress = False,
    log: str | None = None,
    **options: Any,
) -> list[Result]:
    """:func:`evaluate` for several models, one after the other; with several, `out` holds one run folder for each.

    Raises:
        RefbenchError: as :func:`evaluate`; unknown models are told before the first one starts.
    """
    if not models:
        raise RefbenchError("Expected the name of at least one model, but none came; see 'refbench list models'.")
    track = tracking(log)
    asked = [_options(model, suite, options) for model in models]
    folders = [out if out is None or len(models) == 1 else joined(out, model_slug(one.spec)) for one in asked]
    if out is not None and len(set(folders)) < len(folders):
        raise RefbenchError("Expected models of different names, but two would share a run folder; run them apart.")
    return [_repeated(one, folder, progress, track) for one, folder in zip(asked, folders, strict=True)]


def generate_only(
    model: Place, suite: Place = "core", *, out: Place | None = None, progress: bool | Progress = False, **options: Any
) -> tuple[Path | str, list[SampleRecord]]:
    """The first stage of :func:`evaluate` alone.

    Returns:
        The run folder and the records of the samples that failed.
    """
    asked = _options(model, suite, options)
    chosen, runs = _opened(asked, out)
    with showing(progress) as shown:
        for number, (one, folder) in enumerate(runs):
            left = left_to_spend(asked.max_cost_usd, [before for _, before in runs[:number]])
            with folder.locked():
                manifest = engine.generated(folder, chosen, one, left, shown)
    return folder.told, failures(folder, manifest)


def score(
    run: str | os.PathLike[str],
    *,
    suite: str | os.PathLike[str] | None = None,
    metrics: Sequence[str] | None = None,
    device: str | None = None,
    placement: Placement | None = None,
    progress: bool | Progress = False,
) -> Result:
    """Measure and aggregate a generated run; only what is missing or defined anew is measured.

    Args:
        run: the run folder.
        suite: where its suite is, if not where the manifest says.
        metrics: measure at least these (also "default", "learned", "all"); None means the default ones and what was
            measured before.
        device: where learned metrics run; None takes the run's.
        placement: where it is measured; None is one process here.
        progress: as in :func:`evaluate`.

    Raises:
        RefbenchError: no run there, not generated to the end, or the suite has another hash.
    """
    folder, manifest = RunFolder.open(run)
    whole = suite_of(manifest, run, None if suite is None else os.fspath(suite))
    spread = placement or Placement()
    where = placed(device or manifest.device, spread)
    with showing(progress) as shown, folder.locked():
        names = engine.wanted(folder, manifest, None) if metrics is None else [*manifest.metric_cards, *metrics]
        return engine.scored(folder, whole, manifest, names, where, spread, shown)


def measure(
    output: Picture,
    target: Picture,
    reference: Picture | None = None,
    mask: Marked | None = None,
    draft: Picture | None = None,
    metrics: Sequence[str] | None = None,
    *,
    device: str = AUTO,
) -> list[Score]:
    """Measure one image against its target.

    Without a mask the region of every metric is `full`. Metrics that need something that is not given are left out,
    unless they are asked for by name.

    Args:
        output: a path, a PIL image of any mode, or (H, W, 3) uint8 sRGB.
        target: of the same size.
        reference: of any size; the metrics of reference alignment need it.
        mask: a path or PIL image in black and white, or (H, W) bool; true where the detail was to be put right.
        draft: of the same size; the metrics of what was left alone need it.
        metrics: names; None means every metric that is available here.
        device: where learned metrics run, as in :func:`evaluate`.

    Raises:
        RefbenchError: unknown metric (with near names), a picture that cannot be read, sizes that differ, an empty or
            full mask, or a metric asked for by name that needs more than is given.
    """
    from refbench.runs.single import measure_files

    return measure_files(output, target, reference, mask, draft, metrics, device=resolve(device))


# ---- parts of the above


def _options(model: Place, suite: Place, given: dict[str, Any]) -> RunOptions:
    asked = RunOptions(os.fspath(model), os.fspath(suite), **{"device": AUTO, **given})
    return asked.on(placed(asked.device, asked.placement))


def _opened(options: RunOptions, out: Place | None) -> tuple[Suite, list[tuple[RunOptions, RunFolder]]]:
    if out is not None:
        check_utf8(os.fspath(out), "--out")
    chosen = open_suite(options.suite).select(tasks=options.tasks, limit=options.limit)
    return chosen, chain(options, chosen, out)


def _repeated(options: RunOptions, out: Place | None, progress: bool | Progress, track: Tracking) -> Result:
    if options.seeds == 1:
        return _evaluated(options, out, progress, track)
    results = []
    for one in options.repetitions():
        place = out
        if out is not None and one.seed != options.seed:
            place = f"{os.fspath(out).rstrip('/')}+seed-{one.seed}"
        results.append(_evaluated(one, place, progress, track))
    summary = aggregate_seeds([RunFolder(one.folder) for one in results], open_suite(options.suite))
    fresh, failed = any(one.fresh for one in results), tuple(record for one in results for record in one.failed)
    return dataclasses.replace(results[0], summary=summary, fresh=fresh, failed=failed, seeds=tuple(results))


def _evaluated(options: RunOptions, out: Place | None, progress: bool | Progress, track: Tracking) -> Result:
    chosen, runs = _opened(options, out)
    results: list[Result] = []
    with showing(progress) as shown:
        for one, folder in runs:
            before = [folder for _, folder in runs[: len(results)]]
            facts = {"model": one.model, "suite": chosen.name, "suite_hash": chosen.hash, "seed": one.seed}
            place = folder.path if isinstance(folder.storage, Local) else Path("runs") / folder.name
            opened = partial(track, f"{chosen.name}-{folder.name}", place, facts)
            with closing(Tracked(shown, opened)) as told:
                results.append(_one(one, chosen, folder, before, told))
                told.tell(scores_of(results[-1].summary))
    return results[-1] if options.passes == 1 else dataclasses.replace(results[-1], passes=tuple(results))


def _one(options: RunOptions, suite: Suite, folder: RunFolder, before: Sequence[RunFolder], shown: Progress) -> Result:
    found = None if options.retry_failed or options.overwrite else engine.finished(folder, suite, options)
    if found is not None:
        return found
    left = left_to_spend(options.max_cost_usd, before)
    with folder.locked():
        manifest = engine.generated(folder, suite, options, left, shown)
        names = engine.wanted(folder, manifest, options.metrics)
        return engine.scored(folder, suite, manifest, names, options.device, options.placement, shown)
