"""Supervised training: the base editor (all weights, no reference) and stage 1 (LoRA, with the reference).

Both minimise the masked flow-matching loss of :mod:`refbench.omnirefiner.method.losses`. Watch validation with the right,
a shuffled and no reference: a model that does as well with a shuffled one has not learned the task.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.omnirefiner.config import SupervisedConfig
from refbench.omnirefiner.method.losses import draw_sigma, flow_loss
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.tokens import Conditions, pack
from refbench.omnirefiner.method.velocity import add_noise
from refbench.omnirefiner.training.data import Quadruplets, Reservoir, Sampler, Source, curriculum, draw, mirrored
from refbench.omnirefiner.training.loop import (
    Average,
    Budget,
    add_lora,
    append_log,
    copy_into,
    learning_rate,
    load_state,
    norm,
    save_state,
    trainable,
)  # fmt: skip
from refbench.omnirefiner.training.progress import Pace, Quiet, Telling, rounds

Prompts = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Embedded instructions of samples (B,), to mend (0) or to replace (1): (states (B, T, D), pooled (B, P))."""


def encode_batch(
    pipeline: OmniRefinerPipeline, batch: Quadruplets, prompts: tuple[Tensor, Tensor], *, reference: bool
) -> tuple[Conditions, Tensor]:
    """Conditions and clean target tokens of a batch."""
    from refbench.omnirefiner.tiny.autoencoder import encode

    conditions = pipeline.conditions(batch.draft, batch.reference if reference else None, batch.mask, prompts)
    with torch.no_grad():
        clean = pack(encode(pipeline.vae, batch.target.to(pipeline.vae.dtype)))
    return conditions, clean


def supervised_loss(
    pipeline: OmniRefinerPipeline, transformer: Any, conditions: Conditions, clean: Tensor, config: SupervisedConfig,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Masked flow-matching loss (B,) at random noise levels."""
    sigma = draw_sigma(len(clean), config.sigma_mean, config.sigma_std, config.sigma_shift, generator)
    noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
    sigma = sigma.to(clean.device)
    predicted = pipeline.velocity(add_noise(clean, noise, sigma.to(clean)), sigma, conditions, transformer)
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
    steps: int = 4,
) -> dict[str, float]:
    """PSNR and recovery inside the mask on validation samples: draft, autoencoder bound, and the refined with the
    right reference, a shuffled one and none; `shown` is the reference as it stands, `one_step` the conditional mean
    at sigma 1."""
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
    note("none", pipeline.denoise(noise, conditions.without_reference(), steps))
    if reference:
        note("right", pipeline.denoise(noise, conditions, steps))
        wrong = batch.shuffled if batch.shuffled is not None else batch.reference.roll(1, 0)
        other = pipeline.conditions(batch.draft, wrong, batch.mask, prompts)
        note("shuffled", pipeline.denoise(noise, other, steps))
        note("one_step", pipeline.denoise(noise, conditions, 1))
    return out


def train_supervised(
    pipeline: OmniRefinerPipeline,
    config: SupervisedConfig,
    sampler: Sampler,
    held_out: dict[str, Quadruplets],
    prompts: Prompts,
    out: Path,
    *,
    stage: str,
    minutes: float | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
    source: Source | None = None,
    telling: Telling | None = None,
) -> dict[str, Any]:
    """Train until `config.steps` or `minutes`; the learning rate's cosine ends with whichever comes first.

    Args:
        pipeline: trained in place; at return it holds the moving average.
        sampler: training data.
        held_out: named validation batches.
        prompts: embedded instructions.
        out: folder for ``log.jsonl`` and ``state.pt``.
        stage: "base" trains all weights without reference, "sft" a LoRA adapter with it.
        resume: continue from ``state.pt`` in `out` if there is one.
        source: draws batches instead of `sampler`.
        telling: where progress goes.

    Returns:
        Facts for the card: steps, samples, minutes, last validation.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
    """
    telling = telling or Quiet()
    from accelerate import Accelerator

    cuda = device.startswith("cuda")
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    if stage == "sft" and not getattr(pipeline.transformer, "peft_config", None):
        assert config.lora_rank is not None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_lora(pipeline.transformer, config.lora_rank, config.lora_alpha)
    pipeline.to(device)
    pipeline.vae.eval().requires_grad_(False)
    model = pipeline.transformer
    if stage == "base":
        model.requires_grad_(True)
    if config.checkpointing:
        model.enable_gradient_checkpointing()
    names = trainable(model)
    optimiser = torch.optim.AdamW(
        names.values(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    average = Average(names, config.ema)
    step, samples, spent_before, start = 0, 0, 0.0, 0.0
    state = load_state(out / "state.pt") if resume else None
    if state is not None:
        copy_into(names, state["weights"])
        average.shadow = {k: v.to(device) for k, v in state["average"].items()}
        average.count = state["count"]
        optimiser.load_state_dict(state["optimiser"])
        step, samples, spent_before, start = state["step"], state["samples"], state["minutes"], state["progress"]
    generator = torch.Generator(device).manual_seed(seed + 1 + step)
    rank = accelerator.process_index
    if rank:
        generator.manual_seed(seed + 1 + step + 1_000_003 * rank)
    wrapped, optimiser = accelerator.prepare(model, optimiser)
    budget = Budget(config.steps, minutes, start if start < 1 else 0.0)
    reference = stage == "sft"
    last: dict[str, Any] = {}
    saved = window = time.monotonic()
    total, seen = torch.zeros((), device=device), 0

    def save(progress: float) -> None:
        if accelerator.is_main_process:
            save_state(out / "state.pt", {
                "weights": {k: p.detach().cpu() for k, p in names.items()},
                "average": {k: v.cpu() for k, v in average.shadow.items()}, "count": average.count,
                "optimiser": optimiser.state_dict(), "step": step, "samples": samples, "progress": progress,
                "minutes": spent_before + budget.spent,
            })  # fmt: skip

    grown, largest = 0.0, 0.0

    def fresh(count: int) -> tuple[Tensor, ...]:
        made = source(count, generator) if source is not None else draw(
            sampler, count, largest, generator, moved=config.moved if stage == "base" else 0.0,
            wild=config.wild * grown, light=config.light * grown,
            laying=reference and pipeline.config.laying == "blend", aligner=pipeline.aligner,
        )  # fmt: skip
        return tuple(p.to(device) for p in made.parts)

    reservoir = Reservoir(fresh, 64 * config.batch, config.reuse, first=2 * config.batch)

    def asked(batch: Quadruplets) -> tuple[Tensor, Tensor]:
        # without a reference there is nothing to replace a thing by
        return prompts(batch.replaced if reference else torch.zeros_like(batch.replaced))

    def check(progress: float) -> None:
        average.swap(names)
        model.eval()
        for name, batch in held_out.items():
            last[name] = validate(pipeline, batch, asked(batch), reference=reference)
        model.train()
        average.swap(names)
        if accelerator.is_main_process:
            append_log(
                out / "log.jsonl", stage=stage, step=step, samples=samples, minutes=spent_before + budget.spent,
                progress=progress, **{f"{n}/{k}": v for n, r in last.items() for k, v in r.items()},
            )  # fmt: skip

    def agreed(asked: bool) -> bool:
        if accelerator.num_processes == 1:
            return asked
        return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device)) > 0)

    model.train()

    def done() -> float:
        return budget.progress(step)

    pace = Pace(telling, stage, config.steps, step, done())
    for progress in rounds(done, save, agreed):
        rate = learning_rate(step, progress, config.lr, config.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        grown = curriculum(progress, config.misalignment)
        largest = config.largest * grown
        batch = mirrored(Quadruplets(*reservoir.draw(config.batch, generator)), generator)
        conditions, clean = encode_batch(pipeline, batch, asked(batch), reference=reference)
        if reference and float(torch.rand((), generator=generator, device=device)) < config.drop_reference:
            conditions = conditions.without_reference()
        with accelerator.autocast():
            loss = supervised_loss(pipeline, wrapped, conditions, clean, config, generator).mean()
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        size = accelerator.clip_grad_norm_(list(names.values()), config.clip)
        optimiser.step()
        average.update(names)
        step, samples = step + 1, samples + config.batch * accelerator.num_processes
        total, seen = total + loss.detach(), seen + 1
        if step % 50 == 0 and accelerator.is_main_process:
            now = time.monotonic()
            append_log(
                out / "log.jsonl", stage=stage, step=step, samples=samples, minutes=spent_before + budget.spent,
                progress=progress, loss=float(total) / seen, gradient=float(size) if size is not None else norm([]),
                lr=rate, misalignment=largest, seconds_a_step=(now - window) / seen,
            )  # fmt: skip
            total, seen, window = torch.zeros_like(total), 0, now
        pace.step(step, done(), loss=loss.detach())
        if step % config.validate_every == 0:
            telling.tick(f"{stage}: step {step:,}, validation")
            check(progress)
        if time.monotonic() - saved > config.save_minutes * 60:
            save(progress)
            saved = time.monotonic()
    telling.tick(f"{stage}: step {step:,}, last validation")
    check(1.0)
    average.swap(names)
    return {
        "steps": step,
        "samples": samples,
        "minutes": round(spent_before + budget.spent, 1),
        "validation": last,
        "config": config.model_dump(),
    }
