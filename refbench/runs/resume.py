"""Whether a run that is there can go on: it belongs to a suite, to arguments, and to the content of a model.

The content is the bytes of the model's file or of its PNGs, and its card, and the weights that its options name; not
where it lies, or since when.
A run of a model that has changed goes on only where no kept output could differ, so that all its outputs are of one
model; everything else is refused with what to type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.runs.folder import RunFolder
from refbench.runs.plan import RunOptions
from refbench.runs.storage import Local
from refbench.schema import RunManifest

if TYPE_CHECKING:
    from refbench.adapters.spec import Spec
    from refbench.tasks.suite import Suite


def refuse_other_run(manifest: RunManifest, options: RunOptions, suite: Suite, where: str) -> None:
    """Refuse to go on with a run that was started on something else; for the model's content see
    :func:`refuse_mixed`.

    Raises:
        RefbenchError: naming the first thing that differs, with both values.
    """
    if manifest.suite_hash != suite.hash:
        raise RefbenchError(
            f"Expected a run of the suite '{suite.name}' with hash {suite.hash[:12]} at {where}, but that run is of "
            f"'{manifest.suite}' with hash {manifest.suite_hash[:12]}, and results of different suites never mix; "
            "name another folder with --out, or start anew with --overwrite."
        )
    mine = options.arguments
    # Two models given by path are told apart by their content alone, see refuse_mixed.
    contents = (manifest.arguments.get("model_content"), mine["model_content"])
    pairs: list[tuple[str, Any, Any]] = [
        *([("model", manifest.model, options.model)] if None in contents else []),
        ("seed", manifest.seed, options.seed),
        ("device", manifest.device, options.device),
        ("tasks", manifest.arguments.get("tasks"), mine["tasks"]),
        ("limit", manifest.arguments.get("limit"), mine["limit"]),
        ("adapter options", manifest.arguments.get("options") or {}, mine["options"]),
        ("pass", manifest.arguments.get("passes", 1), options.passes),
        ("samples", manifest.samples, suite.ids),
    ]
    for what, old, new in pairs:
        if old != new:
            if what == "samples":
                old, new = f"{len(old)} of them", f"{len(new)}, not the same"
            raise RefbenchError(
                f"Expected the run at {where} to have the same {what} as asked for now, but it was started with "
                f"{_word(old)} and now it is {_word(new)}; name another folder with --out, or start anew with "
                "--overwrite."
            )


def _word(value: Any) -> str:
    return "none" if value is None or value == {} else f"{value}"


def changed(manifest: RunManifest, options: RunOptions) -> bool:
    """Whether a model given by path, or its checkpoint, is not what it was when the run was started."""
    return bool(manifest.arguments.get("model_content") != options.content)


def refuse_mixed(folder: RunFolder, manifest: RunManifest, options: RunOptions, what: str = "it") -> None:
    """Refuse a changed model (or card) where the run would then hold outputs of two.

    Args:
        folder: the run.
        manifest: of the run, as it was started.
        options: as asked for now.
        what: has changed, for the sentence.

    Raises:
        RefbenchError: a kept output could differ (``--overwrite`` starts anew), or samples failed and nobody has asked
            for them again (``--retry-failed``).
    """
    model, spec = options.model, options.spec
    records = folder.read_records(manifest.samples)
    kept = [sample for sample, there in folder.answered(records.values()).items() if there]
    failed = [r.id for r in records.values() if r.status != "ok"]
    differing = _differing(folder, manifest, spec, kept) if spec.kind == "folder" else kept
    beginning = (
        f"Expected the model {model} to be what it was when the run at {folder.place} was started, but {what} has "
        "changed since"
        if model == manifest.model
        else f"Expected the model {manifest.model}, with which the run at {folder.place} was started, but {model} is "
        "another"
    )
    if differing:
        raise RefbenchError(
            f"{beginning}, and {len(differing)} of the kept outputs (first: {differing[0]}) would have to be made "
            "anew; run the same command with --overwrite to start anew, or name another folder with --out."
        )
    if failed and not options.retry_failed:
        raise RefbenchError(
            f"{beginning}; no kept output could differ, so run the same command with --retry-failed to ask again for "
            f"the {len(failed)} that failed, or with --overwrite to start anew."
        )


def _differing(folder: RunFolder, manifest: RunManifest, spec: Spec, kept: list[str]) -> list[str]:
    """The kept outputs of a run of a folder of PNGs that are not what lies there now, pixel by pixel."""
    from refbench.adapters.folder import FolderAdapter
    from refbench.runs.generate import pixels_sha256

    assert spec.path is not None
    adapter = FolderAdapter(spec.path)
    records = folder.read_records(manifest.samples)

    def same(sample: str) -> bool:
        try:
            return pixels_sha256(adapter.picture(sample)) == records[sample].sha256
        except RefbenchError:
            return False

    return [sample for sample in kept if not same(sample)]


def going_on(folder: RunFolder, suite: Suite, options: RunOptions) -> RunManifest:
    """The manifest of the run that is there, with the model as it is now where that can make no difference."""
    from refbench.adapters.folder import FolderAdapter

    manifest = folder.read_manifest()
    refuse_other_run(manifest, options, suite, folder.place)
    if changed(manifest, options):
        refuse_mixed(folder, manifest, options)
        update: dict[str, Any] = {
            "arguments": {**manifest.arguments, "model_content": options.content},
            "model": options.model,
        }
        spec = options.spec
        if spec.kind == "folder" and spec.path is not None:
            update["card"] = FolderAdapter(spec.path).card
        manifest = manifest.model_copy(update=update)
        folder.write_manifest(manifest)
    return manifest


def refuse_own_outputs(folder: RunFolder, options: RunOptions) -> None:
    """Refuse to start anew where that would remove the model itself (a folder of PNGs inside of the run).

    Raises:
        RefbenchError: the model lies in the run's folder.
    """
    path = options.spec.path
    if path is not None and isinstance(folder.storage, Local) and path.is_relative_to(folder.path.resolve()):
        raise RefbenchError(
            f"Expected to start anew at {folder.place}, but the model {options.model} lies in it and would be removed; "
            "name another folder with --out."
        )
