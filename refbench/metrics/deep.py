"""SqueezeNet features of regions, made once for all metrics that compare features and tolerate a change of place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, resize
from refbench.metrics.backbones import SHA256
from refbench.metrics.regions import reference_crop
from refbench.metrics.view import Known, View

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 512
"""Longest side in px at which features are taken; a longer region is brought to it, output and target alike."""
SHORTEST = 48
"""Shortest side in px of a reference that is brought to the region's scale."""
STRIDE = 16
"""px between positions of the two deepest stages."""
EPS = 1e-10
KEPT = SHA256["squeezenet1_1"][:12]
"""Stands in the names of stored features where a card's hash would: they belong to several metrics."""
RESIZE_RULE = f"a region longer than {LONGEST} px is brought to {LONGEST} px, Pillow's antialiased bicubic"
WEIGHTS = "SqueezeNet 1.1, ImageNet, half precision, refbench/metrics/weights/squeezenet1_1.safetensors"

Features = NDArray[np.float32]


def scaled(image: Image, longest: int = LONGEST) -> Image:
    """The image (h, w, 3), brought to `longest` px on its longer side where it is longer."""
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    return resize(image, (max(round(height * scale), 32), max(round(width * scale), 32)))


def deepest(image: Image, device: str) -> list[Features]:
    """Activations (h, w, C) of SqueezeNet's two deepest taps (384 and 512 channels, stride 16), in half precision."""
    import torch

    from refbench.metrics.backbones import load_squeezenet

    with torch.inference_mode():
        batch: Tensor = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float().div_(255.0)
        found = load_squeezenet(device).stages(batch)[2:]
        return [stage[0].permute(1, 2, 0).half().float().cpu().numpy() for stage in found]


def of_output(view: View, device: str) -> list[Features]:
    """:func:`deepest` of the output's region over the target, made once a view."""
    return view.once("deep.output", lambda: deepest(scaled(view.image), device))


def of_target(known: Known, device: str) -> list[Features]:
    """:func:`deepest` of the target's region, stored."""

    def make() -> dict[str, NDArray[np.generic]]:
        return {str(at): stage.astype(np.float16) for at, stage in enumerate(deepest(scaled(known.target), device))}

    kept = known.feature("deep.target", KEPT, make)
    return [kept[str(at)].astype(np.float32) for at in range(2)]


def of_reference(known: Known, device: str) -> list[Features]:
    """:func:`deepest` of the reference where the detail is, at the scale of the region (equal longer sides), stored."""

    def make() -> dict[str, NDArray[np.generic]]:
        crop = np.ascontiguousarray(reference_crop(known.truth))
        scale = min(max(known.box[2:]), LONGEST) / max(crop.shape[:2])
        sides = max(SHORTEST, round(crop.shape[0] * scale)), max(SHORTEST, round(crop.shape[1] * scale))
        return {str(at): stage.astype(np.float16) for at, stage in enumerate(deepest(resize(crop, sides), device))}

    kept = known.feature("deep.reference", KEPT, make)
    return [kept[str(at)].astype(np.float32) for at in range(2)]


def coverage(known: Known, shape: tuple[int, ...]) -> Features:
    """(h, w) share of each position's cell that is masked: the mask averaged over a grid of h x w cells."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    mask: Mask = known.mask
    grid = torch.from_numpy(mask.astype(np.float32))[None, None]
    out: Features = adaptive_avg_pool2d(grid, (shape[0], shape[1]))[0, 0].numpy()
    return out


def unit(features: Features) -> Features:
    """Features (..., C) with each position's vector scaled to unit length."""
    out: Features = features / (np.sqrt(np.square(features).sum(axis=-1, keepdims=True)) + EPS)
    return out
