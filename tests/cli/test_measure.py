"""One image through the command line: the documented JSON, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import make

from refbench.images import save_png
from refbench.metrics.contract import card_hash
from refbench.metrics.registry import METRICS, make_metrics
from refbench.schema import ORDER

from .conftest import Cli

SAMPLE, TARGET = make("logo-refine", 0)


@pytest.fixture
def files(here: Path) -> dict[str, Path]:
    """The parts of one sample as files, and the draft as the output."""
    parts = {
        "output": SAMPLE.draft,
        "target": TARGET,
        "draft": SAMPLE.draft,
        "reference": SAMPLE.reference,
        "mask": SAMPLE.mask,
    }
    for name, array in parts.items():
        save_png(here / f"{name}.png", array)
    return {name: Path(f"{name}.png") for name in parts}


def arguments(files: dict[str, Path], *names: str) -> list[str]:
    return [str(files["output"]), *(part for name in names for part in (f"--{name}", str(files[name])))]


class TestJson:
    def test_it_is_exactly_the_documented_one(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target", "mask"), "--metrics", "mse,psnr,seam", "--json")
        assert done.code == 0, done.err
        data = json.loads(done.out)
        assert list(data) == ["metrics"]
        assert [set(entry) for entry in data["metrics"]] == [
            {"name", "axis", "region", "value", "higher_is_better", "card"}
        ] * 3
        found = {entry["name"]: entry for entry in data["metrics"]}
        error = (SAMPLE.draft.astype(float) - TARGET)[SAMPLE.mask] / 255
        mse = float((error**2).mean())
        assert found["mse"]["value"] == pytest.approx(mse, abs=1e-9)  # float64 sums in another order
        assert found["psnr"]["value"] == pytest.approx(-10 * math.log10(mse), abs=1e-6)
        cards = {name: metric.card_once for name, metric in make_metrics(["mse", "psnr", "seam"]).items()}
        for name, card in cards.items():
            assert found[name]["axis"] == card.axis
            assert found[name]["card"] == card_hash(card)
            assert found[name]["higher_is_better"] is card.higher_is_better
        assert found["mse"]["region"] == "inside"

    def test_without_mask_region_is_full(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target"), "--metrics", "mse", "--json")
        (entry,) = json.loads(done.out)["metrics"]
        assert entry["region"] == "full"
        assert entry["value"] == pytest.approx(float((((SAMPLE.draft.astype(float) - TARGET) / 255) ** 2).mean()))

    def test_infinite_values_are_null(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", files["target"], "--target", files["target"], "--metrics", "psnr,mse", "--json")
        values = {entry["name"]: entry["value"] for entry in json.loads(done.out)["metrics"]}
        assert values == {"psnr": None, "mse": 0.0}

    def test_all_that_is_given_measures_every_axis(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target", "mask", "reference", "draft"), "--json")
        assert done.code == 0, done.err
        entries = json.loads(done.out)["metrics"]
        assert {entry["axis"] for entry in entries} == set(ORDER)
        assert all(entry["value"] is None or math.isfinite(entry["value"]) for entry in entries)

    def test_the_table_shows_the_same(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target", "mask", "reference", "draft"))
        assert done.code == 0
        lines = [line.split() for line in done.out.splitlines()]
        assert ["mse", "pixel", "inside"] in [cells[:3] for cells in lines]
        assert {"background_exact", "sharpness_change"} <= {cells[0] for cells in lines if cells}
        assert max(map(len, done.out.splitlines())) <= 80

    def test_folder_without_run_omits_out(self, cli: Cli, here: Path) -> None:
        (here / "pictures").mkdir()
        (here / "pictures" / "a.png").write_bytes(b"a")
        for verb in (
            ["measure"],
            ["report", "--out", "page"],
            ["compare", "pictures"],
            ["submit", "--to", "p", "--by", "b"],
        ):
            done = cli(verb[0], "pictures", *verb[1:])
            assert done.code == 2
            if verb[0] != "compare":
                assert done.sentence.startswith(
                    "Expected a run folder (with manifest.json) at pictures, but there is none;"
                )

    @pytest.mark.parametrize("verb", [["refine", "d.png", "-r", "r.png", "--mask", "m.png", "--out", "o.png"],
                                      ["eval", "--model", "identity"], ["compare", "a", "b"], ["train", "sft"],
                                      ["tasks", "generate", "--n", "1", "--out", "o"]])  # fmt: skip
    @pytest.mark.parametrize("seed", [-1, 2**63])
    def test_impossible_seed_is_refused(self, cli: Cli, verb: list[str], seed: int) -> None:
        done = cli(*verb, "--seed", seed)
        assert (done.code, done.sentence) == (2, f"Expected a seed of 0 or more, and below 2^63, but {seed} came.")

    @pytest.mark.parametrize("option", ["--suite", "--protocol", "--judge"])
    def test_options_for_runs_are_refused(self, cli: Cli, files: dict[str, Path], option: str) -> None:
        given = {"--suite": "mini", "--protocol": "refineeval", "--judge": "http://127.0.0.1:9/v1"}[option]
        done = cli("measure", *arguments(files, "target"), option, given, "--metrics", "mse")
        assert done.code == 2
        assert done.sentence == f"Expected {option} with a run, but output.png is one image; leave {option} out."


def write(kind: str, path: Path) -> None:
    """A file that cannot be measured."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, TARGET.shape).astype(np.uint8))
    if kind == "truncated":
        noise.save(path, "PNG")
        path.write_bytes(path.read_bytes()[:4000])
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is not a picture.\n")
    elif kind == "animated":
        noise.save(path, "GIF", save_all=True, append_images=[noise.rotate(90)])
    elif kind == "huge":
        import struct
        import zlib

        header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
            + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        )  # fmt: skip
    elif kind == "another size":
        noise.resize((50, 40)).save(path, "PNG")
    elif kind == "empty mask":
        save_png(path, np.zeros(TARGET.shape[:2], bool))
    elif kind == "full mask":
        save_png(path, np.ones(TARGET.shape[:2], bool))
    elif kind == "grey mask":
        Image.fromarray(np.full(TARGET.shape[:2], 128, np.uint8)).save(path)
    else:
        assert kind == "missing"


BAD_PICTURES = {
    "missing": "no such file",
    "truncated": "truncated",
    "zero bytes": "0 bytes",
    "text": "none of these",
    "animated": "animated",
    "huge": "megapixels",
}


class TestBadInput:
    def assert_refused(self, done: tuple[int, str, str], *words: str) -> None:
        code, out, err = done
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert err.startswith("Error: Expected")
        for word in words:
            assert word in err

    @pytest.mark.parametrize("part", ["output", "target", "reference", "draft", "mask"])
    @pytest.mark.parametrize("kind", BAD_PICTURES)
    def test_a_bad_picture(self, cli: Cli, files: dict[str, Path], part: str, kind: str) -> None:
        bad = Path("bad.png")
        write(kind, bad)
        given = {**files, part: bad}
        done = cli("measure", *arguments(given, "target", "reference", "draft", "mask"), "--json")
        self.assert_refused(done, "bad.png", BAD_PICTURES[kind])

    @pytest.mark.parametrize("part", ["output", "draft", "mask"])
    def test_sizes_that_differ(self, cli: Cli, files: dict[str, Path], part: str) -> None:
        if part == "mask":
            save_png("bad.png", np.eye(40, 50, dtype=bool))
        else:
            write("another size", Path("bad.png"))
        done = cli("measure", *arguments({**files, part: Path("bad.png")}, "target", "draft", "mask"))
        self.assert_refused(done, "bad.png", "50 x 40 px", "112 x 96 px")

    @pytest.mark.parametrize(
        ("kind", "words"), [("empty mask", "all black"), ("full mask", "all white"), ("grey mask", "binary mask")]
    )
    def test_mask_of_nothing_all_or_half(self, cli: Cli, files: dict[str, Path], kind: str, words: str) -> None:
        write(kind, Path("bad.png"))
        self.assert_refused(cli("measure", *arguments({**files, "mask": Path("bad.png")}, "target", "mask")), words)

    def test_unknown_metric_has_its_nearest_names(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target"), "--metrics", "mse,sim")
        assert done.code == 2
        assert "Unknown metric 'sim': did you mean ssim" in done.sentence
        assert "sim" not in METRICS

    def test_metric_that_needs_more_than_is_given(self, cli: Cli, files: dict[str, Path]) -> None:
        done = cli("measure", *arguments(files, "target"), "--metrics", "embed")
        assert (done.code, done.out) == (2, "")
        assert "reference" in done.sentence

    def test_one_image_without_a_target(self, cli: Cli, files: dict[str, Path]) -> None:
        self.assert_refused(cli("measure", files["output"]), "--target")

    def test_no_metric_at_all(self, cli: Cli, files: dict[str, Path]) -> None:
        self.assert_refused(cli("measure", *arguments(files, "target"), "--metrics", ","), "names")


def test_sixteen_bits_and_palette_measure_alike(cli: Cli, files: dict[str, Path]) -> None:
    flat = np.full((64, 64, 3), (10, 200, 90), np.uint8)
    save_png("flat.png", flat)
    Image.fromarray(flat).quantize(4).save("palette.png")
    alpha = np.dstack([flat, np.full(flat.shape[:2], 255, np.uint8)])
    Image.fromarray(alpha).save("alpha.png")
    for name in ("palette.png", "alpha.png"):
        done = cli("measure", name, "--target", "flat.png", "--metrics", "mse", "--json")
        assert json.loads(done.out)["metrics"][0]["value"] == 0.0
