"""CLIP-I, DINOv2 and DreamSim: is the refined region the same thing as the reference, or as the target?

An output is embedded once for each network and compared with target and reference alike. What depends on the truth
(target, reference, draft) is embedded once and kept on disk under the network's own hash, whichever metric asks first;
an output that equals target or draft is not embedded at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from refbench.images import Image
from refbench.metrics.learned.base import Learned, Vectors, precision, weights_hash
from refbench.metrics.learned.embedders import EMBEDDERS, Embedder
from refbench.metrics.regions import composite, cut, reference_crop
from refbench.metrics.view import Known, View
from refbench.schema import MetricCard

Side = Literal["target", "reference", "draft"]


def network_hash(embedder: Embedder) -> str:
    """12 hex digits of all that a vector depends on beside the picture."""
    facts = [embedder.name, embedder.side, embedder.backend(), precision(), *map(weights_hash, embedder.files)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def side_image(known: Known, side: Side) -> Image:
    """The region as the target has it, as the draft has it (over the target outside), or the reference's crop."""
    if side == "target":
        return known.target
    if side == "reference":
        return reference_crop(known.truth)
    assert known.truth.draft is not None
    part = cut(known.truth.draft, known.box)
    return part if known.truth.mask is None else composite(part, known.target, known.mask)


def vectors(views: Sequence[View], embedder: Embedder, against: Side, device: str) -> list[tuple[Vectors, Vectors]]:
    """(output's vector, the truth's vector) of each view, everything new in one pass."""
    name, mark = f"embed.{embedder.name}", network_hash(embedder)
    images: list[Image] = []
    waiting: list[tuple[View, Side | None]] = []
    sources: list[Side | None] = []
    for view in views:
        source = _same_as(view) if name not in view.shared else None
        sources.append(source)
        for side in {against, source} - {None}:
            if side is None or view.known.has(f"{name}.{side}", mark):
                continue
            if not any(other.known is view.known and known == side for other, known in waiting):
                images.append(side_image(view.known, side))
                waiting.append((view, side))
        if name not in view.shared and source is None:
            images.append(view.image)
            waiting.append((view, None))
    made = embedder.embed(images, device) if images else np.zeros((0, 1), np.float32)
    for (view, side), vector in zip(waiting, made, strict=True):
        if side is None:
            view.shared[name] = vector
        else:
            view.known.feature(f"{name}.{side}", mark, lambda vector=vector: {"vector": vector})  # type: ignore[misc]
    found = []
    for view, source in zip(views, sources, strict=True):
        if source is not None:
            view.shared[name] = view.known.feature(f"{name}.{source}", mark, dict)["vector"]
        mine: Vectors = view.shared[name]  # type: ignore[assignment]
        theirs: Vectors = view.known.feature(f"{name}.{against}", mark, dict)["vector"]  # type: ignore[assignment]
        found.append((mine, theirs))
    return found


def _same_as(view: View) -> Side | None:
    """The side that an output equals in its region, if any."""
    if view.same:
        return "target"
    if view.truth.draft is not None and np.array_equal(view.image, side_image(view.known, "draft")):
        return "draft"
    return None


def cosine(a: Vectors, b: Vectors) -> float:
    """Cosine of two vectors, in double precision."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-12))


class Similarity(Learned):
    """Cosine similarity of one network's embeddings, to the reference or to the target."""

    title: ClassVar[str]
    network: ClassVar[str]
    against: ClassVar[Side] = "reference"
    distance: ClassVar[bool] = False
    """DreamSim's convention: 1 minus the cosine."""

    @property
    def embedder(self) -> Embedder:
        """The network."""
        return EMBEDDERS[self.network]

    def card(self) -> MetricCard:
        """The whole definition."""
        embedder, what = self.embedder, "reference" if self.against == "reference" else "target"
        rule = "the mask's box with 16 px margin, at least 64 px, of the output composited over the target outside"
        other = "the reference's box with 16 px margin made square (all of it without a box)"
        measure = "1 minus the cosine" if self.distance else "cosine"
        return self.learned_card(
            name=self.title,
            definition=f"{measure} of the {embedder.title} embeddings of the refined region and of the {what}",
            paper=embedder.paper,
            axis="reference_alignment" if self.against == "reference" else "texture_fidelity",
            region="inside",
            higher_is_better=not self.distance,
            range=(0.0, 2.0) if self.distance else (-1.0, 1.0),
            colour=embedder.colour,
            region_rule=f"{rule}, against {other if what == 'reference' else 'the same box of the target'}",
            resize_rule=f"whole, without a crop, to {embedder.side} x {embedder.side} px, Pillow's antialiased bicubic",
            backend=embedder.backend(),
            licence=f"{embedder.licence} (library and weights)",
            note="the whole region counts: the usual centre crop would hide what was refined near the border; values "
            "are not those of a pipeline that crops",
        )

    def values(self, views: Sequence[View]) -> list[float | None]:
        """The numbers for several outputs."""
        found = [cosine(a, b) for a, b in vectors(views, self.embedder, self.against, self.device)]
        return [1.0 - value if self.distance else value for value in found]


def _define(title: str, network: str, against: Side = "reference", distance: bool = False) -> type[Similarity]:
    embedder = EMBEDDERS[network]
    return type(
        title.title().replace("_", ""),
        (Similarity,),
        {
            "__doc__": f"{embedder.title} against the {against}.",
            "__module__": __name__,
            "title": title,
            "network": network,
            "against": against,
            "distance": distance,
            "needs": frozenset({"reference"}) if against == "reference" else frozenset(),
            "target_free": against == "reference",
            "modules": embedder.modules,
            "install": embedder.install,
            "files": embedder.files,
        },
    )


ClipI = _define("clip_i", "clip-vit-l14-336")
ClipIB32 = _define("clip_i_b32", "clip-vit-b32")
Dinov2 = _define("dinov2", "dinov2-large")
Dinov2Small = _define("dinov2_small", "dinov2-small")
DreamsimReference = _define("dreamsim_reference", "dreamsim-ensemble", distance=True)
ClipTarget = _define("clip_target", "clip-vit-l14-336", "target")
Dinov2Target = _define("dinov2_target", "dinov2-large", "target")
Dreamsim = _define("dreamsim", "dreamsim-ensemble", "target", distance=True)
DreamsimSingle = _define("dreamsim_single", "dreamsim-open-clip-vitb32", "target", distance=True)
