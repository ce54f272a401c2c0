"""From a recipe to a sample: one JSON object holds every choice, so that the pixels follow from it alone.

A recipe of `kind` ``print`` puts one print on two surfaces; a recipe of `kind` ``views`` takes two frames of
a clip. All arithmetic is in double precision on the CPU, so that another machine with the versions of
``constraints.txt`` arrives at the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refbench import images
from refbench.errors import RefbenchError
from refbench.images import Image, Mask
from refbench.schema import Box, SampleMeta
from refbench.tasks import masks, prints
from refbench.tasks.composition import cloth_folds, compose, square_to_quad, warp_points
from refbench.tasks.degradations import degrade
from refbench.tasks.sources import Sources, credit, group_of, recipe_assets
from refbench.tasks.writing import Question

TARGET_QUALITY, REFERENCE_QUALITY = 90, 88


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, C) uint8 to (1, C, H, W) double in [0, 1]."""
    return torch.from_numpy(image.astype(np.float64) / 255).permute(2, 0, 1).unsqueeze(0)


def to_image(tensor: torch.Tensor) -> Image:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) uint8; rounded after 9 decimals, so that sums in another order agree."""
    levels = np.rint(np.round(tensor[0].permute(1, 2, 0).numpy() * 255, 9))
    return np.ascontiguousarray(np.clip(levels, 0, 255).astype(np.uint8))


def frame_of(view: dict[str, Any], sources: Sources) -> Image:
    """The picture of a view: an asset's frame, cropped and scaled down (never up) to `size`."""
    picture = sources.frames(view["asset"], [view.get("frame", 0)])[0]
    if "crop" in view:
        x, y, width, height = view["crop"]
        if x < 0 or y < 0 or y + height > picture.shape[0] or x + width > picture.shape[1]:
            raise RefbenchError(
                f"Expected a crop inside {view['asset']} ({picture.shape[1]} x {picture.shape[0]} px), "
                f"got {view['crop']}."
            )
        picture = np.ascontiguousarray(picture[y : y + height, x : x + width])
    if "size" in view:
        width, height = view["size"]
        if height > picture.shape[0] or width > picture.shape[1]:
            raise RefbenchError(f"Expected to scale {view['asset']} down, but {view['size']} is larger than the crop.")
        picture = images.resize(picture, (height, width))
    gain = view.get("light")
    if gain:
        lit = to_tensor(picture) ** float(gain.get("gamma", 1.0)) * torch.tensor(gain.get("tint", [1, 1, 1])).view(
            1, 3, 1, 1
        )
        picture = to_image(lit.clamp(0, 1))
    return picture


def make_print(spec: dict[str, Any], sources: Sources, rng: np.random.Generator) -> prints.Print:
    """The RGBA print of a specification: text, mark (logo or object) or pattern."""
    kind = spec["type"]
    if kind == "text":
        return prints.text_print(
            list(spec["lines"]), sources.font(spec["font"]), ink=spec["ink"], panel=spec.get("panel"),
            rule=spec.get("rule", False), garble=spec.get("garble", 0.0), rng=rng,
        )  # fmt: skip
    if kind == "mark":
        asset, _, name = spec["asset"].partition(":")
        mark = sources.logo(name, 320) if asset == "logo" else sources.emoji(name)
        return prints.with_panel(mark, spec["panel"]) if spec.get("panel") else mark
    if kind == "pattern":
        pattern = prints.pattern_print(
            spec["pattern"], spec["seed"], cells=spec.get("cells", 6), colours=spec.get("colours")
        )
        aspect = float(spec.get("aspect", 1.0))
        if aspect < 1:
            return np.ascontiguousarray(pattern[:, : max(16, round(pattern.shape[1] * aspect))])
        return np.ascontiguousarray(pattern[: max(16, round(pattern.shape[0] / aspect))])
    raise RefbenchError(f"Expected a print of type text, mark or pattern, got '{kind}'.")


def fit_quad(quad: NDArray[np.float64], shape: tuple[int, int], fill: bool, size: tuple[int, int]) -> torch.Tensor:
    """Corners (1, 4, 2) in [-1, 1] of a print of (height, width) px fitted into a quad in px, keeping its aspect."""
    height, width = size
    corners = torch.from_numpy(quad / np.array([width, height]) * 2 - 1).unsqueeze(0)
    if fill:
        return corners
    across = (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    down = (np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    room, want = across / down, shape[1] / shape[0]
    x, y = (1.0, room / want) if want >= room else (want / room, 1.0)
    inner = torch.tensor([[[-x, -y], [x, -y], [x, y], [-x, y]]], dtype=torch.float64)
    return warp_points(inner, square_to_quad(corners))[0]


def put(
    view: dict[str, Any], surface: Image, prints_: list[prints.Print], fill: bool, seed: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Lay each of the prints on the same surface in the same place: (picture, cover) for each."""
    ground = to_tensor(surface)
    size = (surface.shape[0], surface.shape[1])
    generator = torch.Generator().manual_seed(seed)
    folds = cloth_folds(ground, generator, 3)
    out = []
    first = fit_quad(np.array(view["quad"], np.float64), prints_[0].shape[:2], fill, size)
    for layer in prints_:
        own = (
            first if view.get("same_box") else fit_quad(np.array(view["quad"], np.float64), layer.shape[:2], fill, size)
        )
        # a print much larger than its place is first scaled down, so that warping does not alias
        span = (own[0].amax(dim=0) - own[0].amin(dim=0)).numpy() * np.array([size[1], size[0]]) / 2
        scale = min(1.0, 2.2 * float(span.max()) / max(layer.shape[:2]))
        if scale < 1:
            layer = _scaled(layer, scale)
        one = torch.ones(1, dtype=torch.float64)
        out.append(
            compose(
                ground, to_tensor(layer), own,
                wrap=one * view.get("wrap", 0.0), bow=one * view.get("bow", 0.0),
                cloth=one * view.get("cloth", 0.0), folds=folds,
                supersample=2, opacity=view.get("opacity", 0.95), shading=view.get("shading", 0.9),
                grain=view.get("grain", 1.0), softness=view.get("softness", 0.45),
            )
        )  # fmt: skip
    return out


def _scaled(layer: prints.Print, scale: float) -> prints.Print:
    from PIL import Image as PILImage

    picture = PILImage.fromarray(layer)
    size = (max(8, round(layer.shape[1] * scale)), max(8, round(layer.shape[0] * scale)))
    return np.ascontiguousarray(np.asarray(picture.resize(size, PILImage.Resampling.BOX)))


def _box_of(cover: Mask, margin: int) -> Box:
    return images.mask_box(cover, margin)


def make_sample(recipe: dict[str, Any], sources: Sources) -> Question:
    """Carry out one recipe.

    Raises:
        RefbenchError: an asset is missing, a crop leaves its picture, or the mask leaves 2 to 35 %.
    """
    seed = int(recipe["seed"])
    target_view, reference_view = recipe["target"], recipe["reference"]
    surface, other = frame_of(target_view, sources), frame_of(reference_view, sources)
    box: Box | None
    text = recipe.get("text")
    if recipe["kind"] == "print":
        right = make_print(recipe["print"], sources, np.random.default_rng(seed))
        layers = [right]
        if "wrong" in recipe:
            layers.append(make_print(recipe["wrong"], sources, np.random.default_rng(seed + 1)))
        fill = recipe["print"]["type"] == "pattern"
        laid = put(target_view, surface, layers, fill, seed)
        target = to_image(laid[0][0])
        wrong = laid[-1][0]
        shape = (torch.maximum(laid[0][1], laid[-1][1])[0, 0] > 0.2).numpy()
        reference, seen = put(reference_view, other, [right], fill, seed + 2)[0]
        reference_image = to_image(reference)
        box = _box_of((seen[0, 0] > 0.2).numpy(), 4)
    else:
        target, reference_image = surface, other
        size = (target.shape[0], target.shape[1])
        area = recipe["area"]
        shape = masks.ellipse(area["ellipse"], size) if "ellipse" in area else masks.polygon(area["polygon"], size)
        wrong = None
        if "wrong" in recipe:
            layer = make_print(recipe["wrong"], sources, np.random.default_rng(seed + 1))
            fill = recipe["wrong"]["type"] == "pattern" or bool(target_view.get("fill"))
            wrong = put(target_view, surface, [layer], fill, seed)[0][0]
        box = tuple(recipe["reference_box"]) if recipe.get("reference_box") else None
    kind: masks.MaskKind = recipe["mask"]
    mask = masks.draw_mask(shape, kind, np.random.default_rng(seed + 3))
    if recipe["kind"] == "views" and kind == "tight":
        mask = shape
    share = float(mask.mean())
    if not masks.SHARES[0] <= share <= masks.SHARES[1]:
        raise RefbenchError(
            f"Expected a mask of 2 to 35 % in {recipe['id']}, but it covers {share:.1%}; change its recipe."
        )
    target_webp = images.encode_webp(target, TARGET_QUALITY)
    reference_webp = images.encode_webp(reference_image, REFERENCE_QUALITY)
    target, reference_image = images.decode_image(target_webp), images.decode_image(reference_webp)
    draft = _draft(recipe, target, wrong, mask, seed)
    assets = sorted(recipe_assets(recipe))
    licence, attribution, source = credit(assets)
    spoilt = recipe.get("degradation")
    names = [n for n in (recipe.get("fault"), spoilt["name"] if spoilt else None) if n]
    meta = SampleMeta(
        id=recipe["id"], task=recipe["task"], category=recipe["task"].partition("-")[0],
        mode=recipe["task"].partition("-")[2], source_id=group_of(target_view["asset"]),
        view="composed" if recipe["kind"] == "print" else "true", degradation="+".join(names),
        strength=float(recipe["strength"]), mask_kind=kind, mask_share=round(share, 6), text=text,
        licence=licence, attribution=attribution, source=source, seed=seed,
    )  # fmt: skip
    return Question(meta, recipe["prompt"], draft, target, reference_image, mask, box, target_webp, reference_webp)


def _draft(recipe: dict[str, Any], target: Image, wrong: torch.Tensor | None, mask: Mask, seed: int) -> Image:
    """The target with its masked region spoilt, softly towards the mask's edge, exact outside."""
    base = to_tensor(target)
    if "wrong" in recipe and wrong is not None:
        base = wrong
    x, y, width, height = images.mask_box(mask, 12)
    crop = base[..., y : y + height, x : x + width]
    spoilt = recipe.get("degradation")
    if spoilt:
        crop = degrade(spoilt["name"], crop, float(spoilt["strength"]), torch.Generator().manual_seed(seed + 4))
    weight = torch.from_numpy(masks.soft_inside(mask)[y : y + height, x : x + width]).view(1, 1, height, width)
    clean = to_tensor(target)[..., y : y + height, x : x + width]
    mixed = to_image(clean + (crop - clean) * weight)
    draft = target.copy()
    inside = mask[y : y + height, x : x + width]
    draft[y : y + height, x : x + width][inside] = mixed[inside]
    return draft
