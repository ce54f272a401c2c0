"""Restoration: the reader of ncnn files, the networks, tiles, and what a model leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from refbench.adapters.load import load_adapter
from refbench.adapters.restoration.models import OVERLAP, RealESRGAN, RealSR, Waifu2x, enlarge
from refbench.adapters.restoration.ncnn import HALF, load_network, read_weights
from refbench.adapters.restoration.networks import RRDBNet, UpConv7
from refbench.errors import RefbenchError, UnavailableError
from refbench.schema import Inputs
from refbench.weights import entry


def random_network(made: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.data = torch.randn(parameter.shape, generator=generator) * gain / fan**0.5
    return made.eval().requires_grad_(False)


def ncnn_file(network: nn.Module, *, half: bool = False) -> bytes:
    """The weights as ncnn's own converters write them: kernels (out, in, h, w) behind a flag, biases bare."""
    parts = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kernel = module.weight.numpy()
            kernel = kernel.transpose(1, 0, 2, 3) if isinstance(module, nn.ConvTranspose2d) else kernel
            data = np.ascontiguousarray(kernel).astype("<f2" if half else "<f4").tobytes()
            flag = (HALF if half else 0).to_bytes(4, "little")
            parts += [flag, data + bytes(-len(data) % 4), module.bias.numpy().astype("<f4").tobytes()]
        elif isinstance(module, nn.PReLU):
            parts.append(module.weight.numpy().astype("<f4").tobytes())
    return b"".join(parts)


SMALL = (RRDBNet(blocks=1, features=6, growth=3), UpConv7())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("network", SMALL, ids=lambda n: type(n).__name__)
def test_ncnn_file_gives_every_weight_back(network: nn.Module, half: bool) -> None:
    random_network(network)
    state = read_weights(network, ncnn_file(network, half=half))
    assert set(state) == set(network.state_dict())
    for name, value in network.state_dict().items():
        # half precision keeps 11 bits of a kernel; biases are always single
        tolerance = 2**-11 * float(value.abs().max()) if half and name.endswith("weight") else 0
        assert np.abs(state[name] - value.numpy()).max() <= tolerance


def test_file_of_another_network_is_refused(tmp_path: Path) -> None:
    data = ncnn_file(random_network(UpConv7()))
    for broken, match in (
        (data[:-4], "truncated"),
        (data + b"\0" * 4, "of another network"),
        ((0x000D4B38).to_bytes(4, "little") + data[4:], "single or half precision"),
        (ncnn_file(random_network(RRDBNet(1, 6, 3))), "network"),
    ):
        with pytest.raises(RefbenchError, match=match):
            read_weights(UpConv7(), broken)
    with pytest.raises(RefbenchError, match="No such file"):
        load_network(UpConv7(), tmp_path / "none.bin")


def test_ncnn_computes_the_same(tmp_path: Path) -> None:
    """A second implementation; with the published weights the largest difference was 7e-6 (docs/running-models.md)."""
    ncnn = pytest.importorskip("ncnn")
    network = random_network(UpConv7(), gain=1.4)
    lines, before = ["7767517", "8 8", "Input in 0 1 b0"], 3
    for n, width in enumerate((16, 32, 64, 128, 128, 256)):
        lines.append(f"Convolution c{n} 1 1 b{n} b{n + 1} 0={width} 1=3 5=1 6={before * width * 9} 9=2 -23310=1,0.1")
        before = width
    lines.append("Deconvolution up 1 1 b6 out 0=3 1=4 3=2 4=3 5=1 6=12288")
    (tmp_path / "m.param").write_text("\n".join(lines) + "\n")
    (tmp_path / "m.bin").write_bytes(ncnn_file(network))
    image = np.random.default_rng(0).random((3, 30, 37), np.float32)
    other = ncnn.Net()
    for option in dir(other.opt):
        if option.startswith("use"):
            setattr(other.opt, option, False)  # its faster ways give NaN or garbage on these networks
    other.load_param(str(tmp_path / "m.param"))
    other.load_model(str(tmp_path / "m.bin"))
    extractor, given = other.create_extractor(), ncnn.Mat(image)
    extractor.input("b0", given)
    _, out = extractor.extract("out")
    ours = network(torch.from_numpy(image)[None])[0].numpy()
    assert np.abs(np.array(out) - ours).max() < 1e-4 * np.abs(ours).max()


@pytest.mark.parametrize(
    ("card", "network"), [(RealESRGAN.card, RRDBNet), (RealSR.card, RRDBNet), (Waifu2x.card, UpConv7)]
)
def test_the_published_file_fits_the_network(card: object, network: type[nn.Module]) -> None:
    """The catalogue's size of a file is that of the network's kernels in half precision and biases in single."""
    made = network()
    assert card.parameters == sum(p.numel() for p in made.parameters())  # type: ignore[attr-defined]
    expected = 0
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            expected += 4 + (2 * module.weight.numel() + 3) // 4 * 4 + 4 * module.bias.numel()
    assert entry(card.name).size == expected  # type: ignore[attr-defined]


def test_waifu2x_in_tiles_is_waifu2x_in_one_pass() -> None:
    network = random_network(UpConv7(), gain=1.4)
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
    whole = enlarge(network, image, tile=999)
    assert whole.shape == (90, 140, 3)
    tiled = enlarge(network, image, tile=16)
    assert np.abs(whole.astype(int) - tiled).max() <= 1  # sums in another order, rounded


def test_tile_sees_enough_of_its_neighbours() -> None:
    """With a receptive field inside the overlap, tiles change nothing; a dot far away then changes nothing either."""
    network = random_network(RRDBNet(blocks=1, features=6, growth=3), gain=0.7)
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    whole, tiled = enlarge(network, image, tile=999), enlarge(network, image, tile=40)
    assert whole.shape == (320, 360, 3)
    assert whole.std() > 5
    reach = 1 + 3 * 5 + 1 + 3  # one block: its 15 convolutions, those around it, and those after enlarging
    assert reach < OVERLAP
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.fixture
def inputs() -> Inputs:
    rng = np.random.default_rng(2)
    draft = rng.integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[0:30, 50:80] = True  # at the frame
    return Inputs("s", draft, draft[:20, :20].copy(), mask, "Restore it", None, 0)


def test_only_the_masked_draft_counts(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(ncnn_file(random_network(UpConv7(), gain=1.4)))
    adapter = load_adapter("waifu2x", weights=str(tmp_path / "w.bin"), margin=5)
    out = adapter.refine(inputs).image
    assert out is not None
    assert out.shape == inputs.draft.shape
    assert np.array_equal(out[~inputs.mask], inputs.draft[~inputs.mask])
    assert np.abs(out.astype(int) - inputs.draft)[10:20, 60:70].mean() > 5
    blind = Inputs(inputs.id, inputs.draft, np.zeros((9, 9, 3), np.uint8), inputs.mask, "", None, 7)
    assert np.array_equal(adapter.refine(blind).image, out)


def test_missing_and_wrong_weights_told_with_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
    assert "refbench weights fetch waifu2x" in (Waifu2x.ready() or "")
    with pytest.raises(UnavailableError, match="refbench weights fetch waifu2x"):
        load_adapter("waifu2x")
    place = tmp_path / "waifu2x" / entry("waifu2x").source.file  # type: ignore[union-attr]
    place.parent.mkdir()
    place.write_bytes(ncnn_file(random_network(UpConv7()), half=True))
    assert Waifu2x.ready() is None
    with pytest.raises(RefbenchError, match="waifu2x"):
        load_adapter("waifu2x")


def test_wrong_options_are_told() -> None:
    with pytest.raises(RefbenchError, match="tiles of at least 16 px"):
        Waifu2x(tile=4)
