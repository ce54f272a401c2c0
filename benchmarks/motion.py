"""Does the draft tell by how far a placed reference is off? Flows found without the target, held against the known one.

    python benchmarks/motion.py SCENES [--count 200]

SCENES is the folder of scenes that `refbench train prepare` prints. Each row is the mean distance in px to the motion
that the target tells (:func:`refbench.omnirefiner.retouch.training.known_motion`), and the shares of scenes in which it
is 0.2 px smaller, and larger, than that of no motion at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from refbench.omnirefiner.retouch.data import SceneBatch, SceneSampler
from refbench.omnirefiner.retouch.training import known_motion, searched_motion
from refbench.tasks.degradations import blur

WIDTHS = (5.0, 12.0, 24.0)
"""Sigmas in px over which a flow is averaged."""


def flow(a: Tensor, b: Tensor) -> Tensor:
    """Dense inverse search from pictures to pictures, (B, 2, H, W) in px."""
    nothing = a[:, :1]
    return searched_motion(SceneBatch(b, b, b, a, nothing, nothing, nothing))


def averaged(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Means in Gaussian windows, weighted (B, 1, H, W)."""
    return blur(values * weight, sigma) / blur(weight, sigma).clamp(min=1e-4)


def candidates(scenes: SceneBatch, known: Tensor, trust: Tensor) -> dict[str, Tensor]:
    """Motions (B, 2, H, W) by name."""
    found = {"none": torch.zeros_like(known)}
    whole = flow(scenes.draft, scenes.placed)
    coarse = flow(blur(scenes.draft, 3.0), blur(scenes.placed, 3.0))
    around = flow(scenes.draft, scenes.warped)
    unlike = blur((scenes.draft - scenes.warped).square().mean(1, keepdim=True), 3.0).sqrt()
    outside = (1 - scenes.mask) * (-unlike / 0.15).exp() + 1e-6
    for sigma in WIDTHS:
        found[f"draft and placed reference, over {sigma:g} px"] = averaged(whole, scenes.mask, sigma)
        found[f"both blurred by 3 px, over {sigma:g} px"] = averaged(coarse, scenes.mask, sigma)
        found[f"outside the mask, over {sigma:g} px"] = averaged(around, outside, sigma)
        found[f"the known motion itself, over {sigma:g} px"] = averaged(known, trust, sigma)
    return found


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--count", type=int, default=200)
    asked = parser.parse_args()
    rows = SceneSampler(asked.scenes).rows(asked.count, torch.Generator().manual_seed(0))
    draft, placed, warped, target, mask, other, kind = rows
    mask = (mask > 0.5).float()
    scenes = SceneBatch(draft, placed, warped, target, mask, mask, other)
    known, trust = known_motion(scenes, searched_motion(scenes))
    seen = trust.sum((1, 2, 3)) > 200
    kinds = {
        "clips": seen & (kind > 0.5), "prints repaired": seen & (kind < 0.5) & (other < 0.5),
        "prints exchanged": seen & (kind < 0.5) & (other > 0.5),
    }  # fmt: skip
    print("| | " + " | ".join(f"{name} ({int(of.sum())})" for name, of in kinds.items()) + " |\n|---|---|---|---|")
    still: Tensor | None = None
    for name, motion in candidates(scenes, known, trust).items():
        off = ((motion - known).square().sum(1, keepdim=True).sqrt() * trust).sum((1, 2, 3))
        off = off / trust.sum((1, 2, 3)).clamp(min=1)
        still = off if still is None else still
        cells = [
            f"{off[of].mean():.2f} ({(off < still - 0.2)[of].float().mean():.0%}, "
            f"{(off > still + 0.2)[of].float().mean():.0%})"
            for of in kinds.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
