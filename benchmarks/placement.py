"""How well references are placed: poses against known ones, in pictures as the suites have them and in large ones.

    python benchmarks/placement.py SOURCES --count 60 > table.md

SOURCES is the folder that `refbench tasks fetch` filled. Prints of the training split are drawn as training samples
are, so that it is known where every pixel of either picture falls on the print; large pictures are photographs of 1,900
to 4,300 px with the print in them, the mask 100 to 160 px. A pose is right where the median point inside the mask is
off by less than 3 % of the mask's longer side, and far off where by more than 10 %. Where the draft shows another
thing, or the reference is another sample's, no pose is right without a box, and whatever is believed is far off.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, mask_box
from refbench.registration.placement import place
from refbench.schema import Box
from refbench.tasks.composition import cloth_folds, print_grid
from refbench.tasks.drawing import Pool, Recipe, draw_recipe, pool_of
from refbench.tasks.recipes import Question, fit_quad, frame_of, make_print, make_sample, to_tensor
from refbench.tasks.sources import Sources

RIGHT, NEAR = 0.03, 0.1
LONG, MASK, NATIVE = (1900, 4300), (100, 160), 352
Field = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A draft and a reference; `here` and `there` say where the pixels of a part of either fall on the print."""

    draft: Image
    reference: Image
    mask: Mask
    box: Box | None
    prompt: str
    here: Field
    there: Field
    half: Field
    """(2,), half the print's width and height in px of the draft."""
    corners: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    """Left and top of those parts."""

    def error(self, matrix: Field) -> float:
        """How far a pose is off, as a share of the mask's longer side."""
        (x, y), (u, v) = self.corners
        height, width = self.here.shape[:2]
        print_ = (np.abs(self.here).max(-1) <= 1) & self.mask[y : y + height, x : x + width]
        rows, columns = np.nonzero(print_)
        moved = np.column_stack([columns + x, rows + y, np.ones(len(rows))]) @ matrix.T
        at = (moved[:, :2] / moved[:, 2:] - (u, v)).astype(np.float32)[None]
        shown = cv2.remap(
            self.there.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
            borderValue=(9.0, 9.0, 9.0, 9.0),
        )[0]  # fmt: skip
        off = np.hypot(*((shown - self.here[print_]) * self.half).T)
        return float(np.median(off) / max(mask_box(self.mask)[2:]))


def on_print(recipe: Recipe, side: str, sources: Sources) -> Field:
    """Where every pixel of a view falls on the print, (H, W, 2) in [-1, 1]; as :func:`recipes.put` lays it."""
    view, seed = recipe[side], recipe["seed"] + (2 if side == "reference" else 0)
    ground = to_tensor(frame_of(view, sources))
    layer = make_print(recipe["print"], sources, np.random.default_rng(recipe["seed"]))
    fill = recipe["print"]["type"] == "pattern"
    quad = fit_quad(np.array(view["quad"], np.float64), layer.shape[:2], fill, (ground.shape[2], ground.shape[3]))
    folds = cloth_folds(ground, torch.Generator().manual_seed(seed), 3)
    one = torch.ones(1, dtype=torch.float64)
    bent = (one * view.get(name, 0.0) for name in ("wrap", "bow", "cloth"))
    return np.asarray(print_grid(quad, ground, *bent, folds)[0])


def half_size(here: Field) -> Field:
    """Half width and height in px of the print on a picture: one over how fast it is crossed."""
    seen = np.abs(here).max(-1) <= 1
    slopes = [np.hypot(*(np.gradient(here[..., k], axis=a)[seen] for a in (1, 0))) for k in (0, 1)]
    return np.array([1 / np.median(slope) for slope in slopes])


def drawn(pool: Pool, sources: Sources, seed: int, mode: str, large: bool) -> Iterator[tuple[Recipe, Question]]:
    """Endless samples of prints; of large photographs they are cuts of 352 px as the photograph has them."""
    rng = np.random.default_rng(seed)
    while True:
        recipe = draw_recipe(pool, sources, rng)
        if recipe is None or recipe["kind"] != "print" or not recipe["task"].endswith(mode):
            continue
        if recipe["target"]["asset"] == recipe["reference"]["asset"]:  # their surroundings would say another pose
            continue
        for view in (recipe["target"], recipe["reference"]) if large else ():
            x, y, side, _ = view["crop"]
            middle = np.array([x, y]) + side // 2 - NATIVE // 2
            view["quad"] = (np.array(view["quad"]) * NATIVE / view["size"][0]).tolist()
            view |= {"crop": [*(max(int(v), 0) for v in middle), NATIVE, NATIVE], "size": [NATIVE, NATIVE]}
        try:
            made = make_sample(recipe, sources)
        except RefbenchError:  # its mask is too small or too large
            continue
        if not large or MASK[0] <= max(mask_box(made.mask)[2:]) <= MASK[1]:
            yield recipe, made


def whole(recipe: Recipe, side: str, picture: Image, sources: Sources) -> tuple[Image, tuple[int, int]]:
    """The photograph that a picture was cut from with the picture in its place, and where that is."""
    view = {k: v for k, v in recipe[side].items() if k not in ("crop", "size")}
    x, y, width, height = recipe[side]["crop"]
    photograph = frame_of(view, sources).copy()
    photograph[y : y + height, x : x + width] = picture
    return photograph, (x, y)


def pair_of(recipe: Recipe, made: Question, sources: Sources) -> Pair:
    """A sample as it is."""
    here, there = (on_print(recipe, side, sources) for side in ("target", "reference"))
    box, prompt = made.reference_box, made.prompt
    return Pair(made.draft, made.reference, made.mask, box, prompt, here, there, half_size(here))


def enlarged(pair: Pair, recipe: Recipe, sources: Sources) -> tuple[Pair, Pair]:
    """A sample in its large photographs, and its large draft with the reference as it is."""
    draft, corner = whole(recipe, "target", pair.draft, sources)
    reference, other = whole(recipe, "reference", pair.reference, sources)
    mask = np.zeros(draft.shape[:2], bool)
    mask[corner[1] : corner[1] + NATIVE, corner[0] : corner[0] + NATIVE] = pair.mask
    assert pair.box is not None
    box = (pair.box[0] + other[0], pair.box[1] + other[1], *pair.box[2:])
    large = dataclasses.replace(
        pair, draft=draft, reference=reference, mask=mask, box=box, corners=(corner, other)
    )  # fmt: skip
    return large, dataclasses.replace(large, reference=pair.reference, box=None, corners=(corner, (0, 0)))


def asked(sources: Sources, count: int, seed: int) -> Iterator[tuple[str, Pair, bool]]:
    """(what is asked, the pair, whether a pose can be right) of all kinds."""
    pool = pool_of(sources)
    photographs = tuple(a for a in pool.surfaces if a.id[0] == "P" and LONG[0] <= max(a.width, a.height) <= LONG[1])
    for size, assets in (("suite", pool), ("large", dataclasses.replace(pool, surfaces=photographs))):
        large = size == "large"
        before = None
        samples = drawn(assets, sources, seed, "refine", large)
        for (recipe, made), _ in zip(samples, range(count), strict=False):
            pair = pair_of(recipe, made, sources)
            if large:
                pair, near = enlarged(pair, recipe, sources)
                yield "large draft, close reference, no box", near, True
            yield f"{size}, box", pair, True
            yield f"{size}, no box", dataclasses.replace(pair, box=None), True
            if before is not None:
                yield f"{size}, another's reference", dataclasses.replace(pair, reference=before, box=None), False
            before = pair.reference
        if not large:
            others = drawn(assets, sources, seed, "replace", large)
            for (recipe, made), _ in zip(others, range(count // 2), strict=False):
                pair = dataclasses.replace(pair_of(recipe, made, sources), box=None, prompt="Restore the detail.")
                yield "suite, another print, no box", pair, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--count", type=int, default=60, help="samples of each kind")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {}
    seconds: dict[str, list[float]] = {}
    for what, pair, can in asked(Sources(chosen.sources), chosen.count, chosen.seed):
        start = time.process_time()
        found = place(pair.draft, pair.reference, pair.mask, pair.box, pair.prompt, thorough=True)
        seconds.setdefault(what, []).append(time.process_time() - start)
        off = pair.error(found.matrix) if can else np.inf
        tally = counts.setdefault(what, Counter())
        tally.update({"all": 1, "right": off < RIGHT})
        if found.confident:
            tally.update({"sure": off < RIGHT, "wrong": off >= RIGHT, "far": off >= NEAR})
    print("| pairs | n | right | believed and right | believed and wrong | of these far off | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for what in sorted(counts):
        tally = counts[what]
        shares = " | ".join(f"{tally[k] / tally['all']:.0%}" for k in ("right", "sure", "wrong", "far"))
        print(f"| {what} | {tally['all']} | {shares} | {np.median(seconds[what]):.2f} |")


if __name__ == "__main__":
    main()
