"""Pack a finished run as an entry: outputs, manifest, claims, a few thumbnails, sealed by content hashes."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, encode_png, encode_webp, load_image, mask_box, resize, write_atomic
from refbench.leaderboard import entry as e
from refbench.leaderboard.safety import SAMPLE
from refbench.leaderboard.textsafe import SLUG, check_tree
from refbench.plaintext import one_line, printable
from refbench.runs.aggregate import read_summary
from refbench.runs.folder import RunFolder
from refbench.runs.generate import pixels_sha256
from refbench.runs.suites import suite_of
from refbench.schema import RunManifest, SampleRecord
from refbench.stats.gains import NO_TARGETS
from refbench.stats.recovery import Summary

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

THUMB_PX = 112
THUMBS = 8


def submit(
    run: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    submitter: str,
    name: str | None = None,
    contact: str = "",
    notes: str = "",
    outputs_url: str | None = None,
    suite: str | Suite | None = None,
    archive: bool = False,
) -> Path:
    """Pack a run as an entry folder, and with `archive` its outputs as ``<name>-outputs.zip`` beside it.

    Args:
        run: a finished run folder over a whole suite.
        to: folder that will hold the entry as ``<to>/<name>``.
        submitter: person or group, as it shall stand on the board.
        name: of the entry; by default made from the model's name.
        contact: how to reach the submitter; public.
        notes: one line for the board.
        outputs_url: https address where the outputs will be found as one zip.
        suite: where the run's suite is, if not where its manifest says.
        archive: also write the zip of the outputs, for upload.

    Returns:
        The entry's folder.

    Raises:
        RefbenchError: the run is not finished or not of a whole suite, an image was changed, the text cannot stand
            on a board, or the folder exists and is not empty.
    """
    folder, manifest = RunFolder.open(run)
    whole = suite_of(manifest, run, suite)
    if set(manifest.samples) != set(whole.ids):
        raise RefbenchError(
            f"Expected a run over all {len(whole.ids)} samples of '{whole.name}', but {run} plans "
            f"{len(manifest.samples)}; evaluate without --tasks and --limit."
        )
    strange = next((sample for sample in whole.ids if not SAMPLE.fullmatch(sample)), None)
    if strange is not None:
        raise RefbenchError(
            f"Expected ids of small letters, digits and - in '{whole.name}', as an entry's files bear them, but "
            f"'{printable(strange)}' is one; import the pictures under other names."
        )
    passes = manifest.arguments.get("passes", 1)
    if passes != 1:
        raise RefbenchError(
            f"Expected a run of one pass for an entry, whose samples are answered once, but {run} is pass {passes}; "
            "submit the run without --passes."
        )
    records, claims = _finished(folder, manifest)
    slug = name or re.sub(r"[^a-z0-9._+-]+", "-", manifest.card.name.lower()).strip("-._+")[:64]
    if not SLUG.fullmatch(slug):
        raise RefbenchError(
            f"Expected a name of small letters, digits and - . _ + for the entry, but '{slug}' came; give --name."
        )
    target = Path(to) / slug
    if target.exists() and any(target.iterdir()):
        raise RefbenchError(f"Expected a new folder at {target}, but there are files in it; remove it or give --name.")
    outputs = _outputs(folder, records, target)
    write_atomic(target / e.MANIFEST, (public_manifest(manifest, whole).model_dump_json(indent=1) + "\n").encode())
    lines = [plain_record(record).model_dump_json() for record in records.values()]
    write_atomic(target / e.RECORDS, ("\n".join(lines) + "\n").encode())
    shutil.copyfile(folder.scores, target / e.SCORES)
    thumbs = _thumbs(whole, records, outputs, target / "thumbs")
    files = [
        e.MANIFEST,
        e.RECORDS,
        e.SCORES,
        *thumbs,
        *(path.relative_to(target).as_posix() for path in outputs.values()),
    ]
    entry = e.Entry(
        name=slug,
        submitter=submitter,
        contact=contact,
        notes=notes,
        outputs_url=outputs_url,
        created=manifest.created,
        suite=manifest.suite,
        suite_version=manifest.suite_version,
        suite_hash=manifest.suite_hash,
        card=manifest.card,
        model=_file_name(manifest.model),
        options=_options(manifest),
        seed=manifest.seed,
        device=manifest.device,
        metric_cards=manifest.metric_cards,
        cost=e.cost_of(records, manifest),
        claims=claims,
        files={file: e.note_of(target / file) for file in files},
    )
    check_tree(entry.model_dump(mode="json"), "entry.json")
    e.write_entry(target, entry)
    light = sum(note.bytes for file, note in entry.files.items() if not file.startswith("outputs/"))
    light += (target / e.ENTRY).stat().st_size
    if light > e.BOARD_BYTES:
        raise RefbenchError(
            f"Expected an entry of at most {e.BOARD_BYTES // 1024} KiB beside its outputs, but it has {light // 1024}; "
            "shorten the records' extra fields."
        )
    if archive:
        pack_outputs(target, Path(to) / f"{slug}-outputs.zip")
    return target


def pack_outputs(entry: Path, to: Path) -> Path:
    """Write an entry's outputs as one zip, equal bytes for equal outputs."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((entry / "outputs").rglob("*.png")):
            info = zipfile.ZipInfo(path.relative_to(entry).as_posix(), (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
    return to


def board_copy(entry: Path, to: Path) -> Path:
    """Copy an entry without its outputs, as it stands on the board."""
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted(entry.rglob("*")):
        inside = path.relative_to(entry)
        if path.is_file() and inside.parts[0] != "outputs":
            (to / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / inside)
    return to


def _finished(folder: RunFolder, manifest: RunManifest) -> tuple[dict[str, SampleRecord], Summary]:
    records = folder.read_records(manifest.samples)
    lacking = [sample for sample in manifest.samples if sample not in records]
    if lacking:
        raise RefbenchError(
            f"Expected a record of each of {len(manifest.samples)} samples at {folder.path}, but {len(lacking)} have "
            "none; run 'refbench eval' again to finish it."
        )
    summary = read_summary(folder)
    if summary is None:
        raise RefbenchError(
            f"Expected an up-to-date summary at {folder.summary}, but there is none; run 'refbench measure' on the run."
        )
    try:
        numbers = Summary.model_validate(summary.numbers)
    except ValidationError:
        raise RefbenchError(
            f"Expected a summary of this version at {folder.summary}, but its fields differ; "
            "run 'refbench measure' again."
        ) from None
    if any(why != NO_TARGETS for why in summary.withheld.values()):
        raise RefbenchError(
            f"Expected a scored run at {folder.path}, but it has no score, since {summary.withheld['mean']}; then run "
            "'refbench measure' on it."
        )
    return {sample: records[sample] for sample in manifest.samples}, numbers


def _outputs(folder: RunFolder, records: Mapping[str, SampleRecord], target: Path) -> dict[str, Path]:
    """Write each output anew as a plain PNG (no chunks but pixels) after comparing it with its record."""
    written = {}
    for sample, record in records.items():
        if record.status != "ok":
            continue
        source = folder.output(record.task, sample)
        image = load_image(source)
        if pixels_sha256(image) != record.sha256:
            raise RefbenchError(
                f"Expected {source} to be the picture that was recorded, but its pixels have changed since; delete it "
                "and run 'refbench eval' again."
            )
        where = target / "outputs" / record.task / f"{sample}.png"
        write_atomic(where, encode_png(image, compress_level=9))
        written[sample] = where
    return written


def _thumbs(suite: Suite, records: Mapping[str, SampleRecord], outputs: Mapping[str, Path], to: Path) -> list[str]:
    """One small picture a task: the first sample that has an output, cut to the mask's surroundings."""
    names: list[str] = []
    tasks: set[str] = set()
    for sample, record in records.items():
        if sample not in outputs or record.task in tasks or len(names) >= THUMBS:
            continue
        tasks.add(record.task)
        image = thumbnail(load_image(outputs[sample]), suite.sample(sample).mask)
        write_atomic(to / f"{sample}.webp", encode_webp(image, 60))
        names.append(f"thumbs/{sample}.webp")
    return names


def thumbnail(image: Image, mask: Mask) -> Image:
    """The surroundings of the mask as a square of at most ``THUMB_PX``."""
    x, y, width, height = mask_box(mask, margin=8)
    side = min(max(width, height), *image.shape[:2])
    left = min(max(x + width // 2 - side // 2, 0), image.shape[1] - side)
    top = min(max(y + height // 2 - side // 2, 0), image.shape[0] - side)
    cut = image[top : top + side, left : left + side]
    return resize(cut, (THUMB_PX, THUMB_PX)) if side > THUMB_PX else cut.copy()


def _file_name(model: str) -> str:
    """A model given by path is named by its file, so that no folder of the submitter's machine is published."""
    path, colon, attribute = model.partition(":")
    return f"{Path(path).name}{colon}{attribute}" if os.sep in path or path.endswith(".py") else model


def _options(manifest: RunManifest) -> dict[str, Any]:
    """The adapter's options; a file or folder is named without the folders that it lies in."""

    def public(value: Any) -> Any:
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {key: public(value) for key, value in (manifest.arguments.get("options") or {}).items()}


def public_manifest(manifest: RunManifest, suite: Suite) -> RunManifest:
    """The manifest without folders of the machine that it was made on."""
    arguments: dict[str, Any] = {**manifest.arguments, "suite": suite.name, "options": _options(manifest)}
    return manifest.model_copy(
        update={"arguments": arguments, "model": _file_name(manifest.model), "run": Path(manifest.run).name}
    )


def plain_record(record: SampleRecord) -> SampleRecord:
    """The record with its error on one short line, without paths."""
    if record.error is None:
        return record
    line = one_line(record.error, 10_000)
    return record.model_copy(update={"error": re.sub(r"\S*/\S+", "(path)", line)[:300]})
