"""Large pictures: tiles and arrays made again give the values of the whole, in memory that does not add up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refbench.metrics import Measurer, tiles
from refbench.metrics import view as view_module
from refbench.metrics.measurer import measure_one
from refbench.metrics.texture import spectrum
from refbench.metrics.texture.squeeze import tiled_distance
from tests.metrics.scenes import halfway, scene

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_large.py"


def test_large_region_has_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is a sum over tiles (squeeze) and CIELAB that is not kept in float32 differ, by rounding."""
    truth = scene(210, 224)
    output = halfway(truth)
    small = measure_one(output, truth.target, truth.reference, truth.mask, truth.draft)
    for module in (view_module, spectrum):
        monkeypatch.setattr(module, "LARGE", 1000)
    monkeypatch.setattr(tiles, "WHOLE", 1000)
    large = measure_one(output, truth.target, truth.reference, truth.mask, truth.draft)
    assert [s.metric for s in small] == [s.metric for s in large]
    assert len(small) > 18
    for one, two in zip(small, large, strict=True):
        assert two.value == pytest.approx(one.value, rel=1e-6, abs=1e-6), one.metric


def test_a_large_region_keeps_no_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scene()
    kept = view_module.View(truth, halfway(truth))
    assert kept.rgb is kept.rgb
    assert kept.known.luma is kept.known.luma
    monkeypatch.setattr(view_module, "LARGE", 1000)
    again = view_module.View(truth, halfway(truth))
    assert again.rgb is not again.rgb
    assert again.known.luma is not again.known.luma
    assert np.array_equal(again.rgb, kept.rgb)
    assert again.once("x", lambda: [1]) is not again.once("x", lambda: [1])


def test_tiled_squeeze_is_squeeze(monkeypatch: pytest.MonkeyPatch) -> None:
    from refbench.schema import Truth

    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, (417, 530, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + generator.integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    whole = Measurer(["squeeze"], threads=1).measure([Truth("", a, None, None, None)], [b])[0][0].value
    monkeypatch.setattr(tiles, "TILE", 128)
    assert len(list(tiles.tiles((417, 530)))) >= 6
    assert tiled_distance(b, a, "cpu") == pytest.approx(whole, rel=1e-5)


def test_large_frame_holds_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of one network stand together; before the next is loaded, the last is let go."""
    from refbench.metrics import measurer
    from refbench.metrics.learned import base

    for module in ("lpips", "piq"):
        pytest.importorskip(module)
    names = ["lpips_alex", "lpips_squeeze", "background_lpips"]
    held: list[int] = []
    network = base.network

    def counted(*arguments: object, **options: object) -> object:
        found = network(*arguments, **options)  # type: ignore[arg-type]
        held.append(len(base._networks))
        return found

    monkeypatch.setattr("refbench.metrics.learned.trunks.network", counted)
    truth = scene(96, 104)
    output = np.clip(halfway(truth).astype(int) + 3, 0, 255).astype(np.uint8)
    with base.random_weights(3):
        small = Measurer(names, threads=1).measure([truth], [output])[0]
        assert max(held) == 2
        base.forget_networks()
        held.clear()
        monkeypatch.setattr(measurer, "LARGE", 1000)
        large = Measurer(names, threads=1).measure([truth], [output])[0]
    assert max(held) == 1
    assert not base._networks
    assert large == small


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("which", ["embedded", "learned"])
def test_twelve_megapixels_stay_under_four_gigabytes(which: str) -> None:
    """In a process of its own, whose peak is its own; the exit status says whether it stayed under the limit."""
    done = subprocess.run([sys.executable, str(BENCH), "--set", which], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "peak memory" in done.stdout
