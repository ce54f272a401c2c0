"""The method of OmniRefiner (arXiv 2511.19990) at any scale: draft, reference, mask, prompt -> refined picture.

:meth:`Refiner.denoise` is the method at the working size; :meth:`Refiner.__call__` adds the focus crop and the soft
paste-back for pictures of any size. ``OmniRefinerPipeline`` (``pipeline.py``) gives it its components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refbench.images import Image, Mask
from refbench.omnirefiner.focus.crop import Focus, focus
from refbench.omnirefiner.focus.paste import paste_back
from refbench.omnirefiner.method.latents import decode, encode
from refbench.omnirefiner.method.tokens import Conditions, latent_mask, pack, unpack
from refbench.omnirefiner.method.velocity import Head, call
from refbench.registration.placement import told
from refbench.schema import Box


@dataclass(frozen=True, slots=True)
class RefinerOutput:
    """What a call returns."""

    images: list[Image]
    """Refined pictures, each (H, W, 3) uint8 of its draft's size."""
    facts: list[dict[str, Any]]
    """What is known of each, see :func:`refbench.registration.placement.told`."""


def shift_for(tokens: int, config: Any) -> float:
    """How far a schedule is moved towards noise for so many tokens: FLUX's line through two points."""
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (many - few)
    return float(tokens * slope + (least - slope * few))


class Refiner:
    """Reference-guided local refinement, given the components; see :class:`OmniRefinerPipeline
    <refbench.omnirefiner.method.pipeline.OmniRefinerPipeline>` for what each is."""

    config: Any
    """Settings by attribute and by ``get``: mask_mode, working_size, default_steps, guidance."""
    scheduler: Any
    vae: Any
    transformer: Any
    vae_scale_factor: int
    head: Head

    def embed_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States (B, 1, D) and pooled states (B, P) of prompts where there are no text encoders: one bit each."""
        from refbench.omnirefiner.tiny.prompt import embed_bits

        return embed_bits(self.transformer, prompts)

    @torch.no_grad()
    def conditions(
        self, draft: Tensor, reference: Tensor | None, mask: Tensor, prompts: list[str] | tuple[Tensor, Tensor]
    ) -> Conditions:
        """Encode what stays fixed: pictures (B, 3, H, W) in [-1, 1] and mask (B, 1, H, W) -> :class:`Conditions`."""
        embeds, pooled = prompts if isinstance(prompts, tuple) else self.embed_prompts(prompts)
        drafted = encode(self.vae, draft.to(self.vae.dtype))
        height, width = drafted.shape[-2:]
        shown, shown_size = None, None
        if reference is not None:
            latents = encode(self.vae, reference.to(self.vae.dtype))
            shown, shown_size = pack(latents), (latents.shape[-2], latents.shape[-1])
        return Conditions(
            draft=pack(drafted), size=(height, width), prompt_embeds=embeds, pooled=pooled, reference=shown,
            reference_size=shown_size, mask=latent_mask(mask, height, width),
            guidance=(self.config.guidance or 1.0) if self.transformer.config.guidance_embeds else None,
        )  # fmt: skip

    def predict(self, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """One call, read by the head: the velocity (B, N, C)."""
        answer = call(self.transformer, noisy, sigma, conditions, self.config.mask_mode)
        return self.head.read(answer, noisy, sigma, conditions)

    def set_schedule(self, steps: int, tokens: int) -> Tensor:
        """Prepare the scheduler as FLUX.1-Kontext does; returns sigmas (steps + 1,) from 1 to 0."""
        config = self.scheduler.config
        self.scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1 / steps, steps),
            mu=shift_for(tokens, config) if config.use_dynamic_shifting else None, device=self.transformer.device,
        )  # fmt: skip
        self.scheduler.set_begin_index(0)
        sigmas: Tensor = self.scheduler.sigmas
        return sigmas

    @torch.no_grad()
    def denoise(self, noise: Tensor, conditions: Conditions, steps: int | None = None) -> Tensor:
        """Euler sampling with the scheduler: noise tokens (B, N, C) -> clean tokens."""
        steps = steps or self.config.default_steps
        self.set_schedule(steps, noise.shape[1])
        tokens = noise
        for t in self.scheduler.timesteps:
            sigma = (t / self.scheduler.config.num_train_timesteps).expand(tokens.shape[0])
            found = self.predict(tokens, sigma, conditions)
            tokens = self.scheduler.step(found.to(tokens.dtype), t, tokens, return_dict=False)[0]
        return tokens

    @torch.no_grad()
    def pictures(self, tokens: Tensor, conditions: Conditions, draft: Tensor) -> Tensor:
        """(E12) Clean tokens -> refined pictures (B, 3, H, W) in [-1, 1]: the draft plus the decoded *change*.

        ``draft + D(z) - D(E(draft))`` gives back what the autoencoder drops of the draft: where the latents did not
        move the picture does not either.
        """

        def decoded(latents: Tensor) -> Tensor:
            return decode(self.vae, unpack(latents, *conditions.size).to(self.vae.dtype)).float()

        return (draft.float() + decoded(tokens) - decoded(conditions.draft)).clamp(-1, 1)

    def noise(self, conditions: Conditions, generator: torch.Generator) -> Tensor:
        """Starting noise (B, N, C), drawn on the generator's device."""
        shape = conditions.draft.shape
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
        return drawn.to(conditions.draft.device, conditions.draft.dtype)

    def focus(
        self, draft: Image, reference: Image, mask: Mask, *, reference_box: Box | None = None, prompt: str = ""
    ) -> Focus:
        """:func:`refbench.omnirefiner.focus.crop.focus` as this pipeline wants it."""
        size = int(self.config.working_size)
        return focus(draft, reference, mask, size, reference_box=reference_box, prompt=prompt)

    @torch.no_grad()
    def __call__(
        self, focuses: Sequence[Focus], prompts: Sequence[str], seeds: Sequence[int], *, steps: int | None = None,
    ) -> RefinerOutput:  # fmt: skip
        """Refine focused crops (see :func:`refbench.omnirefiner.focus.crop.focus`) and put each back into its draft.

        Args:
            focuses: crops at the working size.
            prompts: an instruction each.
            seeds: of the starting noise, each; results do not depend on what else is in the batch.
            steps: Euler steps, by default the pipeline's.
        """
        device = self.transformer.device

        def stack(values: list[Tensor]) -> Tensor:
            return torch.stack(values).to(device)

        draft = stack([f.draft for f in focuses])
        reference = stack([f.reference for f in focuses])
        conditions = self.conditions(draft, reference, stack([f.mask for f in focuses]), list(prompts))
        noise = torch.cat(
            [
                self.noise(conditions.rows(slice(i, i + 1)), torch.Generator().manual_seed(s))
                for i, s in enumerate(seeds)
            ]
        )
        pictures = self.pictures(self.denoise(noise, conditions, steps), conditions, draft).cpu()
        images = [paste_back(f, p) for f, p in zip(focuses, pictures, strict=True)]
        facts = [told(f.picture, image, f.found) for f, image in zip(focuses, images, strict=True)]
        return RefinerOutput(images, facts)
