"""Every learned metric by a straight call of its original library, one sample at a time: for tests and benchmarks.

Networks are the library's own objects as they come, on the same weights; what surrounds them here (cropping, resizing,
both pictures passed every time, nothing kept) is what a plain evaluation script does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.images import Image
from refbench.metrics.learned import distances, embedders, suitewide, trunks
from refbench.metrics.regions import composite, reference_crop
from refbench.metrics.view import View
from refbench.schema import Truth

if TYPE_CHECKING:
    from torch import Tensor


def _tensor(image: Image, device: str) -> Tensor:
    import torch

    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float() / 255.0


def _pair(truth: Truth, output: Image, device: str) -> tuple[Tensor, Tensor]:
    view = View(truth, output)
    return _tensor(view.image, device), _tensor(view.known.target, device)


def lpips(trunk: str) -> Callable[[Truth, Image, str], float]:
    """``lpips.LPIPS(net=trunk)`` on the region's box."""

    def value(truth: Truth, output: Image, device: str = "cpu") -> float:
        a, b = _pair(truth, output, device)
        return float(trunks.perceptual(trunk, device)(a, b, normalize=True))

    return value


def background_lpips(truth: Truth, output: Image, device: str = "cpu") -> float:
    """``lpips.LPIPS(net="alex")`` on the frame."""
    assert truth.mask is not None
    image = composite(truth.target, output, truth.mask)
    a, b = _tensor(image, device), _tensor(truth.target, device)
    return float(trunks.perceptual("alex", device)(a, b, normalize=True))


def vgg_distance(truth: Truth, output: Image, device: str = "cpu") -> float:
    """``piq.ContentLoss`` with its defaults on the VGG16 that LPIPS has, over the 256 channels that it sums."""
    import piq
    from torch import nn

    net = trunks.perceptual("vgg", device).net
    layers = nn.Sequential()
    for part in (net.slice1, net.slice2, net.slice3):
        for name, layer in part.named_children():
            layers.add_module(name, layer)
    # A feature extractor of the caller's own: "15" is relu3_3, the last of the third slice.
    loss = piq.ContentLoss(feature_extractor=layers, layers=("15",))
    a, b = _pair(truth, output, device)
    return float(loss(a, b)) / 256.0


def dists(truth: Truth, output: Image, device: str = "cpu") -> float:
    """``piq.DISTS``."""
    a, b = _pair(truth, output, device)
    return float(distances.dists_network(device)(a, b))


def similarity(network: str, against: str, distance: bool = False) -> Callable[[Truth, Image, str], float]:
    """The network's library on two pictures, with the library's own preprocessing where it has one."""
    embedder = embedders.EMBEDDERS[network]

    def value(truth: Truth, output: Image, device: str = "cpu") -> float:
        from torch.nn import functional as F

        view = View(truth, output)
        other = reference_crop(truth) if against == "reference" else view.known.target
        a, b = (_library_vector(embedder, np.ascontiguousarray(image), device) for image in (view.image, other))
        found = float(F.cosine_similarity(a, b)[0])
        return 1.0 - found if distance else found

    return value


def _library_vector(embedder: embedders.Embedder, image: Image, device: str) -> Tensor:
    import torch
    from PIL import Image as Pillow

    picture: Any = Pillow.fromarray(image)
    if isinstance(embedder, embedders.CLIP):
        from open_clip.transform import image_transform

        prepare = image_transform(
            embedder.side,
            is_train=False,
            mean=embedders.CLIP_MEAN,
            std=embedders.CLIP_STD,
            resize_mode="squash",
            interpolation="bicubic",
        )
        found: torch.Tensor = embedder.library(device)(prepare(picture)[None].to(device))
        return found
    if isinstance(embedder, embedders.DINOv2):
        from transformers import BitImageProcessorPil

        prepare = BitImageProcessorPil(
            size={"height": embedder.side, "width": embedder.side},
            do_center_crop=False,
            resample=Pillow.Resampling.BICUBIC,
            image_mean=embedders.IMAGENET_MEAN,
            image_std=embedders.IMAGENET_STD,
        )
        pixels = prepare(picture, return_tensors="pt")["pixel_values"].to(device)
        found = embedder.library(device)(pixels).last_hidden_state[:, 0]
        return found
    assert isinstance(embedder, embedders.DreamSim)
    from torchvision import transforms

    prepare = transforms.Compose(
        [transforms.Resize((224, 224), interpolation=transforms.InterpolationMode.BICUBIC), transforms.ToTensor()]
    )
    found = embedder.library(device).embed(prepare(picture)[None].to(device))
    return found


def inception_features(image: Image, device: str = "cpu") -> Tensor:
    """``pytorch_fid``'s Inception after clean-fid's own resizer."""
    import torch
    from cleanfid.resize import build_resizer

    x = torch.from_numpy(build_resizer("clean")(np.array(image))).permute(2, 0, 1)[None].to(device)
    found: torch.Tensor = suitewide.inception(device)((x - 128.0) / 128.0)[0].flatten(1)
    return found


PLAIN: dict[str, Callable[..., float]] = {
    "lpips_alex": lpips("alex"),
    "lpips_vgg": lpips("vgg"),
    "lpips_squeeze": lpips("squeeze"),
    "vgg_distance": vgg_distance,
    "dists": dists,
    "dreamsim": similarity("dreamsim-ensemble", "target", distance=True),
    "dreamsim_single": similarity("dreamsim-open-clip-vitb32", "target", distance=True),
    "clip_target": similarity("clip-vit-l14-336", "target"),
    "dinov2_target": similarity("dinov2-large", "target"),
    "clip_i": similarity("clip-vit-l14-336", "reference"),
    "clip_i_b32": similarity("clip-vit-b32", "reference"),
    "dinov2": similarity("dinov2-large", "reference"),
    "dinov2_small": similarity("dinov2-small", "reference"),
    "dreamsim_reference": similarity("dreamsim-ensemble", "reference", distance=True),
    "background_lpips": background_lpips,
}
"""Metric -> (truth, output, device) -> value."""
