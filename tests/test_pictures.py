"""Pictures as callers have them: paths, PIL images and arrays are the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refbench
from refbench.errors import RefbenchError
from refbench.images import load_image, save_png
from refbench.pictures import as_image, as_mask
from refbench.schema import Score

RNG = np.random.default_rng(2)
TARGET = RNG.integers(0, 256, (40, 50, 3), np.uint8)
OUTPUT = RNG.integers(0, 256, (40, 50, 3), np.uint8)
MASK = np.zeros((40, 50), bool)
MASK[8:20, 10:40] = True


def values(*pictures: object) -> list[float]:
    output, target, mask = pictures
    return [s.value for s in refbench.measure(output, target, mask=mask, metrics=["mse", "psnr"], device="cpu")]


def test_paths_pil_images_and_arrays_measure_alike(tmp_path: Path) -> None:
    for name, array in (("o", OUTPUT), ("t", TARGET), ("m", MASK)):
        save_png(tmp_path / f"{name}.png", array)
    expected = values(OUTPUT, TARGET, MASK)
    paths = [tmp_path / f"{name}.png" for name in "otm"]
    assert values(*paths) == expected
    assert values(*map(str, paths)) == expected
    assert values(*map(Image.open, paths)) == expected
    assert values(Image.fromarray(OUTPUT), TARGET, Image.fromarray(MASK).convert("L")) == expected
    assert expected[0] == pytest.approx(float((((OUTPUT.astype(float) - TARGET)[MASK] / 255) ** 2).mean()))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "LA"])
def test_pil_image_is_what_its_file_is(mode: str, tmp_path: Path) -> None:
    grey = Image.fromarray(TARGET).convert("L")
    made = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(TARGET).convert(mode)
    )
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    made.save(path)
    np.testing.assert_array_equal(as_image(made, "draft"), load_image(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_opened_picture_turned_as_its_file_is(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, array in (("t", TARGET), ("m", MASK.astype(np.uint8) * 255)):
        options = {"compression": "tiff_lzw"} if kind == "tif" else {"quality": 100}  # Pillow turns a plain TIFF wrong
        Image.fromarray(array).save(tmp_path / f"{name}.{kind}", exif=exif, **options)
    target, mask = tmp_path / f"t.{kind}", tmp_path / f"m.{kind}"
    np.testing.assert_array_equal(as_image(Image.open(target), "target"), load_image(target))
    assert load_image(target).shape[:2] == (TARGET.shape[1::-1] if orientation > 4 else TARGET.shape[:2])
    if kind != "webp":  # its loss leaves grey in a mask
        np.testing.assert_array_equal(as_mask(Image.open(mask)), as_mask(mask))
    np.testing.assert_array_equal(as_image(Image.open(target).copy(), "target"), np.asarray(Image.open(target)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (TARGET / 255, "uint8 array as draft, but got float64"),
        (TARGET[..., 0], r"shape \(40, 50\)"),
        ([[1, 2]], "but got a list"),
        ((TARGET, {}), "give the image alone"),
    ],
)
def test_other_things_are_refused_in_sentence(given: object, words: str) -> None:
    with pytest.raises(RefbenchError, match=words):
        as_image(given, "draft")  # type: ignore[arg-type]


def test_mask_of_numbers_or_grey_refused() -> None:
    with pytest.raises(RefbenchError, match="bool array as mask, but got uint8"):
        as_mask(MASK.astype(np.uint8) * 255)
    with pytest.raises(RefbenchError, match="binary mask"):
        as_mask(Image.new("L", (9, 9), 128))
    with pytest.raises(RefbenchError, match="without transparency"):
        as_mask(Image.fromarray(MASK).convert("LA").point(lambda level: level // 2))


def test_results_read_in_a_line() -> None:
    score = Score("s-1", "psnr", "texture_fidelity", "inside", 31.41592653, True, "abc")
    assert repr(score) == "<Score psnr↑ 31.4159 (inside, s-1)>"
    (one,) = refbench.measure(OUTPUT, TARGET, metrics=["mse"], device="cpu")
    assert repr(one).startswith("<Score mse↓ ")
    assert repr(one).endswith(" (full)>")
