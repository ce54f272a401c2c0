"""Learned metrics: the same numbers as their original libraries, single or batched, found on disk or made anew.

Networks have their real sizes and seeded random weights (the real ones are downloads: `make test-weights` repeats
these comparisons with them); the largest ones are left to that and to benchmarks/bench_learned.py, DINOv2-L and
CLIP-L/14 differing from the small ones only in their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refbench.errors import RefbenchError, UnavailableError
from refbench.metrics import FeatureStore, Measurer, tiles
from refbench.metrics.learned import base, embedders, similarity, trunks
from refbench.metrics.learned.base import random_weights
from refbench.metrics.registry import METRICS, default_metrics, expanded, is_learned, make_metrics
from refbench.weights import CATALOGUE
from tests.metrics.learned_reference import PLAIN
from tests.metrics.scenes import halfway, scene

SMALL = ["lpips_alex", "lpips_vgg", "lpips_squeeze", "vgg_distance", "dists", "dreamsim_single", "dinov2_small"]
EXACT = 2e-6
"""Largest difference to the library in single precision: other batch shapes and the order of sums, and for LPIPS the
target's features in half precision."""


@pytest.fixture(scope="module", autouse=True)
def _random() -> Iterator[None]:
    for module in ("lpips", "piq", "open_clip", "dreamsim", "transformers"):
        pytest.importorskip(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with random_weights(3):
        yield
    torch.set_num_threads(threads)


def values(name: str, truths: list, outputs: list, **options: object) -> list[float]:  # type: ignore[type-arg]
    found = Measurer([name], threads=1, **options).measure(truths, outputs)  # type: ignore[arg-type]
    return [score.value for scores in found for score in scores]


@pytest.mark.parametrize("name", [*SMALL, "background_lpips"])
def test_the_value_is_the_original_librarys(name: str) -> None:
    truth = scene(128, 136)
    output = halfway(truth)
    if name == "background_lpips":
        output = np.clip(output.astype(int) + np.arange(output.shape[1])[None, :, None] % 7, 0, 255).astype(np.uint8)
    with torch.inference_mode():
        expected = PLAIN[name](truth, output)
    assert values(name, [truth], [output]) == [pytest.approx(expected, abs=EXACT, rel=1e-5)]
    assert expected != pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_batch_equals_one_at_time(name: str) -> None:
    """As a GPU measures: all views in one call, of two sizes; 1e-5 is the promise."""
    from refbench.metrics.view import View

    truths = [scene(96, 104), scene(136, 104), scene(96, 104)]
    outputs = [halfway(truths[0]), halfway(truths[1], 0.2), halfway(truths[2], 0.8)]
    metric = make_metrics([name])[name]
    together = metric.values([View(t, o) for t, o in zip(truths, outputs, strict=True)])
    alone = [metric.values([View(t, o)])[0] for t, o in zip(truths, outputs, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5, rel=1e-5)
    assert len({round(float(value), 9) for value in alone if value is not None}) == 3


@pytest.mark.parametrize("name", ["lpips_alex", "vgg_distance", "dists", "dinov2_small"])
def test_perfect_target_costs_no_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scene()
    assert truth.draft is not None
    card = make_metrics([name])[name].card()
    perfect, draft = values(name, [truth, truth], [truth.target, truth.draft])
    if card.axis == "texture_fidelity":
        assert perfect == 0.0
        assert draft > 1e-6
    else:
        assert -1.0 <= draft <= 1.0


def test_truths_are_passed_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = replace(scene(), key="k" * 16)
    passed: list[int] = []
    forward = embedders.DINOv2.forward

    def counted(self: embedders.DINOv2, batch: torch.Tensor) -> torch.Tensor:
        passed.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(embedders.DINOv2, "forward", counted)
    other = similarity._define("dinov2_small_target", "dinov2-small", "target")
    monkeypatch.setitem(METRICS._builtin, "dinov2_small_target", "refbench.metrics.learned.similarity:Other")
    monkeypatch.setattr(similarity, "Other", other, raising=False)
    names = ["dinov2_small", "dinov2_small_target"]
    first = Measurer(names, features=FeatureStore(tmp_path), threads=1).measure([truth], [halfway(truth)])
    assert sum(passed) == 3, "output, reference, target"
    passed.clear()
    again = Measurer(names, features=FeatureStore(tmp_path), threads=1).measure([truth], [halfway(truth)])
    assert sum(passed) == 1, "only the output; the rest is on disk"
    assert [s.value for s in first[0]] == [s.value for s in again[0]]
    passed.clear()
    assert truth.draft is not None
    same = Measurer(names, features=FeatureStore(tmp_path), threads=1)
    assert same.measure([truth], [truth.target])[0][1].value == pytest.approx(1.0, abs=1e-6)
    assert passed == [], "an output that equals the target needs no pass"
    same.measure([truth], [truth.draft])
    same.measure([truth], [truth.draft])
    assert sum(passed) == 1, "the draft is passed once"


@pytest.mark.parametrize("name", ["lpips_squeeze", "lpips_vgg", "vgg_distance"])
def test_features_on_disk_give_equal_values(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = replace(scene(), key="k" * 16)
    cold = values(name, [truth], [halfway(truth)], features=FeatureStore(tmp_path))
    assert list(tmp_path.rglob(f"{truth.key}.*.safetensors"))
    sizes: list[int] = []
    stages = trunks.stages
    monkeypatch.setattr(trunks, "stages", lambda trunk, x: sizes.append(len(x)) or stages(trunk, x))
    assert values(name, [truth], [halfway(truth)], features=FeatureStore(tmp_path)) == cold
    assert sizes == [1], "only the output is passed"


def test_dists_from_disk_is_equal_in_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refbench.metrics.learned import distances

    truth = replace(scene(), key="k" * 16)
    cold = values("dists", [truth], [halfway(truth)], features=FeatureStore(tmp_path))
    passed: list[int] = []
    features = distances.dists_features
    monkeypatch.setattr(distances, "dists_features", lambda i, d: passed.append(len(i)) or features(i, d))
    again = values("dists", [truth], [halfway(truth)], features=FeatureStore(tmp_path))
    assert again == pytest.approx(cold, abs=1e-8), "the same stages; sums of another memory layout"
    assert passed == [0, 1], "no target, one output"
    assert distances._half(torch.full((1, 1, 2, 2), 7e4)).dtype == np.float32
    assert distances._half(torch.full((1, 1, 2, 2), 7.0)).dtype == np.float16


@pytest.mark.parametrize("trunk", ["alex", "squeeze", "vgg"])
def test_tiles_give_the_whole_images_value(trunk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS is a mean of local maps: with margins beyond a stage's field of view tiles change only the sums' order."""
    from refbench.metrics.learned.distances import lpips_value

    size = (64, 400) if trunk == "vgg" else (290, 417)
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + generator.integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    monkeypatch.setattr(tiles, "TILE", 128)
    whole = lpips_value(trunk, a, b, "cpu")
    monkeypatch.setattr(tiles, "WHOLE", 1000)
    tiled = lpips_value(trunk, a, b, "cpu")
    assert len(list(tiles.tiles(size))) >= (2 if trunk == "vgg" else 4)
    assert tiled == pytest.approx(whole, rel=1e-5)


def test_lpips_and_vgg_share_tiled_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scene(96, 128)
    names = ["lpips_vgg", "vgg_distance"]
    measured = Measurer(names, threads=1)
    whole = [score.value for score in measured.measure([truth], [halfway(truth)])[0]]
    passed: list[int] = []
    stages = trunks.stages
    monkeypatch.setattr(trunks, "stages", lambda trunk, x: passed.append(len(x)) or stages(trunk, x))
    monkeypatch.setattr(tiles, "WHOLE", 1000)
    tiled = [score.value for score in measured.measure([truth], [halfway(truth)])[0]]
    assert tiled == pytest.approx(whole, rel=1e-5)
    assert passed == [1, 1], "one tile of each picture, once for both metrics"


@pytest.mark.parametrize("name", ["clip-vit-b32", "dinov2-small", "dreamsim-open-clip-vitb32"])
def test_lean_network_gives_librarys_vector(name: str) -> None:
    """Fused attention, merged LoRA and spared tokens change the order of sums alone, for one picture or more."""
    from tests.metrics.learned_reference import _library_vector

    embedder = embedders.EMBEDDERS[name]
    images = [scene().target, halfway(scene())]
    with torch.inference_mode():
        expected = torch.cat([_library_vector(embedder, image, "cpu") for image in images]).numpy()
    assert embedder.load("cpu") is not embedder.library("cpu")
    found = embedder.embed(images, "cpu")
    assert np.abs(found - expected).max() < 5e-6 * np.abs(expected).max()
    with torch.inference_mode():
        together = embedder.forward(base.to_tensor(embedder.squares(images), "cpu")).numpy()
    assert np.abs(together - expected).max() < 5e-6 * np.abs(expected).max()


def test_bfloat16_stays_near_and_is_another_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2 % of a distance, 2e-2 of a cosine, as the card's tolerance says."""
    truth = scene()
    names = ["lpips_squeeze", "dinov2_small"]
    narrow = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
    monkeypatch.setattr(embedders.DINOv2Small, "shape", narrow)
    monkeypatch.setattr(base, "_networks", {})
    before = {name: metric.hash for name, metric in make_metrics(names).items()}
    exact = [values(name, [truth], [halfway(truth)])[0] for name in names]
    monkeypatch.setenv(base.PRECISION, "bf16")
    after = make_metrics(names)
    near = [values(name, [truth], [halfway(truth)])[0] for name in names]
    assert near[0] != exact[0]
    assert near[0] == pytest.approx(exact[0], rel=0.05)
    assert near[1] == pytest.approx(exact[1], abs=base.TOLERANCE["bf16"])
    assert all("bfloat16" in after[name].card().backend for name in names)
    assert all(before[name] != after[name].hash for name in names)


def test_fid_features_are_pytorch_fids(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytorch_fid")
    pytest.importorskip("cleanfid")
    from pytorch_fid import inception as library

    from refbench.metrics.learned import suitewide
    from tests.metrics.learned_reference import inception_features

    images = [scene().target, halfway(scene())]
    found = suitewide.features(images, "cpu")
    with torch.inference_mode():
        expected = torch.cat([inception_features(image) for image in images]).numpy()
    assert found.shape == (2, 2048)
    assert np.allclose(found, expected, atol=1e-5, rtol=1e-5)
    # A state of the published form is loaded through the library's own constructor, which would download it.
    state = library._inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
    monkeypatch.setattr(base, "_seed", None)
    monkeypatch.setattr(base, "_networks", {})
    monkeypatch.setattr(suitewide, "load_state", lambda name: {"inception-fid": state}[name])
    loaded = suitewide.inception("cpu").state_dict()
    assert torch.equal(loaded["blocks.0.0.conv.weight"], state["Conv2d_1a_3x3.conv.weight"])
    assert library.load_state_dict_from_url.__module__.startswith("torch"), "the library is left as it was"


# ---- cards, names, availability


@pytest.mark.parametrize("name", [name for name in METRICS if is_learned(name)])
def test_cards_say_all_and_never_score(name: str) -> None:
    card = make_metrics([name])[name].card()
    assert card.name == name
    assert not card.scored
    assert "not scored" in card.note
    assert card.weights
    assert "random, seed 3" in str(card.weights_sha256), "no value of random weights can pass for a real one"
    assert all(len(text) > 3 for text in (card.definition, card.paper, card.colour, card.region_rule, card.backend))


def test_learned_metrics_only_when_asked_for() -> None:
    assert not any(is_learned(name) for name in default_metrics())
    assert expanded(["learned", "ssim"])[-1] == "ssim"
    assert set(expanded(["all"])) == set(METRICS)
    assert expanded(["default"]) == default_metrics()
    assert not any(is_learned(name) for name in Measurer(threads=1).cards)


class TestRealFiles:
    """Files of the published layout (with drawn numbers) are found, checked, loaded and named by hash."""

    @pytest.fixture(autouse=True)
    def _places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("REFBENCH_WEIGHTS", str(tmp_path / "weights"))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setattr(base, "_seed", None)
        for name in ("clip-vit-b32", "dinov2-small"):  # drawn numbers stand in for the published ones
            monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], sha256=None, size=None))
        base.forget_networks()
        yield
        base.forget_networks()

    def test_without_weights_metric_is_named_unavailable(self) -> None:
        with pytest.raises(UnavailableError, match=r"'lpips_vgg'.*refbench weights fetch vgg16"):
            Measurer(["lpips_vgg"])
        measurer = Measurer(["learned"], threads=1)
        assert not measurer.cards
        assert "refbench weights fetch dreamsim-ensemble dino-vitb16" in measurer.unavailable["dreamsim"]
        assert "PolyForm-Noncommercial" in measurer.unavailable["musiq"] or "weights" in measurer.unavailable["musiq"]

    def test_lpips_loads_torchvisions_file(self, tmp_path: Path) -> None:
        import lpips
        from torchvision.models import squeezenet1_1

        torch.manual_seed(5)
        state = squeezenet1_1(weights=None).state_dict()
        path = tmp_path / "weights" / "squeezenet1_1-b8a52dc0.pth"
        path.parent.mkdir()
        torch.save(state, path)
        with pytest.raises(RefbenchError, match="Expected the weights 'squeezenet1_1'"):
            values("lpips_squeeze", [scene()], [halfway(scene())])
        entry = replace(CATALOGUE["squeezenet1_1"], sha256=None, size=None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CATALOGUE, "squeezenet1_1", entry)
            found = values("lpips_squeeze", [scene()], [halfway(scene())])[0]
            card = make_metrics(["lpips_squeeze"])["lpips_squeeze"].card()
        import hashlib

        assert card.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        # The library by itself, from a file in torch's cache (which it does not check).
        hub = tmp_path / "torch" / "hub" / "checkpoints" / path.name
        hub.parent.mkdir(parents=True)
        hub.write_bytes(path.read_bytes())
        from refbench.metrics.view import View

        view = View(scene(), halfway(scene()))
        pair = [torch.from_numpy(i).permute(2, 0, 1)[None] / 127.5 - 1 for i in (view.image, view.known.target)]
        with torch.inference_mode():
            expected = float(lpips.LPIPS(net="squeeze", verbose=False)(*pair))
        assert found == pytest.approx(expected, abs=EXACT)

    def test_dists_loads_piqs_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import piq.perceptual

        from refbench.metrics.learned import distances

        alpha = {"alpha": torch.rand(1, 1475, 1, 1) / 1475, "beta": torch.rand(1, 1475, 1, 1) / 1475}
        (tmp_path / "weights").mkdir()
        torch.save(alpha, tmp_path / "weights" / "dists_weights.pt")
        loaded = base.load_state("dists")
        assert torch.equal(loaded["beta"], alpha["beta"])
        # VGG16's own file (553 MB) is left out: the class is handed a fresh state of its form.
        from torchvision.models import vgg16

        asked: list[str] = []
        state = vgg16(weights=None, init_weights=False).state_dict()
        monkeypatch.setattr(
            distances, "load_state", lambda name: asked.append(name) or {"vgg16": state}.get(name, alpha)
        )
        model = distances.dists_network("cpu")
        assert asked == ["vgg16", "dists"]
        assert isinstance(model, piq.DISTS)
        assert torch.equal(torch.cat([w.flatten() for w in model.weights[:6]]), alpha["alpha"].flatten())
        assert piq.perceptual.torch is torch, "the library is left as it was"

    def test_dinov2_loads_folder_of_hub(self, tmp_path: Path) -> None:
        from transformers import Dinov2Config, Dinov2Model

        torch.manual_seed(1)
        tiny = Dinov2Model(
            Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14)
        ).eval()
        tiny.save_pretrained(tmp_path / "weights" / "dinov2-small")
        found = embedders.EMBEDDERS["dinov2-small"].embed([scene().target], "cpu")
        assert found.shape == (1, 32)
        from refbench.images import resize

        pixels = torch.from_numpy(resize(scene().target, (224, 224))).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (embedders.IMAGENET_MEAN, embedders.IMAGENET_STD))
        with torch.inference_mode():
            expected = tiny((pixels - mean) / std).pooler_output
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)

    def test_clip_loads_open_clips_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import json

        import open_clip
        from safetensors.torch import save_file

        configs = tmp_path / "configs"
        configs.mkdir()
        config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
            "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 1, "layers": 1},
        }
        (configs / "tiny-refbench.json").write_text(json.dumps(config))
        open_clip.add_model_config(configs)
        torch.manual_seed(2)
        tiny = open_clip.create_model("tiny-refbench", force_quick_gelu=True).eval()
        folder = tmp_path / "weights" / "clip-vit-b32"
        folder.mkdir(parents=True)
        save_file(tiny.state_dict(), folder / "open_clip_model.safetensors")
        monkeypatch.setattr(embedders.CLIPBase, "model", "tiny-refbench")
        found = embedders.EMBEDDERS["clip-vit-b32"].embed([scene().target], "cpu")
        transform = open_clip.image_transform(224, is_train=False, resize_mode="squash")
        from PIL import Image

        with torch.inference_mode():
            expected = tiny.encode_image(transform(Image.fromarray(scene().target))[None])
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)

    def test_dreamsim_loads_its_archives_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through ``dreamsim.dreamsim`` itself, on a narrow ViT of the same class."""
        from functools import partial

        import dreamsim
        from dreamsim.feature_extraction import load_open_clip_as_dino as loader
        from dreamsim.feature_extraction.vision_transformer import VisionTransformer
        from peft import LoraConfig, get_peft_model
        from PIL import Image

        narrow = partial(
            VisionTransformer, embed_dim=24, depth=12, num_heads=2, mlp_ratio=2, qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        monkeypatch.setattr(loader, "vit_base", narrow)
        torch.manual_seed(4)
        vit = narrow(patch_size=32)
        vit.pos_drop = torch.nn.LayerNorm(24)
        folder = tmp_path / "weights" / "dreamsim-open-clip-vitb32"
        folder.mkdir(parents=True)
        state = {**vit.state_dict(), "proj": torch.randn(24, 16)}
        torch.save({"state_dict": state}, folder / "open_clip_vitb32_pretrain.pth.tar")
        model = dreamsim.model.PerceptualModel(
            **dreamsim.config.dreamsim_args["model_config"]["open_clip_vitb32"], device="cpu", load_dir=str(folder),
            normalize_embeds=True,
        )  # fmt: skip
        lora = LoraConfig(
            r=4, lora_alpha=1, lora_dropout=0.1, bias="none", target_modules=["qkv"], init_lora_weights=False
        )
        get_peft_model(model, lora).save_pretrained(folder / "open_clip_vitb32_single_lora")
        original, prepare = dreamsim.dreamsim(
            pretrained=True, device="cpu", cache_dir=str(folder), dreamsim_type="open_clip_vitb32"
        )
        from refbench.metrics.view import View

        truth = scene()
        view = View(truth, halfway(truth))
        a, b = (prepare(Image.fromarray(image)) for image in (view.image, view.known.target))
        with torch.inference_mode():
            expected = float(original(a, b))
        assert values("dreamsim_single", [truth], [halfway(truth)]) == [pytest.approx(expected, abs=1e-6, rel=1e-4)]
        assert expected > 1e-5
