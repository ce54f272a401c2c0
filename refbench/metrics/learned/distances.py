"""LPIPS by three trunks, the VGG distance, DISTS: how far is the refined region from the target to a trained eye?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image
from refbench.metrics.contract import library
from refbench.metrics.learned.base import Learned, by_shape, inference, load_state, network, randomised, to_tensor
from refbench.metrics.learned.trunks import (
    KEPT_MB,
    STRIDES,
    TRUNKS,
    draw,
    lpips_maps,
    output_stages,
    stages,
    target_stages,
    tiled_means,
    unit,
)
from refbench.metrics.regions import composite
from refbench.metrics.tiles import large
from refbench.metrics.view import View
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from torch import Tensor

BOX = (
    "on the mask's box with 16 px margin, at least 64 px a side, of the output composited over the target outside the "
    "mask; no resizing"
)
TILES = (
    "frames of more than 1.5 million px are passed in tiles of 512 px with 128 px margin, which gives the same value"
)


class LPIPS(Learned):
    """Learned perceptual image patch similarity, v0.1, by one trunk."""

    trunk: ClassVar[str]
    modules = ("lpips",)

    def card(self) -> MetricCard:
        """The whole definition."""
        title = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet 1.1"}[self.trunk]
        return self.learned_card(
            name=f"lpips_{self.trunk}",
            definition=f"LPIPS v0.1 by {title}: unit-length features of the trunk's stages, squared difference "
            "weighted by the library's linear heads, mean over positions, sum over stages",
            paper="Zhang et al. 2018, arXiv 1801.03924",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="sRGB in [-1,1]",
            region_rule=BOX,
            resize_rule=f"none; {TILES}",
            border_rule="as the trunk pads",
            backend=library("lpips"),
            weights=f"{TRUNKS[self.trunk]} (torchvision, ImageNet); linear heads v0.1 inside lpips",
            licence="BSD-2-Clause (lpips), BSD-3-Clause (trunk)",
            note="the target's features are kept in half precision (1e-6 of the value)",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        found: list[float | None] = [0.0 if view.same else None for view in views]
        left = [at for at, view in enumerate(views) if not view.same]
        for at in [at for at in left if large(views[at].image)]:
            found[at] = sum(tiled(views[at], self.trunk, self.device)[: len(STRIDES[self.trunk])])
        left = [at for at in left if found[at] is None]
        if left:
            chosen = [views[at] for at in left]
            output_stages(chosen, self.trunk, self.device)
            targets = target_stages(
                chosen,
                self.trunk,
                self.device,
                self.hash,
                "unit",
                lambda made: [unit(stage) for stage in made],
                half=True,
            )
            for at, view, target in zip(left, chosen, targets, strict=True):
                mine: list[Tensor] = view.shared[f"trunk.{self.trunk}"]  # type: ignore[assignment]
                found[at] = _sum_of_means(lpips_maps(self.trunk, map(unit, mine), target, self.device))
        return found


class LPIPSAlex(LPIPS):
    """LPIPS by AlexNet, the authors' choice for judging."""

    trunk = "alex"
    files = ("alexnet",)


class LPIPSVGG(LPIPS):
    """LPIPS by VGG16."""

    trunk = "vgg"
    files = ("vgg16",)


class LPIPSSqueeze(LPIPS):
    """LPIPS by SqueezeNet 1.1."""

    trunk = "squeeze"
    files = ("squeezenet1_1",)


def _sum_of_means(maps: Sequence[Tensor]) -> float:
    return float(sum(found.double().mean() for found in maps))


def tiled(view: View, trunk: str, device: str) -> list[float]:
    """Means over a large region of LPIPS' maps, one a stage, and for VGG16 of relu3_3's squared difference as well.

    Both pictures pass once for all metrics of a trunk.
    """

    def maps(x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
        more = [(x[2] - y[2]).square()] if trunk == "vgg" else []
        return [*lpips_maps(trunk, map(unit, x), map(unit, y), device), *more]

    name = f"tiled.{trunk}"
    if name not in view.shared:
        view.shared[name] = tiled_means(trunk, view.image, view.known.target, device, maps)
    found: list[float] = view.shared[name]  # type: ignore[assignment]
    return found


def lpips_value(trunk: str, a: Image, b: Image, device: str) -> float:
    """LPIPS of two images of one size, in tiles where they are large."""
    if large(a):
        means = tiled_means(trunk, a, b, device, lambda x, y: lpips_maps(trunk, map(unit, x), map(unit, y), device))
        return float(sum(means))
    both = stages(trunk, to_tensor([a, b], device))
    return _sum_of_means(lpips_maps(trunk, (unit(s[:1]) for s in both), (unit(s[1:]) for s in both), device))


class BackgroundLPIPS(Learned):
    """LPIPS of what happened outside the mask."""

    target_free = True
    needs = frozenset({"mask"})
    modules = ("lpips",)
    files = ("alexnet",)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.learned_card(
            name="background_lpips",
            definition="LPIPS v0.1 by AlexNet of the whole frame, the output composited over the target inside the "
            "mask; 0 where nothing outside has changed",
            paper="Zhang et al. 2018, arXiv 1801.03924; RefineEval, arXiv 2604.06870",
            axis="local_consistency",
            region="outside",
            higher_is_better=False,
            range=(0.0, None),
            colour="sRGB in [-1,1]",
            region_rule="the whole frame with the target's pixels inside the mask",
            resize_rule=f"none; {TILES}",
            border_rule="as the trunk pads",
            backend=library("lpips"),
            licence="BSD-2-Clause (lpips), BSD-3-Clause (trunk)",
            trivial="stretch",
            note="blind to changes of a level or two",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        if not view.changed.any():
            return 0.0
        assert view.truth.mask is not None
        image = composite(view.truth.target, view.output, view.truth.mask)
        return lpips_value("alex", image, view.truth.target, self.device)


class VGGDistance(Learned):
    """Mean squared difference of VGG16's relu3_3."""

    modules = ("lpips", "piq")
    files = ("vgg16",)

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.learned_card(
            name="vgg_distance",
            definition="mean squared difference of VGG16's relu3_3 activations over channels and positions: piq's "
            "ContentLoss with its defaults, which sums the 256 channels, divided by 256",
            paper="Gatys et al. 2016, arXiv 1508.06576; a VGG distance is reported by RefineEval, arXiv 2604.06870, "
            "which does not publish its definition",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="sRGB normalised by ImageNet's mean and deviation",
            region_rule=BOX,
            resize_rule=f"none; {TILES}",
            border_rule="as the network pads",
            backend=f"equals {library('piq')} / 256; VGG16 as in {library('lpips')}",
            licence="Apache-2.0 (piq), BSD-3-Clause (weights)",
            note="RefineEval's column may be of other layers or another distance: compare within one table only",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        found: list[float | None] = [0.0 if view.same else None for view in views]
        left = [at for at, view in enumerate(views) if not view.same]
        for at in [at for at in left if large(views[at].image)]:
            found[at] = tiled(views[at], "vgg", self.device)[-1]
        left = [at for at in left if found[at] is None]
        if left:
            chosen = [views[at] for at in left]
            output_stages(chosen, "vgg", self.device)
            targets = target_stages(chosen, "vgg", self.device, self.hash, "relu3_3", lambda made: [made[2]], False)
            for at, view, target in zip(left, chosen, targets, strict=True):
                mine: list[Tensor] = view.shared["trunk.vgg"]  # type: ignore[assignment]
                found[at] = float((mine[2] - target[0]).double().square().mean())
        return found


def dists_network(device: str) -> Any:
    """``piq.DISTS`` on torchvision's VGG16 and piq's own alpha and beta."""

    def build() -> Any:
        import piq.perceptual
        import torch
        from torchvision.models import VGG
        from torchvision.models.vgg import cfgs, make_layers

        with torch.device("meta"):
            made = VGG(make_layers(cfgs["D"]), init_weights=False)
        made.features.to_empty(device="cpu")  # the classifier is not used
        if randomised() is None:
            state = load_state("vgg16")
            made.features.load_state_dict({name: state[f"features.{name}"] for name in made.features.state_dict()})
            learned = load_state("dists")
        else:
            draw(made.features)
            total = 3 + 64 + 128 + 256 + 512 + 512
            drawn = torch.rand(2, 1, total, 1, 1)
            drawn /= drawn.sum()
            learned = {"alpha": drawn[0], "beta": drawn[1]}
        # piq's class downloads both by itself; it is handed what lies here.
        names = ("vgg16", "torch")
        before = {name: getattr(piq.perceptual, name) for name in names}
        try:
            piq.perceptual.vgg16 = lambda **_: made
            piq.perceptual.torch = _Lent(torch, learned)
            return piq.DISTS(reduction="none")
        finally:
            for name, value in before.items():
                setattr(piq.perceptual, name, value)

    return network("dists", device, build)


class _Lent:
    """Torch, but that its hub gives one state instead of downloading it."""

    def __init__(self, torch: Any, state: Any) -> None:
        self._torch = torch
        self.hub = type("Hub", (), {"load_state_dict_from_url": staticmethod(lambda *_, **__: state)})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


class DISTS(Learned):
    """Deep image structure and texture similarity."""

    modules = ("piq",)
    files = ("vgg16", "dists")

    def card(self) -> MetricCard:
        """The whole definition."""
        return self.learned_card(
            name="dists",
            definition="deep image structure and texture similarity: 1 minus the weighted similarity of means and "
            "covariances of VGG16's features",
            paper="Ding et al. 2020, arXiv 2004.07728",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="sRGB normalised by ImageNet's mean and deviation",
            region_rule=BOX.replace("; no resizing", ""),
            resize_rule="a short side above 256 px is brought to 256 px, bilinear, as piq does",
            border_rule="as the network pads",
            backend=library("piq"),
            licence="Apache-2.0 (piq), BSD-3-Clause (VGG16), MIT (alpha, beta)",
            note="forgives texture of the same statistics elsewhere",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        import torch

        found: list[float | None] = [0.0 if view.same else None for view in views]
        left = [at for at, view in enumerate(views) if not view.same]
        new = list(
            {id(k): k for k in (views[at].known for at in left) if not k.has_apart(DISTS_KEPT, self.hash)}.values()
        )
        targets = dict(zip(map(id, new), dists_features([known.target for known in new], self.device), strict=True))
        outputs = dists_features([views[at].image for at in left], self.device)
        for at, mine in zip(left, outputs, strict=True):
            known = views[at].known
            arrays = known.apart(
                DISTS_KEPT,
                self.hash,
                lambda known=known: {str(n): _half(stage) for n, stage in enumerate(targets[id(known)])},  # type: ignore[misc]
                KEPT_MB,
            )
            theirs = [torch.from_numpy(arrays[str(n)]).to(self.device).float() for n in range(len(arrays))]
            found[at] = _dists(mine, theirs, self.device)
        return found


DISTS_KEPT = "dists.target"


def dists_features(images: Sequence[Image], device: str) -> list[list[Tensor]]:
    """Each image and the five stages of piq's network on it, (1, C, h, w) each; images of one size together."""
    from torch.nn import functional as F

    model = dists_network(device)
    found: list[list[Tensor]] = [[] for _ in images]
    for group in by_shape(images):
        x = to_tensor([images[at] for at in group], device)
        short = min(x.shape[2:])
        with inference(device):
            if short > 256:  # as piq's forward does
                x = F.interpolate(x, scale_factor=256 / short, recompute_scale_factor=False, mode="bilinear")
            made = [stage.float() for stage in model.get_features(x)]
        for place, at in enumerate(group):
            found[at] = [stage[place : place + 1] for stage in made]
    return found


def _half(stage: Tensor) -> NDArray[np.generic]:
    """A stage in half precision, which costs a DISTS 1e-7; in single precision where half would overflow."""
    array: NDArray[np.float32] = stage.cpu().numpy()
    return array if np.abs(array).max() > np.finfo(np.float16).max else array.astype(np.float16)


def _dists(a: list[Tensor], b: list[Tensor], device: str) -> float:
    """1 minus the similarity of two lists of features, by piq's own distances and weights."""
    import torch

    model = dists_network(device)
    with torch.inference_mode():
        parts = model.compute_distance(a, b)
        return 1.0 - float(sum((d * w.to(d)).double().sum() for d, w in zip(parts, model.weights, strict=True)))
