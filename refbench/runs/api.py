"""The runs as functions: evaluate a model on a suite, measure a run again, measure one image."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.cache import cache_folder
from refbench.devices import AUTO, resolve, spread
from refbench.errors import RefbenchError
from refbench.plaintext import check_utf8
from refbench.runs import environment
from refbench.runs.aggregate import RunSummary, aggregate, read_summary
from refbench.runs.folder import RESPONSES, RunFolder
from refbench.runs.generate import Opener, failures, generate, unfinished
from refbench.runs.passes import chain, left_to_spend
from refbench.runs.plan import Request, model_slug
from refbench.runs.progress import Progress, showing
from refbench.runs.resume import changed, going_on, refuse_mixed, refuse_other_run, refuse_own_outputs
from refbench.runs.suites import suite_of
from refbench.schema import SCORE_VERSION, MetricCard, RunManifest, SampleRecord, Score

if TYPE_CHECKING:
    from refbench.adapters.contract import Contained
    from refbench.pictures import Marked, Picture
    from refbench.tasks.suite import Suite


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run."""

    folder: Path
    summary: RunSummary
    fresh: bool
    """False when everything was there already and nothing was done."""
    failed: tuple[SampleRecord, ...] = ()
    """Records of the samples without an output."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Metric -> why it could not be measured and what to do."""
    suite_level: tuple[Mapping[str, Any], ...] = ()
    """Metrics of the run as a whole (FID, KID): name, value, samples, card."""
    passes: tuple[Result, ...] = ()
    """With several passes, the result after each; this is the last one's."""

    def __repr__(self) -> str:
        """The model, the suite and the mean with its interval, in a line."""
        data = self.to_json()
        cell = data["mean"] or {}
        mean, low, high = ("–" if cell.get(name) is None else f"{cell[name]:.1f}" for name in ("value", "low", "high"))
        failed = f", {data['failed']} failed" if data["failed"] else ""
        return f"<Result {data['model']} on {data['suite']}: {mean} [{low}, {high}], {data['samples']} samples{failed}>"

    def to_json(self) -> dict[str, Any]:
        """As ``refbench eval --json`` prints it."""
        more = {"suite_level": list(self.suite_level), "passes": [one.to_json() for one in self.passes]}
        return self.summary.to_json(str(self.folder)) | {name: found for name, found in more.items() if found}


def evaluate(
    model: str | os.PathLike[str],
    suite: str | os.PathLike[str] = "core",
    *,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = AUTO,
    batch_size: int = 1,
    workers: int = 1,
    out: str | os.PathLike[str] | None = None,
    timeout_s: float = 600.0,
    options: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    metrics: Sequence[str] | None = None,
    max_cost_usd: float | None = None,
    passes: int = 1,
    progress: bool | Progress = False,
) -> Result:
    """Run a model on a suite and score it: generate, measure, aggregate.

    What an earlier start has finished is kept; a finished run is returned at once.

    Args:
        model: a registered name, file.py, file.py:Class, or a folder of PNGs named by sample id.
        suite: "core", "mini", or a folder with suite.json.
        tasks: only these tasks.
        limit: only so many samples, taken from the tasks in turn.
        seed: of the run; each sample's own seed follows from it and the sample's id.
        device: where the model and the learned metrics run: "cpu", "cuda", "cuda:1", "mps", or "auto" for a GPU where
            there is one; the manifest has what it came to. Several workers with "cuda" take the visible GPUs in turn.
        batch_size: samples handed to the model at once.
        workers: model processes that generate, and processes that measure, at a time.
        out: the run folder; by default ``runs/<suite>/<model>``.
        timeout_s: longest time for one sample, in seconds.
        options: keyword arguments of the adapter.
        retry_failed: ask again for samples that failed in an earlier start; the model may have been mended, where no
            kept output could differ (none is kept, or it is a folder whose PNGs of the kept ones are the same).
        overwrite: start anew whatever run is in the folder; answers that were paid for are kept.
        metrics: to measure beside the default ones, e.g. ["lpips_alex"] or ["learned"].
        max_cost_usd: what a service may cost in this run, earlier starts included; it stops before more is spent.
        passes: how often; each pass gets the output of the one before as its draft, and is a run of its own: `out` is
            that of the last, the others are beside it.
        progress: True for a bar on stderr, or an object of your own.

    Raises:
        RefbenchError: wrong input, a run folder of something else, or every sample failed.
    """
    chosen, runs = _opened(_request(model, suite, tasks, limit, seed, device, options, passes), out)
    results: list[Result] = []
    with showing(progress) as shown:
        for request, folder in runs:
            found = None if retry_failed or overwrite else _finished(folder, chosen, request, metrics)
            if found is None:
                left = left_to_spend(max_cost_usd, [one.folder for one in results])
                with folder.locked():
                    manifest = _generate(
                        folder, chosen, request, batch_size, workers, timeout_s, retry_failed, overwrite, left, shown
                    )
                    names = _wanted(folder, manifest, metrics)
                    found = _score(folder, chosen, manifest, names, request.device, workers, shown)
            results.append(found)
    return results[-1] if passes == 1 else dataclasses.replace(results[-1], passes=tuple(results))


def evaluate_all(
    models: Sequence[str], *arguments: Any, out: str | os.PathLike[str] | None = None, **options: Any
) -> list[Result]:
    """:func:`evaluate` for several models, one after the other; with several, `out` holds one run folder for each.

    Raises:
        RefbenchError: as :func:`evaluate`; unknown models are told before the first one starts.
    """
    from refbench.adapters.spec import resolve as known

    for model in models:
        known(model)
    if not models:
        raise RefbenchError("Expected the name of at least one model, but none came; see 'refbench list models'.")
    folders = [out if out is None or len(models) == 1 else Path(out) / model_slug(model) for model in models]
    if out is not None and len(set(folders)) < len(folders):
        raise RefbenchError("Expected models of different names, but two would share a run folder; run them apart.")
    return [evaluate(model, *arguments, out=folder, **options) for model, folder in zip(models, folders, strict=True)]


def generate_only(
    model: str | os.PathLike[str],
    suite: str | os.PathLike[str] = "core",
    *,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = AUTO,
    batch_size: int = 1,
    workers: int = 1,
    out: str | os.PathLike[str] | None = None,
    timeout_s: float = 600.0,
    options: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    max_cost_usd: float | None = None,
    passes: int = 1,
    progress: bool | Progress = False,
) -> tuple[Path, list[SampleRecord]]:
    """The first stage of :func:`evaluate` alone.

    Returns:
        The run folder and the records of the samples that failed.
    """
    chosen, runs = _opened(_request(model, suite, tasks, limit, seed, device, options, passes), out)
    with showing(progress) as shown:
        for number, (request, folder) in enumerate(runs):
            left = left_to_spend(max_cost_usd, [one.path for _, one in runs[:number]])
            with folder.locked():
                manifest = _generate(
                    folder, chosen, request, batch_size, workers, timeout_s, retry_failed, overwrite, left, shown
                )
    return folder.path, failures(folder, manifest)


def score(
    run: str | os.PathLike[str],
    *,
    suite: str | os.PathLike[str] | None = None,
    metrics: Sequence[str] | None = None,
    device: str | None = None,
    workers: int = 1,
    progress: bool | Progress = False,
) -> Result:
    """Measure and aggregate a generated run; only what is missing or defined anew is measured.

    Args:
        run: the run folder.
        suite: where its suite is, if not where the manifest says.
        metrics: measure at least these (also "default", "learned", "all"); None means the default ones and what was
            measured before.
        device: where learned metrics run; None takes the run's.
        workers: processes that measure.
        progress: as in :func:`evaluate`.

    Raises:
        RefbenchError: no run there, not generated to the end, or the suite has another hash.
    """
    folder = RunFolder.open(run)
    manifest = folder.read_manifest()
    whole = suite_of(manifest, run, None if suite is None else os.fspath(suite))
    with showing(progress) as shown, folder.locked():
        names = _wanted(folder, manifest, None) if metrics is None else [*manifest.metric_cards, *metrics]
        return _score(folder, whole, manifest, names, resolve(device or manifest.device), workers, shown)


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


def metric_state(
    names: Sequence[str] | None = None, targets: bool = True
) -> tuple[dict[str, MetricCard], dict[str, str]]:
    """Cards of the metrics that can run here, and why the others cannot, found without loading what computes them.

    Args:
        names: these metrics, also the groups "default", "learned" and "all"; None means "default".
        targets: whether the suite has targets; without them what needs one cannot run.

    Raises:
        RefbenchError: an unknown name, with near names.
    """
    from refbench.metrics.registry import default_metrics, make_metrics
    from refbench.stats.gains import NO_TARGETS

    cards, unavailable = {}, {}
    for name, metric in make_metrics(default_metrics() if names is None else names).items():
        why = metric.missing() if targets or metric.target_free else NO_TARGETS
        if why is None:
            cards[name] = metric.card_once
        else:
            unavailable[name] = why
    return cards, unavailable


# ---- parts of the above


def _request(
    model: str | os.PathLike[str],
    suite: str | os.PathLike[str],
    tasks: Sequence[str] | None,
    limit: int | None,
    seed: int,
    device: str,
    options: Mapping[str, Any] | None,
    passes: int,
) -> Request:
    what = os.fspath(model), os.fspath(suite), tuple(tasks) if tasks else None
    return Request(*what, limit, seed, resolve(device), dict(options or {}), passes)


def _opened(request: Request, out: str | os.PathLike[str] | None) -> tuple[Suite, list[tuple[Request, RunFolder]]]:
    from refbench.adapters.spec import resolve as known
    from refbench.tasks.suite import load_suite

    known(request.model)  # an unknown model is told before a suite is read
    if out is not None:
        check_utf8(os.fspath(out), "--out")
    chosen = load_suite(request.suite).select(tasks=request.tasks, limit=request.limit)
    return chosen, chain(request, chosen, out)


def _wanted(folder: RunFolder, manifest: RunManifest, metrics: Sequence[str] | None) -> list[str]:
    """The default metrics, those that this run was measured with before, and those asked for."""
    from refbench.metrics.registry import METRICS, default_metrics, expanded
    from refbench.runs.suitewide import measured_before

    before = (*manifest.metric_cards, *manifest.unavailable, *measured_before(folder))
    return expanded([*default_metrics(), *(name for name in before if name in METRICS), *(metrics or ())])


def _finished(folder: RunFolder, suite: Suite, request: Request, metrics: Sequence[str] | None) -> Result | None:
    """The result of a run that needs nothing any more, found without importing torch."""
    if not folder.exists():
        return None
    manifest = folder.read_manifest()
    refuse_other_run(manifest, request, suite, folder.path)
    if changed(manifest, request) or unfinished(folder, manifest, False):
        return None
    from refbench.metrics.contract import card_hash
    from refbench.metrics.registry import SUITE_LEVEL

    cards, unavailable = metric_state(_wanted(folder, manifest, metrics), suite.targets)
    hashes = {name: card_hash(card) for name, card in cards.items() if name not in SUITE_LEVEL}
    measured = (manifest.metric_cards, manifest.unavailable, manifest.score_version)
    if measured != (hashes, unavailable, SCORE_VERSION):
        return None
    from refbench.runs.suitewide import read_suite_scores

    suite_level = read_suite_scores(folder, manifest, [name for name in cards if name in SUITE_LEVEL])
    summary = read_summary(folder)
    if summary is None or suite_level is None:
        return None
    return _result(folder, manifest, summary, fresh=False, suite_level=suite_level)


def _result(
    folder: RunFolder,
    manifest: RunManifest,
    summary: RunSummary,
    *,
    fresh: bool,
    suite_level: Sequence[Mapping[str, Any]] = (),
) -> Result:
    failed = tuple(failures(folder, manifest))
    return Result(folder.path, summary, fresh, failed, dict(manifest.unavailable), tuple(suite_level))


def _generate(
    folder: RunFolder,
    suite: Suite,
    request: Request,
    batch_size: int,
    workers: int,
    timeout_s: float,
    retry_failed: bool,
    overwrite: bool,
    max_cost_usd: float | None,
    progress: Progress,
) -> RunManifest:
    """Write or check the manifest, fill in what is missing, and refuse to go on where nothing worked."""
    from refbench.adapters.contract import Account
    from refbench.adapters.load import open_contained

    if max_cost_usd is not None and not max_cost_usd >= 0:
        raise RefbenchError(f"Expected a limit of 0 USD or more as --max-cost, but {max_cost_usd} came.")
    account = Account((folder.path / RESPONSES).resolve(), max_cost_usd, retry_failed)
    if workers < 1 or batch_size < 1:
        raise RefbenchError(
            f"Expected at least one worker and a batch of at least one, but {workers} and {batch_size} came."
        )
    manifest = None
    if overwrite:
        refuse_own_outputs(folder, request)
    if folder.exists() and not overwrite:
        manifest = going_on(folder, suite, request, retry_failed)
    if manifest is None or unfinished(folder, manifest, retry_failed, repair=True):

        def open_adapter(device: str) -> contextlib.AbstractContextManager[Contained]:
            return open_contained(
                request.model,
                device=device,
                batch_size=batch_size,
                timeout_s=timeout_s,
                options=request.options or {},
                threads=max(1, environment.cores() // workers) if workers > 1 else None,
                account=account,
            )

        with contextlib.ExitStack() as stack:
            mine, *others = spread(request.device, workers)
            first = stack.enter_context(open_adapter(mine))
            if max_cost_usd is not None and first.card.price_per_image_usd and not first.pays:
                raise RefbenchError(
                    f"Expected {request.model} to keep to --max-cost, but it has a price and no account "
                    "(use_account, docs/adapters.md), so nothing would stop it; leave --max-cost out."
                )
            if manifest is None:
                if overwrite:
                    folder.clear()
                manifest = _manifest(folder, suite, request, first, batch_size, workers, timeout_s)
                folder.write_manifest(manifest)
            elif (manifest.card, manifest.isolation) != (first.card, first.isolation):
                refuse_mixed(folder, manifest, request.model, retry_failed, "its card")
                manifest = manifest.model_copy(update={"card": first.card, "isolation": first.isolation})
                folder.write_manifest(manifest)
            for remark in first.remarks(suite.every, suite.ids):
                progress.note(remark)
            openers: list[Opener] = [lambda: contextlib.nullcontext(first)]
            openers += [functools.partial(open_adapter, device) for device in others]
            generate(folder, suite, openers, batch_size=batch_size, retry_failed=retry_failed, progress=progress)
    failed = failures(folder, manifest)
    if len(failed) == len(manifest.samples):
        raise RefbenchError(
            f"Expected at least one image from {request.model}, but all {len(failed)} samples failed (first: "
            f"{failed[0].error}); all are recorded in {folder.path}, so correct the model and add --retry-failed."
        )
    return manifest


def _manifest(
    folder: RunFolder,
    suite: Suite,
    request: Request,
    adapter: Contained,
    batch_size: int,
    workers: int,
    timeout_s: float,
) -> RunManifest:
    commit, dirty = environment.git_state()
    return RunManifest(
        run=folder.path.name,
        suite=suite.name,
        suite_version=str(suite.version),
        suite_hash=suite.hash,
        samples=tuple(suite.ids),
        model=request.model,
        card=adapter.card,
        arguments={**request.arguments, "batch_size": batch_size, "workers": workers, "timeout_s": timeout_s},
        isolation=adapter.isolation,
        seed=request.seed,
        device=request.device,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=environment.versions(),
        git_commit=commit,
        git_dirty=dirty,
        hardware=environment.hardware(request.device),
    )


def _score(
    folder: RunFolder,
    suite: Suite,
    manifest: RunManifest,
    names: Sequence[str],
    device: str,
    workers: int,
    progress: Progress,
) -> Result:
    """Measure and aggregate a generated run."""
    from refbench.metrics.contract import card_hash
    from refbench.metrics.registry import SUITE_LEVEL
    from refbench.runs import measure as stage
    from refbench.runs.suitewide import measure_suite_level

    cards, unavailable = metric_state(names, suite.targets)
    whole = [name for name in cards if name in SUITE_LEVEL]
    cards = {name: card for name, card in cards.items() if name not in whole}
    hashes = {name: card_hash(card) for name, card in cards.items()}
    fresh = stage.measure(
        folder,
        suite,
        str(suite.folder),
        cards,
        device=device,
        workers=workers,
        cache=cache_folder(),
        progress=progress,
    )
    measured = (manifest.metric_cards, manifest.unavailable, manifest.score_version)
    fresh |= measured != (hashes, unavailable, SCORE_VERSION)
    if fresh:
        from refbench.runs.health import doctor_result

        update = {
            "metric_cards": hashes,
            "unavailable": unavailable,
            "score_version": SCORE_VERSION,
            "doctor": doctor_result(cards, device),
        }
        manifest = manifest.model_copy(update=update)
        folder.write_manifest(manifest)
    fresh |= read_summary(folder) is None
    rows, new = measure_suite_level(folder, suite, manifest, whole, device=device, cache=cache_folder())
    summary = aggregate(folder, suite, manifest)
    return _result(folder, manifest, summary, fresh=fresh or new, suite_level=rows)
