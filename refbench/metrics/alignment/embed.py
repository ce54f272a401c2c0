"""Embedding similarity: does the refined region look like the reference to an image classifier?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from refbench.images import Image, resize
from refbench.metrics.backbones import SHA256
from refbench.metrics.checks import Form, Second, bare, boxes, noise, tensors
from refbench.metrics.contract import Metric, library
from refbench.metrics.regions import reference_crop
from refbench.metrics.texture.squeeze import to_batch
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

SIDE = 160


@lru_cache(maxsize=1)
def _timm_efficientnet() -> Any:
    """timm's architecture with the folded weights: each normalisation is set to add the bias alone."""
    import timm
    import torch

    from refbench.metrics.backbones import read_weights

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    weights = read_weights("efficientnet_lite0")
    state = model.state_dict()
    convolutions = [key for key in state if key.endswith(".weight") and state[key].ndim == 4]
    norms = [key.removesuffix(".running_mean") for key in state if key.endswith(".running_mean")]
    ours = [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]

    def place(name: str) -> tuple[int, int, int]:
        parts = name.split(".")
        if parts[0] != "blocks":
            return (-1 if parts[0] == "stem" else 99), 0, 0
        return 0, int(parts[1]), ("expand", "depthwise", "project").index(parts[2])

    for convolution, norm, name in zip(convolutions, norms, sorted(ours, key=place), strict=True):
        state[convolution] = weights[f"{name}.weight"]
        state[f"{norm}.bias"] = weights[f"{name}.bias"]
        state[f"{norm}.weight"] = torch.ones_like(state[f"{norm}.weight"])
        state[f"{norm}.running_mean"] = torch.zeros_like(state[f"{norm}.running_mean"])
        state[f"{norm}.running_var"] = torch.ones_like(state[f"{norm}.running_var"]) - 1e-3
    model.load_state_dict(state)
    return model


def _second(truth: Truth, output: Image) -> float:
    """timm's tf_efficientnet_lite0."""
    import torch

    model = _timm_efficientnet()
    with torch.inference_mode():
        vectors = [
            model(tensors(resize(np.ascontiguousarray(image), (SIDE, SIDE)))[0] * 2.0 - 1.0)
            for image in (boxes(truth, output)[0], reference_crop(truth))
        ]
        return float(torch.nn.functional.cosine_similarity(*vectors))


class Embedding(Metric):
    """Cosine similarity of EfficientNet-Lite0 embeddings."""

    second = Second("timm's tf_efficientnet_lite0", _second, module="timm")
    target_free = True
    needs = frozenset({"reference"})
    batched = True

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="embed",
            definition="cosine similarity of the pooled 1280-d embeddings of the refined region and of the reference",
            paper="Tan & Le 2019, arXiv 1905.11946, Lite0 variant; used as CLIP-I and DINO similarity are",
            axis="reference_alignment",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="sRGB in [-1,1]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask, against the reference's box with 16 px margin made square (the whole "
            "reference where no box is given)",
            resize_rule="to 160 x 160 px, Pillow's antialiased bicubic",
            backend=f"{library('torch')}, {library('Pillow', 'pillow')}",
            weights="EfficientNet-Lite0, ImageNet, half precision, "
            "refbench/metrics/weights/efficientnet_lite0.safetensors",
            weights_sha256=SHA256["efficientnet_lite0"],
            scored=False,
            note="not scored: sees the kind of thing rather than its detail, with a small gap between draft and target",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        import torch

        from refbench.metrics.backbones import load_efficientnet

        network = load_efficientnet(self.device)

        def embedded(images: Sequence[Image]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            # On a CPU one image at a time is quickest: its activations stay in the cache.
            step = 1 if self.device == "cpu" else len(images)
            squares = [resize(np.ascontiguousarray(image), (SIDE, SIDE)) for image in images]
            with torch.inference_mode():
                parts = [to_batch(squares[at : at + step], self.device) for at in range(0, len(images), step)]
                found = torch.cat([network(part) for part in parts])
            out: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = found.double().cpu().numpy()
            return out

        # One pass for all outputs and for the references that are not known yet.
        new = [view for view in views if not view.known.has("embed.reference", self.hash)]
        vectors = embedded([view.image for view in views] + [reference_crop(view.truth) for view in new])
        for view, vector in zip(new, vectors[len(views) :], strict=True):
            view.known.feature("embed.reference", self.hash, lambda vector=vector: {"vector": vector})  # type: ignore[misc]
        values: list[float | None] = []
        for view, a in zip(views, vectors, strict=False):
            b = view.known.feature("embed.reference", self.hash, dict)["vector"].astype(np.float64)
            values.append(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12)))
        return values

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form(
            "a region and itself as reference", 1.0, self.number(bare(noise(), reference=noise()), noise()), 1e-6
        )
