"""The OmniRefiner pipeline (arXiv 2511.19990) as a diffusers pipeline: FLUX.1-Kontext with one more stream.

Components are diffusers' own classes at every scale; text encoders are optional (without them a prompt says only
whether it asks for another thing than the draft's). What it does is :class:`refbench.omnirefiner.method.refiner.Refiner`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from torch import Tensor

from refbench.omnirefiner.method.refiner import Refiner
from refbench.omnirefiner.models import Aligner, PatchAutoencoder, build_autoencoder
from refbench.omnirefiner.tiny.autoencoder import scale_factor
from refbench.omnirefiner.tiny.start import prepare_small

if TYPE_CHECKING:
    from refbench.omnirefiner.config import ModelConfig


class OmniRefinerPipeline(Refiner, DiffusionPipeline, FluxLoraLoaderMixin):
    """Reference-guided local refinement.

    Args:
        scheduler, vae, transformer: as in ``FluxKontextPipeline``.
        text_encoder, tokenizer: CLIP, or None.
        text_encoder_2, tokenizer_2: T5, or None.
        prediction: how the transformer's output is read, see :func:`refbench.omnirefiner.method.velocity.velocity`.
        mask_mode: how the mask enters the sequence, see :func:`refbench.omnirefiner.method.tokens.assemble`.
        working_size: side in px of the focus crop.
        largest_size: crops larger than `working_size` are worked on at their own size up to this one, in steps of a
            token; None works on all at `working_size`.
        default_steps: Euler steps when none are given.
        guidance: value for guidance-distilled transformers, else None.
        laying: what the reference stream shows, see :data:`refbench.omnirefiner.focus.crop.Laying`.
        boldness: see :func:`refbench.omnirefiner.method.velocity.predict`; used in sampling, not in training.
        aligner: moves the laid reference the last pixels, or None.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->transformer->vae"
    _optional_components: ClassVar[list[str]] = [
        "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "aligner",
    ]  # fmt: skip
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
        prediction: str = "velocity",
        mask_mode: str = "none",
        working_size: int = 512,
        default_steps: int = 28,
        guidance: float | None = None,
        largest_size: int | None = None,
        laying: str = "view",
        boldness: float = 1.0,
        aligner: Aligner | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.register_modules(
            scheduler=scheduler, vae=vae, transformer=transformer, text_encoder=text_encoder, tokenizer=tokenizer,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, aligner=aligner,
        )  # fmt: skip
        self.register_to_config(
            prediction=prediction, mask_mode=mask_mode, working_size=working_size, default_steps=default_steps,
            guidance=guidance, largest_size=largest_size, laying=laying, boldness=boldness,
        )  # fmt: skip
        self.vae_scale_factor = scale_factor(vae)
        self.tokenizer_max_length = tokenizer.model_max_length if tokenizer is not None else 77

    _get_t5_prompt_embeds: Any = FluxKontextPipeline._get_t5_prompt_embeds
    _get_clip_prompt_embeds: Any = FluxKontextPipeline._get_clip_prompt_embeds

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> OmniRefinerPipeline:
        """Load a diffusers folder or hub id; a linear autoencoder and an aligner in it are loaded here."""
        kinds = {"vae": PatchAutoencoder, "aligner": Aligner}
        for name, kind in kinds.items():
            config = Path(folder) / name / "config.json"
            if config.is_file() and json.loads(config.read_text()).get("_class_name") == kind.__name__:
                loaded = kind.from_pretrained(config.parent, torch_dtype=options.get("torch_dtype"))
                options.setdefault(name, loaded)
        pipeline: OmniRefinerPipeline = super().from_pretrained(folder, **options)  # type: ignore[no-untyped-call]
        return pipeline

    @classmethod
    def fresh(cls, model: ModelConfig, seed: int = 0) -> OmniRefinerPipeline:
        """An untrained pipeline of a configuration, its output layer zero so that it first returns the draft."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            build: Any = FluxTransformer2DModel
            transformer = build(**model.transformer)
            if model.prediction != "velocity":
                outputs = transformer.out_channels
                prepare_small(transformer, outputs // 2 if model.prediction == "blend" else None)
            vae = build_autoencoder(model.autoencoder)
        schedule: Any = FlowMatchEulerDiscreteScheduler
        return cls(
            schedule(**model.scheduler), vae, transformer, prediction=model.prediction,
            mask_mode=model.mask, working_size=model.working_size, default_steps=model.steps, guidance=model.guidance,
            largest_size=model.largest_size, laying=model.laying, boldness=model.boldness,
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
