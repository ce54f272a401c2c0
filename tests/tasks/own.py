"""Small own pictures, written to disk as users and public datasets have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refbench.images import Image, Mask, save_image, save_png

SIZE = (48, 64)


def pictures(number: int) -> tuple[Image, Image, Mask, Image]:
    """(draft, reference, mask, target): noise that differs by number, the draft flat inside the mask's box."""
    rng = np.random.default_rng(number)
    target = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:50] = True
    draft = np.where(mask[..., None], np.uint8(128), target)
    reference = rng.integers(0, 256, (40, 56, 3), np.uint8)
    return draft, reference, mask, target


def write_folders(folder: Path, count: int, *, targets: bool = True) -> Path:
    """``drafts/ references/ masks/ targets/`` with samples 000, 001, ..."""
    for number in range(count):
        draft, reference, mask, target = pictures(number)
        for place, picture in (("drafts", draft), ("references", reference), ("masks", mask), ("targets", target)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            if place != "targets" or targets:
                save_png(folder / place / f"{number:03d}.png", picture)
    return folder


def write_layout(name: str, folder: Path) -> Path:
    """A stand-in of two samples of a public dataset's layout; returns what is named on the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    table = []
    for number in range(2):
        draft, reference, mask, target = pictures(number)
        places = {
            "critic-10k": (f"{number}/generated_with_degradation", f"{number}/product", f"{number}/mask",
                           f"{number}/generated"),
            "hp-image-40k": tuple(f"{place}/{number}" for place in ("cond", "ref", "mask", "gt")),
            "cufed5": (None, f"00{number}_1", None, f"00{number}_0"),
            "wr-sr": (None, f"ref/00{number}_ref", None, f"input/00{number}"),
            "ref-sr": (f"LQ/{number}", f"REF/{number}_ref", None, f"GT/{number}"),
            "refine-anything": (f"input{number}", f"ref{number}" if number else None, f"mask{number}", None),
        }[name]  # fmt: skip
        if name == "ref-sr":
            draft = np.ascontiguousarray(target[::4, ::4])
        for place, picture in zip(places, (draft, reference, mask, target), strict=True):
            if place is not None:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                save_image(folder / f"{place}.png", picture if picture.ndim == 3 else _white(picture))
        if name == "critic-10k":
            (folder / f"{number}/prompt.txt").write_text(f"A can {number}\n")
            (folder / f"{number}/image_shape.txt").write_text("48 64\n")
        keys = ("condition_image_path", "ref_image_path", "mask_path", "gt_image_path")
        table.append({**{k: f"{p}.png" for k, p in zip(keys, places, strict=True)}, "caption": f"A can {number}"})
    if name == "hp-image-40k":
        import json

        (folder / "train.json").write_text(json.dumps(table))
        return folder / "train.json"
    return folder


def _white(mask: Mask) -> Image:
    return np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
