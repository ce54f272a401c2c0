"""CLIP, DINOv2 and DreamSim through their own libraries: one vector a picture."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from refbench import weights
from refbench.errors import RefbenchError
from refbench.images import Image, resize
from refbench.metrics.contract import library
from refbench.metrics.learned.base import Vectors, inference, network, randomised, to_tensor

if TYPE_CHECKING:
    from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Embedder(ABC):
    """A network that turns a picture into a vector, and what a card says about it."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    side: ClassVar[int]
    """Pictures are brought to side x side px, Pillow's antialiased bicubic, without a crop."""
    modules: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    """Of the library, for the card."""
    install: ClassVar[str] = "uv pip install 'refbench[learned]'"
    files: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    colour: ClassVar[str]

    def backend(self) -> str:
        """The library and its version."""
        return library(*self.packages)

    def squares(self, images: Sequence[Image]) -> list[Image]:
        """The pictures at the network's size."""
        return [resize(np.ascontiguousarray(image), (self.side, self.side)) for image in images]

    @abstractmethod
    def build(self) -> Any:
        """The library's network as it comes, on the CPU.

        Raises:
            RefbenchError: its weights are missing or do not fit.
        """

    @abstractmethod
    def lean(self, made: Any) -> Any:
        """That network with less work for the same vector, see :mod:`refbench.metrics.learned.lean`."""

    def load(self, device: str) -> Any:
        """The network that is measured with, frozen."""
        return network(self.name, device, lambda: self.lean(self.build()))

    def library(self, device: str) -> Any:
        """The library's own, of the same weights, frozen: what tests and benchmarks compare with."""
        return network(self.name, device, self.build, form="library")

    @abstractmethod
    def forward(self, batch: Tensor) -> Tensor:
        """Vectors (n, d) of RGB (n, 3, side, side) in [0, 1]."""

    def embed(self, images: Sequence[Image], device: str) -> Vectors:
        """Vectors (n, d), float32, of uint8 pictures of any size."""
        import torch

        # On a CPU one picture at a time is quickest: its activations stay in the cache.
        step = 1 if device == "cpu" else 16
        squares = self.squares(images)
        found = []
        for at in range(0, len(squares), step):
            with inference(device):
                found.append(self.forward(to_tensor(squares[at : at + step], device)).float().cpu())
        out: Vectors = torch.cat(found).numpy()
        return out


def _normalised(batch: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    import torch

    shape = (1, 3, 1, 1)
    return (batch - torch.tensor(mean, device=batch.device).view(shape)) / torch.tensor(std, device=batch.device).view(
        shape
    )


class CLIP(Embedder):
    """The image tower of OpenAI's CLIP in open_clip."""

    paper = "Radford et al. 2021, arXiv 2103.00020; CLIP-I: Ruiz et al. 2023, arXiv 2208.12242"
    modules = ("open_clip",)
    packages = ("open_clip", "open_clip_torch")
    licence = "MIT"
    colour = "sRGB normalised by CLIP's mean and deviation"
    model: ClassVar[str]
    """open_clip's name."""

    def build(self) -> Any:
        """The image tower."""
        import open_clip
        from open_clip import factory

        # The OpenAI towers use the quick GELU, whatever the name's default.
        made = open_clip.create_model(self.model, pretrained=None, force_quick_gelu=True)
        if randomised() is None:
            path = weights.require(self.files[0])
            try:
                factory.load_checkpoint(made, str(path))
            except (RuntimeError, ValueError, KeyError) as error:
                raise RefbenchError(
                    f"Expected the weights '{self.files[0]}' at {path} to fit open_clip's {self.model}, but "
                    f"{' '.join(str(error).split())[:150]}."
                ) from None
        return made.visual

    def lean(self, made: Any) -> Any:
        """See :meth:`Embedder.lean`."""
        from refbench.metrics.learned.lean import lean_open_clip

        return lean_open_clip(made)

    def forward(self, batch: Tensor) -> Tensor:
        """See :meth:`Embedder.forward`; the projected image embedding."""
        found: Tensor = self.load(str(batch.device))(_normalised(batch, CLIP_MEAN, CLIP_STD))
        return found


class CLIPLarge(CLIP):
    """ViT-L/14 at 336 px."""

    name = "clip-vit-l14-336"
    title = "CLIP ViT-L/14-336"
    side = 336
    files = ("clip-vit-l14-336",)
    model = "ViT-L-14-336"


class CLIPBase(CLIP):
    """ViT-B/32."""

    name = "clip-vit-b32"
    title = "CLIP ViT-B/32"
    side = 224
    files = ("clip-vit-b32",)
    model = "ViT-B-32"


class DINOv2(Embedder):
    """DINOv2 in transformers: the class token after the last layer's normalisation."""

    paper = "Oquab et al. 2023, arXiv 2304.07193"
    modules = ("transformers",)
    packages = ("transformers",)
    install = "uv pip install 'refbench[models]'"
    side = 224
    licence = "Apache-2.0"
    colour = "sRGB normalised by ImageNet's mean and deviation"
    shape: ClassVar[dict[str, Any]]
    """Of the architecture, for random weights; with real ones it is read from config.json."""

    def build(self) -> Any:
        """The whole model."""
        from transformers import Dinov2Config, Dinov2Model

        if randomised() is not None:
            return Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **self.shape))
        folder = weights.require(self.files[0])
        try:
            return Dinov2Model.from_pretrained(folder, local_files_only=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise RefbenchError(
                f"Expected the weights '{self.files[0]}' at {folder} to fit transformers' Dinov2Model, but "
                f"{' '.join(str(error).split())[:150]}."
            ) from None

    def lean(self, made: Any) -> Any:
        """See :meth:`Embedder.lean`."""
        from refbench.metrics.learned.lean import lean_dinov2

        return lean_dinov2(made)

    def forward(self, batch: Tensor) -> Tensor:
        """See :meth:`Embedder.forward`."""
        found: Tensor = self.load(str(batch.device))(_normalised(batch, IMAGENET_MEAN, IMAGENET_STD)).pooler_output
        return found


class DINOv2Large(DINOv2):
    """ViT-L/14."""

    name = "dinov2-large"
    title = "DINOv2 ViT-L/14"
    files = ("dinov2-large",)
    shape: ClassVar[dict[str, Any]] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


class DINOv2Small(DINOv2):
    """ViT-S/14."""

    name = "dinov2-small"
    title = "DINOv2 ViT-S/14"
    files = ("dinov2-small",)
    shape: ClassVar[dict[str, Any]] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}


class DreamSim(Embedder):
    """DreamSim's embedding: ViTs fine-tuned by LoRA on human judgements, centred and of unit length."""

    paper = "Fu et al. 2023, arXiv 2306.09344"
    modules = ("dreamsim", "open_clip", "peft")
    packages = ("dreamsim",)
    side = 224
    licence = "MIT"
    colour = "sRGB normalised as each ViT wants it"
    kind: ClassVar[str]
    """dreamsim's name of the type."""
    lora: ClassVar[str]
    """Folder of the LoRA in the download."""

    _forward = threading.Lock()
    """dreamsim's extractor keeps activations in itself by hooks: one thread at a time."""

    def build(self) -> Any:
        """``dreamsim.model.PerceptualModel`` with its LoRA."""
        import torch
        from dreamsim import model as library_module
        from dreamsim.feature_extraction.extractor import ViTExtractor

        folder = weights.require(self.files[0]) if randomised() is None else None
        create = ViTExtractor.__dict__["create_model"]
        hub = torch.hub.load, torch.hub.set_dir
        try:
            if folder is None:
                ViTExtractor.create_model = staticmethod(_random_vit)
                return _random_dreamsim(self.kind)
            # dreamsim asks torch.hub for DINO's code and weights; it is handed the same class with the
            # weights that lie here, and torch's own folder stays as it is.
            torch.hub.load = lambda *_, **__: _dino(self.files[-1])
            torch.hub.set_dir = lambda d: None
            return library_module.dreamsim(
                pretrained=True, device="cpu", cache_dir=str(folder), dreamsim_type=self.kind
            )[0]
        finally:
            ViTExtractor.create_model = create
            torch.hub.load, torch.hub.set_dir = hub

    def lean(self, made: Any) -> Any:
        """See :meth:`Embedder.lean`."""
        from refbench.metrics.learned.lean import lean_dreamsim

        return lean_dreamsim(made)

    def load(self, device: str) -> Any:
        """See :meth:`Embedder.load`."""
        return _placed(super().load(device), device)

    def library(self, device: str) -> Any:
        """See :meth:`Embedder.library`."""
        return _placed(super().library(device), device)

    def forward(self, batch: Tensor) -> Tensor:
        """See :meth:`Embedder.forward`; distances are 1 minus the cosine of two such vectors."""
        model = self.load(str(batch.device))
        with self._forward:
            found: Tensor = model.embed(batch)
        return found


def _placed(made: Any, device: str) -> Any:
    """A DreamSim that knows where it is: it moves its inputs itself."""
    for extractor in made.extractor_list:
        extractor.device = device
    return made


class DreamSimEnsemble(DreamSim):
    """DINO, CLIP and OpenCLIP ViT-B/16 together."""

    name = "dreamsim-ensemble"
    title = "DreamSim (ensemble)"
    files = ("dreamsim-ensemble", "dino-vitb16")
    kind = "ensemble"
    lora = "ensemble_lora"


class DreamSimSingle(DreamSim):
    """OpenCLIP ViT-B/32 alone."""

    name = "dreamsim-open-clip-vitb32"
    title = "DreamSim (single, OpenCLIP ViT-B/32)"
    files = ("dreamsim-open-clip-vitb32",)
    kind = "open_clip_vitb32"
    lora = "open_clip_vitb32_single_lora"


def _dino(name: str) -> Any:
    """DINO's ViT-B/16 as dreamsim carries its class, with the weights that torch.hub would bring."""
    from dreamsim.feature_extraction.vision_transformer import vit_base

    from refbench.metrics.learned.base import load_state

    made = vit_base(patch_size=16)
    made.load_state_dict(load_state(name))
    return made


def _random_vit(kind: str, load_dir: str = "") -> Any:
    """What dreamsim's extractor would load, of the same classes and sizes, with random weights."""
    import torch
    from dreamsim.feature_extraction.load_clip_as_dino import QuickGELU
    from dreamsim.feature_extraction.vision_transformer import DINOHead, vit_base

    del load_dir
    made = vit_base(patch_size=int(kind[-2:]))
    if kind.startswith("dino"):
        return made, DINOHead(768, 2048)
    made.pos_drop = torch.nn.LayerNorm(made.embed_dim)
    for block in made.blocks if not kind.startswith("open") else ():
        block.mlp.act = QuickGELU()
    for module in made.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    return made, torch.randn(made.embed_dim, 512) * made.embed_dim**-0.5


def _random_dreamsim(kind: str) -> Any:
    from dreamsim.config import dreamsim_args
    from dreamsim.model import PerceptualModel
    from peft import LoraConfig, get_peft_model

    made = PerceptualModel(**dreamsim_args["model_config"][kind], device="cpu", load_dir="", normalize_embeds=True)
    lora = LoraConfig(
        r=16, lora_alpha=8, lora_dropout=0.3, bias="none", target_modules=["qkv"], init_lora_weights=False
    )
    return get_peft_model(made, lora)


EMBEDDERS: dict[str, Embedder] = {
    made.name: made
    for made in (CLIPLarge(), CLIPBase(), DINOv2Large(), DINOv2Small(), DreamSimEnsemble(), DreamSimSingle())
}
"""By the name of their weights."""
