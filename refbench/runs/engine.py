"""One run from its options to its result: what is there is kept, what is missing is generated, measured, aggregated."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refbench.cache import cache_folder
from refbench.errors import RefbenchError
from refbench.runs import environment
from refbench.runs.aggregate import RunSummary, aggregate, read_summary
from refbench.runs.executors import executor_of
from refbench.runs.executors.contract import Hello, Placement
from refbench.runs.folder import RESPONSES, RunFolder
from refbench.runs.generate import Drafts, GenerateSetup, failures, generate, jobs_for, unfinished
from refbench.runs.plan import RunOptions, content_of
from refbench.runs.progress import Progress
from refbench.runs.result import Result
from refbench.runs.resume import changed, going_on, refuse_mixed, refuse_other_run, refuse_own_outputs
from refbench.runs.storage import Local
from refbench.runs.suites import SuiteAt, recorded
from refbench.schema import SCORE_VERSION, AdapterCard, MetricCard, RunManifest

if TYPE_CHECKING:
    from refbench.adapters.contract import Account
    from refbench.adapters.spec import Spec
    from refbench.tasks.suite import Suite


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


def wanted(folder: RunFolder, manifest: RunManifest, metrics: Sequence[str] | None) -> list[str]:
    """The default metrics, those that this run was measured with before, and those asked for."""
    from refbench.metrics.registry import METRICS, default_metrics, expanded
    from refbench.runs.suitewide import measured_before

    before = (*manifest.metric_cards, *manifest.unavailable, *measured_before(folder))
    return expanded([*default_metrics(), *(name for name in before if name in METRICS), *(metrics or ())])


def finished(folder: RunFolder, suite: Suite, options: RunOptions) -> Result | None:
    """The result of a run that needs nothing any more, found without importing torch."""
    if not folder.exists():
        return None
    manifest = folder.read_manifest()
    refuse_other_run(manifest, options, suite, folder.place)
    if changed(manifest, options) or unfinished(folder, manifest, False):
        return None
    from refbench.metrics.contract import card_hash
    from refbench.metrics.registry import SUITE_LEVEL

    cards, unavailable = metric_state(wanted(folder, manifest, options.metrics), suite.targets)
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
    return Result(folder.told, summary, fresh, failed, dict(manifest.unavailable), tuple(suite_level))


def generated(
    folder: RunFolder, suite: Suite, options: RunOptions, max_cost_usd: float | None, progress: Progress
) -> RunManifest:
    """Write or check the manifest, fill in what is missing, and refuse to go on where nothing worked.

    Args:
        folder: locked.
        suite: the samples to answer.
        options: of this run.
        max_cost_usd: what may be spent here; of several passes, what those before leave.
        progress: told of each sample.

    Raises:
        RefbenchError: a run of something else is there, the model does not start, or every sample failed.
    """
    if options.overwrite:
        refuse_own_outputs(folder, options)
    manifest = going_on(folder, suite, options) if folder.exists() and not options.overwrite else None
    left = None if manifest is None else unfinished(folder, manifest, options.retry_failed, repair=True)
    if manifest is None or left:
        manifest = _filled(folder, suite, options, manifest, left, max_cost_usd, progress)
    failed = failures(folder, manifest)
    if len(failed) == len(manifest.samples):
        raise RefbenchError(
            f"Expected at least one image from {options.model}, but all {len(failed)} samples failed (first: "
            f"{failed[0].error}); all are recorded in {folder.place}, so correct the model and add --retry-failed."
        )
    return manifest


def _filled(
    folder: RunFolder,
    suite: Suite,
    options: RunOptions,
    manifest: RunManifest | None,
    left: set[str] | None,
    max_cost_usd: float | None,
    progress: Progress,
) -> RunManifest:
    """Open the model and let it answer what is left of the plan; `left` None is all of it, of a run that is new."""
    planned = suite.ids if manifest is None else manifest.samples
    todo = set(planned) if left is None else left
    jobs = jobs_for(planned, todo, options.batch_size)
    setup = _generating(folder, suite, options, max_cost_usd)
    with executor_of(options.placement).pool(setup, jobs, progress.note) as pool:
        hello = pool.hello()
        card, isolation, pays = (hello.facts[name] for name in ("card", "isolation", "pays"))
        _refuse_price(options, folder, card, bool(pays), max_cost_usd)
        if manifest is None:
            if options.overwrite:
                folder.clear()
            manifest = _manifest(folder, suite, options, hello)
            folder.write_manifest(manifest)
        elif (manifest.card, manifest.isolation) != (card, isolation):
            refuse_mixed(folder, manifest, options, "its card")
            manifest = manifest.model_copy(update={"card": card, "isolation": isolation})
            folder.write_manifest(manifest)
        for remark in hello.facts["remarks"]:
            progress.note(remark)
        generate(folder, suite, manifest, todo, pool, progress)
    return manifest


def _generating(folder: RunFolder, suite: Suite, options: RunOptions, max_cost_usd: float | None) -> GenerateSetup:
    from refbench.adapters.contract import Account

    placement, account = options.placement, None
    if isinstance(folder.storage, Local) and not placement.elsewhere:
        account = Account((folder.path / RESPONSES).resolve(), max_cost_usd, options.retry_failed)
    workers = placement.workers
    threads = placement.cpus() if placement.elsewhere else max(1, environment.cores() // workers)
    opener = OpenModel(
        spec=options.spec,
        content=options.content,
        devices=placement.devices(options.device),
        batch_size=options.batch_size,
        timeout_s=options.timeout_s,
        options=options.options or {},
        threads=threads if workers > 1 or placement.elsewhere else None,
        account=account,
    )
    drafts = None
    if options.drafts is not None:
        before = folder.beside(options.drafts).shared()
        drafts = Drafts(before, before.read_records())
    at = SuiteAt(recorded(options.suite), suite.hash) if placement.elsewhere else suite
    asked = [folder.whole_place, suite.hash, options.model, options.arguments, options.seed, options.batch_size]
    identity = hashlib.sha256(json.dumps(["generate", *asked, options.device]).encode()).hexdigest()[:16]
    return GenerateSetup(at, options.seed, opener, drafts, options.device, identity)


@dataclass(frozen=True)
class OpenModel:
    """Opens the model of a run behind a wall, for a worker's number."""

    spec: Spec
    content: str | None
    """Of the model as the run was asked for."""
    devices: tuple[str, ...]
    """Worker n takes the n-th, and again from the first."""
    batch_size: int
    timeout_s: float
    options: Mapping[str, Any]
    threads: int | None
    account: Account | None

    def __call__(self, number: int, /) -> contextlib.AbstractContextManager[Any]:
        """The contained adapter.

        Raises:
            RefbenchError: the model does not start, or is another one on this machine.
        """
        from refbench.adapters.load import open_contained

        if content_of(self.spec, self.options) != self.content:
            where = self.spec.path or ", ".join(map(str, self.options.values()))
            raise RefbenchError(
                f"Expected the model {self.spec.text} to be the same on every machine, but at {where} on "
                f"{socket.gethostname()} it is another; put it on a mount that all machines share."
            )
        return open_contained(
            self.spec,
            device=self.devices[number % len(self.devices)],
            batch_size=self.batch_size,
            timeout_s=self.timeout_s,
            options=self.options,
            threads=self.threads,
            account=self.account,
        )


def _refuse_price(
    options: RunOptions, folder: RunFolder, card: AdapterCard, pays: bool, max_cost_usd: float | None
) -> None:
    """Refuse what costs money where nothing would count it."""
    if pays and (options.placement.elsewhere or not isinstance(folder.storage, Local)):
        raise RefbenchError(
            f"Expected {options.model}, which costs money, to keep its account in a folder of this machine, but "
            f"{'the workers are elsewhere' if options.placement.elsewhere else f'{folder.place} is an address'}; use "
            "--executor local and a folder with --out."
        )
    if max_cost_usd is not None and card.price_per_image_usd and not pays:
        raise RefbenchError(
            f"Expected {options.model} to keep to --max-cost, but it has a price and no account "
            "(use_account, docs/adapters.md), so nothing would stop it; leave --max-cost out."
        )


def _manifest(
    folder: RunFolder,
    suite: Suite,
    options: RunOptions,
    hello: Hello,
) -> RunManifest:
    commit, dirty = environment.git_state()
    return RunManifest(
        run=folder.name,
        suite=suite.name,
        suite_version=str(suite.version),
        suite_hash=suite.hash,
        samples=tuple(suite.ids),
        model=options.model,
        card=hello.facts["card"],
        arguments={
            **options.arguments,
            "batch_size": options.batch_size,
            "workers": options.workers,
            "timeout_s": options.timeout_s,
        },
        isolation=hello.facts["isolation"],
        seed=options.seed,
        device=options.device,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=dict(hello.versions),
        git_commit=commit,
        git_dirty=dirty,
        hardware=dict(hello.hardware),
    )


def scored(
    folder: RunFolder,
    suite: Suite,
    manifest: RunManifest,
    names: Sequence[str],
    device: str,
    placement: Placement,
    progress: Progress,
) -> Result:
    """Measure and aggregate a generated run.

    Args:
        folder: locked.
        suite: of the run.
        manifest: of the run.
        names: the metrics to measure.
        device: where learned metrics run.
        placement: where it is measured.
        progress: told of each sample.
    """
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
        manifest,
        suite,
        cards,
        device=device,
        placement=placement,
        suite_place=str(manifest.arguments.get("suite", suite.folder)),
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
