"""A tiny folder of training assets and a tiny suite, both made of drawn pictures, no sources needed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refbench import images
from refbench.schema import SampleMeta
from refbench.tasks.lettering import CHARACTERS
from refbench.tasks.prints import PATTERNS, pattern_print
from refbench.tasks.training_assets import FLOW, FRAMES, TILE, _Blobs
from refbench.tasks.writing import Question, file_entry, parquet_bytes, row_of, write_header


def _webp(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=80, method=0)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared assets of the real layout: 2 fonts of bars, 9 patterns as prints, 6 surfaces, 3 clips."""
    folder = tmp_path_factory.mktemp("assets")
    rng = np.random.default_rng(0)
    glyphs = (rng.random((2, len(CHARACTERS), TILE, TILE)) > 0.5).astype(np.uint8) * 255
    advances = np.full((2, len(CHARACTERS)), 20, np.float32)
    prints, surfaces, clips = _Blobs(), _Blobs(), _Blobs()
    for k in range(9):
        prints.add(_webp(pattern_print(PATTERNS[k], k, 96)))
    for k in range(6):
        surfaces.add(_webp(np.ascontiguousarray(pattern_print(PATTERNS[k + 3], 50 + k, 160)[..., :3])))
    for k in range(3):
        wide = pattern_print(PATTERNS[k], 90 + k, 256)[..., :3]
        for f in range(FRAMES):
            clips.add(_webp(np.ascontiguousarray(wide[:192, 8 * f : 8 * f + 192])))
    flows = np.zeros((3, FRAMES - 1, FLOW, FLOW, 2), np.int8)
    flows[..., 0] = -16  # half px: the picture moves 8 px to the left from frame to frame
    np.savez(
        folder / "assets.npz", glyphs=glyphs, advances=advances, flows=flows, sizes=np.array([96, 192, 160]),
        print_kinds=np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), **prints.arrays("prints"), **surfaces.arrays("surfaces"),
        **clips.arrays("clips"),
    )  # fmt: skip
    return folder


def question(number: int, task: str = "pattern-refine", seed: int = 0) -> Question:
    """A small sample: a pattern, the same pattern shifted as reference, noise inside a box as draft."""
    rng = np.random.default_rng(1000 * seed + number)
    picture = np.ascontiguousarray(pattern_print("dots", number, 64)[..., :3])
    target_webp = images.encode_webp(picture, 90)
    reference_webp = images.encode_webp(np.roll(picture, 5, axis=1), 90)
    target = images.decode_image(target_webp)
    mask = np.zeros((64, 64), bool)
    mask[10:40, 20:50] = True
    draft = target.copy()
    draft[mask] = rng.integers(0, 255, (int(mask.sum()), 3), np.uint8)
    meta = SampleMeta(
        id=f"{task}-{number:03d}", task=task, category=task.partition("-")[0], mode=task.partition("-")[2],  # type: ignore[arg-type]
        source_id=f"s{number}", view="composed", degradation="noise", strength=1.0, mask_kind="box",
        mask_share=float(mask.mean()), licence="CC0-1.0", attribution="drawn", source="drawn", seed=number,
    )  # fmt: skip
    return Question(
        meta,
        "Restore it.",
        draft,
        target,
        images.decode_image(reference_webp),
        mask,
        (1, 2, 30, 31),
        target_webp,
        reference_webp,
    )


def write_suite(folder: Path, questions: list[Question]) -> str:
    """Write a suite of these samples, one Parquet file a task; returns its hash."""
    tasks, files = [], {}
    for task in dict.fromkeys(q.meta.task for q in questions):
        rows = [row_of(q, method=0) for q in questions if q.meta.task == task]
        data = parquet_bytes(rows)
        images.write_atomic(folder / task / "data.parquet", data)
        files[f"{task}/data.parquet"] = file_entry(data)
        tasks.append((task, [(row["id"], row["sha256"]) for row in rows]))
    return write_header(folder, folder.name, "1", tasks, files)


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Path:
    """Two tasks of three samples."""
    folder = tmp_path / "tiny"
    write_suite(folder, [question(k, task) for task in ("pattern-refine", "text-refine") for k in range(3)])
    return folder
