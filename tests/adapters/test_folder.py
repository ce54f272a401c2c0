"""A folder of pictures as a model: each file is read, or its sample told why not; nothing stops the others."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refbench.adapters.folder import FolderAdapter, fingerprint
from refbench.adapters.load import load_adapter, open_contained
from refbench.errors import RefbenchError
from refbench.images import Image, load_image, save_png
from refbench.schema import Inputs

Maker = Callable[..., Inputs]


def test_no_picture_at_all_refused_by_ending(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="there are none"):
        load_adapter(tmp_path)
    (tmp_path / "x.HEIC").write_bytes(b"x")
    with pytest.raises(RefbenchError, match=r"only 1 pictures in \.HEIC; save them as PNG"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.TIF", "task/a.tiff", "a.bmp"])
def test_other_formats_are_read(tmp_path: Path, sample: Maker, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    PILImage.fromarray(sample("a").draft).save(tmp_path / name)
    with open_contained(tmp_path) as contained:
        (done,) = contained.refine_batch([sample("a")])
    assert done.image is not None
    np.testing.assert_array_equal(done.image, load_image(tmp_path / name))
    lossy = name.lower().endswith(("jpg", "jpeg", "webp"))
    remarks = FolderAdapter(tmp_path).remarks({"a", "b"}, ["a", "b"])
    assert [f"1 of the pictures in {tmp_path} are in a format" in one and name in one for one in remarks] == [
        True
    ] * lossy


def test_a_png_goes_before_another_format(tmp_path: Path, sample: Maker) -> None:
    PILImage.fromarray(sample("a").draft).save(tmp_path / "a.jpg")
    save_png(tmp_path / "a.png", 255 - sample("a").draft)
    adapter = FolderAdapter(tmp_path)
    np.testing.assert_array_equal(adapter.picture("a"), 255 - sample("a").draft)
    (remark,) = adapter.remarks({"a"}, ["a"])
    assert remark.endswith("lie beside a PNG of the same sample, which counts, and are left out: a.jpg.")


@pytest.mark.parametrize("name", ["a.PNG", "a.Png", "task/a.PNG"])
def test_case_of_ending_is_nothing(tmp_path: Path, sample: Maker, name: str) -> None:
    image = 255 - sample("a").draft
    save_png(tmp_path / "b.png", image)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "b.png").rename(tmp_path / name)
    with open_contained(tmp_path) as contained:
        (done,) = contained.refine_batch([sample("a")])
    assert done.image is not None
    np.testing.assert_array_equal(done.image, image)


def spoil(path: Path, image: Image, how: str) -> None:
    """Put something else in the place of a PNG."""
    if how == "dangling link":
        path.symlink_to("nowhere.png")
    elif how == "link to itself":
        path.symlink_to(path)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(path))
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "lossy inside":
        PILImage.fromarray(image).save(path, "JPEG")
    elif how == "huge":
        path.touch()
        os.truncate(path, 2**40)
    elif how == "twice":
        save_png(path, image)
        save_png(path.parent / "task" / path.name, image)
    elif how == "other case twice":
        save_png(path, image)
        path.with_suffix(".PNG").write_bytes(path.read_bytes())
    elif how == "not read":
        path.with_suffix(".heic").write_bytes(b"x")
    else:
        save_png(path.with_name(how), image)


SPOILT = {
    "dangling link": ("invalid", "a link to nowhere.png, which is not there"),
    "link to itself": ("invalid", "a link to"),
    "pipe": ("invalid", "a pipe"),
    "device": ("invalid", "a device"),
    "socket": ("invalid", "a socket"),
    "folder": ("invalid", "a folder"),
    "empty": ("invalid", "empty"),
    "lossy inside": ("invalid", "another kind of file"),
    "huge": ("invalid", "bytes"),
    "twice": ("invalid", "2 times"),
    "other case twice": ("invalid", "2 times"),
    "not read": ("missing", "only a-01.heic"),
    "A_01.png": ("missing", "only 'A_01.png', which is another name"),
    "a-01.png.png": ("missing", "only 'a-01.png.png', which is another name"),
    ".a-01.png": ("missing", "not there; add it"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_wrong_costs_only_its_sample(
    tmp_path: Path, sample: Maker, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "b.png", sample("b").draft)
    spoil(tmp_path / "a-01.png", sample("b").draft, how)
    start = time.monotonic()
    with open_contained(tmp_path) as contained:
        wrong, right = contained.refine_batch([sample("a-01"), sample("b")])
    failure, words = SPOILT[how]
    assert (wrong.image, wrong.failure) == (None, failure)
    assert words in (wrong.error or "")
    assert right.image is not None
    assert fingerprint(tmp_path) == fingerprint(tmp_path)
    assert time.monotonic() - start < 5


def test_place_that_does_not_answer_times_out(tmp_path: Path, sample: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(tmp_path / "a.png", sample("a").draft)
    contained = FolderAdapter(tmp_path, timeout_s=0.05)
    monkeypatch.setattr(FolderAdapter, "picture", lambda *_: time.sleep(1))
    (done,) = contained.refine_batch([sample("a")])
    assert done.failure == "timeout"
    assert done.seconds < 1


def test_extra_pictures_are_known(tmp_path: Path, sample: Maker) -> None:
    for name in ("a.png", "b.png", "c.txt"):
        save_png(tmp_path / name, sample("a").draft)
    (remark,) = FolderAdapter(tmp_path).remarks({"a"}, ["a"])
    assert remark.endswith("belong to no sample of the suite and are left out: b.png.")


class TestFingerprint:
    @pytest.fixture
    def folder(self, tmp_path: Path, sample: Maker) -> Path:
        for name in ("a", "b"):
            save_png(tmp_path / "one" / f"{name}.png", sample(name).draft)
        return tmp_path / "one"

    def test_times_places_and_other_files_are_nothing(self, folder: Path, tmp_path: Path) -> None:
        before = fingerprint(folder)
        os.utime(folder / "a.png", (1, 1))
        (folder / "notes.txt").write_text("x")
        assert fingerprint(folder) == before
        folder.rename(tmp_path / "two")
        assert fingerprint(tmp_path / "two") == before

    @pytest.mark.parametrize("change", ["byte", "name", "more", "card"])
    def test_bytes_names_and_card_count(self, folder: Path, change: str) -> None:
        before = fingerprint(folder)
        if change == "byte":
            save_png(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
        elif change == "name":
            (folder / "a.png").rename(folder / "c.png")
        elif change == "more":
            save_png(folder / "c.png", np.zeros((4, 4, 3), np.uint8))
        else:
            (folder / "card.json").write_text("{}")
        assert fingerprint(folder) != before


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x"',
        '{"name": "x", "summary": "s", "price_per_image_usd": NaN}',
        '{"name": "x", "summary": "s", "vram_gb": 1e999}',
        '{"name": "x", "summary": "s", "price_per_image_usd": -1}',
        "[" * 100_000,
        '{"name": "\\ud800", "summary": "s"}',
    ],
)
def test_a_broken_card_is_one_sentence(tmp_path: Path, sample: Maker, text: str) -> None:
    save_png(tmp_path / "a.png", sample("a").draft)
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(RefbenchError, match=r"Expected (a (valid )?card|text in UTF-8)"):
        load_adapter(tmp_path)
