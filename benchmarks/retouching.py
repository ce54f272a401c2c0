"""What edits that see the target could win over `place-blend`.

    python benchmarks/retouching.py VAL OUT        # then: refbench score OUT/* --suite VAL

Writes a folder of pictures for each oracle: what `place-blend` gives, with the target's light, the target's
local energy of detail, its content's motion, or its better choice of places. Validation data only, never `core`.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from refbench.images import Image, Mask, save_png
from refbench.omnirefiner.retouch.edit import EDGES
from refbench.omnirefiner.tensors import to_tensor
from refbench.registration.placement import compose

Float = NDArray[np.float32]


def soft(values: Float, inside: Float, sigma: float) -> Float:
    """(H, W, C) averaged in Gaussian windows over the masked pixels only."""
    top = cv2.GaussianBlur(values * inside[..., None], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    known = cv2.GaussianBlur(inside, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(top.reshape(values.shape) / np.maximum(known, 1e-4)[..., None], np.float32)


def lit(picture: Float, target: Float, inside: Float) -> Float:
    """With the target's low-frequency colour."""
    return picture + soft(target - picture, inside, 12.0)


def sharpened(picture: Float, target: Float, inside: Float) -> Float:
    """With the target's local energy in three bands of detail, by gains of 1/3 to 3."""

    def level(image: Float, sigma: float) -> Float:
        return image if sigma == 0 else np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)

    out = picture.copy()
    for fine, coarse in itertools.pairwise(EDGES):
        bands = [level(image, fine) - level(image, coarse) for image in (picture, target)]
        mine, right = (soft((band**2).sum(2, keepdims=True), inside, 8.0) + 0.3 for band in bands)
        out = out + (np.clip(np.sqrt(right / mine), 1 / 3, 3) - 1) * bands[0]
    return out


def moved(picture: Image, target: Image, inside: Float) -> Float:
    """Warped by a smooth flow to the target, of at most 16 px."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, picture)]
    flow = soft(np.asarray(search.calc(grey[0], grey[1], None)), inside, 6.0)
    flow *= np.minimum(1, 16 / np.maximum(np.hypot(flow[..., :1], flow[..., 1:]), 1e-6))
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float32)
    return np.asarray(
        cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def nearer(draft: Image, laid: Image, target: Image, network: Any) -> Float:
    """Weights (H, W, 1) of the draft: 1 where its features are nearer to the target's than the laid reference's."""
    from refbench.omnirefiner.retouch.losses import best_match, features

    apart = []
    with torch.no_grad():
        known = features(network, to_tensor(target)[None])[:2]
        for picture in (draft, laid):
            total = torch.zeros(1, 1, *target.shape[:2])
            for mine, right in zip(features(network, to_tensor(picture)[None])[:2], known, strict=True):
                distance = 1 - best_match(mine, right)
                total = total + torch.nn.functional.interpolate(distance, target.shape[:2], mode="bilinear")
            apart.append(cv2.GaussianBlur(total[0, 0].numpy(), (0, 0), 5.0))
    chosen = (apart[0] < apart[1]).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(chosen, (0, 0), 0.8), np.float32)[..., None]


def oracles(sample: Any, target: Image, network: Any) -> dict[str, Image]:
    """The pictures of one sample by name; all alike where no pose is believed."""
    asked = sample.draft, sample.reference, sample.mask, sample.reference_box, sample.prompt
    blended, found = compose(*asked)
    names = ("placed", "choice", "light", "sharpness", "motion", "light-sharpness", "all")
    if not found.confident:
        return dict.fromkeys(names, blended)
    laid = compose(*asked, selected=False)[0]
    inside, truth, draft = sample.mask.astype(np.float32), target.astype(np.float32), sample.draft.astype(np.float32)

    def put(picture: Float) -> Image:
        return _inside(sample.draft, picture, sample.mask)

    def choice(picture: Image) -> Float:
        whole = picture.astype(np.float32)
        return whole + nearer(sample.draft, picture, target, network) * (draft - whole)

    light = put(lit(blended.astype(np.float32), truth, inside))
    whole = put(choice(put(moved(laid, target, inside))))
    whole = put(lit(whole.astype(np.float32), truth, inside))
    pictures = [
        blended, put(choice(laid)), light, put(sharpened(blended.astype(np.float32), truth, inside)),
        put(moved(blended, target, inside)), put(sharpened(light.astype(np.float32), truth, inside)),
        put(sharpened(whole.astype(np.float32), truth, inside)),
    ]  # fmt: skip
    return dict(zip(names, pictures, strict=True))


def _inside(draft: Image, picture: Float, mask: Mask) -> Image:
    out = draft.copy()
    out[mask] = np.clip(np.rint(picture), 0, 255).astype(np.uint8)[mask]
    return out


def main() -> None:
    """Write the oracles' pictures."""
    from refbench.metrics.backbones import load_efficientnet
    from refbench.tasks.suite import load_suite

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    suite, network = load_suite(asked.suite), load_efficientnet()
    for number, sample in enumerate(suite, 1):
        for name, picture in oracles(sample, suite.target(sample), network).items():
            to = asked.out / name / f"{sample.id}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            save_png(to, picture)
        print(f"{number}/{len(suite)} {sample.id}", flush=True)


if __name__ == "__main__":
    main()
