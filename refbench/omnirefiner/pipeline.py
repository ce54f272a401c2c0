"""The OmniRefiner pipeline (arXiv 2511.19990): draft, reference, mask, prompt -> refined picture.

FLUX.1-Kontext with one more stream. Components are diffusers' own classes at every scale; text encoders are optional
(without them a prompt says only whether it asks for another thing than the draft's).
:meth:`OmniRefinerPipeline.denoise` is the method at the working size; :meth:`OmniRefinerPipeline.__call__` adds the
focus crop and the soft paste-back for pictures of any size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline, calculate_shift
from torch import Tensor

from refbench.images import Image, Mask
from refbench.omnirefiner.aligner import Aligner
from refbench.omnirefiner.autoencoder import PatchAutoencoder, build_autoencoder, decode, encode, scale_factor
from refbench.omnirefiner.focus import Focus, focus, paste_back
from refbench.omnirefiner.initial import prepare_small
from refbench.omnirefiner.tokens import Conditions, latent_mask, pack, unpack
from refbench.omnirefiner.velocity import predict, velocity
from refbench.registration.laying import asks_exchange
from refbench.schema import Box

if TYPE_CHECKING:
    from refbench.omnirefiner.config import ModelConfig


ASKED = 20.0
"""What stands in the pooled state of a prompt of exchange where CLIP is left out: large, because a LoRA of few steps
hears it in proportion (with a single 1 in it, 47 iterations of stage 2 learned nothing of it)."""


@dataclass(frozen=True, slots=True)
class RefinerOutput:
    """What a call returns."""

    images: list[Image]
    """Refined pictures, each (H, W, 3) uint8 of its draft's size."""


class OmniRefinerPipeline(DiffusionPipeline, FluxLoraLoaderMixin):
    """Reference-guided local refinement.

    Args:
        scheduler, vae, transformer: as in ``FluxKontextPipeline``.
        text_encoder, tokenizer: CLIP, or None.
        text_encoder_2, tokenizer_2: T5, or None.
        prediction: how the transformer's output is read, see :func:`refbench.omnirefiner.velocity.velocity`.
        mask_mode: how the mask enters the sequence, see :func:`refbench.omnirefiner.tokens.assemble`.
        working_size: side in px of the focus crop.
        largest_size: crops larger than `working_size` are worked on at their own size up to this one, in steps of a
            token; None works on all at `working_size`.
        default_steps: Euler steps when none are given.
        guidance: value for guidance-distilled transformers, else None.
        laying: what the reference stream shows, see :data:`refbench.omnirefiner.focus.Laying`.
        boldness: see :func:`refbench.omnirefiner.velocity.predict`; used in sampling, not in training.
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

    @property
    def multiple(self) -> int:
        """Working pictures have sides that are multiples of this many px: one token's side."""
        return self.vae_scale_factor * 2

    def size_for(self, side: int) -> int:
        """The side in px at which a crop of so many px is worked on."""
        least = int(self.config.working_size)
        most = int(self.config.get("largest_size") or least)
        return min(max(least, -(-side // self.multiple) * self.multiple), max(most, least))

    def embed_prompts(self, prompts: Sequence[str], max_length: int = 512) -> tuple[Tensor, Tensor]:
        """States (B, T, D) and pooled states (B, P) of prompts: T5's and CLIP's.

        Without T5 a prompt is one zero token. Without CLIP its pooled state is :data:`ASKED` where it asks for
        something else than what the draft shows (:func:`refbench.registration.laying.asks_exchange`), else 0.
        """
        transformer = self.transformer.config
        device, dtype = self.transformer.device, self.transformer.dtype
        if self.text_encoder_2 is None:
            states = torch.zeros(len(prompts), 1, transformer.joint_attention_dim, device=device, dtype=dtype)
        else:
            states = self._get_t5_prompt_embeds(list(prompts), max_sequence_length=max_length, device=device).to(dtype)
        if self.text_encoder is None:
            pooled = torch.zeros(len(prompts), transformer.pooled_projection_dim, device=device, dtype=dtype)
            pooled += ASKED * torch.tensor([[float(asks_exchange(prompt))] for prompt in prompts]).to(pooled)
        else:
            pooled = self._get_clip_prompt_embeds(list(prompts), device=device).to(device, dtype)
        return states, pooled

    @torch.no_grad()
    def conditions(
        self, draft: Tensor, reference: Tensor | None, mask: Tensor, prompts: list[str] | tuple[Tensor, Tensor],
        reference_mask: Tensor | None = None,
    ) -> Conditions:  # fmt: skip
        """Encode what stays fixed: pictures (B, 3, H, W) in [-1, 1] and mask (B, 1, H, W) -> :class:`Conditions`."""
        embeds, pooled = prompts if isinstance(prompts, tuple) else self.embed_prompts(prompts)
        drafted = encode(self.vae, draft.to(self.vae.dtype))
        height, width = drafted.shape[-2:]
        shown, shown_size = None, None
        if reference is not None:
            latents = encode(self.vae, reference.to(self.vae.dtype))
            shown, shown_size = pack(latents), (latents.shape[-2], latents.shape[-1])
        if reference_mask is not None and shown_size is not None:
            reference_mask = latent_mask(reference_mask, *shown_size)
        return Conditions(
            draft=pack(drafted), size=(height, width), prompt_embeds=embeds, pooled=pooled, reference=shown,
            reference_size=shown_size, mask=latent_mask(mask, height, width), reference_mask=reference_mask,
            guidance=(self.config.guidance or 1.0) if self.transformer.config.guidance_embeds else None,
        )  # fmt: skip

    def velocity(self, noisy: Tensor, sigma: Tensor, conditions: Conditions, transformer: Any = None) -> Tensor:
        """One transformer call under this pipeline's conventions; `transformer` may be a wrapped one (training)."""
        return velocity(
            self.transformer if transformer is None else transformer, noisy, sigma, conditions,
            self.config.prediction, self.config.mask_mode,
        )  # fmt: skip

    def policy(self, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """The velocity that :meth:`denoise` follows, with gradients: what stage 2 draws from and learns."""
        return predict(
            self.transformer, noisy, sigma, conditions, self.config.prediction, self.config.mask_mode,
            self.config.boldness,
        )[0]  # fmt: skip

    def set_schedule(self, steps: int, tokens: int) -> Tensor:
        """Prepare the scheduler as FLUX.1-Kontext does; returns sigmas (steps + 1,) from 1 to 0."""
        config = self.scheduler.config
        mu = calculate_shift(
            tokens, config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5), config.get("max_shift", 1.15),
        )  # fmt: skip
        self.scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu if config.use_dynamic_shifting else None,
            device=self.transformer.device,
        )  # fmt: skip
        self.scheduler.set_begin_index(0)
        sigmas: Tensor = self.scheduler.sigmas
        return sigmas

    @torch.no_grad()
    def denoise(self, noise: Tensor, conditions: Conditions, steps: int | None = None) -> Tensor:
        """Euler sampling with the scheduler: noise tokens (B, N, C) -> clean tokens."""
        return self.denoise_gated(noise, conditions, steps)[0]

    @torch.no_grad()
    def denoise_gated(
        self, noise: Tensor, conditions: Conditions, steps: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """:meth:`denoise`, and the last step's gate (B, 1, h, w) in [0, 1] on the latent grid, if there is one.

        Of a blend's gates, one a latent channel, it is the mean over all but the first three, which carry the mean
        colour: how much of the reference's detail was let in.
        """
        steps = steps or self.config.default_steps
        self.set_schedule(steps, noise.shape[1])
        tokens, gates = noise, None
        for t in self.scheduler.timesteps:
            sigma = (t / self.scheduler.config.num_train_timesteps).expand(tokens.shape[0])
            found, gates = predict(
                self.transformer, tokens, sigma, conditions, self.config.prediction, self.config.mask_mode,
                self.config.boldness,
            )  # fmt: skip
            tokens = self.scheduler.step(found.to(tokens.dtype), t, tokens, return_dict=False)[0]
        if gates is None:
            return tokens, None
        return tokens, unpack(gates, *conditions.size)[:, 3:].mean(1, keepdim=True).clamp(0, 1)

    @torch.no_grad()
    def pictures(
        self, tokens: Tensor, conditions: Conditions, draft: Tensor, gate: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Clean tokens -> refined pictures (B, 3, H, W) in [-1, 1]: the draft plus the decoded *change*.

        ``draft + D(z) - D(E(draft))`` gives back what the autoencoder drops of the draft: where the latents did not
        move the picture does not either. On 64 px validation crops that lifts the bound of the tiny scale by 2 dB.
        With a `gate` what it drops of the reference is let in where the gate let in the rest.
        """

        def decoded(latents: Tensor) -> Tensor:
            return decode(self.vae, unpack(latents, *conditions.size).to(self.vae.dtype)).float()

        before = decoded(conditions.draft)
        out = draft.float() + decoded(tokens) - before
        if gate is not None and reference is not None and conditions.reference is not None:
            dropped = (reference.float() - decoded(conditions.reference)) - (draft.float() - before)
            out = out + torch.nn.functional.interpolate(gate, draft.shape[-2:], mode="bilinear") * dropped
        return out.clamp(-1, 1)

    def noise(self, conditions: Conditions, generator: torch.Generator) -> Tensor:
        """Starting noise (B, N, C), drawn on the generator's device."""
        shape = conditions.draft.shape
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
        return drawn.to(conditions.draft.device, conditions.draft.dtype)

    def focus(
        self, draft: Image, reference: Image | None, mask: Mask, size: int, *, reference_box: Box | None = None,
        prompt: str = "",
    ) -> Focus:  # fmt: skip
        """:func:`refbench.omnirefiner.focus.focus` as this pipeline wants it."""
        return focus(
            draft, reference, mask, size, reference_box=reference_box, prompt=prompt,
            laying=self.config.get("laying") or "view", aligner=self.aligner,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(
        self, focuses: Sequence[Focus], prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None,
        use_reference: bool = True,
    ) -> RefinerOutput:  # fmt: skip
        """Refine focused crops (see :func:`refbench.omnirefiner.focus.focus`) and put each back into its draft.

        Args:
            focuses: crops of one working size.
            prompts: an instruction each.
            seeds: of the starting noise, each; results do not depend on what else is in the batch.
            steps: Euler steps, by default the pipeline's.
            use_reference: False leaves the reference stream out (the base editor).
        """
        device = self.transformer.device

        def stack(values: list[Tensor]) -> Tensor:
            return torch.stack(values).to(device)

        draft = stack([f.draft for f in focuses])
        reference = stack([f.reference for f in focuses]) if use_reference else None
        conditions = self.conditions(draft, reference, stack([f.mask for f in focuses]), list(prompts))
        noise = torch.cat(
            [
                self.noise(conditions.rows(slice(i, i + 1)), torch.Generator().manual_seed(s))
                for i, s in enumerate(seeds)
            ]
        )
        tokens, gates = self.denoise_gated(noise, conditions, steps)
        pictures = self.pictures(tokens, conditions, draft, gates, reference).cpu()
        shares = [None] * len(focuses) if gates is None else list(gates.cpu())
        return RefinerOutput([paste_back(f, p, g) for f, p, g in zip(focuses, pictures, shares, strict=True)])
