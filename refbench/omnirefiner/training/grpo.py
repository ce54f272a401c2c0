"""Stage 2: group-relative policy optimisation of the refiner (Flow-GRPO, arXiv 2505.05470; CPS, MixGRPO).

For each condition a group of samples is drawn with noise in an early window of steps; rewards are compared inside the
group; the steps of better samples become more likely, held to the stage 1 policy (the adapter disabled) by a KL term
and to the ground truth by a supervised anchor. Evaluation is with the ODE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.omnirefiner.config import GRPOConfig, SupervisedConfig
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.method.rewards import (
    Perceptual,
    choose_backbone,
    patch_grid,
    perceptual,
    perceptual_reward,
    pixel_reward,
    used_patches,
)  # fmt: skip
from refbench.omnirefiner.method.sampling import Step, Velocity, log_probability, policy_step, rollout, window_steps
from refbench.omnirefiner.method.tokens import Conditions
from refbench.omnirefiner.tiny.gates import drift, explore, gate_loss, opening, unguided
from refbench.omnirefiner.training.data import Quadruplets, Reservoir, Sampler, Source, draw, mirrored
from refbench.omnirefiner.training.loop import (
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
from refbench.omnirefiner.training.sft import Prompts, encode_batch, masked_psnr, supervised_loss


def group_advantages(rewards: Tensor, floor: float, cap: float) -> tuple[Tensor, Tensor]:
    """Advantages (G, K) of rewards (G, K) for G groups of K samples, and the pooled spread ().

    Each reward minus its group's mean, over the spread pooled across groups: the root of the mean *within-group*
    variance, at least `floor`. In restoration the conditions nearly determine the result, groups are tight, and a
    spread per group would blow noise up to signal, while the spread over the batch would erase what there is.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = centred.square().sum(1).div(max(rewards.shape[1] - 1, 1)).mean().sqrt()
    return (centred / spread.clamp(min=floor)).clamp(-cap, cap), spread


def clipped_objective(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """``max(-A rho, -A clip(rho, 1 - e, 1 + e))`` per sample (PPO's loss)."""
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip_range, 1 + clip_range))


@dataclass(frozen=True, slots=True)
class Update:
    """Loss of one part of a rollout and what to log of it."""

    loss: Tensor
    ratio: Tensor
    kl: Tensor
    clipped: Tensor
    norm_ratio: Tensor


def policy_loss(
    step: Step, advantage: Tensor, policy: Velocity, reference: Velocity | None, config: GRPOConfig
) -> Update:
    """Clipped objective and KL of one stochastic step for samples (B,).

    The KL of two Gaussians of equal spread is ``mean((mu - mu_ref)^2) / (2 s^2)``; `reference` None leaves it out.
    """
    sigma = torch.full((len(step.x),), step.sigma, device=step.x.device)
    velocity = policy(step.x, sigma).float()
    mean, s = policy_step(config.sampler, step.x, velocity, step.sigma, step.following, config.eta, step.second)
    ratio = (log_probability(step.chosen, mean, s) - step.log_probability).exp()
    loss = clipped_objective(ratio, advantage, config.clip_range)
    kl, grown = torch.zeros_like(loss), torch.ones_like(loss)
    if reference is not None and config.kl > 0:
        with torch.no_grad():
            held = reference(step.x, sigma).float()
            anchor, _ = policy_step(config.sampler, step.x, held, step.sigma, step.following, config.eta, step.second)
        kl = (mean - anchor).square().flatten(1).mean(1) / (2 * s * s)
        grown = velocity.detach().flatten(1).norm(dim=1) / held.flatten(1).norm(dim=1)
    clipped = ((ratio - 1).abs() > config.clip_range).float()
    return Update((loss + config.kl * kl).mean(), ratio.detach(), kl.detach(), clipped, grown)


def rewards_of(pictures: Tensor, batch: Quadruplets, config: GRPOConfig, similarity: Perceptual) -> dict[str, Tensor]:
    """The reward's parts (B,), each by name; pictures in [-1, 1]."""
    shown, right = (pictures + 1) / 2, (batch.target + 1) / 2
    parts = {
        "perceptual": perceptual_reward(shown, right, batch.mask, config.patch, similarity),
        "pixel": pixel_reward(shown, right, batch.mask, config.patch),
    }
    if "reference" in config.reward_weights(batch.replaced):
        model = (batch.reference + 1) / 2
        parts["reference"] = perceptual_reward(shown, model, batch.mask, config.patch, similarity)
    return parts


def combine(
    parts: dict[str, Tensor], groups: int, weights: dict[str, Tensor], floor: float, cap: float
) -> tuple[Tensor, dict[str, float]]:
    """Advantages (B,) from parts (B,), each normalised inside its groups, weighted by its share (B,) and added."""
    total = torch.zeros_like(next(iter(parts.values())))
    facts: dict[str, float] = {}
    for name, values in parts.items():
        grouped = values.view(groups, -1)
        advantage, spread = group_advantages(grouped, floor, cap)
        total = total + weights[name] * advantage.flatten()
        facts |= {
            f"reward/{name}": float(values.mean()), f"group_std/{name}": float(spread),
            f"between_std/{name}": float(grouped.mean(1).std()) if groups > 1 else 0.0,
        }  # fmt: skip
    return total, facts


@torch.no_grad()
def evaluate(
    pipeline: OmniRefinerPipeline, batches: dict[str, Quadruplets], prompts: Prompts, config: GRPOConfig,
    judges: dict[str, Perceptual],
) -> dict[str, float]:  # fmt: skip
    """ODE samples of the validation batches under every judge: mean rewards and PSNR inside the mask."""
    out = {}
    for name, batch in batches.items():
        conditions, _ = encode_batch(pipeline, batch, prompts(batch.replaced), reference=True)
        noise = pipeline.noise(conditions, torch.Generator().manual_seed(1234))
        steps = pipeline.config.default_steps if config.explore == "gate" else config.steps
        tokens, gate = pipeline.denoise_gated(noise, conditions, steps)
        pictures = pipeline.pictures(tokens, conditions, batch.draft, gate, batch.reference)
        out[f"{name}/psnr"] = masked_psnr(pictures, batch)
        for judge, similarity in judges.items():
            parts = rewards_of(pictures, batch, config, similarity)
            out[f"{name}/{judge}"] = float(parts["perceptual"].mean())
            out[f"{name}/pixel"] = float(parts["pixel"].mean())
            if "reference" in parts:
                out[f"{name}/{judge}/reference"] = float(parts["reference"].mean())
    return out


def hard_conditions(batch: Quadruplets, count: int) -> Quadruplets:
    """The `count` samples whose draft is furthest from the target inside the mask (IRPO, arXiv 2512.00814)."""
    error = ((batch.draft - batch.target).square().mean(1, keepdim=True) * batch.mask).sum((1, 2, 3))
    order = (error / batch.mask.sum((1, 2, 3)).clamp(min=1)).argsort(descending=True)[:count]
    return batch.rows(order)


def pieces(count: int, size: int) -> Sequence[slice]:
    """Consecutive slices of at most `size`."""
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def train_grpo(
    pipeline: OmniRefinerPipeline,
    config: GRPOConfig,
    sft: SupervisedConfig,
    sampler: Sampler,
    held_out: dict[str, Quadruplets],
    prompts: Prompts,
    out: Path,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
    source: Source | None = None,
    telling: Telling | None = None,
) -> dict[str, Any]:
    """Train a fresh LoRA adapter over the stage 1 policy (merged into `pipeline`'s weights).

    Every iteration is one line in ``log.jsonl``: each reward's part and spreads, ratio, clip share, KL, velocity norm.

    Returns:
        Facts for the card, among them the perceptual backbone's name.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
    """
    telling = telling or Quiet()
    transformer = pipeline.transformer
    if not getattr(transformer, "peft_config", None):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_lora(transformer, config.lora_rank)
    pipeline.to(device)
    pipeline.vae.eval().requires_grad_(False)
    transformer.train()
    names = trainable(transformer)
    optimiser = torch.optim.AdamW(names.values(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0)
    backbone = choose_backbone(config.perceptual)
    similarity = perceptual(backbone, device)
    judge = "efficientnet" if backbone != "efficientnet" else "squeezenet"
    judges = {backbone: similarity, judge: perceptual(judge, device)}
    iteration, spent_before, start = 0, 0.0, 0.0
    state = load_state(out / "state.pt") if resume else None
    if state is not None:
        copy_into(names, state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        iteration, spent_before, start = state["step"], state["minutes"], state["progress"]
    generator = torch.Generator(device).manual_seed(seed + 17 + iteration)
    telling.tick("grpo: the rewards of stage 1's answers")
    held_out = {name: batch.first(config.validate_samples) for name, batch in held_out.items()}
    first = last = evaluate(pipeline, held_out, prompts, config, judges)
    append_log(out / "log.jsonl", stage="grpo", step=iteration, minutes=spent_before, **first)
    budget = Budget(config.iterations, minutes, start if start < 1 else 0.0)

    def fresh(count: int) -> tuple[Tensor, ...]:
        made = source(count, generator) if source is not None else draw(
            sampler, count, config.misalignment, generator, wild=sft.wild, light=sft.light,
            laying=pipeline.config.laying == "blend", aligner=pipeline.aligner,
        )  # fmt: skip
        return tuple(p.to(device) for p in made.parts)

    reservoir = Reservoir(fresh, 64 * config.conditions, config.reuse)

    def save(progress: float) -> None:
        save_state(out / "state.pt", {
            "weights": {k: p.detach().cpu() for k, p in names.items()}, "optimiser": optimiser.state_dict(),
            "average": {k: p.detach().cpu() for k, p in names.items()},
            "step": iteration, "samples": iteration * config.conditions * config.group, "progress": progress,
            "minutes": spent_before + budget.spent,
        })  # fmt: skip

    def done() -> float:
        return budget.progress(iteration)

    pace = Pace(telling, "grpo", config.iterations, iteration, done())
    for progress in rounds(done, save):
        rate = learning_rate(iteration, progress, config.lr, config.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        wanted = round(config.conditions / config.hard_share)
        drawn = mirrored(Quadruplets(*reservoir.draw(wanted, generator)), generator)
        batch = hard_conditions(drawn, config.conditions) if config.hard_share < 1 else drawn
        if config.explore == "gate":
            facts = gate_iteration(
                pipeline, config, sft, batch, prompts(batch.replaced), similarity, optimiser, generator
            )
        else:
            facts = grpo_iteration(
                pipeline, config, sft, batch, prompts(batch.replaced), similarity, optimiser, generator,
                first_step=config.window[0] + (iteration // config.slide if config.slide else 0),
            )  # fmt: skip
        iteration += 1
        append_log(
            out / "log.jsonl", stage="grpo", step=iteration, minutes=spent_before + budget.spent, lr=rate,
            backbone=backbone, **facts,
        )  # fmt: skip
        if iteration % config.validate_every == 0:
            last = evaluate(pipeline, held_out, prompts, config, judges)
            append_log(out / "log.jsonl", stage="grpo", step=iteration, minutes=spent_before + budget.spent, **last)
        pace.step(iteration, done(), reward=facts["reward/perceptual"])
        if iteration % 5 == 0:
            save(progress)
    last = evaluate(pipeline, held_out, prompts, config, judges)
    append_log(out / "log.jsonl", stage="grpo", step=iteration, minutes=spent_before + budget.spent, **last)
    return {
        "steps": iteration, "samples": iteration * config.conditions * config.group,
        "minutes": round(spent_before + budget.spent, 1), "perceptual_backbone": backbone, "judge": judge,
        "validation_before": first, "validation": last, "config": config.model_dump(),
    }  # fmt: skip


def grpo_iteration(
    pipeline: OmniRefinerPipeline, config: GRPOConfig, sft: SupervisedConfig, batch: Quadruplets,
    embedded: tuple[Tensor, Tensor], similarity: Perceptual, optimiser: torch.optim.Optimizer,
    generator: torch.Generator, *, first_step: int = 0,
) -> dict[str, float]:  # fmt: skip
    """One rollout of every group and `config.updates` optimiser steps on it; returns the log line."""
    transformer = pipeline.transformer
    groups, size = len(batch.mask), config.group
    conditions, clean = encode_batch(pipeline, batch, embedded, reference=True)
    many = conditions.repeat(size)
    count = groups * size
    parts = pieces(count, config.micro_batch)
    shape = (count if config.different_noise else groups, *conditions.draft.shape[1:])
    noise = torch.randn(shape, generator=generator, device=generator.device)
    if not config.different_noise:
        noise = noise.repeat_interleave(size, 0)
    sigmas = pipeline.set_schedule(config.steps, conditions.draft.shape[1])
    window = window_steps((first_step % max(config.steps - config.window[1], 1), config.window[1]), config.steps)

    def policy(rows: Conditions) -> Velocity:
        return lambda x, sigma: pipeline.policy(x, sigma, rows)

    results = []
    for part in parts:
        results.append(
            rollout(
                policy(many.rows(part)), noise[part], sigmas, name=config.sampler, eta=config.eta, window=window,
                generator=generator,
            )
        )  # fmt: skip
    repeated = Quadruplets(*(part.repeat_interleave(size, 0) for part in batch.parts))
    clean_tokens = torch.cat([x for x, _ in results])
    pictures = pipeline.pictures(clean_tokens, many, repeated.draft)
    advantages, facts = combine(
        rewards_of(pictures, repeated, config, similarity), groups, config.reward_weights(repeated.replaced),
        config.std_floor, config.advantage_cap,
    )  # fmt: skip
    order = torch.randperm(
        len(parts), generator=torch.Generator().manual_seed(int(facts["reward/pixel"] * 1e6) % 2**31)
    )
    share = -(-len(parts) // config.updates)
    logged: dict[str, list[Tensor]] = {"ratio": [], "kl": [], "clip_share": [], "velocity_norm": []}
    gradient = 0.0
    for start in range(0, len(order), share):
        chunk = order[start : start + share]
        optimiser.zero_grad(set_to_none=True)
        total = sum(parts[int(p)].stop - parts[int(p)].start for p in chunk)
        for p in chunk.tolist():
            rows = many.rows(parts[p])
            for step in results[p][1]:
                done = policy_loss(step, advantages[parts[p]], policy(rows), _disabled(pipeline, rows), config)
                scale = (parts[p].stop - parts[p].start) / total / max(len(results[p][1]), 1)
                torch.autograd.backward(done.loss * scale)
                logged["ratio"].append(done.ratio)
                logged["kl"].append(done.kl)
                logged["clip_share"].append(done.clipped)
                logged["velocity_norm"].append(done.norm_ratio)
        if config.anchor > 0:
            supervised = supervised_loss(pipeline, transformer, conditions, clean, sft, generator).mean()
            torch.autograd.backward(config.anchor * supervised)
            facts["anchor"] = float(supervised.detach())
        held = [q for group in optimiser.param_groups for q in group["params"]]
        gradient = norm(q.grad for q in held)
        torch.nn.utils.clip_grad_norm_(held, config.clip)
        optimiser.step()
    facts |= {name: float(torch.cat(values).mean()) for name, values in logged.items() if values}
    facts["ratio_spread"] = float((torch.cat(logged["ratio"]) - 1).abs().max()) if logged["ratio"] else 0.0
    return facts | {"gradient": gradient}


def gate_iteration(
    pipeline: OmniRefinerPipeline, config: GRPOConfig, sft: SupervisedConfig, batch: Quadruplets,
    embedded: tuple[Tensor, Tensor], similarity: Perceptual, optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, float]:  # fmt: skip
    """As :func:`grpo_iteration`, but the group explores the gates (:mod:`refbench.omnirefiner.tiny.gates`)."""
    transformer = pipeline.transformer
    conditions, clean = encode_batch(pipeline, batch, embedded, reference=True)
    noise = torch.randn(conditions.draft.shape, generator=generator, device=generator.device).to(conditions.draft)
    found = now = opening(pipeline, conditions, noise, config.patch)
    old = found.mean.detach()
    held, alone = found, found.change
    if config.kl > 0 or config.drift_weight > 0:
        with torch.no_grad():
            transformer.disable_adapters()
            held = opening(pipeline, conditions, noise, config.patch)
            if config.drift_weight > 0:
                alone = unguided(pipeline, conditions, noise)
            transformer.enable_adapters()
    actions, advantages, facts = explore(pipeline, config, batch, conditions, found, similarity, generator)
    weights = patch_grid(batch.mask, config.patch) * used_patches(batch.mask, config.patch)
    weights = weights / weights.sum((1, 2), keepdim=True)
    gradient = 0.0
    logged: dict[str, Tensor] = {}
    for update in range(config.updates):
        optimiser.zero_grad(set_to_none=True)
        if update:
            now = opening(pipeline, conditions, noise, config.patch)
        loss, logged = gate_loss(now.mean, actions, old, advantages, weights, held.mean.detach(), config)
        if config.drift_weight > 0:
            moved = drift(now.change, held.change), drift(unguided(pipeline, conditions, noise), alone)
            facts |= {"drift": float(moved[0].detach()), "drift_unguided": float(moved[1].detach())}
            loss = loss + config.drift_weight * (moved[0] + moved[1])
        torch.autograd.backward(loss)
        if config.anchor > 0:
            supervised = supervised_loss(pipeline, transformer, conditions, clean, sft, generator).mean()
            torch.autograd.backward(config.anchor * supervised)
            facts["anchor"] = float(supervised.detach())
        parameters = [q for group in optimiser.param_groups for q in group["params"]]
        gradient = norm(q.grad for q in parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
    facts |= {name: float(values.mean()) for name, values in logged.items()}
    facts["ratio_spread"] = float((logged["ratio"] - 1).abs().max())
    return facts | {"gradient": gradient}


def _disabled(pipeline: OmniRefinerPipeline, rows: Conditions) -> Velocity:
    """The stage 1 policy: the same network with its adapter switched off."""

    def reference(x: Tensor, sigma: Tensor) -> Tensor:
        pipeline.transformer.disable_adapters()
        try:
            return pipeline.policy(x, sigma, rows)
        finally:
            pipeline.transformer.enable_adapters()

    return reference
