"""Where the suites' pictures come from: packages, versions, licences, and the split between training and test.

Every asset has an id: ``C012`` an animated clip, ``S034`` a still, ``P156`` a photograph (all three in
``assets.csv`` beside this file, with package, version, inner path, licence and author), ``font:lato``,
``emoji:1f93f``, ``logo:adonisjs``, and ``skimage:brick``. Assets of one `group` show the same thing and always fall
into the same split. What `core` uses is test; of the rest a fixed twentieth is validation, the others
are training.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench import images
from refbench.errors import RefbenchError, missing_package

Split: TypeAlias = Literal["train", "val", "test"]

LOGOS = "npm/iconify-json-logos-1.2.19/package/icons.json"
EMOJI = "npm/lobehub-fluent-emoji-3d-1.1.0/package/assets"


def _fonts() -> dict[str, tuple[str, str, Split]]:
    with (Path(__file__).parent / "fonts.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    splits: dict[str, Split] = {"train": "train", "test": "test"}
    return {row["family"]: (f"{row['package']}/{row['file']}", row["licence"], splits[row["split"]]) for row in rows}


FONTS = _fonts()
"""Family -> (Debian package / file, licence, split). Rendered letters are pictures, not copies of the font file."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One picture or clip of the catalogue."""

    id: str
    group: str
    """Assets of one group show the same thing and are never split."""
    package: str
    version: str
    path: str
    """Below the folder that `refbench tasks fetch` fills."""
    width: int
    height: int
    frames: int
    licence: str
    author: str
    url: str
    sha256: str
    """First 16 hex digits of the file's SHA-256."""

    @property
    def source(self) -> str:
        """Package, version and inner path, for the dataset card."""
        return f"{self.package} {self.version}: {Path(self.path).name}"


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Asset]:
    """All clips, stills and photographs by id, in order."""
    with (Path(__file__).parent / "assets.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return {
        row["id"]: Asset(
            row["id"], row["group"], row["package"], row["version"], row["path"], int(row["width"]),
            int(row["height"]), int(row["frames"]), row["licence"], row["author"], row["url"], row["sha256"],
        )
        for row in rows
    }  # fmt: skip


def group_of(asset_id: str) -> str:
    """The source group of any asset id: what must not be split between training and test."""
    kind, _, name = asset_id.partition(":")
    if kind == "emoji":
        return f"emoji:{name.split('-')[0]}"
    if kind == "logo":
        return f"logo:{name.removesuffix('-icon')}"
    if kind in ("font", "skimage", "word"):
        return asset_id
    known = catalogue()
    if asset_id not in known:
        raise RefbenchError(f"Expected an asset of the catalogue, got '{asset_id}'; see refbench/tasks/assets.csv.")
    return known[asset_id].group


@lru_cache(maxsize=1)
def test_groups() -> frozenset[str]:
    """The groups that `core`'s recipes use."""
    from refbench.tasks.suite import data_folder

    path = data_folder() / "core" / "recipes.jsonl"
    found: set[str] = set()
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            found.update(group_of(asset) for asset in recipe_assets(json.loads(line)))
    return frozenset(found)


def recipe_assets(recipe: Any) -> set[str]:
    """Every asset id that a recipe (decoded JSON) names, at any depth, under keys that hold assets."""
    found: set[str] = set()
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            if key in ("asset", "font") and isinstance(value, str):
                found.add(f"font:{value}" if key == "font" else value)
            else:
                found |= recipe_assets(value)
    elif isinstance(recipe, list):
        for value in recipe:
            found |= recipe_assets(value)
    return found


def split_of(asset_id: str) -> Split:
    """Training, validation or test: by use in `core` first, then by a fixed hash of the group."""
    if asset_id.startswith("font:"):
        return FONTS[asset_id[5:]][2]
    group = group_of(asset_id)
    if group in test_groups():
        return "test"
    return "val" if int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) % 20 == 0 else "train"


class Sources:
    """The fetched packages in one folder, read by asset id.

    Raises:
        RefbenchError: from any method when the folder or a file in it is missing.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / "npm").is_dir() or not (self.root / "comfyui").is_dir():
            raise RefbenchError(
                f"Expected the fetched source packages in {self.root}, but its folders are missing; "
                "run `refbench tasks fetch DIR` and pass the same DIR."
            )
        self._logos: dict[str, Any] | None = None

    def frames(self, asset_id: str, indices: Sequence[int] = (0,)) -> list[images.Image]:
        """Frames of a clip, still or photograph, (H, W, 3) uint8 each."""
        if asset_id.startswith("skimage:"):
            return [_skimage(asset_id[8:])]
        asset = catalogue().get(asset_id)
        if asset is None:
            raise RefbenchError(f"Expected an asset of the catalogue, got '{asset_id}'; see refbench/tasks/assets.csv.")
        return images.load_frames(self.root / asset.path, indices)

    def font(self, family: str) -> Path:
        """The font file of a family of :data:`FONTS`."""
        if family not in FONTS:
            raise RefbenchError(f"Expected a font family of refbench.tasks.sources.FONTS, got '{family}'.")
        package, name = FONTS[family][0].split("/")
        found = sorted((self.root / "fonts" / package).rglob(name))
        if not found:
            raise RefbenchError(
                f"Expected {name} below {self.root / 'fonts' / package}, but it is not there; "
                "run `refbench tasks fetch`."
            )
        return found[0]

    def logo_names(self) -> list[str]:
        """All logos of the iconify set, in its order."""
        return list(self._logo_set()["icons"])

    def _logo_set(self) -> dict[str, Any]:
        if self._logos is None:
            self._logos = json.loads((self.root / LOGOS).read_text("utf-8"))
        return self._logos

    def logo(self, name: str, size: int) -> NDArray[np.uint8]:
        """A logo drawn by resvg, its longer side `size` px: (h, w, 4) uint8, straight alpha."""
        logos = self._logo_set()
        if name not in logos["icons"]:
            raise RefbenchError(f"Expected a logo of the iconify set, got '{name}'.")
        icon = logos["icons"][name]
        width, height = icon.get("width", logos.get("width", 16)), icon.get("height", logos.get("height", 16))
        left, top = icon.get("left", 0), icon.get("top", 0)
        scale = size / max(width, height)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{max(1, round(width * scale))}" '
            f'height="{max(1, round(height * scale))}">{icon["body"]}</svg>'
        )
        check_resvg()
        import resvg_py
        from PIL import Image as PILImage

        with PILImage.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))) as picture:
            return np.ascontiguousarray(np.asarray(picture.convert("RGBA")))

    def emoji_names(self) -> list[str]:
        """All rendered objects, by code point."""
        return sorted(path.stem for path in (self.root / EMOJI).glob("*.webp"))

    def emoji(self, name: str) -> NDArray[np.uint8]:
        """A rendered object with alpha, (256, 256, 4) uint8."""
        return images.load_rgba(self.root / EMOJI / f"{name}.webp")


def check_resvg() -> None:
    """Refuse to draw logos without the package that draws them.

    Raises:
        UnavailableError: it is not installed.
    """
    if find_spec("resvg_py") is None:
        missing = missing_package("resvg_py", "to draw logos")
        assert missing is not None
        raise missing


def _skimage(name: str) -> images.Image:
    from skimage import data

    if name in ("motorcycle-left", "motorcycle-right"):
        left, right, _ = data.stereo_motorcycle()  # type: ignore[no-untyped-call]
        picture = left if name.endswith("left") else right
    elif name in ("brick", "grass", "gravel", "astronaut", "coffee", "chelsea", "rocket"):
        picture = getattr(data, name)()
    else:
        raise RefbenchError(f"Expected a picture of scikit-image's wheel, got '{name}'.")
    array = np.asarray(picture)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    return np.ascontiguousarray(array[..., :3].astype(np.uint8))


def credit(asset_ids: Sequence[str]) -> tuple[str, str, str]:
    """Licence, attribution and source of a sample made of these assets, as one line each."""
    licences: list[str] = []
    authors: list[str] = []
    places: list[str] = []
    for asset in sorted(set(asset_ids)):
        kind, _, name = asset.partition(":")
        if kind == "font":
            entry = (FONTS[name][1], f"font {name}", f"Debian {FONTS[name][0]}")
        elif kind == "emoji":
            entry = ("MIT", "Microsoft Fluent Emoji", f"@lobehub/fluent-emoji-3d 1.1.0: assets/{name}.webp")
        elif kind == "logo":
            entry = (
                "CC0-1.0",
                f"gil barbara, logo {name} (trademark of its owner)",
                f"@iconify-json/logos 1.2.19: {name}",
            )
        elif kind == "skimage":
            entry = ("BSD-3-Clause", "scikit-image contributors", f"scikit-image 0.26.0: data/{name}")
            if name.startswith("motorcycle"):
                entry = ("CC0-1.0", "D. Scharstein et al., Middlebury stereo 2014", entry[2])
        else:
            found = catalogue()[asset]
            by = found.author + (f", {found.url}" if found.url else "")
            entry = (found.licence, by, found.source)
        for values, value in zip((licences, authors, places), entry, strict=True):
            if value not in values:
                values.append(value)
    return " AND ".join(licences), "; ".join(authors), "; ".join(places)
