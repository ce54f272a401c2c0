"""Are the training scenes of stage 1 like the suite? Errors of draft and placed reference, masks and modes of both.

    refbench tasks build --split val --sources SOURCES --out VAL
    python benchmarks/scenes.py VAL COUNT [--count 400]

VAL is the validation suite, COUNT the folder of scenes that `refbench train prepare --of stage1` prints. SceneBatch are
taken as stage 1 draws them (:func:`refbench.omnirefiner.retouch.training.draw_weight`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.retouch import losses as terms
from refbench.omnirefiner.retouch.scenes import place_scene
from refbench.omnirefiner.retouch.training import SceneSampler
from refbench.tasks.suite import load_suite

Row = tuple[Tensor, ...]


def suite_rows(folder: str) -> tuple[list[Row], int]:
    """Windows of a suite's samples, and how many have no trusted placement."""
    suite, rows, left = load_suite(folder), [], 0
    for name in suite.ids:
        sample = suite.sample(name)
        inputs = sample.inputs()
        question: Any = SimpleNamespace(
            draft=inputs.draft, reference=inputs.reference, mask=inputs.mask, reference_box=inputs.reference_box,
            prompt=inputs.prompt, target=suite.target(sample), meta=sample.meta,
        )  # fmt: skip
        row = place_scene(question)
        if row is None:
            left += 1
        else:
            rows.append(row)
    return rows, left


def similarity(out: Tensor, target: Tensor) -> Tensor:
    """SSIM (Wang 2004) of every place, (1, 1, H, W)."""
    maps: Any = structural_similarity_index_measure(out, target, data_range=2.0, return_full_image=True)
    return maps[1].mean(1, keepdim=True)


@torch.no_grad()
def facts(rows: list[Row]) -> dict[str, Tensor]:
    """What is compared, a value a window."""
    network = load_efficientnet()
    found: dict[str, list[float]] = {}
    for row in rows:
        draft, laid, _, target, mask, other, clip = (part[None] for part in row)
        mask = (mask > 0.5).float()
        known = terms.features(network, target)
        for name, picture in (("draft", draft), ("placed reference", laid)):
            out = mask * picture + (1 - mask) * target
            said = terms.features(network, out)
            values = {
                "RMSE, [0, 1]": terms.rmse(out, target, mask) / 2,
                "1 - SSIM": 1 - terms.inside(similarity(out, target), mask),
                "energy of detail": terms.detail_energy(out, target, mask),
                "features, best match": terms.nearest_features(said, known, mask),
            }  # fmt: skip
            for key, value in values.items():
                found.setdefault(f"{name}: {key}", []).append(float(value))
        found.setdefault("mask: root of area, px", []).append(float(mask.sum()) ** 0.5)
        found.setdefault("share with another thing", []).append(float(other))
        found.setdefault("share of clips", []).append(float(clip))
    return {name: torch.tensor(values) for name, values in found.items()}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--count", type=int, default=400)
    asked = parser.parse_args()
    rows, left = suite_rows(asked.suite)
    drawer = SceneSampler(asked.scenes)
    drawn = drawer.rows(asked.count, torch.Generator().manual_seed(0))
    scenes = [tuple(part[k] for part in drawn) for k in range(asked.count)]
    used = int((drawer.weights > 0).sum())
    print(
        f"placed: {len(rows)} of the suite's {len(rows) + left} samples; used: {used} of {len(drawer.weights)} scenes\n"
    )
    print("| | suite: mean (10 %, 90 %) | scenes |\n|---|---|---|")
    both = facts(rows), facts(scenes)
    for name, mine in both[0].items():
        cells = []
        for values in (mine, both[1][name]):
            spread = (
                ""
                if name.startswith("share")
                else " ({:.2f}, {:.2f})".format(*values.quantile(torch.tensor([0.1, 0.9])))
            )
            cells.append(f"{values.mean():.3f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
