"""Two small ImageNet networks that ship with refbench, shared by metrics and by OmniRefiner's rewards.

Both take RGB in [0, 1] of shape (N, 3, H, W), are differentiable in their input, and are loaded once per
device from safetensors files whose SHA-256 is checked.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from refbench.shipped import read_shipped

if TYPE_CHECKING:
    import torch

    from refbench.metrics.backbones.efficientnet import EfficientNetLite0
    from refbench.metrics.backbones.squeezenet import SqueezeNet

Network = TypeVar("Network", bound="torch.nn.Module")
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"

SHA256 = {
    "squeezenet1_1": "02441a857f940eb37a5b0d65be78cad5432796c5b8e5a2ab32de32a9b48b4d37",
    "efficientnet_lite0": "06a4248e61f69195dae91c2a10b1503640efff7d4db1fc32aed2fe30b44e7eb2",
}
"""What the shipped files hash to; the same numbers stand on the cards of the metrics that use them."""


def read_weights(name: str, folder: Path = WEIGHTS) -> dict[str, torch.Tensor]:
    """The float32 state of a shipped network.

    Raises:
        RefbenchError: the file is missing, or is not the one that the cards name.
    """
    return read_shipped(folder / f"{name}.safetensors", SHA256[name])


def _frozen(network: Network, name: str, device: str) -> Network:
    """The network with its shipped weights, on `device`, channels last: as images come, and the quickest on a CPU."""
    import torch

    network.load_state_dict(read_weights(name))
    network.eval().requires_grad_(False).to(device)
    for value in network.parameters():
        value.data = value.data.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value.data
    return network


@lru_cache(maxsize=4)
def load_squeezenet(device: str = "cpu") -> SqueezeNet:
    """SqueezeNet 1.1 features (Iandola et al. 2016), frozen, on `device`; the same object every time."""
    from refbench.metrics.backbones.squeezenet import SqueezeNet

    return _frozen(SqueezeNet(), "squeezenet1_1", device)


@lru_cache(maxsize=4)
def load_efficientnet(device: str = "cpu") -> EfficientNetLite0:
    """EfficientNet-Lite0 up to its pooled 1280-d embedding (Tan & Le 2019), frozen; the same object every time."""
    from refbench.metrics.backbones.efficientnet import EfficientNetLite0

    return _frozen(EfficientNetLite0(), "efficientnet_lite0", device)
