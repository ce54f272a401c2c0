"""Verify an entry: open it safely, recompute every number from its images, let the model answer again.

Nothing in an entry is believed: files are compared with their hashes, the plan with the suite, every score
and every aggregated number with what the images give here, and some images with what the model gives here.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refbench import __version__
from refbench.cache import cache_folder
from refbench.errors import RefbenchError
from refbench.leaderboard import claims as c
from refbench.leaderboard import entry as e
from refbench.leaderboard.intake import (
    Package,
    entry_of,
    image_of,
    look_at_outputs,
    look_at_thumbs,
    only_outputs,
    package_of,
    suite_to_verify,
)
from refbench.leaderboard.refused import RefusedError
from refbench.leaderboard.regenerate import regenerate
from refbench.leaderboard.safety import opened
from refbench.leaderboard.textsafe import printable
from refbench.leaderboard.verdict import LISTED, ClaimDifference, Finding, Verdict
from refbench.results.run import meta_table
from refbench.runs.folder import RunFolder
from refbench.runs.progress import Progress, Silent
from refbench.schema import MetricCard
from refbench.stats.recovery import Summary, summarise

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite


@dataclass(frozen=True, slots=True)
class _Recomputed:
    scores: dict[c.Key, float]
    summary: Summary
    allowed: float


def verify(
    entry: str | os.PathLike[str],
    *,
    outputs: str | os.PathLike[str] | None = None,
    suite: str | Suite | None = None,
    samples: int = 3,
    adapter: str | None = None,
    metrics: Sequence[str] | None = None,
    device: str = "cpu",
    workers: int = 1,
    timeout_s: float = 600.0,
    progress: Progress | None = None,
    on_board: bool = False,
) -> Verdict:
    """Verify an entry and say what was found; no entry raises, whatever is in it.

    Args:
        entry: folder or zip.
        outputs: folder or zip of the outputs, for an entry that came without them.
        suite: name, folder or suite to verify against; by default the one the entry names.
        samples: how many samples the model answers again, where it can run here.
        adapter: file, file:Class or name of the model, where the entry's is not registered. It is foreign code:
            it runs without network and cannot see the suite, but run it only if you would run it anyway.
        metrics: the metrics an entry must have; None means all that make the score.
        device: where learned metrics run.
        workers: processes that measure.
        timeout_s: longest time for one regenerated sample, in seconds.
        progress: told of each sample that is measured.
        on_board: allow the board's own verdict.json beside the entry.

    Returns:
        The verdict: verified, differs, or refused with the name of the finding.
    """
    name, seal, suite_hash = "", "", ""
    try:
        with ExitStack() as stack:
            also = frozenset({e.VERDICT}) if on_board else frozenset()
            files = stack.enter_context(opened(Path(entry), also))
            content = entry_of(files)
            name, seal, suite_hash = content.name, content.seal, content.suite_hash
            if Path(entry).parent.name == e.ENTRIES and Path(entry).name != name:
                raise RefusedError(
                    "wrong-name",
                    f"Expected the entry '{printable(Path(entry).name, 64)}', but it calls itself '{name}'; rename the "
                    "folder.",
                )
            if outputs is not None:
                files = {**files, **only_outputs(stack.enter_context(opened(Path(outputs))), files)}
            whole = suite_to_verify(suite, content)
            package = package_of(content, files, whole)
            cards, lacking = _cards(package, metrics, whole.targets)
            rows = c.read_rows(files[e.SCORES], len(whole.ids), content.metric_cards)
            c.check_labels(rows, cards, {meta.id: meta.task for meta in whole.metas})
            claimed = {key: float(row["value"]) for key, row in rows.items()}
            notes = look_at_outputs(package, whole)
            found = _recompute(package, whole, cards, lacking, device, workers, progress or Silent())
            differences = c.compare_scores(claimed, found.scores, cards)
            compared, more = c.compare_claims(content.claims, found.summary, found.allowed)
            findings = _findings(package, claimed, found, differences, more, notes)
            same, sentence, wrong = regenerate(
                content,
                whole,
                lambda sample: image_of(package, whole, sample),
                [sample for sample, record in package.records.items() if record.status == "ok"],
                count=samples,
                adapter=adapter,
                hide=_outermost([*_data_folders(whole), cache_folder(), *_holders(files)]),
                timeout_s=timeout_s,
            )
            findings += wrong + look_at_thumbs(package, whole)
            ordered = sorted([*more, *differences], key=lambda one: -one.excess)
            return Verdict(
                verdict="differs" if findings else "verified",
                entry=name,
                seal=seal,
                suite_hash=suite_hash,
                findings=tuple(findings),
                notes=tuple(notes),
                compared=compared + len(claimed.keys() | found.scores.keys()),
                differing=len(ordered),
                differences=tuple(ordered[:LISTED]),
                regenerated=same,
                regeneration=sentence,
                axes=found.summary.axes,
                mean=found.summary.mean,
                refbench=__version__,
            )
    except Exception as error:
        return Verdict(
            verdict="refused",
            entry=name,
            seal=seal,
            suite_hash=suite_hash,
            findings=(_refusal(error),),
            refbench=__version__,
        )


def _refusal(error: Exception) -> Finding:
    """What stopped the verifier, as a finding."""
    if isinstance(error, RefusedError):
        return Finding(name=error.name, message=printable(error, 500))
    if isinstance(error, RefbenchError):
        return Finding(name="cannot-verify", message=printable(error, 500))
    if isinstance(error, OSError) and error.strerror:
        where = f" at {printable(error.filename, 200)}" if error.filename else ""
        told = f"Expected to read the entry and to write beside the cache, but {error.strerror}{where}."
        return Finding(name="cannot-verify", message=told)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Finding(
        name="cannot-verify",
        message=f"Expected an entry that can be read to its end, but {type(error).__name__} at "
        f"{Path(last.filename).name}:{last.lineno} says: {printable(error, 300)}; please report it with the entry.",
    )


def _cards(
    package: Package, metrics: Sequence[str] | None, targets: bool
) -> tuple[dict[str, MetricCard], dict[str, str]]:
    """The cards to recompute by: what an entry must have, compared with what it names; and what cannot be measured.

    Args:
        targets: whether the suite has targets.
    """
    from refbench.metrics.contract import card_hash
    from refbench.metrics.registry import METRICS, default_metrics, score_metrics
    from refbench.runs.api import metric_state
    from refbench.stats.gains import NO_TARGETS

    entry = package.entry
    said = [name for name in package.manifest.unavailable if name in METRICS]
    here, unavailable = metric_state([*(default_metrics() if metrics is None else metrics), *said], targets)
    needed = score_metrics() if metrics is None else [name for name, card in here.items() if card.scored]
    needed = [name for name in needed if unavailable.get(name) != NO_TARGETS]
    for name in entry.metric_cards:
        if name in unavailable or (name not in here and metrics is None):
            raise RefusedError(
                "unknown-metric",
                f"Expected metrics that can run here, but '{printable(name, 40)}' cannot; verify elsewhere.",
            )
    lacking = sorted(set(needed) - set(entry.metric_cards))
    if lacking:
        raise RefusedError(
            "missing-metric",
            f"Expected every metric that scores, but {', '.join(lacking)} is missing; measure the run again.",
        )
    for name, claimed in entry.metric_cards.items():
        if name not in here or card_hash(here[name]) != claimed:
            raise RefusedError(
                "other-card",
                f"Expected the card {card_hash(here[name]) if name in here else '(none)'} of "
                f"{printable(name, 40)}, but "
                f"the entry was measured by {printable(claimed, 20)}; install constraints.txt "
                "and measure the run again.",
            )
    return {name: here[name] for name in entry.metric_cards}, unavailable


def _recompute(
    package: Package,
    suite: Suite,
    cards: Mapping[str, MetricCard],
    lacking: Mapping[str, str],
    device: str,
    workers: int,
    progress: Progress,
) -> _Recomputed:
    """Measure the outputs as a run of our own, in a temporary run folder."""
    import pyarrow.parquet as pq

    from refbench.metrics.registry import cards_of
    from refbench.runs.executors.contract import Placement
    from refbench.runs.measure import measure
    from refbench.stats.gains import gains

    with tempfile.TemporaryDirectory(prefix="refbench-verify-") as place:
        run = RunFolder(place)
        manifest = package.manifest.model_copy(update={"samples": tuple(suite.ids), "metric_cards": {}})
        run.write_manifest(manifest)
        for sample in suite.ids:
            record = package.records[sample]
            run.append_record(record)
            if record.status == "ok":
                to = run.output(record.task, sample)
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(package.files[f"outputs/{record.task}/{sample}.png"].read_bytes())
        spread = Placement(workers=workers)
        measure(run, manifest, suite, cards, device=device, placement=spread, cache=cache_folder(), progress=progress)
        scores, baselines = (pq.read_table(path).to_pandas() for path in (run.scores, run.answers))
    metas, known = meta_table(suite.metas), cards_of(lacking) | dict(cards)
    summary = summarise(scores, baselines, metas, known, unavailable=lacking)
    table = gains(scores, baselines, list(metas["sample"]), known, lacking)
    worst = 0.0
    for name in (name for name in table.metrics if name not in summary.unscored):
        m = table.metrics.index(name)
        gap = cards[name].unit or float(table.room[table.defined[:, m], m].mean())
        worst = max(worst, c.slack(gap, cards[name]))
    values = {(row.sample, row.metric): float(row.value) for row in scores.itertuples()}
    return _Recomputed(values, summary, worst)


def _findings(
    package: Package,
    claimed: Mapping[c.Key, float],
    found: _Recomputed,
    differences: Sequence[ClaimDifference],
    more: Sequence[ClaimDifference],
    notes: Sequence[str],
) -> list[Finding]:
    out = []
    if differences:
        worst = max(differences, key=lambda one: one.excess)
        samples = {key[0] for key in claimed.keys() | found.scores.keys()}
        touched = {one.what.rpartition(" of ")[2] for one in differences}
        drafts = " The outputs are the drafts themselves, which score otherwise." if notes else ""
        out.append(
            Finding(
                name="scores-differ",
                message=f"{len(differences)} scores of {len(touched & samples)} samples are not "
                "what their images give; "
                f"the furthest is {worst.what}: claimed {worst.claimed}, found {worst.found}.{drafts}",
            )
        )
    if more:
        worst = max(more, key=lambda one: one.excess)
        out.append(
            Finding(
                name="claims-differ",
                message=f"{len(more)} claimed numbers are not what the scores give; the furthest is {worst.what}: "
                f"claimed {worst.claimed}, found {worst.found}.",
            )
        )
    return out


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """The folders that exist, without those inside another: an empty folder has nothing in it to hide."""
    found = sorted({folder.resolve() for folder in folders if folder.exists()})
    return [folder for folder in found if not any(other in folder.parents for other in found)]


def _holders(files: Mapping[str, Path]) -> list[Path]:
    """The folders that hold the entry's files, so that a model cannot look its answers up."""
    depth = {name: len(Path(name).parts) for name in files}
    return sorted({path.parents[depth[name] - 1] for name, path in files.items()})


def _data_folders(suite: Suite) -> list[Path]:
    """Every folder that holds a suite's pictures."""
    from refbench.tasks.suite import data_folder

    return [data_folder(), Path(suite.folder)]


def write_verdict(verdict: Verdict, folder: str | os.PathLike[str]) -> Path:
    """Write ``verdict.json`` into a folder and return its path."""
    from refbench.images import write_atomic

    path = Path(folder) / e.VERDICT
    write_atomic(path, (verdict.model_dump_json(indent=1) + "\n").encode())
    return path
