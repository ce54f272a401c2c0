"""Rewards of stage 2, taken on patches of the refined area: perceptual similarity and masked pixel accuracy.

The paper names DreamSim and a masked squared error. DreamSim is used where its weights are; otherwise one of the two
networks that ship with refbench, by name, in the log and on the checkpoint's card. Judge with another network than
the one trained against.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.cache import user_cache
from refbench.errors import RefbenchError, UnavailableError

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(patches, target patches), both (P, 3, p, p) in [0, 1] -> similarity (P,), 1 for equal."""

LEAST_SIDES = {"squeezenet": 32, "efficientnet": 64}
"""Smaller patches are enlarged to this many px before they are embedded."""


def choose_backbone(name: str) -> str:
    """Resolve "auto": DreamSim where package and weights are, else SqueezeNet."""
    if name != "auto":
        return name
    return "dreamsim" if find_spec("dreamsim") and _dreamsim_folder() else "squeezenet"


def _dreamsim_folder() -> Path | None:
    import os

    given = os.environ.get("DREAMSIM_CACHE")
    folder = Path(given) if given else user_cache() / "dreamsim"
    return folder if (folder / "ensemble_lora").is_dir() else None


def perceptual(name: str, device: str) -> Perceptual:
    """The perceptual similarity of patches under one backbone.

    Args:
        name: "dreamsim", "efficientnet" or "squeezenet".
        device: where the network lives.

    Raises:
        RefbenchError: an unknown name.
        UnavailableError: DreamSim without its weights.
    """
    if name == "squeezenet":
        from refbench.metrics.backbones import load_squeezenet

        squeeze = load_squeezenet(device)

        def staged(patches: Tensor, targets: Tensor) -> Tensor:
            """1 minus the mean squared distance of unit-normalised features over four stages (unweighted)."""
            total = torch.zeros(len(patches), device=patches.device)
            stages = zip(squeeze.stages(_sized(patches, name)), squeeze.stages(_sized(targets, name)), strict=True)
            for number, (a, b) in enumerate(stages):
                if number < 4:
                    total += (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
            return 1 - total / 4

        return staged
    if name == "efficientnet":
        from refbench.metrics.backbones import load_efficientnet

        network = load_efficientnet(device)
        return lambda patches, targets: F.cosine_similarity(
            network(_sized(patches, name)), network(_sized(targets, name))
        )
    if name == "dreamsim":
        folder = _dreamsim_folder()
        if folder is None or not find_spec("dreamsim"):
            raise UnavailableError(
                "Expected DreamSim and its weights for the perceptual reward, but they are not here; install "
                "`dreamsim`, run it once with network access, or set `perceptual: squeezenet` in the configuration."
            )
        import dreamsim

        build: Any = dreamsim.dreamsim
        model, _ = build(pretrained=True, device=device, cache_dir=str(folder))

        def similar(patches: Tensor, targets: Tensor) -> Tensor:
            """1 minus DreamSim's distance at its own 224 px."""
            shown = [F.interpolate(x, (224, 224), mode="bicubic", antialias=True) for x in (patches, targets)]
            return 1 - torch.as_tensor(model(*shown))

        return similar
    raise RefbenchError(
        f"Expected a perceptual backbone dreamsim, efficientnet or squeezenet, but got '{name}'; choose one of these."
    )


def _sized(patches: Tensor, name: str) -> Tensor:
    side = LEAST_SIDES[name]
    if patches.shape[-1] >= side:
        return patches
    return F.interpolate(patches, (side, side), mode="bilinear", align_corners=False)


def patch_grid(mask: Tensor, patch: int) -> Tensor:
    """Weights (B, rows, columns) of square patches by their share of mask (B, 1, H, W); sums to 1 over a sample."""
    share = F.avg_pool2d(mask, patch)[:, 0]
    return share / share.sum((1, 2), keepdim=True).clamp(min=1e-6)


def pixel_map(pictures: Tensor, targets: Tensor, mask: Tensor, patch: int) -> Tensor:
    """(E11) Accuracy (B, rows, columns) of patches in bels: -log10 of the mean squared error inside the mask.

    On a log scale a patch that is nearly right still gains, and one that is lost cannot rule; errors below
    1e-4 (40 dB) count as 1e-4. Pictures are (B, 3, H, W) in [0, 1].
    """
    error = (pictures - targets).square().mean(1, keepdim=True) * mask
    inside = F.avg_pool2d(mask, patch)[:, 0]
    mse = F.avg_pool2d(error, patch)[:, 0] / inside.clamp(min=1e-6)
    return -mse.clamp(min=1e-4).log10()


def pixel_reward(pictures: Tensor, targets: Tensor, mask: Tensor, patch: int) -> Tensor:
    """Masked accuracy (B,) in bels: :func:`pixel_map` weighted by the patches' share of the mask."""
    return (pixel_map(pictures, targets, mask, patch) * patch_grid(mask, patch)).sum((1, 2))


def used_patches(mask: Tensor, patch: int) -> Tensor:
    """Patches (B, rows, columns) with 5 % of mask or more, and in any case the fullest."""
    weights = patch_grid(mask, patch)
    return (F.avg_pool2d(mask, patch)[:, 0] >= 0.05) | (weights == weights.amax((1, 2), keepdim=True))


def perceptual_map(pictures: Tensor, targets: Tensor, mask: Tensor, patch: int, similarity: Perceptual) -> Tensor:
    """(E10) Similarity (B, rows, columns) of patches of 2x the side, one around each used patch; 0 for the others."""
    side, used = 2 * patch, used_patches(mask, patch)
    batch, rows, columns = used.shape

    def cut(images: Tensor) -> Tensor:
        padded = F.pad(images, (patch // 2,) * 4, mode="reflect")
        unfolded = F.unfold(padded, side, stride=patch).view(batch, 3, side, side, rows, columns)
        return unfolded.permute(0, 4, 5, 1, 2, 3)[used]

    value = torch.zeros(used.shape, device=mask.device)
    with torch.no_grad():
        value[used] = similarity(cut(pictures), cut(targets)).to(value)
    return value


def perceptual_reward(pictures: Tensor, targets: Tensor, mask: Tensor, patch: int, similarity: Perceptual) -> Tensor:
    """Mean similarity (B,): :func:`perceptual_map` of the used patches, weighted by their share of the mask."""
    kept = patch_grid(mask, patch) * used_patches(mask, patch)
    return (perceptual_map(pictures, targets, mask, patch, similarity) * kept).sum((1, 2)) / kept.sum((1, 2))
