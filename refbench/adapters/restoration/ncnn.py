"""Read the weights of ncnn models (``.bin``) into torch networks; nothing of the package they come in is run.

Written from the format as ncnn's own loader reads it (github.com/Tencent/ncnn, ``src/modelbin.cpp``): the weights of
the layers follow one another in the order in which they are computed; a kernel is led by four bytes that say how it is
stored, a bias or the slopes of a PReLU are not. The file says nothing else, no names and no shapes: these are the
network's, and a file of another network is found out by its length. Which network it is stands in the ``.param`` file
beside it; those of the files in the catalogue were read when they were entered there, and the hash pins them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from torch import nn

HALF = 0x01306B47
"""Four bytes before a kernel in half precision; zero means single precision."""

Weights = NDArray[np.float32]


class _Stream:
    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.at = data, where, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise RefbenchError(
                f"Expected more weights in {self.where}, but it ends after {len(self.data)} bytes; it is truncated, or "
                "the file of another network."
            )
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def plain(self, count: int) -> Weights:
        return np.frombuffer(self.take(4 * count), "<f4").astype(np.float32)

    def kernel(self, shape: tuple[int, ...]) -> Weights:
        count = int(np.prod(shape))
        flag = int.from_bytes(self.take(4), "little")
        if flag == 0:
            return self.plain(count).reshape(shape)
        if flag == HALF:  # padded to four bytes
            half = np.frombuffer(self.take((2 * count + 3) // 4 * 4), "<f2")[:count]
            return half.astype(np.float32).reshape(shape)
        raise RefbenchError(
            f"Expected kernels in single or half precision in {self.where}, but one is led by {flag:#010x}; it is "
            "damaged, quantised, or of another network."
        )


def read_weights(network: nn.Module, data: bytes, where: str = "<bytes>") -> dict[str, Weights]:
    """The state of a network out of an ncnn file.

    Args:
        network: its convolutions (with bias) and PReLUs are defined in the order in which they are computed.
        data: the ``.bin`` file. A transposed convolution's kernel is stored as (out, in, h, w) there and becomes
            torch's (in, out, h, w).
        where: for messages.

    Raises:
        RefbenchError: too short, too long, or stored in a way that is not read here.
    """
    from torch import nn

    stream = _Stream(data, where)
    state: dict[str, Weights] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.ConvTranspose2d):
            entering, leaving, *kernel = module.weight.shape
            stored = stream.kernel((leaving, entering, *kernel))
            state[f"{name}.weight"] = np.ascontiguousarray(stored.transpose(1, 0, 2, 3))
            state[f"{name}.bias"] = stream.plain(leaving)
        elif isinstance(module, nn.Conv2d):
            state[f"{name}.weight"] = stream.kernel(tuple(module.weight.shape))
            state[f"{name}.bias"] = stream.plain(module.out_channels)
        elif isinstance(module, nn.PReLU):
            state[f"{name}.weight"] = stream.plain(module.num_parameters)
    if stream.at != len(data):
        raise RefbenchError(
            f"Expected {stream.at} bytes of weights in {where}, but there are {len(data)}; it is of another network."
        )
    return state


def load_network(network: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Fill a network from an ncnn file and make it ready to be used: single precision, no gradients.

    Raises:
        RefbenchError: the file cannot be read, or is not this network's.
    """
    import torch

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RefbenchError(f"Expected weights at {os.fspath(path)}, but {error.strerror}.") from None
    state = read_weights(network, data, os.fspath(path))
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return network.eval().requires_grad_(False)
