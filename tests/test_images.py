"""Decoding is right once and for all: six kinds of picture with the right colours, and one sentence for the rest."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from refbench import images
from refbench.errors import RefbenchError

# Four colours that no channel swap, turn or wrong scale leaves as they are.
COLOURS = np.array([[[255, 0, 0], [0, 128, 0]], [[0, 0, 255], [200, 100, 50]]], dtype=np.uint8)
PATCHES = np.kron(COLOURS, np.ones((16, 16, 1), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rgb16_png(values: NDArray[np.uint16]) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 2, rows)


def icc_profile(primaries: NDArray[np.float64], gamma: float) -> bytes:
    """A display profile (ICC v2): columns of `primaries` are the XYZ (D50) of red, green and blue."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(column: NDArray[np.float64]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(s15(float(v)) for v in column)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"test profile\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78
    tags = {
        b"desc": text,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(np.array([0.9642, 1.0, 0.8249])),
        b"rXYZ": xyz(primaries[:, 0]),
        b"gXYZ": xyz(primaries[:, 1]),
        b"bXYZ": xyz(primaries[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", tag, at + len(data), len(content))
        data += content
    header = struct.pack(">I", 128 + len(table) + len(data)) + b"lcms" + bytes([2, 0x10, 0, 0]) + b"mntrRGB XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + s15(0.9642) + s15(1.0) + s15(0.8249)
    return header.ljust(128, b"\0") + table + data


# Display P3 with a plain gamma of 2.2, adapted to D50 (ICC's registry, "Display P3").
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
# sRGB's primaries adapted to D50 (IEC 61966-2-1, Bradford).
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def p3_to_srgb(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    linear = (values / 255.0) ** 2.2
    out = np.clip(linear @ (np.linalg.inv(SRGB) @ P3).T, 0, 1)
    return 255 * np.where(out <= 0.0031308, 12.92 * out, 1.055 * out ** (1 / 2.4) - 0.055)


class TestSixKindsThatMustWork:
    def test_16_bit_colour_scaled_to_8_bits(self) -> None:
        deep = PATCHES.astype(np.uint16) * 257
        assert np.array_equal(images.decode_image(rgb16_png(deep)), PATCHES)

    def test_16_bit_grey_scaled_and_rounded_not_clipped(self) -> None:
        ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
        found = images.decode_image(encoded(Image.fromarray(ramp)))
        assert np.array_equal(found[..., 0], np.rint(ramp / 257.0).astype(np.uint8))
        assert np.array_equal(found[..., 0], found[..., 2])

    def test_cmyk_becomes_the_colours_it_prints(self) -> None:
        # C, M, Y, K in [0, 255]; without a profile R = (255 - C)(255 - K) / 255, the definition Pillow follows.
        ink = np.zeros((16, 64, 4), dtype=np.uint8)
        ink[:, :16], ink[:, 16:32], ink[:, 32:48] = (0, 255, 255, 0), (255, 0, 255, 0), (255, 255, 0, 0)
        ink[:, 48:] = (0, 0, 0, 128)
        wanted = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (127, 127, 127)]
        for data, tolerance in (
            (encoded(Image.fromarray(ink, "CMYK"), "TIFF"), 1),
            (encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100, subsampling=0), 3),  # JPEG's own loss
        ):
            found = images.decode_image(data)[8, 8::16].astype(int)
            assert np.abs(found - np.array(wanted)).max() <= tolerance

    def test_a_palette_is_looked_up(self) -> None:
        palette = Image.fromarray(PATCHES).quantize(8)
        assert palette.mode == "P"
        for kind in ("PNG", "GIF"):
            assert np.array_equal(images.decode_image(encoded(palette, kind)), PATCHES)

    def test_a_transparent_palette_entry_is_white(self) -> None:
        palette = Image.fromarray(PATCHES).quantize(8)
        index = int(np.asarray(palette)[0, 0])
        found = images.decode_image(encoded(palette, "PNG", transparency=index))
        assert (found[0, 0] == 255).all()
        assert np.array_equal(found[20, 20], PATCHES[20, 20])

    def test_alpha_is_composited_over_white(self) -> None:
        rgba = np.dstack([PATCHES, np.full(PATCHES.shape[:2], 255, np.uint8)])
        rgba[:16, :16, 3] = 0
        rgba[16:, 16:, 3] = 51  # 20 %
        found = images.decode_image(encoded(Image.fromarray(rgba)))
        assert (found[0, 0] == 255).all()
        assert np.abs(found[20, 20] - (0.2 * COLOURS[1, 1] + 0.8 * 255)).max() <= 1  # 8-bit rounding
        assert np.array_equal(found[0, 20], COLOURS[0, 1])

    def test_grey_with_alpha_is_composited_too(self) -> None:
        grey = np.dstack([np.full((8, 8), 100, np.uint8), np.zeros((8, 8), np.uint8)])
        assert (images.decode_image(encoded(Image.fromarray(grey, "LA"))) == 255).all()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_an_exif_turn_is_undone(self, orientation: int) -> None:
        turn = {
            1: lambda a: a,
            2: np.fliplr,
            3: lambda a: np.rot90(a, 2),
            4: np.flipud,
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: np.rot90(a, 1),  # stored turned left: the viewer turns it right
            7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
            8: lambda a: np.rot90(a, -1),
        }[orientation]
        upright = PATCHES[:, :24]
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
        assert np.array_equal(images.decode_image(encoded(stored, "PNG", exif=exif.tobytes())), upright)

    def test_icc_profile_is_converted_to_srgb(self) -> None:
        # Colours inside both gamuts, where conversion is the closed form; 2 levels cover 8-bit rounding and CMM tables.
        rng = np.random.default_rng(3)
        values = rng.integers(60, 200, (16, 16, 3)).astype(np.uint8)
        found = images.decode_image(encoded(Image.fromarray(values), "PNG", icc_profile=icc_profile(P3, 2.2)))
        wanted = p3_to_srgb(values)
        inside = ((wanted > 0.5) & (wanted < 254.5)).all(axis=2)
        assert inside.mean() > 0.5
        assert np.abs(found[inside] - wanted[inside]).max() <= 2

    def test_profile_with_swapped_primaries_swaps_channels(self) -> None:
        profile = icc_profile(SRGB[:, [1, 0, 2]], 2.2)
        found = images.decode_image(encoded(Image.fromarray(PATCHES), "JPEG", quality=100, icc_profile=profile))
        assert found[4, 4, 1] > 240
        assert found[4, 4, 0] < 30

    def test_profile_and_alpha_and_palette_go_together(self) -> None:
        profile = icc_profile(SRGB[:, [1, 0, 2]], 2.2)
        rgba = np.dstack([PATCHES, np.full(PATCHES.shape[:2], 255, np.uint8)])
        for picture in (Image.fromarray(rgba), Image.fromarray(PATCHES).quantize(8)):
            found = images.decode_image(encoded(picture, "PNG", icc_profile=profile))
            assert found[4, 4, 1] > 240
            assert found[4, 4, 0] < 30

    def test_broken_profile_is_taken_as_srgb(self) -> None:
        data = encoded(Image.fromarray(PATCHES), "PNG", icc_profile=b"no profile")
        assert np.array_equal(images.decode_image(data), PATCHES)

    def test_a_phone_jpeg_is_one_picture(self) -> None:
        first, second = Image.fromarray(PATCHES), Image.fromarray(PATCHES[:8, :8])
        data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
        assert images.decode_image(data).shape == PATCHES.shape

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
    def test_lossless_formats_keep_every_pixel(self, kind: str) -> None:
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        assert np.array_equal(images.decode_image(encoded(Image.fromarray(PATCHES), kind, **options)), PATCHES)


class TestOneSentenceForTheRest:
    def check(self, path: Path, *words: str) -> None:
        with pytest.raises(RefbenchError) as caught:
            images.load_image(path)
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith("Expected")
        assert text.endswith(".")
        for word in (str(path), *words):
            assert word in text

    def test_missing(self, tmp_path: Path) -> None:
        self.check(tmp_path / "none.png", "no such file")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "folder")

    def test_zero_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        self.check(tmp_path / "a.png", "0 bytes")

    def test_a_text_file_named_png(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("hello\n")
        self.check(tmp_path / "a.png", "none of these")

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_truncated(self, tmp_path: Path, kind: str, share: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        data = encoded(Image.fromarray(noise), kind)
        (tmp_path / "a.png").write_bytes(data[: int(len(data) * share)])
        self.check(tmp_path / "a.png")

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_animated(self, tmp_path: Path, kind: str) -> None:
        frames = [Image.fromarray(np.roll(PATCHES, n, axis=1)) for n in range(3)]
        (tmp_path / "a.png").write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        self.check(tmp_path / "a.png", "3 frames")

    def test_30000_by_30000_px_refused_before_decoding(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("the picture was decoded"))
        (tmp_path / "a.png").write_bytes(png(30_000, 30_000, 8, 2, b""))
        self.check(tmp_path / "a.png", "30000 x 30000", "100 megapixels")

    def test_limit_holds_where_pillow_warns(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png(11_000, 10_000, 8, 2, b""))
        self.check(tmp_path / "a.png", "11000 x 10000")

    def test_formats_that_run_programs_stay_closed(self, tmp_path: Path) -> None:
        (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
        self.check(tmp_path / "a.eps", "none of these")

    def test_floating_point_outside_0_and_1(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((8, 8), 7.0, np.float32)).save(tmp_path / "a.tiff")
        self.check(tmp_path / "a.tiff", "0 to 1")

    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_no_bytes_whatever_give_another_error(self, data: bytes) -> None:
        for start in (
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"\xff\xd8\xff",
            b"II*\0",
            b"BM",
            b"P6 ",
            b"RIFF\0\0\0\0WEBP",
        ):
            try:
                found = images.decode_image(start + data)
            except RefbenchError:
                continue
            assert found.shape[2] == 3


class TestMasks:
    def mask(self, tmp_path: Path, values: NDArray[np.uint8], kind: str = "PNG") -> Path:
        path = tmp_path / f"mask.{kind.lower()}"
        Image.fromarray(values).save(path, kind, **({"quality": 95} if kind == "JPEG" else {}))
        return path

    def test_black_and_white_is_read(self, tmp_path: Path) -> None:
        values = np.zeros((32, 32), np.uint8)
        values[8:24, 8:16] = 255
        assert np.array_equal(images.load_mask(self.mask(tmp_path, values)), values == 255)

    def test_jpeg_mask_on_block_boundary_works(self, tmp_path: Path) -> None:
        values = np.zeros((32, 32), np.uint8)
        values[8:24, 8:16] = 255
        assert np.array_equal(images.load_mask(self.mask(tmp_path, values, "JPEG")), values == 255)

    def test_grey_is_refused_with_its_share(self, tmp_path: Path) -> None:
        values = np.zeros((10, 10), np.uint8)
        values[0] = 128
        with pytest.raises(RefbenchError, match=r"binary mask .* 10\.0% of its pixels"):
            images.load_mask(self.mask(tmp_path, values))

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (np.zeros((4, 6), bool), "all black"),
            (np.ones((4, 6), bool), "all white"),
            (np.ones((5, 6), bool), "6 x 5 px"),
        ],
    )
    def test_empty_full_and_wrong_size_refused(self, mask: NDArray[np.bool_], words: str) -> None:
        with pytest.raises(RefbenchError, match=words):
            images.check_mask(mask, (4, 6), "m.png")

    def test_one_pixel_of_each_is_enough(self) -> None:
        mask = np.zeros((4, 6), bool)
        mask[1, 1] = True
        images.check_mask(mask, (4, 6), "m.png")
        images.check_mask(~mask, (4, 6), "m.png")


PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


@given(PIXELS)
@settings(max_examples=50, deadline=None)
def test_png_keeps_every_pixel(image: NDArray[np.uint8]) -> None:
    assert np.array_equal(images.decode_image(images.encode_png(image)), image)


@given(PIXELS)
@settings(max_examples=30, deadline=None)
def test_lossless_webp_keeps_every_pixel(image: NDArray[np.uint8]) -> None:
    assert np.array_equal(images.decode_image(images.encode_webp(image, None)), image)


def test_resize_is_pillows_antialiased_bicubic() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (37, 53, 3)).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((20, 10), Image.Resampling.BICUBIC))
    assert np.array_equal(images.resize(image, (10, 20)), wanted)
    assert images.resize(image, (37, 53)) is image


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(lambda m: m.any()), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_box_of_mask_stays_in_frame(mask: NDArray[np.bool_], margin: int) -> None:
    x, y, width, height = images.mask_box(mask, margin)
    assert mask[y : y + height, x : x + width].sum() == mask.sum()
    assert x >= 0
    assert y >= 0
    assert x + width <= mask.shape[1]
    assert y + height <= mask.shape[0]


class TestWriting:
    def test_file_in_place_of_folder_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RefbenchError, match=r"Expected to write .*another folder"):
            images.write_atomic(tmp_path / "file" / "a.png", b"x")

    def test_what_was_there_stays_when_writing_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.bin"
        images.write_atomic(path, b"old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(images.os, "fsync", full)
        with pytest.raises(RefbenchError, match="No space left"):
            images.write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
