"""Contextual similarity: is everything that the reference shows found in the refined region, wherever it lies?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image, resize
from refbench.metrics import deep
from refbench.metrics.backbones import SHA256
from refbench.metrics.checks import Form, Second, bare, boxes, covered, noise, squeezenet_taps
from refbench.metrics.contract import Metric, library
from refbench.metrics.regions import reference_crop
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

BANDWIDTH = 0.5
EPS = 1e-5
"""Both as in the paper (h and epsilon of its equations 2 and 3)."""


def contextual_similarity(x: deep.Features, y: deep.Features) -> float:
    """CX(X, Y) of Mechrez et al. 2018, equations 1 to 4, in (0, 1].

    Args:
        x: (n, C) features of the output.
        y: (m, C) features of the reference.
    """
    mean = y.mean(axis=0, keepdims=True)
    x, y = deep.unit(x - mean), deep.unit(y - mean)
    distance = np.maximum(1.0 - x @ y.T, 0.0).astype(np.float64)
    relative = distance / (distance.min(axis=1, keepdims=True) + EPS)
    affinity = np.exp((1.0 - relative) / BANDWIDTH)
    affinity /= affinity.sum(axis=1, keepdims=True)
    return float(affinity.max(axis=0).mean())


def _second(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's cdist."""
    import torch
    import torch.nn.functional as F

    box, crop = boxes(truth, output)[0], np.ascontiguousarray(reference_crop(truth))
    scale = max(box.shape[:2]) / max(crop.shape[:2])
    crop = resize(crop, (max(48, round(crop.shape[0] * scale)), max(48, round(crop.shape[1] * scale))))
    with torch.inference_mode():
        x, y = (squeezenet_taps(image)[2] for image in (box, crop))
        share = covered(truth, (x.shape[2], x.shape[3])).flatten()
        a, b = (F.normalize(z.flatten(2)[0].T, dim=1) for z in (x, y))
        a = a[share >= share.max() / 2]
        a, b = F.normalize(a - b.mean(0), dim=1), F.normalize(b - b.mean(0), dim=1)
        distance = torch.cdist(a.double(), b.double()).square() / 2  # of unit vectors: 1 - cosine
        affinity = torch.softmax((1 - distance / (distance.amin(1, keepdim=True) + 1e-5)) / 0.5, dim=1)
        return float(affinity.amax(0).mean())


class Contextual(Metric):
    """Contextual similarity of the refined region and the reference."""

    second = Second("torchvision's squeezenet1_1, torch's cdist", _second, 1e-3, "torchvision")
    target_free = True
    needs = frozenset({"reference"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="contextual",
            definition="contextual similarity CX(output, reference) of the activations of SqueezeNet 1.1 at its third "
            "depth (384 channels, stride 16), h = 0.5, epsilon = 1e-5, centred on the reference's mean",
            paper="Mechrez, Talmi, Zelnik-Manor 2018, arXiv 1803.02077 (there on VGG19)",
            axis="reference_alignment",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="sRGB, x 255 minus (123, 117, 104)",
            region_rule="positions of the output (composited over the target outside the mask) whose cell is masked to "
            "at least half of the most masked one's share; all positions of the reference's box with 16 px margin made "
            "square (of the whole reference without a box)",
            resize_rule=f"{deep.RESIZE_RULE}; the reference to the region's longer side, at least {deep.SHORTEST} px",
            border_rule="as the network pads",
            backend=library("torch"),
            weights=deep.WEIGHTS,
            weights_sha256=SHA256["squeezenet1_1"],
            licence="BSD-2-Clause (weights)",
            note="blind to where things are; the reference's ground counts where its box holds some; a pasted "
            "reference is nearer than the truth, which is why the recovery credits nothing beyond the truth",
            unit=0.033,
            tolerance=1e-4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        output = deep.of_output(view, self.device)[0]
        weight = deep.coverage(view.known, output.shape)
        reference = deep.of_reference(view.known, self.device)[0]
        return contextual_similarity(
            deep.unit(output[weight >= weight.max() / 2.0]), deep.unit(reference.reshape(-1, reference.shape[-1]))
        )

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        yield Form("an image and itself", 1.0, self.number(bare(noise(), reference=noise()), noise()), 2e-2)
