"""The OmniRefiner pipeline (arXiv 2511.19990) as a diffusers pipeline: FLUX.1-Kontext with one more stream.

Components are diffusers' own classes at every scale; text encoders are optional (without them a prompt says only
whether it asks for another thing than the draft's). What it does stands in ``refiner.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from diffusers.utils import logging
from torch import Tensor

from refbench.omnirefiner.method.latents import scale_factor
from refbench.omnirefiner.method.refiner import Refiner
from refbench.omnirefiner.method.velocity import VelocityHead
from refbench.omnirefiner.models import PatchAutoencoder

if TYPE_CHECKING:
    from refbench.omnirefiner.config import ModelConfig


@contextmanager
def no_bar() -> Iterator[None]:
    """Diffusers' bars of loaded components are off inside, and as they were afterwards."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class OmniRefinerPipeline(Refiner, DiffusionPipeline, FluxLoraLoaderMixin):
    """Reference-guided local refinement.

    Args:
        scheduler, vae, transformer: as in ``FluxKontextPipeline``.
        text_encoder, tokenizer: CLIP, or None.
        text_encoder_2, tokenizer_2: T5, or None.
        mask_mode: how the mask enters the sequence, see :func:`refbench.omnirefiner.method.tokens.assemble`.
        working_size: side in px of the focus crop.
        default_steps: Euler steps when none are given.
        guidance: value for guidance-distilled transformers, else None.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->transformer->vae"
    _optional_components: ClassVar[list[str]] = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]
    _lora_loadable_modules = ["transformer"]  # noqa: RUF012

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Components and what diffusers adds at run time."""

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL | PatchAutoencoder,
        transformer: FluxTransformer2DModel,
        text_encoder: Any = None,
        tokenizer: Any = None,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        mask_mode: str = "none",
        working_size: int = 512,
        default_steps: int = 28,
        guidance: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.register_modules(
            scheduler=scheduler, vae=vae, transformer=transformer, text_encoder=text_encoder, tokenizer=tokenizer,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2,
        )  # fmt: skip
        self.register_to_config(
            mask_mode=mask_mode, working_size=working_size, default_steps=default_steps, guidance=guidance
        )
        self.vae_scale_factor = scale_factor(vae)
        self.head = VelocityHead()
        self.tokenizer_max_length = tokenizer.model_max_length if tokenizer is not None else 77

    _get_t5_prompt_embeds: Any = FluxKontextPipeline._get_t5_prompt_embeds
    _get_clip_prompt_embeds: Any = FluxKontextPipeline._get_clip_prompt_embeds

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> OmniRefinerPipeline:
        """Load a diffusers folder or hub id; a linear autoencoder in it is loaded here."""
        config = Path(folder) / "vae" / "config.json"
        if config.is_file() and json.loads(config.read_text()).get("_class_name") == PatchAutoencoder.__name__:
            options.setdefault("vae", PatchAutoencoder.from_pretrained(config.parent, dtype=options.get("dtype")))
        with no_bar():
            pipeline: OmniRefinerPipeline = super().from_pretrained(folder, **options)  # type: ignore[no-untyped-call]
        return pipeline

    @classmethod
    def fresh(cls, model: ModelConfig, seed: int = 0) -> OmniRefinerPipeline:
        """An untrained pipeline of a configuration, its output layer zero."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            build: Any = FluxTransformer2DModel
            transformer = build(**model.transformer)
            torch.nn.init.zeros_(transformer.proj_out.weight)
            torch.nn.init.zeros_(transformer.proj_out.bias)
            vae = PatchAutoencoder(**model.autoencoder)
        schedule: Any = FlowMatchEulerDiscreteScheduler
        return cls(
            schedule(**model.scheduler), vae, transformer, mask_mode=model.mask, working_size=model.working_size,
            default_steps=model.steps, guidance=model.guidance,
        )  # fmt: skip

    def embed_prompts(self, prompts: Sequence[str], max_length: int = 512) -> tuple[Tensor, Tensor]:
        """States (B, T, D) and pooled states (B, P) of prompts: T5's and CLIP's, where they are there."""
        device, dtype = self.transformer.device, self.transformer.dtype
        states, pooled = super().embed_prompts(prompts)
        if self.text_encoder_2 is not None:
            states = self._get_t5_prompt_embeds(list(prompts), max_sequence_length=max_length, device=device).to(dtype)
        if self.text_encoder is not None:
            pooled = self._get_clip_prompt_embeds(list(prompts), device=device).to(device, dtype)
        return states, pooled
