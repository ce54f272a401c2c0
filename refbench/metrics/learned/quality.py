"""TOPIQ, MUSIQ and NIQE through ``pyiqa`` (PolyForm-Noncommercial: read its licence before you install it)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from refbench import weights
from refbench.images import Image, resize
from refbench.metrics.contract import library
from refbench.metrics.learned.base import Learned, by_shape, inference, network, randomised, to_tensor
from refbench.metrics.regions import composite, cut, region_box
from refbench.metrics.view import View
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 192
"""Shortest side in px of the box that a metric without reference sees (NIQE's blocks are 96 px)."""
LONGEST = 1024
"""Longest side; beyond it the box is brought to this, or memory would grow with the square of the area."""


def pyiqa_network(name: str, device: str, path: str | None, **options: Any) -> Any:
    """``pyiqa.create_metric`` on a file that lies here, or on random weights where `path` is None."""

    def build() -> Any:
        import pyiqa

        return pyiqa.create_metric(name, device="cpu", pretrained_model_path=path, **options)

    made = network(f"pyiqa-{name}", device, build)
    made.device = device
    return made


class Quality(Learned):
    """What the three share."""

    modules = ("pyiqa",)
    install = (
        "uv pip install --no-deps 'pyiqa>=0.1.14' facexlib filterpy` (PolyForm-Noncommercial 1.0.0: not for commercial "
        "use) and `uv pip install einops addict yapf"
    )
    title: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    referenced: ClassVar[bool] = False

    def model(self) -> Any:
        """The library's metric."""
        path = str(weights.require(self.files[0])) if randomised() is None else None
        options = dict(self.options) if path is not None else {**self.options, "pretrained": False}
        return pyiqa_network(self.title, self.device, path, **options)

    def region(self, view: View, output: Image) -> Image:
        """The output's masked pixels over the target, on a box of at least :data:`SMALLEST` px."""
        truth = view.truth
        if self.referenced or truth.mask is None:
            return _bounded(view.image if output is view.output else view.known.target)
        box = region_box(truth.mask, truth.target.shape[:2], SMALLEST)
        return _bounded(composite(cut(output, box), cut(truth.target, box), cut(truth.mask, box)))

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        model = self.model()
        images = [self.region(view, view.output) for view in views]
        found: list[float | None] = [None] * len(views)
        for group in by_shape(images):
            batch: list[Tensor] = [to_tensor([images[at] for at in group], self.device)]
            if self.referenced:
                batch.append(to_tensor([_bounded(views[at].known.target) for at in group], self.device))
            with inference(self.device):
                made = model(*batch)
            for at, value in zip(group, made.reshape(-1).double().cpu().tolist(), strict=True):
                found[at] = value if np.isfinite(value) else None
        return found

    def quality_card(self, **facts: Any) -> MetricCard:
        """The card but for what differs."""
        return self.learned_card(
            axis="texture_fidelity",
            region="inside",
            colour="sRGB in [0,1]",
            region_rule="on the mask's box with 16 px margin"
            + ("" if self.referenced else f", at least {SMALLEST} px a side where the frame allows")
            + ", of the output composited over the target outside the mask",
            resize_rule=f"a longer side above {LONGEST} px is brought to {LONGEST} px, Pillow's antialiased bicubic; "
            "then as pyiqa does",
            border_rule="as pyiqa does",
            backend=library("pyiqa"),
            **facts,
        )


def _bounded(image: Image) -> Image:
    scale = LONGEST / max(image.shape[:2])
    if scale >= 1.0:
        return np.ascontiguousarray(image)
    return resize(
        np.ascontiguousarray(image), (max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1))
    )


class TOPIQ(Quality):
    """TOPIQ, full reference, trained on KADID."""

    title = "topiq_fr"
    files = ("topiq-fr",)
    options: ClassVar[dict[str, Any]] = {"backbone_pretrain": False}
    referenced = True

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.quality_card(
            name="topiq",
            definition="TOPIQ-FR (ResNet-50, KADID-10k) of the refined region beside the target",
            paper="Chen et al. 2024, arXiv 2308.03060",
            higher_is_better=True,
            range=(0.0, 1.0),
            licence="PolyForm-Noncommercial-1.0.0",
        )


class MUSIQ(Quality):
    """MUSIQ, no reference, trained on KonIQ-10k."""

    target_free = True
    title = "musiq"
    files = ("musiq-koniq",)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.quality_card(
            name="musiq",
            definition="MUSIQ (KonIQ-10k): how good the refined region looks, whatever it shows",
            paper="Ke et al. 2021, arXiv 2108.05997",
            higher_is_better=True,
            range=(0.0, 100.0),
            licence="PolyForm-Noncommercial-1.0.0 (pyiqa), Apache-2.0 (weights)",
            note="knows neither target nor reference: a fine picture of the wrong thing scores high",
        )


class NIQE(Quality):
    """NIQE, no reference, from natural scene statistics."""

    target_free = True
    title = "niqe"
    files = ("niqe",)

    def model(self) -> Any:
        """The library's metric; its statistics are drawn where weights are random."""
        if randomised() is None:
            return super().model()
        return pyiqa_network(self.title, self.device, _drawn_statistics(randomised() or 0))

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.quality_card(
            name="niqe",
            definition="NIQE: distance of the refined region's natural scene statistics from those of good pictures",
            paper="Mittal et al. 2013, doi 10.1109/LSP.2012.2227726",
            higher_is_better=False,
            range=(0.0, None),
            licence="PolyForm-Noncommercial-1.0.0 (pyiqa)",
            note="knows neither target nor reference; meant for whole photographs, noisy on small regions",
        )


def _drawn_statistics(seed: int) -> str:
    """A file of NIQE's form with drawn numbers, for tests."""
    import tempfile
    from pathlib import Path

    import scipy.io

    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(36, 36))
    path = Path(tempfile.mkdtemp(prefix="refbench-niqe-")) / "niqe.mat"
    scipy.io.savemat(
        path, {"mu_prisparam": generator.normal(size=(1, 36)), "cov_prisparam": mixing @ mixing.T / 36 + np.eye(36)}
    )
    return str(path)
