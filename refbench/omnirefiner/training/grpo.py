"""Stage 2: the reward's policy gradient on the refiner (``method/policy.py``).

The adapter is held to the stage 1 policy (the adapter switched off) by a KL term and to the ground truth by a
supervised anchor. Evaluation is with the ODE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from refbench.images import Image
from refbench.omnirefiner.config import GRPOConfig, SupervisedConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.rewards import choose_backbone, perceptual
from refbench.omnirefiner.training.data import Quadruplets, Sampler, draw, mirrored
from refbench.omnirefiner.training.explorer import NoiseExplorer, rewards_of
from refbench.omnirefiner.training.loop import Learner, Settings, Values, sheet
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.progress import Telling
from refbench.omnirefiner.training.sft import Prompts, encode_batch, masked_psnr

if TYPE_CHECKING:
    from accelerate import Accelerator


class GRPOLearner(Learner):
    """A fresh LoRA adapter over the stage 1 policy (merged into `pipeline`'s weights).

    Args:
        pipeline: trained in place.
        sft: how stage 1 was trained: of the drawn samples and of the anchor.
        sampler, held_out, prompts: as :class:`refbench.omnirefiner.training.sft.SupervisedLearner` has them.
    """

    stage, shown = "grpo", ("reward/perceptual",)

    def __init__(
        self, pipeline: OmniRefinerPipeline, config: GRPOConfig, sft: SupervisedConfig, sampler: Sampler,
        held_out: dict[str, Quadruplets], prompts: Prompts, *, device: str = "cpu", seed: int = 0,
    ) -> None:  # fmt: skip
        if not getattr(pipeline.transformer, "peft_config", None):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                add_lora(pipeline.transformer, config.lora_rank)
        pipeline.to(device)
        pipeline.vae.eval().requires_grad_(False)
        if sft.checkpointing:
            pipeline.transformer.enable_gradient_checkpointing()
        pipeline.transformer.train()
        self.pipeline, self.config, self.sft, self.device, self.seed = pipeline, config, sft, device, seed
        self.sampler, self.prompts = sampler, prompts
        self.held_out = {name: batch.first(config.validate_samples) for name, batch in held_out.items()}
        self.names = trainable(pipeline.transformer)
        self.backbone = choose_backbone(config.perceptual)
        self.judge = "efficientnet" if self.backbone != "efficientnet" else "squeezenet"
        self.judges = {name: perceptual(name, device) for name in (self.backbone, self.judge)}
        self.settings = Settings(
            steps=config.iterations, lr=config.lr, warmup=config.warmup, batch=config.conditions * config.group,
            weight_decay=0.0, log_every=1, validate_every=config.validate_every, validate_first=True,
        )  # fmt: skip

    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Seed the explorer; every process draws groups of its own."""
        seed = self.seed + 17 + step + 1_000_003 * accelerator.process_index
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.explorer = NoiseExplorer(self.pipeline, self.config, self.sft, self.judges[self.backbone], self.generator)

    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """One iteration of the explorer."""
        del progress
        drawn = draw(
            self.sampler, self.config.conditions, self.config.misalignment, self.generator, wild=self.sft.wild,
            light=self.sft.light,
        )  # fmt: skip
        batch = mirrored(drawn, self.generator)
        return self.explorer.losses(batch, self.prompts(batch.replaced), values)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """ODE samples of the held-out batches under both judges: mean rewards, and PSNR inside the mask."""
        out = {}
        for name, batch in self.held_out.items():
            pictures = self._refined(batch)
            out[f"{name}/psnr"] = masked_psnr(pictures, batch)
            for judge, similarity in self.judges.items():
                parts = rewards_of(pictures, batch, self.config, similarity)
                out[f"{name}/{judge}"] = float(parts["perceptual"].mean())
                out[f"{name}/pixel"] = float(parts["pixel"].mean())
        return out

    @torch.no_grad()
    def pictures(self) -> dict[str, Image]:
        """Draft, reference, refined and target of every held-out batch."""
        batches = {name: batch.first(4) for name, batch in self.held_out.items()}
        return {name: sheet(b.draft, b.reference, self._refined(b), b.target) for name, b in batches.items()}

    def _refined(self, batch: Quadruplets) -> Tensor:
        conditions, _ = encode_batch(self.pipeline, batch, self.prompts(batch.replaced), reference=True)
        noise = self.pipeline.noise(conditions, torch.Generator().manual_seed(1234))
        return self.pipeline.pictures(
            self.pipeline.denoise(noise, conditions, self.config.steps), conditions, batch.draft
        )

    def facts(self) -> dict[str, Any]:
        """The networks that judged, and the configuration."""
        return {"perceptual_backbone": self.backbone, "judge": self.judge, "config": self.config.model_dump()}
