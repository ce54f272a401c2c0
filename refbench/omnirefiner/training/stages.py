"""Entry point of training: one stage of one configuration, resumable, with a budget of minutes.

A working folder holds ``vae/``, one folder of state and log a stage (``base/``, ``sft/``, ``grpo/``) and the exported
checkpoint ``model/`` in the layout of :mod:`refbench.omnirefiner.training.weights`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import LORA_FILE
from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.models import PatchAutoencoder
from refbench.omnirefiner.training import loop
from refbench.omnirefiner.training.checks import Job, check_device, check_start
from refbench.omnirefiner.training.data import Quadruplets, exchanged, open_sampler
from refbench.omnirefiner.training.lora import add_lora, copy_into, trainable
from refbench.omnirefiner.training.progress import Quiet, Telling
from refbench.omnirefiner.training.sft import Prompts, SupervisedLearner
from refbench.omnirefiner.training.state import load_state
from refbench.omnirefiner.training.weights import (
    load_pipeline,
    read_card,
    save_adapter,
    save_autoencoder,
    save_base,
    take_up_adapter,
)
from refbench.trackers import Tracking, untracked

VALIDATION_SEED = 20_251_119
VALIDATION_SAMPLES = 48


def hardware(device: str) -> str:
    """Processor and number of threads, or the GPU's name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def _card(job: Job, facts: dict[str, Any]) -> dict[str, Any]:
    note = job.assets / "README.md"
    return {
        "stage": job.stage, "paper": "arXiv 2511.19990", "licence": "Apache-2.0",
        "hardware": hardware(job.device), "seed": job.seed, "base": job.config.model.pretrained,
        "data": note.read_text().strip().splitlines()[-1] if note.is_file() else job.assets.name,
        "command": shlex.join(["refbench", *sys.argv[1:]]), "torch": torch.__version__, **facts,
    }  # fmt: skip


def held_out_batches(assets: Path, size: int, device: str) -> dict[str, Quadruplets]:
    """Two fixed validation batches: `near` (misalignment up to 0.3) and `far` (all of it)."""
    out = {}
    for name, low, high in (("near", 0.0, 0.3), ("far", 0.3, 1.0)):
        sampler = open_sampler(assets, size, "cpu", VALIDATION_SEED)
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        levels = torch.rand(VALIDATION_SAMPLES, generator=generator) * (high - low) + low
        batch = sampler.batch(VALIDATION_SAMPLES, levels, details=True)
        draft, reference, target = (batch[k].to(device) * 2 - 1 for k in ("draft", "reference", "target"))
        mask = batch["mask"].to(device)
        out[name] = Quadruplets(draft, reference, target, mask, exchanged(batch).to(mask))
    return out


def prompts_of(pipeline: OmniRefinerPipeline) -> Prompts:
    """The two training instructions, embedded once."""
    with torch.no_grad():
        states, pooled = pipeline.embed_prompts([RESTORE, REPLACE])

    def chosen(other: Tensor) -> tuple[Tensor, Tensor]:
        which = (other > 0.5).long().to(states.device)
        return states[which], pooled[which]

    return chosen


def _pictures(assets: Path) -> tuple[list[Any], list[Any]]:
    """Pictures for the autoencoder: training targets, surfaces, frames, and procedural plates; and held-out ones."""
    import numpy as np

    from refbench.omnirefiner.tiny.procedural import plate
    from refbench.tasks.sampler import QuadrupletSampler

    sampler = QuadrupletSampler(assets, 128)
    generator = torch.Generator().manual_seed(0)
    batches = [sampler.batch(16, 1.0)["target"] for _ in range(40)]
    found = [np.asarray((x.permute(1, 2, 0) * 255).round().to(torch.uint8)) for b in batches for x in b]
    found += [np.ascontiguousarray(x.permute(1, 2, 0)) for x in sampler.surfaces]
    found += [np.ascontiguousarray(c[k].permute(1, 2, 0)) for c in sampler.clips for k in (0, 3)]
    rng = np.random.default_rng(0)
    found += [plate(rng, 128) for _ in range(150)]
    found = [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]
    return found[48:], found[:48]


def train(job: Job, *, telling: Telling | None = None, track: Tracking = untracked) -> Path:
    """Train one stage and export it.

    Args:
        telling: where the training's progress goes.
        track: as :func:`refbench.omnirefiner.training.loop.train`.

    Returns:
        The exported checkpoint folder.

    Raises:
        RefbenchError: as :meth:`refbench.omnirefiner.training.checks.Job.check`, or there is no such device.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved, and `resume` goes on from it.
    """
    job.check()
    check_device(job.device)
    telling = telling or Quiet()
    if job.resume and not job.state.is_file():
        telling.note(f"{job.stage}: no saved state at {job.out / job.stage}; it starts from the weights that are there")
    if job.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    if job.stage == "autoencoder":
        telling.tick("autoencoder: drawing its pictures")
        return _fit_autoencoder(job)
    return _train_refiner(job, telling, track)


def _fit_autoencoder(job: Job) -> Path:
    from refbench.omnirefiner.tiny.autoencoder import crops, reconstruction_psnr

    vae, size = PatchAutoencoder(**job.config.model.autoencoder), job.config.model.working_size // 2
    training, check = _pictures(job.assets)
    generator = torch.Generator().manual_seed(job.seed)
    vae.fit(crops(training, 1500, size, generator))
    shown = crops(check, 48, size, generator)
    facts = {"psnr": round(reconstruction_psnr(vae, shown), 2), "method": "principal components, closed form"}
    save_autoencoder(vae, job.out / "vae", _card(job, facts))
    return job.out / "vae"


def _train_refiner(job: Job, telling: Telling, track: Tracking) -> Path:
    stage, config, device, seed = job.stage, job.config, job.device, job.seed
    telling.tick(f"{stage}: loading the model")
    pipeline = start(job)
    if job.resume and not job.state.is_file():
        take_up(job, pipeline)
    telling.tick(f"{stage}: held-out samples")
    settings = config.base if stage == "base" else config.sft
    assert settings is not None
    size = config.grpo.size if stage == "grpo" else settings.size
    sampler = open_sampler(job.assets, size, device, seed, settings.strength)
    checks = held_out_batches(job.held_out or job.assets, size, device)
    prompts = prompts_of(pipeline)
    if stage == "grpo":
        from refbench.omnirefiner.training.grpo import GRPOLearner

        learner: loop.Learner = GRPOLearner(
            pipeline, config.grpo, config.sft, sampler, checks, prompts, device=device, seed=seed
        )
    else:
        learner = SupervisedLearner(pipeline, settings, sampler, checks, prompts, stage=stage, device=device, seed=seed)
    facts = loop.train(learner, job.state.parent, minutes=job.minutes, resume=job.resume, telling=telling, track=track)
    pipeline.to("cpu")
    return _export(job, pipeline, facts)


def _export(job: Job, pipeline: OmniRefinerPipeline, facts: dict[str, Any]) -> Path:
    model, card = job.out / "model", _card(job, facts)
    if job.stage != "base":
        state = {name: p.detach() for name, p in trainable(pipeline.transformer).items()}
        save_adapter(state, pipeline.transformer, "default", model / "adapters" / job.stage, card)
        return model
    if (job.out / "vae" / "card.json").is_file():
        save_autoencoder(pipeline.vae, model / "vae", read_card(job.out / "vae"))
    save_base(pipeline, model, card)
    return model


def train_all(job: Job, *, telling: Telling | None = None, track: Tracking = untracked) -> Path:
    """Every stage one after the other in one budget: 25 % base, 55 % stage 1, 20 % stage 2.

    With `resume` finished stages are left alone and the one that was stopped goes on with what is left of its share.
    Arguments and errors as :func:`train`; the job's stage is without effect.

    Returns:
        The exported checkpoint folder.
    """
    found, telling = job.out, telling or Quiet()
    exported = {
        "autoencoder": job.out / "vae", "base": job.out / "model" / "transformer",
        "sft": job.out / "model" / "adapters" / "sft", "grpo": job.out / "model" / "adapters" / "grpo",
    }  # fmt: skip
    assert job.minutes is not None
    for stage, share in {"autoencoder": 0.0, "base": 0.25, "sft": 0.55, "grpo": 0.2}.items():
        one = replace(job, stage=stage)
        state = load_state(one.state) if job.resume else None
        left = 1.0 if state is None else 1.0 - float(state["progress"])
        if job.resume and exported[stage].is_dir() and (left <= 0 or (state is None and stage == "autoencoder")):
            telling.note(f"{stage}: finished before, left as it is")
            found = exported[stage]
            continue
        minutes = max(job.minutes * share * left, 1e-3) if share else None
        found = train(replace(one, resume=state is not None, minutes=minutes), telling=telling, track=track)
    return found


def start(job: Job) -> OmniRefinerPipeline:
    """The pipeline a stage starts from: fresh, from the working folder, from `init`, or a trained base (full scale)."""
    check_start(job.stage, job.config, job.out, job.init)
    model = job.out / "model"
    earlier: tuple[str, ...] = ("sft",) if job.stage == "grpo" else ()
    if job.stage == "base":
        if job.init is not None:
            return load_pipeline(job.init)
        pipeline = OmniRefinerPipeline.fresh(job.config.model, job.seed)
        pipeline.register_modules(vae=PatchAutoencoder.from_pretrained(job.out / "vae"))
        return pipeline
    source = model if (model / "model_index.json").is_file() else job.init
    if source is not None:
        return load_pipeline(source, earlier)
    from refbench.omnirefiner.flux.kontext import load_kontext

    return load_kontext(job.config.model, adapters=[model / "adapters" / name for name in earlier])


def _rank(job: Job) -> tuple[int, int | None]:
    """Rank and alpha of a stage's adapter."""
    if job.stage == "grpo":
        return job.config.grpo.lora_rank, None
    assert job.config.sft.lora_rank is not None
    return job.config.sft.lora_rank, job.config.sft.lora_alpha


def take_up(job: Job, pipeline: OmniRefinerPipeline) -> None:
    """Go on from a stage's exported adapter where its full state is gone; the optimiser starts afresh."""
    if job.stage not in ("sft", "grpo"):
        return
    for source in [job.out / "model"] + ([job.init] if job.init else []):
        folder = source / "adapters" / job.stage
        if (folder / LORA_FILE).is_file():
            take_up_adapter(pipeline.transformer, folder, *_rank(job))
            return


def export_state(job: Job) -> Path:
    """Export a stage's last saved moving average while it still trains, or after a kill.

    Raises:
        RefbenchError: there is no state, or it is damaged.
    """
    state = load_state(job.state)
    if state is None:
        raise RefbenchError(f"Expected training state at {job.state}, but there is none; train first.")
    pipeline = start(job)
    if job.stage != "base":
        add_lora(pipeline.transformer, *_rank(job))
    copy_into(trainable(pipeline.transformer), state["average"])
    facts = {k: state[k] for k in ("step", "samples", "minutes", "progress")}
    return _export(job, pipeline, facts | {"note": "exported from saved state"})
