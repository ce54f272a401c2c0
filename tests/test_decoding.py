"""One path from every depth, colour model, profile, key and alpha to sRGB; damage in metadata is no matter."""

from __future__ import annotations

import importlib.util
import io
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from refbench import images
from refbench.decoding import metadata, shaper
from refbench.errors import RefbenchError

FUZZ = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz_images.py"
RNG = np.random.default_rng(7)
DEEP = RNG.integers(0, 65536, (64, 96, 4)).astype(np.uint16)
GREY = np.arange(256, dtype=np.uint16).reshape(8, 32, 1)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_images", FUZZ)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_images"] = module
    spec.loader.exec_module(module)
    return module


def test_generated_pictures_keep_the_rules(fuzz: ModuleType) -> None:
    for number in range(300):
        drawn = fuzz.draw(1, number)
        result, detail = fuzz.verdict(drawn)
        assert not result.startswith("WRONG"), (result, detail, drawn.facts)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def rounded(values: NDArray[np.uint16]) -> NDArray[np.float64]:
    """16 bits at the nearest of 256 levels."""
    return np.rint(values / 257.0)


def over_white(colour: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.float64]:
    share = alpha[..., None] / 65535.0
    return 255 * (colour / 65535.0 * share + 1 - share)


class TestSixteenBits:
    def test_colour_is_rounded_in_every_container(self, fuzz: ModuleType) -> None:
        rgb = np.ascontiguousarray(DEEP[..., :3])
        jp2 = cv2.imencode(".jp2", rgb[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
        ppm = b"P6 96 64 65535\n" + rgb.astype(">u2").tobytes()
        lzw = cv2.imencode(".tiff", rgb[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
        files = [fuzz.png(rgb, 16, 2, interlaced, b"") for interlaced in (False, True)] + [jp2, ppm, lzw]
        files += [tiff(rgb, photometric="rgb", byteorder=order, compression=packed)
                  for order in "<>" for packed in (None, "zlib")]  # fmt: skip
        for data in files:
            assert np.array_equal(images.decode_image(data), rounded(rgb))

    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha_is_composited_from_all_bits(self, fuzz: ModuleType, channels: int) -> None:
        picture = np.ascontiguousarray(DEEP[..., :channels])
        wanted = over_white(picture[..., :-1], picture[..., -1])
        photometric: Any = "rgb" if channels == 4 else "minisblack"
        for data in (
            fuzz.png(picture, 16, 6 if channels == 4 else 4, False, b""),
            tiff(picture, photometric=photometric, extrasamples=["unassalpha"]),
        ):
            assert np.abs(images.decode_image(data) - wanted).max() <= 1  # two roundings of half a level

    def test_associated_alpha_is_not_applied_twice(self) -> None:
        alpha = DEEP[..., 3:]
        stored = np.dstack([np.minimum(DEEP[..., :3], alpha), alpha])
        found = images.decode_image(tiff(stored, photometric="rgb", extrasamples=["assocalpha"]))
        assert np.abs(found - 255 * (stored[..., :3] / 65535.0 + 1 - alpha / 65535.0)).max() <= 1

    def test_separate_planes_are_put_together(self) -> None:
        rgb = np.ascontiguousarray(np.moveaxis(DEEP[..., :3], 2, 0))
        for layout in ({}, {"tile": (16, 16)}, {"compression": "zlib"}):
            data = tiff(rgb, photometric="rgb", planarconfig="separate", **layout)
            assert np.array_equal(images.decode_image(data), rounded(DEEP[..., :3]))

    def test_white_is_zero_is_turned(self) -> None:
        for order in "<>":
            data = tiff(65535 - DEEP[..., 0], photometric="miniswhite", byteorder=order)
            assert np.array_equal(images.decode_image(data)[..., 1], rounded(DEEP[..., 0]))

    def test_white_of_12_bits_is_4095(self) -> None:
        row = np.array([0, 1000, 3000, 4095])
        packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in row.reshape(-1, 2).tolist())
        fields = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 6)]
        table = b"".join(np.array([t, 3], "<u2").tobytes() + np.array([1, v], "<u4").tobytes() for t, v in fields)
        data = b"II*\0\x08\0\0\0" + bytes([len(fields), 0]) + table + b"\0\0\0\0" + packed
        assert images.decode_image(data)[0, :, 0].tolist() == np.rint(row * 255 / 4095).tolist()

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_floating_colour_in_0_to_1_scaled(self, kind: Any) -> None:
        values = RNG.random((8, 9, 3)).astype(kind)
        values[0, 0] = 1
        assert np.abs(images.decode_image(tiff(values, photometric="rgb")) - 255 * values).max() <= 0.51

    def test_the_printed_16_bits_are_rounded(self) -> None:
        ink = DEEP / 65535.0
        found = images.decode_image(tiff(DEEP, photometric="separated"))
        assert np.abs(found - 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])).max() <= 0.51

    def test_lab_is_what_little_cms_makes_of_it(self) -> None:
        lab = np.stack([np.full((16, 16), 140), *np.mgrid[118:134:16j, 118:134:16j]], axis=-1).astype(np.uint8)
        stored = lab ^ np.array([0, 128, 128], np.uint8)
        wanted = ImageCms.profileToProfile(
            Image.frombytes("LAB", (16, 16), stored.tobytes()), ImageCms.createProfile("LAB"),
            ImageCms.createProfile("sRGB"), outputMode="RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.NOOPTIMIZE,
        )  # fmt: skip
        found = images.decode_image(tiff(stored, photometric="cielab"))
        assert np.abs(found.astype(int) - np.asarray(wanted)).max() <= 1


class TestKeys:
    @pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
    def test_key_is_transparent_at_every_depth(self, fuzz: ModuleType, depth: int, colour: int) -> None:
        values = np.zeros((2, 2, 3 if colour else 1), np.uint16)
        values[0] = 1
        key = fuzz.chunk(b"tRNS", values[1, 0].astype(">u2").tobytes())
        found = images.decode_image(fuzz.png(values, depth, colour, False, key))
        assert (found[1] == 255).all()
        assert (found[0] == np.rint(255 / (2**depth - 1))).all()

    def test_key_compared_in_all_16_bits(self, fuzz: ModuleType) -> None:
        values = np.array([[[5, 6, 7], [5, 6, 8]]], np.uint16)
        key = fuzz.chunk(b"tRNS", values[0, 0].astype(">u2").tobytes())
        assert images.decode_image(fuzz.png(values, 16, 2, False, key))[0, :, 0].tolist() == [255, 0]


class TestProfiles:
    def png(self, fuzz: ModuleType, values: NDArray[np.uint16], depth: int, colour: int, profile: str) -> bytes:
        described = fuzz.icc(profile, RNG)
        return fuzz.png(values, depth, colour, False, fuzz.chunk(b"iCCP", b"a\0\0" + zlib.compress(described)))

    def test_a_linear_grey_is_bent_exactly(self, fuzz: ModuleType) -> None:
        found = images.decode_image(self.png(fuzz, GREY, 8, 0, "grey-linear"))[..., 0].ravel()
        wanted = 255 * fuzz.encode_srgb(np.arange(256) / 255)
        assert found[1] == 13
        assert np.abs(found - wanted).max() <= 0.51
        rgb = self.png(fuzz, np.repeat(GREY, 3, axis=2), 8, 2, "linear")
        assert np.abs(images.decode_image(rgb)[..., 0].ravel().astype(int) - found).max() <= 1

    @pytest.mark.parametrize("profile", ["grey", "grey-linear", "swapped"])
    def test_opaque_alpha_and_depth_change_no_grey(self, fuzz: ModuleType, profile: str) -> None:
        plain = images.decode_image(self.png(fuzz, GREY, 8, 0, profile))
        opaque = np.dstack([GREY, np.full_like(GREY, 255)])
        assert np.array_equal(images.decode_image(self.png(fuzz, opaque, 8, 4, profile)), plain)
        assert np.array_equal(images.decode_image(self.png(fuzz, opaque * 257, 16, 4, profile)), plain)
        assert np.array_equal(images.decode_image(self.png(fuzz, GREY * 257, 16, 0, profile)), plain)

    @pytest.mark.parametrize("profile", ["p3", "linear", "swapped"])
    def test_16_bits_are_not_cut_before_profile(self, fuzz: ModuleType, profile: str) -> None:
        values = RNG.integers(0, 65536, (40, 40, 3)).astype(np.uint16)
        values[:20] //= 32  # under 8 of 256 levels
        found = images.decode_image(self.png(fuzz, values, 16, 2, profile))
        assert np.abs(found - np.rint(255 * fuzz.shown("rgb", values / 65535, profile))).max() <= 1

    @pytest.mark.parametrize(
        ("kind", "numbers", "wanted"),
        [
            (0, [2.0], lambda x: x**2),
            (1, [2.0, 1.25, -0.25], lambda x: np.where(x >= 0.2, (1.25 * x - 0.25) ** 2, 0)),
            (2, [2.0, 1.0, -0.25, 0.125], lambda x: np.where(x >= 0.25, (x - 0.25) ** 2 + 0.125, 0.125)),
            (3, [3.0, 0.5, 0.5, 0.25, 0.125], lambda x: np.where(x >= 0.125, (0.5 * x + 0.5) ** 3, 0.25 * x)),
            (4, [2.0, 0.5, 0.25, 0.5, 0.5, 0.125, 0.0625],
             lambda x: np.where(x >= 0.5, (0.5 * x + 0.25) ** 2 + 0.125, 0.5 * x + 0.0625)),
        ],
    )  # fmt: skip
    def test_parametric_curves_are_the_standards(self, kind: int, numbers: list[float], wanted: Any) -> None:
        curve = b"para\0\0\0\0" + bytes([0, kind, 0, 0]) + np.array(np.array(numbers) * 65536, ">i4").tobytes()
        profile = bytes(128) + (3).to_bytes(4, "big")
        profile += b"".join(name + np.array([168, len(curve)], ">u4").tobytes() for name in (b"rTRC", b"gTRC", b"bTRC"))
        for found in shaper.curves(profile + curve):
            assert np.allclose(found, wanted(np.arange(65536) / 65535), atol=1e-12)

    def test_a_sampled_curve_is_interpolated(self) -> None:
        curve = b"curv\0\0\0\0" + (3).to_bytes(4, "big") + np.array([0, 16384, 65535], ">u2").tobytes()
        profile = bytes(128) + (3).to_bytes(4, "big")
        profile += b"".join(name + np.array([168, len(curve)], ">u4").tobytes() for name in (b"rTRC", b"gTRC", b"bTRC"))
        x = np.arange(65536) / 65535
        wanted = np.where(x < 0.5, x * 2 * 16384 / 65535, 16384 / 65535 + (2 * x - 1) * (1 - 16384 / 65535))
        assert np.allclose(shaper.curves(profile + curve)[1], wanted, atol=1e-9)

    def test_profile_of_megabyte_is_used(self, fuzz: ModuleType) -> None:
        large, small = (images.decode_image(self.png(fuzz, GREY, 8, 0, f"swapped{end}")) for end in ("+", ""))
        assert np.array_equal(large, small)
        assert not np.array_equal(small[..., 0], GREY[..., 0])

    def test_profile_over_64_mb_is_named(self, fuzz: ModuleType) -> None:
        bomb = fuzz.chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(metadata.MAX_PROFILE + 9)))
        with pytest.raises(RefbenchError, match="colour profile of at most 64 MB"):
            images.decode_image(fuzz.png(GREY, 8, 0, False, bomb))

    def test_jpeg_2000_has_its_profile_applied(self, fuzz: ModuleType) -> None:
        plain = encoded(Image.fromarray(np.full((32, 32, 3), (200, 100, 50), np.uint8)), "JPEG2000", irreversible=False)
        profile = fuzz.icc("swapped", RNG)
        box = plain.index(b"colr") - 4
        length = int.from_bytes(plain[box : box + 4], "big")
        made = (11 + len(profile)).to_bytes(4, "big") + b"colr\2\0\0" + profile
        head = plain.index(b"jp2h") - 4
        grown = int.from_bytes(plain[head : head + 4], "big") - length + len(made)
        data = plain[:head] + grown.to_bytes(4, "big") + plain[head + 4 : box] + made + plain[box + length :]
        wanted = 255 * fuzz.shown("rgb", np.array([[[200, 100, 50]]]) / 255, "swapped")
        assert np.abs(images.decode_image(data) - wanted).max() <= 1


class TestDamagedMetadata:
    PICTURE = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
    @pytest.mark.parametrize(
        "exif", [b"", b"MM", b"\xff\xfe*\0\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"ZZ\0*\0\0\0\x08\0\x01"]
    )
    def test_damaged_exif_is_left_out(self, kind: str, exif: bytes) -> None:
        options = {} if kind == "JPEG" else {"lossless": True, "exact": True}
        data = encoded(Image.fromarray(self.PICTURE), kind, exif=b"Exif\0\0" + exif, **options)
        assert np.array_equal(images.decode_image(data), np.asarray(Image.open(io.BytesIO(data))))

    @pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME"])
    @pytest.mark.parametrize("content", [b"", b"a", b"a\0\x09bc", b"a\0\0" + zlib.compress(bytes(3_000_000))])
    def test_comments_and_like_are_left_out(self, fuzz: ModuleType, name: bytes, content: bytes) -> None:
        for extra in (fuzz.chunk(name, content), fuzz.chunk(name, content)[:-4] + b"\0\0\0\0"):
            data = fuzz.png(self.PICTURE.astype(np.uint16), 8, 2, False, extra)
            assert np.array_equal(images.decode_image(data), self.PICTURE)

    @pytest.mark.parametrize("name", [b"IHDR", b"iCCP", b"PLTE", b"tRNS", b"IDAT"])
    def test_wrong_check_sum_of_pixels_told(self, fuzz: ModuleType, name: bytes) -> None:
        before = fuzz.chunk(b"iCCP", b"a\0\0") + fuzz.chunk(b"PLTE", bytes(6)) + fuzz.chunk(b"tRNS", b"\1")
        data = bytearray(fuzz.png(np.zeros((4, 4, 1), np.uint16), 1, 3, False, before))
        at = data.index(name)
        data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 1
        with pytest.raises(RefbenchError, match=f"{name.decode()} chunk does not fit its check sum"):
            images.decode_image(bytes(data))


class TestMasks:
    MARKED = np.zeros((8, 8), np.uint8)
    MARKED[2:5, 2:6] = 255

    def rgba(self, colour: int, alpha: NDArray[np.uint8]) -> bytes:
        return encoded(Image.fromarray(np.dstack([np.full((8, 8, 3), colour, np.uint8), alpha])))

    @pytest.mark.parametrize("colour", [0, 255])
    def test_strokes_on_transparent_layer_are_refused(self, colour: int) -> None:
        with pytest.raises(RefbenchError, match=r"without transparency .* 81.2% .* flattened") as caught:
            images.decode_mask(self.rgba(colour, self.MARKED), "m.png")
        assert "m.png" in str(caught.value)

    def test_hardly_transparent_pixel_is_refused_too(self) -> None:
        alpha = np.full((8, 8), 255, np.uint8)
        alpha[0, 0] = 254
        with pytest.raises(RefbenchError, match="without transparency"):
            images.decode_mask(self.rgba(255, alpha))

    def test_an_opaque_alpha_channel_is_fine(self) -> None:
        stored = np.dstack([self.MARKED] * 3 + [np.full((8, 8), 255, np.uint8)])
        assert np.array_equal(images.decode_mask(encoded(Image.fromarray(stored))), self.MARKED == 255)

    def test_transparent_key_or_palette_is_refused(self) -> None:
        with pytest.raises(RefbenchError, match="without transparency"):
            images.decode_mask(encoded(Image.fromarray(self.MARKED), transparency=0))
        with pytest.raises(RefbenchError, match="without transparency"):
            images.decode_mask(encoded(Image.fromarray(self.MARKED).convert("P"), "GIF", transparency=0))
        assert images.decode_mask(encoded(Image.fromarray(self.MARKED), transparency=7)).any()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_picture_in_memory_of_any_mode(mode: str) -> None:
    white = Image.new("L", (4, 3), 255)
    if mode == "I":
        white = Image.fromarray(np.full((3, 4), 65535, np.int32))
    elif mode == "F":
        white = Image.fromarray(np.ones((3, 4), np.float32))
    elif mode in ("La", "RGBa"):
        white = white.convert(mode.upper()).convert(mode)
    else:
        white = (white if mode in ("1", "LA", "P", "PA") else white.convert("RGB")).convert(mode)
    found = images.from_pillow(white, "the answer")
    assert found.shape == (3, 4, 3)
    assert (found == 255).all()


class TestOutputs:
    def test_alpha_kept_and_what_did_not_change(self) -> None:
        original = RNG.integers(0, 256, (20, 20, 4)).astype(np.uint8)
        refined = images.over_white(original)
        assert np.array_equal(images.with_alpha_of(original, refined), original)
        original[5:9, 5:9, 3] = 200
        refined = images.over_white(original)
        refined[5:9, 5:9] = np.maximum(refined[5:9, 5:9], 60) - 1  # white shines through with 55
        found = images.with_alpha_of(original, refined)
        assert np.array_equal(found[..., 3], original[..., 3])
        assert np.abs(images.over_white(found).astype(int) - refined).max() <= 1
        outside = np.ones((20, 20), bool)
        outside[5:9, 5:9] = False
        assert np.array_equal(found[outside], original[outside])

    def test_an_opaque_picture_gets_no_alpha(self) -> None:
        original = np.dstack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8)])
        assert images.with_alpha_of(original, original[..., :3]).shape == (4, 4, 3)

    @pytest.mark.parametrize(
        ("name", "kind"), [("a.png", "PNG"), ("a.WEBP", "WEBP"), ("a.tif", "TIFF"), ("a.tiff", "TIFF")]
    )
    @pytest.mark.parametrize("channels", [3, 4])
    def test_the_name_says_the_kind(self, tmp_path: Path, name: str, kind: str, channels: int) -> None:
        picture = RNG.integers(0, 256, (6, 5, channels)).astype(np.uint8)
        images.save_image(tmp_path / name, picture)
        with Image.open(tmp_path / name) as found:
            assert found.format == kind
            assert np.array_equal(np.asarray(found), picture)

    @pytest.mark.parametrize(
        ("name", "words"),
        [("a.jpg", "ends in .jpg"), ("a", "has no ending"), (".", "is a folder"), ("file/a.png", "cannot be written")],
    )
    def test_what_cannot_be_written_is_told(self, tmp_path: Path, name: str, words: str) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RefbenchError, match=words):
            images.check_output(tmp_path / name, "--out")

    def test_webp_ends_at_16383_px(self, tmp_path: Path) -> None:
        with pytest.raises(RefbenchError, match="16383 px a side"):
            images.check_output(tmp_path / "a.webp", "--out", (10, 16384))
        assert list(tmp_path.iterdir()) == []
