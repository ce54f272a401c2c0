"""Prepare a small folder of training assets: everything the on-the-fly sampler needs, under 16 MB.

The folder holds one ``assets.npz``: glyph atlas, prints (objects, logos, patterns) with alpha, surface
tiles, and clips as a few frames with the flow between neighbours, all as WebP, and ``README.md``. Only
assets of one split (training by default) go in; what `core` uses never does.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench import images
from refbench.errors import RefbenchError
from refbench.tasks.keeping import Kept
from refbench.tasks.prints import PATTERNS, pattern_print
from refbench.tasks.sources import FONTS, Asset, Sources, Split, catalogue, check_resvg, group_of, split_of
from refbench.tasks.writing import check_free, check_writable

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and the total."""

TILE = 32
FRAMES = 6
FLOW = 12


def seed_of(*parts: object) -> int:
    """A 32-bit seed out of any names and numbers."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16)


def glyph_atlas(fonts: Sequence[Path]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Coverage (F, C, 32, 32) and advances (F, C) in px of :data:`CHARACTERS` in each font."""
    from PIL import Image, ImageDraw, ImageFont

    from refbench.tasks.lettering import CHARACTERS

    atlas = np.zeros((len(fonts), len(CHARACTERS), TILE, TILE), np.uint8)
    advances = np.zeros((len(fonts), len(CHARACTERS)), np.float32)
    for f, path in enumerate(fonts):
        size = 30
        face = ImageFont.truetype(str(path), size)
        top, bottom = face.getbbox("Hg")[1], face.getbbox("Hgy")[3]
        size = max(8, round(size * 25 / max(bottom - top, 1)))
        face = ImageFont.truetype(str(path), size)
        top, bottom = face.getbbox("Hg")[1], face.getbbox("Hgy")[3]
        y = (TILE - (bottom - top)) / 2 - top
        for c, letter in enumerate(CHARACTERS):
            tile = Image.new("L", (TILE, TILE), 0)
            advance = face.getlength(letter)
            ImageDraw.Draw(tile).text((TILE / 2 - advance / 2, y), letter, font=face, fill=255)
            atlas[f, c] = np.asarray(tile)
            advances[f, c] = min(advance, TILE)
    return atlas, advances


def square(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (h, w, C) to (size, size, C) with antialiasing."""
    from PIL import Image

    return np.ascontiguousarray(np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)))


def centred(mark: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Fit an RGBA picture into a transparent square of `size` px, its longer side filling it."""
    from PIL import Image

    height, width = mark.shape[:2]
    scale = size / max(height, width)
    small = Image.fromarray(mark).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC
    )
    out = np.zeros((size, size, 4), np.uint8)
    top, left = (size - small.height) // 2, (size - small.width) // 2
    out[top : top + small.height, left : left + small.width] = np.asarray(small)
    return out


def _webp(picture: NDArray[np.uint8], quality: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


class _Blobs:
    """Pictures packed one after another into one byte array."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.parts.append(data)

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        ends = np.cumsum([0, *map(len, self.parts)], dtype=np.int64)
        return {f"{name}_data": np.frombuffer(b"".join(self.parts), np.uint8), f"{name}_ends": ends}


def steady(clip: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    """The longest run of frames [start, stop) without a cut: no jump far above the clip's usual change."""
    small = np.stack([square(frame, 32).astype(np.float32).mean(axis=2) for frame in clip])
    change = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2))
    if not len(change):
        return 0, len(clip)
    cuts = np.flatnonzero((change > 16) & (change > 5 * np.median(change) + 3)) + 1
    edges = [0, *map(int, cuts), len(clip)]
    lengths = np.diff(edges)
    best = int(np.argmax(lengths))
    return edges[best], edges[best + 1]


def _flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Dense flow from one frame to the next in half px, averaged on a 12 x 12 grid: (12, 12, 2) int8."""
    import cv2

    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    dense = engine.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    coarse = cv2.resize(np.asarray(dense), (FLOW, FLOW), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(coarse * 2), -127, 127).astype(np.int8)


def prepare_training_assets(
    sources: str | Path,
    out: str | Path,
    *,
    split: Split = "train",
    budget_mb: float = 15.5,
    frame: int = 192,
    surface: int = 160,
    print_size: int = 96,
    allow: Callable[[str], bool] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the folder of prepared assets that :class:`refbench.tasks.sampler.QuadrupletSampler` reads.

    Args:
        sources: the folder that `refbench tasks fetch` filled.
        out: folder to write; its ``assets.npz`` is replaced.
        split: which split's assets to take.
        budget_mb: the file stays below it: the WebP quality is lowered and, if need be, the share of each kind.
        frame, surface, print_size: px of clip frames, surface tiles and prints.
        allow: a further filter on asset ids.
        progress: see :data:`Progress`.

    A stopped preparation keeps its pieces in ``.pieces.sqlite`` and goes on from them.

    Returns:
        The path of ``assets.npz``.

    Raises:
        RefbenchError: a budget that is none, sources that are missing, a folder that cannot be written or is too small.
        UnavailableError: the package that draws logos is not installed.
    """
    if not (math.isfinite(budget_mb) and budget_mb > 0):
        raise RefbenchError(f"Expected a budget of more than 0 MB, got {budget_mb}; correct --budget-mb.")
    store = Sources(sources)
    check_resvg()
    check_free(check_writable(out), 3 * budget_mb)

    def wanted(asset: str) -> bool:
        return split_of(asset) == split and (allow is None or allow(asset))

    tell = progress or (lambda stage, done, total: None)
    families = [name for name in FONTS if FONTS[name][2] == split or (split == "val" and FONTS[name][2] == "train")]
    tell("fonts", 0, len(families))
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    kept = Kept(Path(out) / ".pieces.sqlite", f"{store.root.resolve()} {frame} {surface} {print_size} {code}")
    finished = False
    try:
        atlas, advances = glyph_atlas([store.font(name) for name in families])
        tell("fonts", len(families), len(families))
        scale = budget_mb / 15.5
        prints = _prints(store, wanted, print_size, int(2.6e6 * scale), tell, kept)
        clips, flows = _clips(store, wanted, frame, int(7.6e6 * scale), tell, kept)
        surfaces = _surfaces(store, wanted, surface, int(4.2e6 * scale), tell, kept)
        finished = True
    finally:
        kept.close(finished=finished)
    arrays: dict[str, NDArray[Any]] = {
        "glyphs": atlas, "advances": advances, "flows": np.array(flows, np.int8).reshape(-1, FRAMES - 1, FLOW, FLOW, 2),
        "sizes": np.array([print_size, frame, surface], np.int64),
    }  # fmt: skip
    for name, blobs in (("prints", prints[0]), ("clips", clips), ("surfaces", surfaces)):
        arrays |= blobs.arrays(name)
    arrays["print_kinds"] = np.array(prints[1], np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path = Path(out) / "assets.npz"
    images.write_atomic(path, buffer.getvalue())
    note = (
        f"# Training assets of refbench ({split})\n\nMade by `refbench tasks assets` from the packages named in "
        f"`refbench/tasks/assets.csv`; {len(families)} fonts, {len(prints[0].parts)} prints, "
        f"{len(clips.parts) // FRAMES} clips, {len(surfaces.parts)} surface tiles. "
        "None of it is used by the `core` suite.\n"
    )
    images.write_atomic(Path(out) / "README.md", note.encode())
    return path


def _prints(
    store: Sources, wanted: Callable[[str], bool], size: int, budget: int, tell: Progress, kept: Kept
) -> tuple[_Blobs, list[int]]:
    """Objects (kind 0), logos (1) and patterns (2), a third of the budget each."""
    blobs, kinds = _Blobs(), []
    emoji: dict[str, str] = {}
    for name in store.emoji_names():
        emoji.setdefault(group_of(f"emoji:{name}"), name)
    plans: list[list[str]] = [
        [f"emoji:{n}" for n in emoji.values()],
        [f"logo:{n}" for n in store.logo_names()],
        [f"pattern:{n}" for n in range(260)],
    ]
    for kind, plan in enumerate(plans):
        order = sorted(plan, key=lambda asset: seed_of("prints", asset))
        used = 0
        for number, asset in enumerate(order):
            tell("prints", number, len(order))
            if kind < 2 and not wanted(asset):
                continue
            data = kept.piece(f"print {asset}", partial(_print, store, asset, size))
            if data is None:
                continue
            if used + len(data) > budget / 3:
                break
            used += len(data)
            blobs.add(data)
            kinds.append(kind)
    return blobs, kinds


def _print(store: Sources, asset: str, size: int) -> bytes | None:
    """A print as WebP; None for a logo that is too long."""
    kind, _, name = asset.partition(":")
    if kind == "emoji":
        picture = store.emoji(name)
    elif kind == "logo":
        picture = store.logo(name, size * 2)
        if max(picture.shape[:2]) > 3.2 * min(picture.shape[:2]):
            return None
    else:
        seed = seed_of("pattern", name)
        picture = pattern_print(PATTERNS[int(name) % len(PATTERNS)], seed, size, cells=3 + seed % 4)
    return _webp(centred(picture, size), 82)


def _clips(
    store: Sources, wanted: Callable[[str], bool], size: int, budget: int, tell: Progress, kept: Kept
) -> tuple[_Blobs, list[NDArray[np.int8]]]:
    blobs, flows = _Blobs(), []
    plan = [a.id for a in catalogue().values() if a.frames >= 12 and min(a.width, a.height) >= size and wanted(a.id)]
    plan.sort(key=lambda asset: seed_of("clips", asset))
    for number, asset in enumerate(plan):
        tell("clips", number, len(plan))
        piece = kept.piece(f"clip {asset}", partial(_clip, store, asset, size))
        if piece is None:
            continue
        with np.load(io.BytesIO(piece)) as found:
            data, flow = [found[f"frame{k}"].tobytes() for k in range(FRAMES)], found["flow"]
        if blobs.size + sum(map(len, data)) > budget:
            break
        for part in data:
            blobs.add(part)
        flows.append(flow)
    return blobs, flows


def _clip(store: Sources, asset: str, size: int) -> bytes | None:
    """Frames of a clip as WebP and the flow between them, as npz; None for one with cuts or without motion."""
    count = catalogue()[asset].frames
    step = max(1, count // 40)
    clip = store.frames(asset, range(0, count, step))
    start, stop = steady(clip)
    if stop - start < FRAMES:
        return None
    chosen = [clip[round(float(k))] for k in np.linspace(start, stop - 1, FRAMES)]
    height, width = chosen[0].shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    small = [square(f[top : top + side, left : left + side], size) for f in chosen]
    if np.abs(small[0].astype(int) - small[-1]).mean() < 3:
        return None
    frames = {f"frame{k}": np.frombuffer(_webp(f, 78), np.uint8) for k, f in enumerate(small)}
    buffer = io.BytesIO()
    np.savez(buffer, flow=np.stack([_flow(a, b) for a, b in pairwise(small)]), **frames)  # type: ignore[arg-type]
    return buffer.getvalue()


def _surfaces(
    store: Sources, wanted: Callable[[str], bool], size: int, budget: int, tell: Progress, kept: Kept
) -> _Blobs:
    blobs = _Blobs()
    plan = [a for a in catalogue().values() if a.frames == 1 and min(a.width, a.height) >= size and wanted(a.id)]
    jobs = [(a, part) for a in plan for part in range(1 + min(3, min(a.width, a.height) // 400))]
    jobs.sort(key=lambda job: seed_of("surfaces", job[0].id, job[1]))
    for number, (asset, part) in enumerate(jobs):
        tell("surfaces", number, len(jobs))
        data = kept.piece(f"surface {asset.id} {part}", partial(_surface, store, asset, part, size))
        if data is None:
            continue
        if blobs.size + len(data) > budget:
            break
        blobs.add(data)
    return blobs


def _surface(store: Sources, asset: Asset, part: int, size: int) -> bytes | None:
    """A square out of a still as WebP; None for a flat one."""
    picture = store.frames(asset.id)[0]
    rng = np.random.default_rng(seed_of("crop", asset.id, part))
    height, width = picture.shape[:2]
    top = round(height * 0.13) if asset.id.startswith("S") else 0  # below a vendor's badge
    limit = min(height - top, width)
    side = int(rng.integers(size, min(limit, 4 * size) + 1)) if limit > size else limit
    y, x = int(rng.integers(top, height - side + 1)), int(rng.integers(0, width - side + 1))
    tile = square(picture[y : y + side, x : x + side], size)
    return None if tile.std() < 6 else _webp(tile, 78)
