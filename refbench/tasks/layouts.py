"""Public datasets whose layout is known: how their files become entries, their licence, and where that was learnt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refbench.errors import RefbenchError, unknown_name
from refbench.images import PICTURE_ENDINGS
from refbench.tasks.entries import Found
from refbench.tasks.importing import FRAME


@dataclass(frozen=True)
class Layout:
    """One public layout."""

    title: str
    source: str
    """Where the data is."""
    licence: str
    learnt: str
    """Where its layout was learnt."""
    folders: Callable[[Path], list[dict[str, Any]]] | None = None
    """Reads its folder; None where it is a table."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field -> column, of a table."""
    mode: str = "refine"
    resize: bool = False


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)


def _critic_10k(folder: Path) -> list[dict[str, Any]]:
    """A folder a sample: product.png, generated_with_degradation.png, generated.png, mask.png, prompt.txt."""
    names = {
        "draft": "generated_with_degradation.png", "reference": "product.png", "mask": "mask.png",
        "target": "generated.png",
    }  # fmt: skip
    entries = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        entry: dict[str, Any] = {what: place / name for what, name in names.items()}
        prompt = place / "prompt.txt"
        if prompt.is_file():
            entry["prompt"] = prompt.read_text("utf-8", errors="replace").strip()
        entries.append({"id": place.name, **entry})
    return entries


def _cufed5(folder: Path) -> list[dict[str, Any]]:
    """Flat: 000_0.png is the picture, 000_1.png to 000_5.png are references, the nearest first."""
    entries = []
    for path in _pictures(folder):
        if path.stem.endswith("_0"):
            name = path.stem.removesuffix("_0")
            entries.append({"id": name, "target": path, "reference": path.with_name(f"{name}_1{path.suffix}")})
    return [{**entry, "shrink": 4, "mask": FRAME} for entry in entries]


def _wr_sr(folder: Path) -> list[dict[str, Any]]:
    """input/001.png is the picture, ref/001_ref.png its reference."""
    references = {path.stem.removesuffix("_ref"): path for path in _pictures(folder / "ref")}
    return [
        {"id": path.stem, "target": path, "reference": references.get(path.stem), "shrink": 4, "mask": FRAME}
        for path in _pictures(folder / "input")
    ]


def _ref_sr(folder: Path) -> list[dict[str, Any]]:
    """lq/, ref/ and gt/ (in any case) with files of one name; a reference may end in _ref."""
    places = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    found = {
        what: {re.sub("_(ref|lq|gt)$", "", path.stem, flags=re.IGNORECASE): path for path in _pictures(places[name])}
        for what, name in (("draft", "lq"), ("reference", "ref"), ("target", "gt"))
        if name in places
    }
    names = sorted(set().union(*found.values())) if found else []
    return [{"id": name, **{what: by.get(name) for what, by in found.items()}, "mask": FRAME} for name in names]


def _refine_anything(folder: Path) -> list[dict[str, Any]]:
    """input1.png, mask1.png, ref1.png, ...; what has no ref is refined without a reference, which is another task."""
    by_name = {path.stem.lower(): path for path in _pictures(folder)}
    numbers = [name.removeprefix("input") for name in by_name if name.startswith("input")]
    return [
        {"id": f"input{number}", **{what: by_name.get(f"{name}{number}")
         for what, name in (("draft", "input"), ("mask", "mask"), ("reference", "ref"))}}
        for number in numbers
    ]  # fmt: skip


_C2 = "github.com/yumingj/C2-Matching, datasets/DATASETS.md"
LAYOUTS = {
    "critic-10k": Layout(
        "Critic-10K of ImageCritic (arXiv 2511.20614)", "huggingface.co/datasets/ziheng1234/Critic-10K",
        "CC-BY-NC-4.0 (the authors' repository; a licence of the data itself was not found)",
        "the script that lists it, beside the authors' code", folders=_critic_10k,
    ),
    "hp-image-40k": Layout(
        "HP-Image-40K of HiFi-Inpaint (arXiv 2603.02210)", "huggingface.co/datasets/donghao-zhou/HP-Image-40K",
        "Apache-2.0 (the authors' repository; a licence of the data itself was not found)",
        "github.com/Correr-Zhou/HiFi-Inpaint, README.md and src/train/data.py", mode="replace",
        columns={
            "draft": "condition_image_path", "reference": "ref_image_path", "target": "gt_image_path",
            "mask": "mask_path", "prompt": "caption",
        },
    ),
    "cufed5": Layout(
        "CUFED5, reference super-resolution (arXiv 1903.00834)", f"by the link in {_C2}", "unknown (not found)", _C2,
        folders=_cufed5,
    ),
    "wr-sr": Layout(
        "WR-SR of C2-Matching, reference super-resolution (arXiv 2106.01863)", f"by the link in {_C2}",
        "unknown (not found)", _C2, folders=_wr_sr,
    ),
    "ref-sr": Layout(
        "reference super-resolution in lq/, ref/, gt/", "your own", "unknown", "common to such data", folders=_ref_sr,
        resize=True,
    ),
    "refine-anything": Layout(
        "RefineAnything's demo (arXiv 2604.06870)", "github.com/limuloo/RefineAnything, src/",
        "unknown (the repository says TBD)", "its README.md and src/", folders=_refine_anything,
    ),
}  # fmt: skip
"""Name -> layout."""
NOT_FOUND = {
    "criticbench": "the keys of its JSON (bbox1_product.json and bbox_final_product.json in numbered folders) were not "
    "found, and are not guessed; write a table with the columns draft, reference, mask_box (x,y,width,height in the "
    "draft) and reference_box, and use 'refbench import table'",
}
"""Public data whose layout is not known here -> what to do."""


def layout_named(name: str) -> Layout:
    """A layout.

    Raises:
        RefbenchError: unknown, with near names, or one that is not known here.
    """
    if name in NOT_FOUND:
        raise RefbenchError(f"Expected a layout that is known here, but of {name} {NOT_FOUND[name]}.")
    if name not in LAYOUTS:
        raise unknown_name("layout", name, LAYOUTS)
    return LAYOUTS[name]


def from_layout(name: str, folder: Path) -> Found:
    """The samples of a public dataset's folder.

    Raises:
        RefbenchError: no such layout or folder, it is a table, or nothing in the folder is laid out so.
    """
    layout = layout_named(name)
    if layout.folders is None:
        raise RefbenchError(
            f"Expected a layout of folders, but {name} is a table; use 'refbench import table FILE --layout {name}'."
        )
    if not folder.is_dir():
        raise RefbenchError(f"Expected the folder of {layout.title} at {folder}, but there is none; check the path.")
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in layout.folders(folder)]
    if not entries:
        how = (layout.folders.__doc__ or "").partition("\n")[0].rstrip(".")
        raise RefbenchError(f"Expected {layout.title} at {folder}, but nothing is laid out so ({how}).")
    return Found(entries, any("target" in entry for entry in entries))
