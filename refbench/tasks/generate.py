"""Generate any number of quadruplets from training assets: sharded Parquet, resumable, deterministic.

The folder that comes out is a suite: :func:`refbench.tasks.suite.load_suite` reads it. Shard s depends on
seed, size, assets and s alone and is written in one atomic step, so a run killed anywhere continues where
it was and ends with the same bytes; a larger n later adds shards to the same folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench import images
from refbench.cache import cache_folder
from refbench.errors import RefbenchError
from refbench.schema import SampleMeta
from refbench.tasks.training_assets import prepare_training_assets
from refbench.tasks.working import check_workers, in_processes
from refbench.tasks.writing import (
    Question,
    check_free,
    check_writable,
    file_entry,
    parquet_bytes,
    row_of,
    write_header,
)

if TYPE_CHECKING:
    from refbench.tasks.sampler import QuadrupletSampler

SHARD = 64
Progress = Callable[[str, int, int], None]

_PROMPTS = {
    "text": "Restore the text from the reference.",
    "logo": "Restore the logo from the reference.",
    "pattern": "Restore the pattern from the reference.",
    "object": "Restore the detail from the reference.",
}


def default_assets(size: int, sources: str | Path | None, progress: Progress | None = None) -> Path:
    """The prepared assets for pictures of `size` px, made once from the fetched sources and kept in the cache.

    Raises:
        RefbenchError: they are not there and no sources are given.
    """
    folder = cache_folder() / f"training-assets-{max(192, size)}"
    if not (folder / "assets.npz").is_file():
        if sources is None:
            raise RefbenchError(
                f"Expected prepared training assets in {folder}, but there are none; run `refbench tasks fetch DIR` "
                "once and pass --sources DIR."
            )
        frame = min(320, max(192, size + size // 4))
        scale = (frame / 192) ** 2
        prepare_training_assets(
            sources, folder, budget_mb=15.5 * scale, frame=frame, surface=frame, print_size=128, progress=progress
        )
    return folder


def _sampler(assets: str, size: int) -> QuadrupletSampler:
    import torch

    from refbench.tasks.sampler import QuadrupletSampler

    torch.set_num_threads(1)
    return QuadrupletSampler(assets, size, reach=(0.22, 0.56), most=0.33)


_WORKER: dict[str, Any] = {}


def _start(assets: str, size: int) -> None:
    _WORKER["sampler"] = _sampler(assets, size)


def _shard(number: int, seed: int, path: str) -> list[tuple[str, str, str]]:
    """Make one shard; (task, id, content hash) of its samples, in order."""
    rows = shard_rows(_WORKER["sampler"], number, seed)
    images.write_atomic(path, parquet_bytes(rows))
    return [(row["task"], row["id"], row["sha256"]) for row in rows]


def _shard_of(job: tuple[int, int, str]) -> list[tuple[str, str, str]]:
    return _shard(*job)


def shard_rows(sampler: QuadrupletSampler, number: int, seed: int) -> list[dict[str, Any]]:
    """The rows of shard `number`: a function of the sampler's assets and size, the seed and the number alone."""
    import numpy as np
    import torch

    state = int(hashlib.sha256(f"{seed}:{number}:{sampler.size}".encode()).hexdigest()[:15], 16)
    sampler.generator.manual_seed(state)
    level = torch.linspace(0.4, 1.0, SHARD)[torch.randperm(SHARD, generator=sampler.generator)]
    made = sampler.batch(SHARD, level, details=True)

    def pictures(name: str) -> Any:
        return (made[name] * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()

    drafts, references, targets = pictures("draft"), pictures("reference"), pictures("target")
    masks = made["mask"][:, 0].numpy() > 0.5
    rows = []
    for k in range(SHARD):
        kind, fault = int(made["kind"][k]), int(made["fault"][k])
        category = {-1: "text", 0: "logo", 1: "logo", 2: "pattern", 3: "object"}[kind]
        mode = "replace" if fault and category != "text" else "refine"
        names = ["garbled-glyphs" if category == "text" else "other-print"] if fault else []
        chosen = int(made["degradation"][k])
        if chosen >= 0:
            names.append(sampler.degradations[chosen])
        task, name = f"{category}-{mode}", f"{category}-{mode}-{number * SHARD + k:06d}"
        target_webp = images.encode_webp(targets[k], 92, method=2)
        reference_webp = images.encode_webp(references[k], 90, method=2)
        target = images.decode_image(target_webp)
        mask = np.ascontiguousarray(masks[k])
        draft = np.where(mask[..., None], drafts[k], target)
        meta = SampleMeta(
            id=name, task=task, category=category, mode=mode,  # type: ignore[arg-type]
            source_id=f"{'clip' if kind == 3 else 'surface'}:{int(made['source'][k])}",
            view="true" if kind == 3 else "composed", degradation="+".join(names) or "none",
            strength=1.0 if mode == "replace" else round(float(made["strength"][k]), 4),
            mask_kind=("tight", "box", "scribble")[int(made["mask_kind"][k])],
            mask_share=round(float(mask.mean()), 6), text=None, licence="see the sources' licences",
            attribution="refbench training assets", source="refbench training assets", seed=seed,
        )  # fmt: skip
        question = Question(
            meta, _PROMPTS[category].replace("Restore", "Replace") if mode == "replace" else _PROMPTS[category],
            draft, target, images.decode_image(reference_webp), mask, None, target_webp, reference_webp,
        )  # fmt: skip
        rows.append(row_of(question, method=0))
    return rows


def _entries(path: Path) -> list[tuple[str, str, str]] | None:
    """What a finished shard holds; None when it is missing or unreadable and has to be made."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, columns=["task", "id", "sha256"]).to_pylist()
    except (OSError, pyarrow.ArrowException):
        return None
    return [(row["task"], row["id"], row["sha256"]) for row in rows]


def generate(
    n: int,
    out: str | Path,
    *,
    size: int = 256,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
    sources: str | Path | None = None,
    assets: str | Path | None = None,
) -> str:
    """Write `n` training quadruplets (rounded up to whole shards of 64) as a suite into `out`.

    Args:
        size: side of the square pictures in px.
        seed: with size and assets it decides every pixel.
        workers: processes; each uses one thread.
        progress: called with "shards", samples done and samples in all.
        sources: the folder that `refbench tasks fetch` filled, needed once to prepare the assets.
        assets: a folder of prepared assets to use instead.

    Returns:
        The suite's hash.

    Raises:
        RefbenchError: n or size out of range, the folder holds another plan, or assets are missing.
    """
    if n < 1 or not 64 <= size <= 512:
        raise RefbenchError(f"Expected n of 1 or more and a size of 64 to 512 px, got n = {n} and size = {size}.")
    check_workers(workers)
    if assets is not None and not (Path(assets) / "assets.npz").is_file():
        raise RefbenchError(
            f"Expected prepared training assets at {Path(assets) / 'assets.npz'}, but there is no such file; run "
            "`refbench tasks assets`."
        )
    folder = check_writable(out)
    base = Path(assets) if assets is not None else default_assets(size, sources, progress)
    source_hash = hashlib.sha256(images.read_bytes(base / "assets.npz")).hexdigest()
    plan = {"size": size, "seed": seed, "shard": SHARD, "assets": source_hash}
    _check_plan(folder / "plan.json", plan)
    total = -(-n // SHARD)
    paths = [folder / "data" / f"shard-{number:05d}.parquet" for number in range(total)]
    found = {number: _entries(path) for number, path in enumerate(paths)}
    missing = [number for number, entries in found.items() if entries is None]
    check_free(folder, len(missing) * SHARD * size * size / 1e6)
    if progress:
        progress("shards", (total - len(missing)) * SHARD, total * SHARD)
    if missing and workers <= 1:
        _start(str(base), size)
        for done, number in enumerate(missing, 1):
            found[number] = _shard(number, seed, str(paths[number]))
            if progress:
                progress("shards", (total - len(missing) + done) * SHARD, total * SHARD)
    elif missing:
        jobs = [(number, seed, str(paths[number])) for number in missing]
        made = in_processes(_shard_of, jobs, min(workers, len(jobs)), _start, (str(base), size))
        for done, (job, entries) in enumerate(made, 1):
            found[job[0]] = entries
            if progress:
                progress("shards", (total - len(missing) + done) * SHARD, total * SHARD)
    by_task: dict[str, list[tuple[str, str]]] = {}
    files: dict[str, tuple[int, str]] = {}
    for number, path in enumerate(paths):
        files[f"data/{path.name}"] = file_entry(path.read_bytes())
        for task, name, sha256 in found[number] or []:
            by_task.setdefault(task, []).append((name, sha256))
    return write_header(folder, folder.name, "generated", sorted(by_task.items()), files)


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    if path.is_file():
        try:
            old = json.loads(path.read_text("utf-8"))
        except ValueError:
            old = None
        if old != plan:
            raise RefbenchError(
                f"Expected the plan of {path} to be this run's (size, seed, assets), but it is another; choose another "
                "folder with --out, or the same settings."
            )
    else:
        images.write_atomic(path, (json.dumps(plan, indent=1) + "\n").encode())
