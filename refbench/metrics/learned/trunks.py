"""AlexNet, VGG16 and SqueezeNet as LPIPS uses them, through the library ``lpips``: stages, distances, tiles.

A trunk's stages are computed once for an output and shared by the metrics that use the same trunk; the target's stages
are kept on disk. Images beyond :data:`WHOLE` px are passed in tiles whose margins cover what a stage's pixel sees, so
that the sum over tiles is the value of the whole image (all of these distances are means of local maps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.images import Image
from refbench.metrics.learned.base import by_shape, inference, load_state, network, randomised, to_tensor
from refbench.metrics.view import Arrays, View

if TYPE_CHECKING:
    from torch import Tensor

TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""LPIPS' name of a trunk -> its weight file."""
WHOLE = 1_500_000
"""Images of more pixels are passed in tiles."""
TILE, MARGIN = 512, 128
"""Side of a tile's core and the margin around it, in px; multiples of the trunks' largest stride (16). A stage's pixel
sees at most 119 px beyond its place (SqueezeNet's last), so that 128 px make tiles exact."""
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


def lpips_maps(trunk: str, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """LPIPS' weighted squared difference at each position and stage, (n, 1, h, w), of lists of unit stages."""
    model = perceptual(trunk, str(a[0].device))
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


def tiles(size: tuple[int, int]) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]:
    """(core, tile) boxes as (top, bottom, left, right) that cover a frame (height, width) without overlap of cores."""
    height, width = size

    def cuts(length: int) -> list[tuple[int, int]]:
        edges = list(range(0, length, TILE))
        if len(edges) > 1 and length - edges[-1] < 2 * MARGIN:
            edges.pop()  # a last sliver is measured with the tile before it
        return list(zip(edges, [*edges[1:], length], strict=True))

    for top, bottom in cuts(height):
        for left, right in cuts(width):
            yield (
                (top, bottom, left, right),
                (max(top - MARGIN, 0), min(bottom + MARGIN, height), max(left - MARGIN, 0), min(right + MARGIN, width)),
            )


def tiled_means(
    trunk: str, a: Image, b: Image, device: str, maps: Callable[[list[Tensor], list[Tensor]], list[Tensor]]
) -> list[float]:
    """The spatial mean of each of `maps` of two images' stages, taken tile by tile.

    Args:
        maps: list of stages of both -> local maps (1, C, h, w), one a stage in the order of the stages; the mean is
            over positions and channels.
    """
    totals: dict[int, float] = {}
    counts: dict[int, int] = {}
    height, width = a.shape[:2]
    for (top, bottom, left, right), (y0, y1, x0, x1) in tiles((height, width)):
        parts = [stages(trunk, to_tensor([np.ascontiguousarray(i[y0:y1, x0:x1])], device)) for i in (a, b)]
        strides = [_stride(trunk, at) for at in range(len(parts[0]))]
        for at, found in enumerate(maps(*parts)):
            stride = strides[at]
            rows = slice((top - y0) // stride, None if bottom == height else (bottom - y0) // stride)
            columns = slice((left - x0) // stride, None if right == width else (right - x0) // stride)
            core = found[:, :, rows, columns]
            totals[at] = totals.get(at, 0.0) + float(core.double().sum())
            counts[at] = counts.get(at, 0) + core.numel()
    return [totals[at] / counts[at] for at in sorted(totals)]


def _stride(trunk: str, stage: int) -> int:
    return {"alex": (4, 8, 16, 16, 16), "vgg": (1, 2, 4, 8, 16), "squeeze": (2, 4, 8, 16, 16, 16, 16)}[trunk][stage]


def large(image: Image) -> bool:
    """Whether an image is passed in tiles."""
    return bool(image.shape[0] * image.shape[1] > WHOLE)
