"""A suite of eight small made-up samples, written to disk as suites are, for tests of runs and of the command line."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from refbench.images import Image, encode_webp, write_atomic
from refbench.schema import AdapterCard, RunManifest, Sample, SampleMeta
from refbench.tasks.suite import Suite, load_suite

TASKS = ("logo-refine", "pattern-replace")
HEIGHT, WIDTH = 96, 112


def make(task: str, number: int) -> tuple[Sample, Image]:
    """One sample and its target: stripes and discs on a gradient, the draft blurred inside the mask."""
    rng = np.random.default_rng([number, TASKS.index(task)])
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    base = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], axis=2) * 120 + 60
    angle, step = rng.uniform(0, np.pi), rng.uniform(5, 9)
    stripes = (np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / step) > 0)[..., None]
    disc = ((x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2 < 26**2)[..., None]
    colour = rng.uniform(0, 255, 3)
    target = np.where(stripes & disc, colour, base) + rng.normal(0, 3, (HEIGHT, WIDTH, 3))
    target8 = np.clip(np.rint(target), 0, 255).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[24:72, 32:80] = True
    blurred = target8.astype(float)
    for axis in (0, 1):
        blurred = sum(np.roll(blurred, shift, axis) for shift in range(-4, 5)) / 9
    draft = np.where(mask[..., None], np.rint(blurred + 6), target8).astype(np.uint8)
    reference = np.ascontiguousarray(np.roll(target8, 3, axis=1)[::-1][:90])
    meta = SampleMeta(
        id=f"{task}-{number:03d}",
        task=task,
        category="logo" if task.startswith("logo") else "pattern",
        mode="refine" if task.endswith("refine") else "replace",
        source_id=f"{task}-source-{number // 2}",
        view="composed",
        degradation="blur",
        strength=0.5,
        mask_kind="box",
        mask_share=float(mask.mean()),
        licence="CC0-1.0",
        attribution="made by the tests",
        source="tests",
        seed=number,
    )
    prompt = f"Restore the {meta.category} from the reference"
    return Sample(meta.id, draft, reference, mask, prompt, (20, 10, 60, 70), meta), target8


def write_tiny(folder: Path, samples: int = 8, name: str = "tiny") -> Path:
    """Write a suite of so many samples, as `refbench tasks generate` would, and return its folder."""
    from refbench.tasks.writing import file_entry, parquet_bytes, row_of, write_header

    plan = [(task, number) for number in range((samples + 1) // 2) for task in TASKS][:samples]
    files, tasks = {}, []
    for task in TASKS:
        rows = []
        for _, number in (entry for entry in plan if entry[0] == task):
            sample, target = make(task, number)
            rows.append(
                row_of(
                    SimpleNamespace(  # type: ignore[arg-type]
                        meta=sample.meta,
                        prompt=sample.prompt,
                        draft=sample.draft,
                        target=target,
                        reference=sample.reference,
                        mask=sample.mask,
                        reference_box=sample.reference_box,
                        target_webp=encode_webp(target, None, method=0),
                        reference_webp=encode_webp(sample.reference, None, method=0),
                    ),
                    method=0,
                )
            )
        if rows:
            data = parquet_bytes(rows)
            write_atomic(folder / task / "data.parquet", data)
            files[f"{task}/data.parquet"] = file_entry(data)
            tasks.append((task, [(row["id"], row["sha256"]) for row in rows]))
    write_header(folder, name, "1", tasks, files)
    return folder


@functools.cache
def tiny(samples: int = 8) -> Suite:
    """The suite, loaded from a folder of this process's own."""
    folder = Path(tempfile.mkdtemp(prefix="refbench-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return load_suite(write_tiny(folder / "tiny", samples))


def adapter_file(folder: Path, body: str, name: str = "model") -> Path:
    """A class adapter whose ``refine(self, inputs)`` has this body."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    lines = "\n".join("        " + line for line in body.strip("\n").splitlines())
    path.write_text(
        "import os, sys, time\nimport numpy as np\nfrom refbench.schema import AdapterCard\n\n\nclass Model:\n"
        f"    card = AdapterCard(name={name!r}, summary='A model of the tests.')\n\n"
        "    def __init__(self, *, device='cpu', strength=0.5):\n        self.strength = strength\n\n"
        f"    def refine(self, inputs):\n{lines}\n"
    )
    return path


NOISE = """
rng = np.random.default_rng(inputs.seed)
out = inputs.draft.copy()
out[inputs.mask] = rng.integers(0, 256, (int(inputs.mask.sum()), 3))
return out
"""
"""A model whose output depends on the sample's seed alone."""


def manifest(**changes: object) -> RunManifest:
    """The manifest of a run of three samples, with some fields changed."""
    fields: dict[str, object] = {
        "run": "r",
        "suite": "tiny",
        "suite_version": "1",
        "suite_hash": "5" * 64,
        "samples": ("a-000", "a-001", "a-002"),
        "model": "identity",
        "card": AdapterCard(name="identity", summary="The draft."),
        "arguments": {},
        "isolation": "worker",
        "seed": 0,
        "device": "cpu",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {},
        "git_commit": None,
        "git_dirty": None,
        "hardware": {},
    }
    return RunManifest(**{**fields, **changes})
