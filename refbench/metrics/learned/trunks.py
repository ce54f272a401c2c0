"""AlexNet, VGG16 and SqueezeNet as LPIPS uses them, through the library ``lpips``: stages, distances, tiles.

A trunk's stages are computed once for an output and shared by the metrics that use the same trunk; the target's stages
are kept on disk. Large images are passed in tiles (refbench/metrics/tiles.py): all of these distances are means of
local maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.images import Image
from refbench.metrics import tiles
from refbench.metrics.features import Arrays
from refbench.metrics.learned.base import by_shape, inference, load_state, network, randomised, to_tensor
from refbench.metrics.view import View

if TYPE_CHECKING:
    from torch import Tensor

TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""LPIPS' name of a trunk -> its weight file."""
STRIDES = {"alex": (4, 8, 16, 16, 16), "vgg": (1, 2, 4, 8, 16), "squeeze": (2, 4, 8, 16, 16, 16, 16)}
"""Of the stages, in px."""
KEPT_MB = 20.0
"""Targets' stages are kept on disk up to this size a target and trunk."""


def perceptual(trunk: str, device: str) -> Any:
    """``lpips.LPIPS`` with its v0.1 heads on the trunk's ImageNet weights (random ones under ``random_weights``)."""

    def build() -> Any:
        import lpips
        import torch

        # Built without memory first: the classifier, nine tenths of VGG16, is dropped before it costs anything.
        with torch.device("meta"):
            made = lpips.LPIPS(net=trunk, version="0.1", pretrained=False, pnet_rand=True, verbose=False)
        made = made.to_empty(device="cpu")
        made.scaling_layer = lpips.ScalingLayer()
        heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
        made.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
        if randomised() is not None:
            draw(made.net)
            return made
        state = load_state(TRUNKS[trunk])
        # torchvision's "features.N.x" is "sliceK.N.x" here.
        made.net.load_state_dict({name: state["features." + name.split(".", 1)[1]] for name in made.net.state_dict()})
        return made

    return network(f"lpips-{trunk}", device, build)


def draw(network: Any) -> None:
    """He-initialised convolutions, so that activations keep their size through the depth."""
    from torch import nn

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def stages(trunk: str, images: Tensor) -> list[Tensor]:
    """The trunk's ReLU outputs (n, C, h, w), as LPIPS takes them, of RGB in [0, 1]; VGG16: relu1_2 to relu5_3."""
    model = perceptual(trunk, str(images.device))
    with inference(str(images.device)):
        return [stage.float() for stage in model.net.forward(model.scaling_layer(images * 2.0 - 1.0))]


def unit(stage: Tensor) -> Tensor:
    """Each position's vector scaled to unit length, as LPIPS does."""
    import lpips

    found: Tensor = lpips.normalize_tensor(stage)
    return found


def lpips_maps(trunk: str, a: Iterable[Tensor], b: Iterable[Tensor], device: str) -> list[Tensor]:
    """LPIPS' weighted squared difference at each position and stage, (n, 1, h, w), of unit stages."""
    model = perceptual(trunk, device)
    return [head((x - y).square()) for head, x, y in zip(model.lins, a, b, strict=True)]


def output_stages(views: Sequence[View], trunk: str, device: str) -> None:
    """Put the stages of each output at ``view.once("trunk.<name>")``, those that are new in one pass a size."""
    name = f"trunk.{trunk}"
    new = [view for view in views if name not in view.shared]
    for group in by_shape([view.image for view in new]):
        found = stages(trunk, to_tensor([new[at].image for at in group], device))
        for place, at in enumerate(group):
            new[at].shared[name] = [stage[place : place + 1] for stage in found]


def target_stages(
    views: Sequence[View],
    trunk: str,
    device: str,
    card: str,
    part: str,
    chosen: Callable[[list[Tensor]], list[Tensor]],
    half: bool,
) -> list[list[Tensor]]:
    """What a metric needs of each target's stages, found on disk or made and kept there.

    Args:
        card: hash of the metric's card.
        part: name of what `chosen` makes of the stages, list (1, C, h, w) -> list.
        half: kept in half precision; unit vectors lose 1e-7 of a squared distance by it.
    """
    import torch

    full = f"{trunk}.{part}"
    name = f"trunk.{trunk}"
    waiting = {id(v.known): v.known for v in views if name not in v.known.shared and not v.known.has_apart(full, card)}
    new = list(waiting.values())
    for group in by_shape([known.target for known in new]):
        passed = stages(trunk, to_tensor([new[at].target for at in group], device))
        for place, at in enumerate(group):
            new[at].shared[name] = [stage[place : place + 1] for stage in passed]

    def made(view: View) -> Arrays:
        found = chosen(view.known.shared[name])  # type: ignore[arg-type]
        kind = np.float16 if half else np.float32
        return {str(at): stage[0].cpu().numpy().astype(kind) for at, stage in enumerate(found)}

    out = []
    for view in views:
        arrays = view.known.apart(full, card, lambda view=view: made(view), KEPT_MB)  # type: ignore[misc]
        out.append([torch.from_numpy(arrays[str(at)]).to(device).float()[None] for at in range(len(arrays))])
    return out


def tiled_means(
    trunk: str, a: Image, b: Image, device: str, maps: Callable[[list[Tensor], list[Tensor]], list[Tensor]]
) -> list[float]:
    """:func:`refbench.metrics.tiles.tiled_means` of a trunk's stages; VGG16 may have a map more, of relu3_3."""
    strides = (*STRIDES[trunk], STRIDES["vgg"][2])
    return tiles.tiled_means(a, b, lambda part: stages(trunk, to_tensor([part], device)), strides, maps)
