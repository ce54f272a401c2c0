"""FID and KID: how far are all refined regions of a run, as a set, from all targets? One number a run, none a sample.

Features are those of the Inception network of the original FID (by ``pytorch-fid``) after clean-fid's resizing; the
statistics are exact closed forms that equal clean-fid's and torchmetrics' on the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image
from refbench.metrics.contract import library
from refbench.metrics.learned.base import Learned, Vectors, inference, load_state, network, randomised
from refbench.metrics.view import Known, View
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 299
FEWEST = 2


def inception(device: str) -> Any:
    """``pytorch_fid.inception.InceptionV3`` up to its pooled 2048-d features, taking RGB in [0, 1] at 299 px."""

    def build() -> Any:
        from pytorch_fid import inception as library_module

        before = library_module.load_state_dict_from_url
        if randomised() is None:
            state = load_state("inception-fid")
        else:
            # The blocks of the FID network have the names and shapes of torchvision's.
            state = library_module._inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
        try:
            library_module.load_state_dict_from_url = lambda *_, **__: state
            return library_module.InceptionV3(resize_input=False, normalize_input=False)
        finally:
            library_module.load_state_dict_from_url = before

    return network("inception-fid", device, build)


def clean(image: Image) -> NDArray[np.float32]:
    """clean-fid's resizing: each channel in float by Pillow's antialiased bicubic to 299 px, clipped, not rounded."""
    from PIL import Image as Pillow

    channels = [
        np.asarray(
            Pillow.fromarray(image[:, :, c].astype(np.float32)).resize((SIDE, SIDE), Pillow.Resampling.BICUBIC)
        ).clip(0, 255)
        for c in range(3)
    ]
    return np.stack(channels, axis=-1)


def features(images: Sequence[Image], device: str) -> Vectors:
    """Inception features (n, 2048) of uint8 pictures of any size."""
    import torch

    model = inception(device)
    step = 1 if device == "cpu" else 16
    found = []
    for at in range(0, len(images), step):
        x: Tensor = torch.from_numpy(np.stack([clean(image) for image in images[at : at + step]])).to(device)
        # clean-fid's scaling to about [-1, 1]: (x - 128) / 128.
        with inference(device):
            found.append(model((x.permute(0, 3, 1, 2) - 128.0) / 128.0)[0].flatten(1).float().cpu())
    out: Vectors = torch.cat(found).numpy() if found else np.zeros((0, 2048), np.float32)
    return out


def frechet(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Frechet distance of two sets of features (n, d), (m, d) as Gaussians; exact also where n or m is below d.

    The trace of the root of the two covariances' product is the sum of the singular values of A B^T, A and B being the
    centred features over the root of n - 1 and m - 1: no root of a singular matrix is taken (Heusel et al. 2017).
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    centre_x, centre_y = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - centre_x) / np.sqrt(len(x) - 1), (y - centre_y) / np.sqrt(len(y) - 1)
    cross = float(np.linalg.svd(x @ y.T, compute_uv=False).sum())
    return float(((centre_x - centre_y) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2.0 * cross)


def kernel(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Unbiased squared maximum mean discrepancy, kernel (x.y / d + 1)^3, over all pairs (Binkowski et al. 2018)."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    d, n, m = x.shape[1], len(x), len(y)
    xx, yy, xy = ((p @ q.T / d + 1.0) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    return float(
        (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2.0 * xy.mean()
    )


class SuiteMetric(Learned):
    """A distance of two sets of pictures; it has no value for one sample."""

    modules = ("pytorch_fid",)
    files = ("inception-fid",)
    distance: Callable[[NDArray[np.generic], NDArray[np.generic]], float]

    def value(self, view: View) -> float | None:
        """None: one sample is no set."""
        return None

    def values(self, views: Sequence[View]) -> list[float | None]:
        """None for each: one sample is no set."""
        return [None] * len(views)

    def suite_card(self, name: str, definition: str, paper: str, note: str) -> MetricCard:
        """The card of one of the two."""
        return self.learned_card(
            name=name,
            definition=definition,
            paper=paper,
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(None, None) if name == "kid" else (0.0, None),
            colour="sRGB x 255 minus 128, by 128",
            region_rule="the mask's box with 16 px margin, at least 64 px a side, of each output composited over its "
            "target, as one set, against the same boxes of the targets; failed samples are left out",
            resize_rule="to 299 x 299 px as clean-fid does: each channel in float, Pillow's antialiased bicubic",
            border_rule="as the network pads",
            backend=library("pytorch-fid"),
            licence="Apache-2.0",
            note=note,
        )


class FID(SuiteMetric):
    """Frechet Inception distance."""

    distance = staticmethod(frechet)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.suite_card(
            "fid",
            "Frechet distance of the pooled 2048-d Inception features of refined regions and of targets as Gaussians",
            "Heusel et al. 2017, arXiv 1706.08500; clean resizing: Parmar et al. 2022, arXiv 2104.11222",
            "biased by the number of samples, strongly below some thousands: compare only runs of one suite and count",
        )


class KID(SuiteMetric):
    """Kernel Inception distance."""

    distance = staticmethod(kernel)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.suite_card(
            "kid",
            "unbiased squared MMD of the pooled 2048-d Inception features, kernel (x.y / 2048 + 1)^3, over all pairs "
            "at once (no subsets)",
            "Binkowski et al. 2018, arXiv 1801.01401; clean resizing: Parmar et al. 2022, arXiv 2104.11222",
            "unbiased, so the one of the two to read on a few hundred samples; can be below 0",
        )


def output_features(views: Sequence[View], card: str, device: str) -> tuple[Vectors, Vectors]:
    """Features of outputs and of targets, (n, 2048) each; the targets' are kept on disk under `card`."""
    mine = features([view.image for view in views], device)
    theirs = []
    for view in views:
        known: Known = view.known
        arrays = known.feature(
            "inception.target",
            card,
            lambda known=known: {"vector": features([known.target], device)[0]},  # type: ignore[misc]
        )
        theirs.append(arrays["vector"])
        known.save()
    return mine, np.asarray(theirs, np.float32)
