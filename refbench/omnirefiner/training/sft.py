"""Supervised training: the base editor (all weights, no reference) and stage 1 (LoRA, with the reference).

Both minimise the masked flow-matching loss (E5). Watch validation with the right, a shuffled and no reference: a model
that does as well with a shuffled one has not learned the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from refbench.images import Image
from refbench.omnirefiner.config import SupervisedConfig
from refbench.omnirefiner.method.latents import encode
from refbench.omnirefiner.method.losses import draw_sigma, flow_loss
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.tokens import Conditions, pack
from refbench.omnirefiner.method.velocity import add_noise
from refbench.omnirefiner.training.data import Quadruplets, Sampler, curriculum, draw, mirrored
from refbench.omnirefiner.training.loop import Learner, Settings, Values, sheet
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.progress import Telling

if TYPE_CHECKING:
    from accelerate import Accelerator

Prompts = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Embedded instructions of samples (B,), to mend (0) or to replace (1): (states (B, T, D), pooled (B, P))."""


def encode_batch(
    pipeline: OmniRefinerPipeline, batch: Quadruplets, prompts: tuple[Tensor, Tensor], *, reference: bool
) -> tuple[Conditions, Tensor]:
    """Conditions and clean target tokens of a batch."""
    conditions = pipeline.conditions(batch.draft, batch.reference if reference else None, batch.mask, prompts)
    with torch.no_grad():
        clean = pack(encode(pipeline.vae, batch.target.to(pipeline.vae.dtype)))
    return conditions, clean


def supervised_loss(
    pipeline: OmniRefinerPipeline, conditions: Conditions, clean: Tensor, config: SupervisedConfig,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Masked flow-matching loss (B,) at random noise levels."""
    sigma = draw_sigma(len(clean), config.sigma_mean, config.sigma_std, config.sigma_shift, generator)
    noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
    sigma = sigma.to(clean.device)
    predicted = pipeline.predict(add_noise(clean, noise, sigma.to(clean)), sigma, conditions)
    assert conditions.mask is not None
    return flow_loss(
        predicted, clean.float(), noise.float(), conditions.mask.float(), sigma=sigma, cap=config.mask_cap,
        floor=config.sigma_floor, band=config.band,
    )  # fmt: skip


def masked_mse(pictures: Tensor, batch: Quadruplets) -> Tensor:
    """Mean squared error (B,) inside the masks on a scale of [0, 1]; pictures are in [-1, 1]."""
    error = ((pictures - batch.target) / 2).square().mean(1, keepdim=True) * batch.mask
    return error.sum((1, 2, 3)) / batch.mask.sum((1, 2, 3)).clamp(min=1)


def masked_psnr(pictures: Tensor, batch: Quadruplets) -> float:
    """Mean PSNR in dB inside the masks, errors under 1e-6 taken as 1e-6."""
    return float((-10 * masked_mse(pictures, batch).clamp(min=1e-6).log10()).mean())


def recovery(pictures: Tensor, batch: Quadruplets) -> float:
    """Share of the drafts' root mean squared error that is gone, in points: 0 the draft, 100 the target.

    A ratio of sums, as the leaderboard's: drafts with next to no error cannot rule it, as they do a mean of dB.
    """
    left, had = (masked_mse(x, batch).sqrt().sum() for x in (pictures, batch.draft))
    return float(100 * (1 - left / had))


@torch.no_grad()
def validate(
    pipeline: OmniRefinerPipeline,
    batch: Quadruplets,
    prompts: tuple[Tensor, Tensor],
    *,
    reference: bool,
) -> dict[str, float]:
    """PSNR and recovery inside the mask on validation samples: draft, autoencoder bound, and what four steps make of it
    with the right reference, a shuffled one and none; `shown` is the reference as it stands, `one_step` the
    conditional mean at sigma 1."""
    conditions, clean = encode_batch(pipeline, batch, prompts, reference=reference)
    noise = pipeline.noise(conditions, torch.Generator().manual_seed(1234))
    out = {"draft": masked_psnr(batch.draft, batch)}

    def note(name: str, tokens: Tensor) -> None:
        pictures = pipeline.pictures(tokens, conditions, batch.draft)
        out[name] = masked_psnr(pictures, batch)
        out[f"{name}_recovery"] = recovery(pictures, batch)

    note("bound", clean)
    if reference:
        out["shown_recovery"] = recovery(batch.reference, batch)
    note("none", pipeline.denoise(noise, conditions.without_reference(), 4))
    if reference:
        note("right", pipeline.denoise(noise, conditions, 4))
        other = pipeline.conditions(batch.draft, batch.reference.roll(1, 0), batch.mask, prompts)
        note("shuffled", pipeline.denoise(noise, other, 4))
        note("one_step", pipeline.denoise(noise, conditions, 1))
    return out


class SupervisedLearner(Learner):
    """The base editor, or stage 1.

    Args:
        pipeline: trained in place; a stage 1 without an adapter gets a fresh one.
        sampler: training data.
        held_out: named validation batches.
        prompts: embedded instructions.
        stage: "base" trains all weights without reference, "sft" a LoRA adapter with it.
    """

    def __init__(
        self, pipeline: OmniRefinerPipeline, config: SupervisedConfig, sampler: Sampler,
        held_out: dict[str, Quadruplets], prompts: Prompts, *, stage: str, device: str = "cpu", seed: int = 0,
    ) -> None:  # fmt: skip
        if stage == "sft" and not getattr(pipeline.transformer, "peft_config", None):
            assert config.lora_rank is not None
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                add_lora(pipeline.transformer, config.lora_rank, config.lora_alpha)
        pipeline.to(device)
        pipeline.vae.eval().requires_grad_(False)
        if stage == "base":
            pipeline.transformer.requires_grad_(True)
        if config.checkpointing:
            pipeline.transformer.enable_gradient_checkpointing()
        pipeline.transformer.train()
        self.pipeline, self.config, self.stage, self.device, self.seed = pipeline, config, stage, device, seed
        self.sampler, self.held_out, self.prompts = sampler, held_out, prompts
        self.reference = stage == "sft"
        self.names = trainable(pipeline.transformer)
        self.settings = Settings(
            steps=config.steps, lr=config.lr, warmup=config.warmup, batch=config.batch, ema=config.ema,
            validate_every=config.validate_every, save_minutes=config.save_minutes,
        )  # fmt: skip

    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Every process draws samples of its own."""
        self.accelerator = accelerator
        seed = self.seed + 1 + step + 1_000_003 * accelerator.process_index
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def _chance(self) -> float:
        return float(torch.rand((), generator=self.generator, device=self.device))

    def _asked(self, batch: Quadruplets) -> tuple[Tensor, Tensor]:
        # without a reference there is nothing to replace a thing by
        return self.prompts(batch.replaced if self.reference else torch.zeros_like(batch.replaced))

    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """The masked flow-matching loss of one batch; the reference is left out of some."""
        config = self.config
        grown = curriculum(progress, config.misalignment)
        drawn = draw(
            self.sampler, config.batch, config.largest * grown, self.generator, wild=config.wild * grown,
            light=config.light * grown,
        )  # fmt: skip
        batch = mirrored(drawn, self.generator)
        conditions, clean = encode_batch(self.pipeline, batch, self._asked(batch), reference=self.reference)
        if self.reference and self._chance() < config.drop_reference:
            conditions = conditions.without_reference()
        with self.accelerator.autocast():
            loss = supervised_loss(self.pipeline, conditions, clean, config, self.generator).mean()
        values |= {"loss": loss.detach(), "misalignment": config.largest * grown}
        yield loss, True

    def validate(self) -> dict[str, float]:
        """:func:`validate` of every held-out batch, by ``batch/name``."""
        self.pipeline.transformer.eval()
        found = {
            f"{name}/{key}": value
            for name, batch in self.held_out.items()
            for key, value in validate(self.pipeline, batch, self._asked(batch), reference=self.reference).items()
        }
        self.pipeline.transformer.train()
        return found

    @torch.no_grad()
    def pictures(self) -> dict[str, Image]:
        """Draft, reference, refined and target of every held-out batch."""
        self.pipeline.transformer.eval()
        found = {name: self._sheet(batch.first(4)) for name, batch in self.held_out.items()}
        self.pipeline.transformer.train()
        return found

    def _sheet(self, batch: Quadruplets) -> Image:
        conditions, _ = encode_batch(self.pipeline, batch, self._asked(batch), reference=self.reference)
        noise = self.pipeline.noise(conditions, torch.Generator().manual_seed(1234))
        tokens = self.pipeline.denoise(noise, conditions, 4)
        refined = self.pipeline.pictures(tokens, conditions, batch.draft)
        return sheet(batch.draft, batch.reference, refined.to(batch.draft.device), batch.target)

    def facts(self) -> dict[str, Any]:
        """The configuration."""
        return {"config": self.config.model_dump()}
