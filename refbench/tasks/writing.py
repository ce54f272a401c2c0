"""Write suites: Parquet files that `datasets.load_dataset` reads with pictures as pictures, and suite.json."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench import images
from refbench.errors import RefbenchError
from refbench.images import Image, Mask
from refbench.schema import Box, SampleMeta
from refbench.tasks.suite import sample_digest, suite_digest

if TYPE_CHECKING:
    import pyarrow

ROWS_PER_GROUP = 2
PICTURES = ("draft_patch", "reference", "target", "mask")


@dataclass(frozen=True, slots=True)
class Question:
    """A whole sample, target included, as it is written to disk. Target and reference are the decoded WebP."""

    meta: SampleMeta
    prompt: str
    draft: Image
    target: Image | None
    """None where nobody knows it, in all samples of a suite or in none."""
    reference: Image
    mask: Mask
    reference_box: Box | None
    target_webp: bytes | None
    reference_webp: bytes


def encode_patch(draft: Image, mask: Mask, method: int = 6) -> tuple[bytes, tuple[int, int, int, int]]:
    """The draft inside the mask's box as lossless WebP, and the box; pixels outside the mask are black."""
    x, y, width, height = images.mask_box(mask)
    patch = draft[y : y + height, x : x + width].copy()
    patch[~mask[y : y + height, x : x + width]] = 0
    return images.encode_webp(patch, None, method=method), (x, y, width, height)


def row_of(question: Question, method: int = 6) -> dict[str, Any]:
    """One Parquet row of a sample; `method` is the effort of the draft patch's lossless WebP, 0 to 6."""
    if question.target is None:
        height, width = question.draft.shape[:2]
        patch, box = images.encode_webp(question.draft, None, method=method), (0, 0, width, height)
    else:
        patch, box = encode_patch(question.draft, question.mask, method)
    name = question.meta.id

    def picture(data: bytes, ending: str) -> dict[str, Any]:
        return {"bytes": data, "path": f"{name}-{ending}"}

    return {
        **question.meta.model_dump(),
        "prompt": question.prompt,
        "draft_patch": picture(patch, "draft-patch.webp"),
        "draft_box": list(box),
        "reference": picture(question.reference_webp, "reference.webp"),
        "reference_box": list(question.reference_box) if question.reference_box else None,
        "target": None if question.target_webp is None else picture(question.target_webp, "target.webp"),
        "mask": picture(images.encode_png(question.mask, 9), "mask.png"),
        "sha256": sample_digest(
            question.meta, question.prompt, question.reference_box, question.draft, question.target,
            question.reference, question.mask,
        ),
    }  # fmt: skip


def schema() -> pyarrow.Schema:
    """Columns of a suite's Parquet file, with the `datasets` features in its metadata."""
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields: list[tuple[str, Any]] = []
    features: dict[str, Any] = {}

    def add(name: str, kind: Any, feature: Any) -> None:
        fields.append((name, kind))
        features[name] = feature

    def value(dtype: str) -> dict[str, str]:
        return {"dtype": dtype, "_type": "Value"}

    for name in SampleMeta.model_fields:
        dtype = "float64" if name in ("strength", "mask_share") else "int64" if name == "seed" else "string"
        add(name, {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string()}[dtype], value(dtype))
    add("prompt", pa.string(), value("string"))
    for name in PICTURES:
        add(name, picture, {"_type": "Image"})
        if name in ("draft_patch", "reference"):
            box = "draft_box" if name == "draft_patch" else "reference_box"
            add(box, pa.list_(pa.int64()), {"feature": value("int64"), "_type": "List"})
    add("sha256", pa.string(), value("string"))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def parquet_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as one Parquet file with small row groups; equal rows give equal bytes for one pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = schema()
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, layout, compression="zstd", write_statistics=False) as writer:
        for start in range(0, len(rows), ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_pylist(list(rows[start : start + ROWS_PER_GROUP]), schema=layout))
    return buffer.getvalue()


def write_header(
    folder: Path,
    name: str,
    version: str,
    tasks: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    files: dict[str, tuple[int, str]],
    *,
    targets: bool = True,
) -> str:
    """Write suite.json from (task, [(id, content hash)]) and the files' sizes and hashes; returns the suite's hash."""
    found = suite_digest(entry for _, entries in tasks for entry in entries)
    header = {
        "name": name, "version": version, "hash": found, **({} if targets else {"targets": False}),
        "files": {path: {"bytes": size, "sha256": sha} for path, (size, sha) in files.items()},
        "tasks": [{"name": task, "samples": [sample for sample, _ in entries]} for task, entries in tasks],
    }  # fmt: skip
    images.write_atomic(folder / "suite.json", (json.dumps(header, indent=1) + "\n").encode())
    return found


def file_entry(data: bytes) -> tuple[int, str]:
    """Size and SHA-256 of a data file, as suite.json records them."""
    return len(data), hashlib.sha256(data).hexdigest()


def check_writable(folder: str | os.PathLike[str], option: str = "--out") -> Path:
    """Make a folder, which an option of the command names, and try to write there.

    Raises:
        RefbenchError: it cannot be made or written.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RefbenchError(
            f"Expected a folder that can be written at {path}, but {error.strerror}; choose another with {option}."
        ) from None
    return path


def check_free(folder: str | os.PathLike[str], megabytes: float) -> None:
    """Refuse a folder whose disk has less room than what will be written.

    Raises:
        RefbenchError: with both numbers.
    """
    free = shutil.disk_usage(folder).free / 1e6
    if free < megabytes:
        raise RefbenchError(
            f"Expected {megabytes:,.0f} MB of free disk at {os.fspath(folder)}, but there are {free:,.0f}; free some "
            "space or choose another folder."
        )
