"""Training of the aligner: flows between clean targets, random bends on top, and the target itself as witness.

The flow to be found from a *spoilt* draft is known here, because in training the clean target is: dense inverse search
(Kroeger et al., ECCV 2016) finds it between target and reference where both show the same, and a random smooth bend of
the reference adds one that is known exactly.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refbench.omnirefiner.aligner import Aligner, even_light, flow_error, warp_by
from refbench.omnirefiner.config import AlignerConfig
from refbench.omnirefiner.data import Quadruplets, Reservoir, Sampler, draw
from refbench.omnirefiner.trainer import Average, Budget, append_log, copy_into, learning_rate, load_state, save_state
from refbench.registration.opencv import cv2

FARTHEST = 20.0
"""Px beyond which a found flow is not believed."""


def known_flow(target: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (B, 2, S, S) in px from clean targets to references (B, 3, S, S), and where it is right (B, 1, S, S)."""
    grey = [((x.mean(1) + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu().numpy() for x in (target, reference)]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = np.stack([search.calc(a, b, None) for a, b in zip(*grey, strict=True)])
    flow = torch.from_numpy(found).permute(0, 3, 1, 2).to(target)
    apart = (even_light(target) - even_light(warp_by(reference, flow))).abs().mean(1, keepdim=True)
    apart = F.avg_pool2d(F.pad(apart, (2,) * 4, mode="reflect"), 5, 1)
    near = flow.square().sum(1, keepdim=True).sqrt() < FARTHEST
    return flow, torch.sigmoid((0.55 - apart) * 12) * near


def bend(reference: Tensor, flow: Tensor, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """References (B, 3, S, S) bent at random by up to about `most` px, and the flow (B, 2, S, S) that now leads there.

    With ``r'(x) = r(x - g(x))`` and smooth g, ``r'(x + f + g(x + f))`` is ``r(x + f)`` to first order.
    """
    batch, side = len(flow), flow.shape[-1]
    cells = int(torch.randint(2, 5, (1,), generator=generator, device=generator.device))
    size = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device).square() * most
    coarse = torch.randn(batch, 2, cells, cells, generator=generator, device=generator.device) * size
    bent = F.interpolate(coarse.to(flow), (side, side), mode="bicubic", align_corners=True)
    return warp_by(reference, -bent), flow + warp_by(bent, flow)


@torch.no_grad()
def validate_aligner(aligner: Aligner, batch: Quadruplets, flow: Tensor, sure: Tensor) -> dict[str, float]:
    """Inside the masks: endpoint error in px, before and after, and the distance of the evenly lit pictures.

    `apart` is of the moved reference, `apart_before` as it was, `apart_draft` the draft's own.
    """
    found = aligner(batch.draft, batch.reference, batch.mask)[-1]
    weights = sure * batch.mask

    def endpoint(guess: Tensor) -> float:
        return float(((guess - flow).square().sum(1, keepdim=True).sqrt() * weights).sum() / weights.sum())

    def apart(picture: Tensor) -> float:
        off = (even_light(picture) - even_light(batch.target)).abs().mean(1, keepdim=True)
        return float((off * batch.mask).sum() / batch.mask.sum())

    return {
        "endpoint": endpoint(found), "endpoint_before": endpoint(torch.zeros_like(found)),
        "apart": apart(warp_by(batch.reference, found)), "apart_before": apart(batch.reference),
        "apart_draft": apart(batch.draft),
    }  # fmt: skip


def train_aligner(
    aligner: Aligner,
    config: AlignerConfig,
    sampler: Sampler,
    held_out: Sampler,
    out: Path,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Train until `config.steps` or `minutes`; `aligner` ends as its moving average.

    Args:
        aligner: trained in place.
        sampler, held_out: training and validation data.
        out: folder for ``log.jsonl`` and ``state.pt``.

    Returns:
        Facts for the card.
    """
    torch.nn.Module.to(aligner, device)
    aligner.train().requires_grad_(True)
    names = dict(aligner.named_parameters())
    optimiser = torch.optim.AdamW(names.values(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    average = Average(names, config.ema)
    step, spent_before, start = 0, 0.0, 0.0
    state = load_state(out / "state.pt") if resume else None
    if state is not None:
        copy_into(names, state["weights"])
        average.shadow = {k: v.to(device) for k, v in state["average"].items()}
        average.count = state["count"]
        optimiser.load_state_dict(state["optimiser"])
        step, spent_before, start = state["step"], state["minutes"], state["progress"]
    generator = torch.Generator(device).manual_seed(seed + 5 + step)

    def fresh(count: int, source: Sampler = sampler) -> Quadruplets:
        return draw(source, count, config.largest, generator, wild=config.wild, light=config.light)

    check = fresh(config.validate_samples, held_out)
    check_flow = known_flow(check.target, check.reference)
    reservoir = Reservoir(fresh, 64 * config.batch, config.reuse)
    budget = Budget(config.steps, minutes, start if start < 1 else 0.0)
    saved, last, total, seen = time.monotonic(), {}, 0.0, 0

    def save(progress: float) -> None:
        save_state(out / "state.pt", {
            "weights": {k: p.detach().cpu() for k, p in names.items()},
            "average": {k: v.cpu() for k, v in average.shadow.items()}, "count": average.count,
            "optimiser": optimiser.state_dict(), "step": step, "samples": step * config.batch, "progress": progress,
            "minutes": spent_before + budget.spent,
        })  # fmt: skip

    while (progress := budget.progress(step)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, progress, config.lr, 100)
        batch = reservoir.draw(config.batch, generator)
        flow, sure = known_flow(batch.target, batch.reference)
        reference = batch.reference
        if float(torch.rand((), generator=generator, device=device)) < config.bent:
            reference, flow = bend(reference, flow, config.bend, generator)
        found = aligner(batch.draft, reference, batch.mask)
        loss = flow_error(found, even_light(reference), even_light(batch.target), batch.mask, flow, sure).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(list(names.values()), 1.0)
        optimiser.step()
        average.update(names)
        step, total, seen = step + 1, total + float(loss.detach()), seen + 1
        if step % config.validate_every == 0:
            average.swap(names)
            last = validate_aligner(aligner, check, *check_flow)
            average.swap(names)
            append_log(
                out / "log.jsonl", stage="aligner", step=step, samples=step * config.batch, loss=total / seen,
                minutes=spent_before + budget.spent, progress=progress, **last,
            )  # fmt: skip
            total, seen = 0.0, 0
        if time.monotonic() - saved > 60 * config.save_minutes:
            save(progress)
            saved = time.monotonic()
    save(1.0)
    average.swap(names)
    last = validate_aligner(aligner.eval(), check, *check_flow)
    return {
        "steps": step, "samples": step * config.batch, "minutes": round(spent_before + budget.spent, 1),
        "validation": last, "config": config.model_dump(),
    }  # fmt: skip
