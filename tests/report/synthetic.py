"""A suite and run folders made of scikit-image's photographs, with scores that are computed from the pixels."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refbench.images import Image, Mask, save_png
from refbench.runs.folder import RunFolder
from refbench.schema import SCORE_VERSION, AdapterCard, MetricCard, RunManifest, Sample, SampleMeta, SampleRecord, Truth
from refbench.stats.gains import NO_TARGETS

TASKS = (
    "text-refine", "logo-refine", "pattern-refine", "object-refine", "face-refine",
    "text-replace", "logo-replace", "pattern-replace",
)  # fmt: skip


def card(name: str, axis: str, region: str, higher: bool, trivial: str = "draft", scored: bool = True) -> MetricCard:
    return MetricCard(
        name=name, definition=f"toy {name}", paper="none", axis=axis, region=region, higher_is_better=higher,
        range=(0, None), colour="sRGB in [0,255]", region_rule="pixels of the region", backend="numpy", trivial=trivial,
        scored=scored,
    )  # fmt: skip


CARDS = {
    c.name: c
    for c in (
        card("mse", "texture_fidelity", "inside", False),
        card("gradient", "texture_fidelity", "inside", False),
        card("worst", "texture_fidelity", "inside", False),
        card("palette", "reference_alignment", "inside", False),
        card("keypoint_gain", "reference_alignment", "inside", True),
        card("background_mse", "local_consistency", "outside", False, "stretch"),
        card("seam", "local_consistency", "seam", False, "paste"),
        card("psnr_like", "pixel_fidelity", "inside", False),
        card("sharpness_change", "diagnostics", "inside", True, scored=False),
        card("background_exact", "local_consistency", "outside", True, scored=False),
    )
}


Parts = tuple[Image, Image, Image, Mask, tuple[int, int, int, int]]


@functools.cache
def photos() -> tuple[Image, ...]:
    from skimage import data

    return data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.stereo_motorcycle()[0]


class SyntheticSuite:
    """What the report needs of a suite: names, metas, samples and targets."""

    def __init__(self, per_task: int = 2, size: tuple[int, int] = (168, 224), seed: int = 3) -> None:
        self.name, self.version, self.tasks, self.folder = "synthetic", "1", TASKS, Path("nowhere")
        self._size, self._seed, self.targets = size, seed, True
        self._made: dict[str, Parts] = {}
        self.metas = tuple(self._meta(task, i) for i in range(per_task) for task in TASKS)
        self.metas = tuple(sorted(self.metas, key=lambda m: (TASKS.index(m.task), m.id)))
        self.ids = tuple(m.id for m in self.metas)
        self.hash = hashlib.sha256(repr((per_task, size, seed)).encode()).hexdigest()

    def _meta(self, task: str, number: int) -> SampleMeta:
        category, mode = task.split("-")
        return SampleMeta(
            id=f"{task}-{number:03d}",
            task=task,
            category=category,
            mode=mode,
            source_id=f"photo-{number % 7}-{category}",
            view="composed",
            degradation="blur",
            strength=0.5 + 0.04 * (number % 10),
            mask_kind=("tight", "box", "scribble")[number % 3],
            mask_share=0.1,
            licence="CC0-1.0",
            attribution="scikit-image",
            source="scikit-image/data",
            seed=number,
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(name) for name in self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def _parts(self, name: str) -> Parts:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Parts:
        from skimage import filters, transform

        index = self.ids.index(name)
        rng = np.random.default_rng([self._seed, index])
        photo = photos()[index % 5]
        h, w = self._size
        y, x = (int(rng.integers(0, photo.shape[i] - self._size[i])) for i in (0, 1))
        target = np.ascontiguousarray(photo[y : y + h, x : x + w, :3])
        yy, xx = np.mgrid[:h, :w]
        cy, cx = rng.uniform(0.35, 0.65) * h, rng.uniform(0.35, 0.65) * w
        ry, rx = rng.uniform(0.16, 0.28) * h, rng.uniform(0.12, 0.22) * w
        kind = self.metas[index].mask_kind
        if kind == "box":
            mask = (abs(yy - cy) < ry) & (abs(xx - cx) < rx)
        else:
            wave = 1 + (0.12 * np.sin(5 * np.arctan2(yy - cy, xx - cx)) if kind == "scribble" else 0)
            mask = ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 < wave
        soft = filters.gaussian(target, sigma=4 + 6 * self.metas[index].strength, channel_axis=2) * 255
        draft = np.where(mask[..., None], np.rint(soft), target).astype(np.uint8)
        turned = transform.rotate(target, 8, mode="reflect", order=1)[10 : h - 10, 14 : w - 14]
        reference = np.ascontiguousarray(np.rint(turned * 255).astype(np.uint8))
        box = (int(max(cx - rx - 14, 0)), int(max(cy - ry - 10, 0)), int(2 * rx), int(2 * ry))
        return draft, reference, target, mask, box

    def sample(self, name: str) -> Sample:
        draft, reference, _, mask, box = self._parts(name)
        meta = self.metas[self.ids.index(name)]
        return Sample(name, draft, reference, mask, f"Restore the {meta.category} from the reference", box, meta)

    def truth(self, name: str) -> Truth:
        held = self.sample(name)
        return Truth(name, self.target(name), held.draft, held.reference, held.mask, held.reference_box)

    def target(self, sample: Sample | str) -> Image:
        return self._parts(sample if isinstance(sample, str) else sample.id)[2]


def toy_scores(image: Image, sample: Sample, target: Image) -> dict[str, float]:
    """Ten numbers that behave as their namesakes do."""
    a, b, inside = image.astype(float), target.astype(float), sample.mask
    difference = (a - b) ** 2
    slope = [np.abs(np.diff(v.mean(axis=2), axis=1, prepend=0)) for v in (a, b)]
    edge = inside ^ np.roll(inside, 1, axis=1)
    return {
        "mse": difference[inside].mean(),
        "gradient": np.abs(slope[0] - slope[1])[inside].mean(),
        "worst": float(np.quantile(difference[inside].mean(axis=1), 0.95)),
        "palette": float(np.abs(np.sort(a[inside], axis=0) - np.sort(b[inside], axis=0)).mean()),
        "keypoint_gain": float(slope[0][inside].std()),
        "background_mse": difference[~inside].mean(),
        "seam": float(np.maximum(slope[0] - slope[1], 0)[edge].mean()),
        "psnr_like": np.abs(a - b)[inside].mean(),
        "sharpness_change": 100 * float(slope[0][inside].mean() / slope[1][inside].mean() - 1),
        "background_exact": float((difference[~inside] == 0).all(axis=1).mean()),
    }


def rows(image: Image, sample: Sample, target: Image, **more: Any) -> list[dict[str, Any]]:
    values = toy_scores(image, sample, target)
    return [
        {"sample": sample.id, "task": sample.meta.task, "metric": name, "axis": c.axis, "region": c.region,
         "value": float(values[name]), "higher_is_better": c.higher_is_better, "card": f"{i:012x}", **more}
        for i, (name, c) in enumerate(CARDS.items())
    ]  # fmt: skip


def refine(quality: float, spill: float, rng: np.random.Generator, sample: Sample, target: Image) -> Image:
    """An output `quality` of the way to the target inside the mask, with noise of `spill` levels outside."""
    luck = float(np.clip(quality + rng.normal(0, 0.15), 0, 1)) if 0 < quality < 1 else quality
    mixed = sample.draft * (1 - luck) + target * luck
    if spill:
        mixed = mixed + rng.normal(0, spill, target.shape)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


MODELS = {
    "identity": (0.0, 0.0, 0.001, None),
    "sharpen": (0.12, 0.0, 0.02, None),
    "warp-blend": (0.45, 0.0, 0.4, None),
    "omnirefiner": (0.7, 0.6, 2.5, 12_000_000),
    "kontext-pro": (0.6, 3.0, 9.0, None),
}
"""name: quality inside, noise outside, seconds, parameters."""


def stretch(image: Image, size: tuple[int, int]) -> Image:
    from refbench.images import resize

    return resize(image, size)


def make_answers(suite: SyntheticSuite) -> pd.DataFrame:
    found = []
    for sample in suite:
        target = suite.target(sample)
        wide = stretch(sample.reference, target.shape[:2])
        answers = {"draft": sample.draft, "target": target, "stretch": wide,
                   "paste": np.where(sample.mask[..., None], wide, sample.draft)}  # fmt: skip
        for answer, image in answers.items():
            found += rows(image, sample, target, answer=answer)
    return pd.DataFrame(found)


def drop_targets(folders: Sequence[Path]) -> None:
    """What measuring leaves of runs on a suite without targets: nothing by metrics that look at one."""
    gone = [name for name, c in CARDS.items() if c.axis in ("texture_fidelity", "pixel_fidelity") or name == "seam"]
    for path in folders:
        folder = RunFolder(path)
        manifest = folder.read_manifest()
        kept = {name: card for name, card in manifest.metric_cards.items() if name not in gone}
        lacking = dict.fromkeys(gone, NO_TARGETS)
        folder.write_manifest(manifest.model_copy(update={"metric_cards": kept, "unavailable": lacking}))
        for table in (folder.scores, folder.answers):
            rows = pd.read_parquet(table)
            rows[~rows["metric"].isin(gone)].to_parquet(table)


def make_runs(
    root: Path,
    suite: SyntheticSuite,
    models: Sequence[str] = tuple(MODELS),
    failures: dict[str, str] | None = None,
    names: dict[str, str] | None = None,
) -> list[Path]:
    """Write a measured run folder for each model; `failures` maps a model to a sample it failed on."""
    answers = make_answers(suite)
    folders = []
    for number, model in enumerate(models):
        quality, spill, seconds, parameters = MODELS[model]
        rng = np.random.default_rng([11, number])
        folder = RunFolder(root / model)
        name = (names or {}).get(model, model)
        adapter = AdapterCard(
            name=name, summary=f"A synthetic model called {name}.", parameters=parameters,
            price_per_image_usd=0.04 if model == "kontext-pro" else None, needs_network=model == "kontext-pro",
        )  # fmt: skip
        folder.write_manifest(
            RunManifest(
                run=f"synthetic-{model}",
                suite=suite.name,
                suite_version=suite.version,
                suite_hash=suite.hash,
                samples=suite.ids,
                model=model,
                card=adapter,
                arguments={},
                isolation="in-process",
                seed=0,
                device="cpu",
                created="2026-11-23T12:00:00Z",
                versions={},
                git_commit=None,
                git_dirty=None,
                hardware={},
                metric_cards={n: f"{i:012x}" for i, n in enumerate(CARDS)},
                score_version=SCORE_VERSION,
            )
        )
        scores = []
        for sample in suite:
            target = suite.target(sample)
            wrong = (failures or {}).get(model) == sample.id
            if wrong:
                record = SampleRecord(
                    id=sample.id,
                    task=sample.meta.task,
                    status="failed",
                    error="The child died (signal 9).",
                    seconds=0.1,
                )
            else:
                image = refine(quality, spill, rng, sample, target)
                save_png(folder.output(sample.meta.task, sample.id), image)
                scores += rows(image, sample, target)
                took = seconds * float(rng.uniform(0.8, 1.25))
                sha = hashlib.sha256(image.tobytes()).hexdigest()
                record = SampleRecord(id=sample.id, task=sample.meta.task, status="ok", seconds=took, sha256=sha)
            folder.append_record(record)
        pd.DataFrame(scores).to_parquet(folder.scores)
        answers.to_parquet(folder.answers)
        folders.append(folder.path)
    return folders
