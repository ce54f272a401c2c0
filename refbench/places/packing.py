"""What is published of a run, an entry of the board or a suite: its files, and the card of a dataset over them.

A run keeps its own layout, so that it is a run again when it comes back; what is for readers alone is README.md and
``card/``. No folder of this machine and no raw answer of a web service is among the files.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, encode_webp, load_image
from refbench.leaderboard import entry as e
from refbench.leaderboard.submission import plain_record, public_manifest, thumbnail
from refbench.results.run import RunResult, load_run
from refbench.runs.folder import ANSWERS, MANIFEST, RECORDS, SCORES, SUMMARY
from refbench.runs.suitewide import FILE as SUITE_SCORES
from refbench.schema import AXES, PIXEL, SCORE_VERSION, RunManifest
from refbench.stats.recovery import Cell, Summary
from refbench.tasks.suite import load_suite

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

Kind: TypeAlias = Literal["run", "entry", "suite"]
CARD = "card"
"""Folder of what only the card shows."""
ROWS = 8
"""Most tasks that the card shows a sample of."""
FRAMEWORK = "refbench"
"""As ``eval.yaml`` and the results of models name what computes the numbers."""
TITLES = {
    "mean": "score", "texture_fidelity": "texture fidelity", "reference_alignment": "reference alignment",
    "local_consistency": "local consistency", PIXEL: "pixel fidelity (beside the score)",
}  # fmt: skip
DESCRIPTION = (
    "Reference-guided image refinement: given a draft whose detail is wrong, a reference picture of the same thing and "
    "a mask, how well does a model put the detail right, and does it leave the rest alone? Recovery points: 0 is a "
    "trivial answer, 100 the ground truth."
)


@dataclass(frozen=True, slots=True)
class Package:
    """Files of a repository, and what they are."""

    kind: Kind
    title: str
    files: Mapping[str, bytes | Path] = field(repr=False)
    """Path in the repository -> content, or the file that has it."""
    manifest: RunManifest | None = None
    numbers: Summary | None = None
    whole: bool = True
    """Whether a run answers its whole suite."""

    def write(self, to: Path) -> None:
        """Write the files into a folder."""
        for name, content in self.files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def pack(what: str | os.PathLike[str], *, repo: str, suite: str | os.PathLike[str] | None = None) -> Package:
    """What would be published.

    Args:
        what: a measured run, an entry, or a suite's folder or name.
        repo: the dataset's id, for the card.
        suite: of a run: where its suite is, if not where its manifest says.

    Raises:
        RefbenchError: it is none of these, or not finished.
    """
    folder = Path(what)
    if (folder / e.ENTRY).is_file():
        return _entry(folder, repo)
    if (folder / MANIFEST).is_file():
        return _run(load_run(folder, suite=suite), repo)
    if (folder / "suite.json").is_file() or os.fspath(what) == "core":
        return _suite(load_suite(os.fspath(what)), repo)
    raise RefbenchError(
        f"Expected a run, an entry or a suite at {folder}, but there is no {MANIFEST}, {e.ENTRY} or suite.json; name "
        "the folder of one."
    )


def _run(run: RunResult, repo: str) -> Package:
    manifest, folder, suite = run.manifest, run.folder, run.suite
    if run.summary is None or not run.records:
        raise RefbenchError(f"Expected a measured run at {folder.place}; run 'refbench measure {folder.place}'.")
    records = [run.records[sample] for sample in manifest.samples]
    lines = "".join(plain_record(record).model_dump_json() + "\n" for record in records)
    public = public_manifest(manifest, suite)
    files: dict[str, bytes | Path] = {
        MANIFEST: (public.model_dump_json(indent=1) + "\n").encode(),
        RECORDS: lines.encode(),
    }
    for name in (SCORES, ANSWERS, SUMMARY, SUITE_SCORES):
        data = folder.storage.read(name)
        if data is not None:
            files[name] = data
    for record in records:
        if record.status == "ok":
            files[folder.output_name(record.task, record.id)] = folder.output(record.task, record.id)
    shown = _pictures(run)
    title = f"{manifest.card.name} on {manifest.suite}"
    text = _card(title, repo, "compare OTHER_RUN", public, run.numbers, list(shown))
    return Package("run", title, {"README.md": text.encode(), **files, **shown}, public, run.numbers,
                   set(manifest.samples) == set(suite.ids))  # fmt: skip


def _entry(folder: Path, repo: str) -> Package:
    entry = e.parse_entry((folder / e.ENTRY).read_bytes(), e.ENTRY)
    manifest = RunManifest.model_validate_json((folder / e.MANIFEST).read_bytes())
    files: dict[str, bytes | Path] = {e.ENTRY: folder / e.ENTRY}
    files |= {name: folder / name for name in (*entry.files, e.VERDICT) if (folder / name).is_file()}
    title = f"{entry.card.name} on {entry.suite}"
    shown = [name for name in files if name.startswith("thumbs/")]
    check = "verify" if any(name.startswith("outputs/") for name in files) else "verify --outputs OUTPUTS"
    text = _card(title, repo, check, manifest, entry.claims, shown)
    return Package("entry", title, {"README.md": text.encode(), **files}, manifest, entry.claims)


def _suite(suite: Suite, repo: str) -> Package:
    head = json.loads((suite.folder / "suite.json").read_bytes())
    if "files" not in head:
        raise RefbenchError(
            f"Expected a suite with files of its own, but '{suite.name}' takes its samples from '{head.get('of')}'; "
            "push that one."
        )
    names = ["suite.json", *head["files"]]
    lacking = [name for name in names if not (suite.folder / name).is_file()]
    if lacking:
        raise RefbenchError(
            f"Expected a suite with files of its own at {suite.folder}, but {lacking[0]} is not there; push the suite "
            "that it is a part of."
        )
    front = _front(
        [{"config_name": "default", "data_files": [{"split": "test", "path": "*/data.parquet"}]}],
        f"refbench {suite.name}", ["benchmark"],
    )  # fmt: skip
    text = f"{front}# refbench {suite.name}, version {suite.version}\n\n{DESCRIPTION}\n\n"
    text += f"{len(suite)} samples, hash `{suite.hash}`. Licence and author of every sample stand in its row.\n\n"
    text += f"```sh\nrefbench pull {repo} --out {suite.name}\nrefbench eval --model MODEL --suite {suite.name}\n```\n"
    files = {name: suite.folder / name for name in names}
    return Package(
        "suite", f"refbench {suite.name}", {"README.md": text.encode(), "eval.yaml": eval_yaml(suite.name), **files}
    )


# ---- cards


def _front(configs: Sequence[Mapping[str, Any]], name: str, tags: Sequence[str]) -> str:
    import yaml

    head = {
        "pretty_name": name, "task_categories": ["image-to-image"], "tags": ["refbench", "image-refinement", *tags],
        "configs": list(configs),
    }  # fmt: skip
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def said(cell: Cell) -> str:
    """A number and its interval, as in "41.2 [38.0, 44.1]"."""
    if cell.value is None:
        return cell.reason or "–"
    ends = "" if cell.low is None or cell.high is None else f" [{cell.low:.1f}, {cell.high:.1f}]"
    return f"{cell.value:.1f}{ends}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def _card(title: str, repo: str, then: str, manifest: RunManifest, numbers: Summary, shown: Sequence[str]) -> str:
    tables = [("scores", SCORES)] + ([("answers", ANSWERS)] if then.startswith("compare") else [])
    front = _front([{"config_name": name, "data_files": file} for name, file in tables], title, [manifest.suite])
    metrics = [
        (f"`{name}`", cell.axis.replace("_", " "), said(cell), "–" if cell.raw_mean is None else f"{cell.raw_mean:.4g}")
        for name, cell in numbers.metrics.items() if cell.axis in (*AXES, PIXEL)
    ]  # fmt: skip
    measures = [(name, numbers.cell(name)) for name in ("mean", *AXES, PIXEL)]
    parts = [
        f"# {title}",
        f"{DESCRIPTION} Made with refbench; model: {manifest.card.summary.rstrip('.')}.",
        _table(["", "recovery [95 %]"], [(TITLES[name], said(cell)) for name, cell in measures]),
        f"{numbers.samples} samples of {numbers.clusters} sources, {numbers.failed} failed. Suite `{manifest.suite}` "
        f"{manifest.suite_version}, hash `{manifest.suite_hash}`; score {SCORE_VERSION}; seed {manifest.seed}; "
        f"{manifest.created}.",
        *(f"![{Path(name).stem}]({name})" for name in shown if name.startswith(f"{CARD}/")),
        " ".join(f"![{Path(name).stem}]({name})" for name in shown if not name.startswith(f"{CARD}/")),
        "## By task",
        _table(
            ["task", *(TITLES[name] for name in ("mean", *AXES))],
            [(task, *(said(row[name]) for name in ("mean", *AXES))) for task, row in numbers.tasks.items()],
        ),
        "## By metric",
        _table(["metric", "axis", "recovery [95 %]", "mean value"], metrics),
        "## Get it back",
        f"```sh\nrefbench pull {repo} --out {_short(repo)}\nrefbench {then} {_short(repo)}\n```",
    ]  # fmt: skip
    return front + "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _short(repo: str) -> str:
    return repo.rpartition("/")[2]


def _pictures(run: RunResult) -> dict[str, bytes]:
    """The figure of axes, and one sample a task: draft, reference, result and target around the mask."""
    from refbench.report.figures import make_figures

    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as place:
        if not run.withheld:
            make_figures([run.folder.path], place, "slides", only=["axes"], suite=str(run.suite.folder))
            made[f"{CARD}/axes.png"] = (Path(place) / "axes.png").read_bytes()
    rows: list[Image] = []
    seen: set[str] = set()
    for meta in run.suite.metas:
        record = run.records.get(meta.id)
        if record is None or record.status != "ok" or meta.task in seen or len(rows) == ROWS:
            continue
        seen.add(meta.task)
        truth = run.suite.truth(meta.id)
        assert truth.draft is not None
        assert truth.mask is not None
        pictures = [truth.draft, load_image(run.output(meta)), *([truth.target] if truth.has_target else [])]
        cells = [thumbnail(picture, truth.mask) for picture in pictures]
        side = max(max(cell.shape[:2]) for cell in cells)
        wide = [np.pad(c, ((0, side - c.shape[0]), (0, side - c.shape[1]), (0, 0)), constant_values=255) for c in cells]
        rows.append(np.concatenate(wide, axis=1))
    if rows:
        width = max(row.shape[1] for row in rows)
        even = [np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
        made[f"{CARD}/draft-result-target.webp"] = encode_webp(np.concatenate(even), 75)
    return made


# ---- what the hub reads of benchmarks and models (huggingface.co/docs/hub/eval-results)


def eval_yaml(suite: str) -> bytes:
    """``eval.yaml`` of a benchmark's dataset: its name, what computes its numbers, and a task for score and axes."""
    import yaml

    tasks = [{"id": name, "config": "default", "split": "test"} for name in ("score", *AXES)]
    head = {"name": f"refbench {suite}", "description": DESCRIPTION, "evaluation_framework": FRAMEWORK, "tasks": tasks}
    text: str = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()


def eval_results(package: Package, *, repo: str, benchmark: str) -> dict[str, bytes]:
    """``.eval_results/`` of a model's repository: score and axes on a benchmark, with the run as their source.

    Args:
        package: of a run or an entry.
        repo: the dataset that holds it.
        benchmark: the dataset of its suite, which has ``eval.yaml``.

    Raises:
        RefbenchError: a suite, a run over a part of its suite, or one without a score.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    manifest, numbers = package.manifest, package.numbers
    if manifest is None or numbers is None:
        raise RefbenchError("Expected a run or an entry for the results of a model, but it is a suite; name a run.")
    cells = {"score": numbers.mean, **numbers.axes}
    if not package.whole or any(cell.value is None for cell in cells.values()):
        raise RefbenchError(
            f"Expected a scored run over all of '{manifest.suite}' for the results of a model, but this one is over a "
            "part of it or has no score; evaluate without --tasks, --limit and --metrics."
        )
    url = f"https://huggingface.co/datasets/{repo}"
    entries = [
        EvalResultEntry(
            dataset_id=benchmark, task_id=name, value=round(float(cell.value or 0.0), 2), date=manifest.created[:10],
            source_url=url, source_name=f"refbench {package.kind}",
            notes=f"score {SCORE_VERSION}, recovery points, 95 % [{cell.low:.1f}, {cell.high:.1f}], suite hash "
            f"{manifest.suite_hash[:12]}" if cell.low is not None and cell.high is not None else None,
        )
        for name, cell in cells.items()
    ]  # fmt: skip
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120)
    return {f".eval_results/refbench-{manifest.suite}.yaml": text.encode()}
