"""Entry point of training: one stage of one configuration, resumable, with a budget of minutes.

A working folder holds ``vae/``, one folder of state and log a stage (``base/``, ``sft/``, ``grpo/``) and the exported
checkpoint ``model/`` in the layout of :mod:`refbench.omnirefiner.training.weights`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.errors import RefbenchError, UnavailableError
from refbench.omnirefiner.config import LORA_FILE
from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.models import Aligner, PatchAutoencoder
from refbench.omnirefiner.training import loop
from refbench.omnirefiner.training.checks import Job, check_start
from refbench.omnirefiner.training.data import Quadruplets, Source, exchanged, lay_references, open_sampler
from refbench.omnirefiner.training.lora import add_lora, copy_into, trainable
from refbench.omnirefiner.training.prepared import Drawing, Prepared, Progress, prepare
from refbench.omnirefiner.training.progress import Quiet, Telling
from refbench.omnirefiner.training.sft import Prompts, SupervisedLearner
from refbench.omnirefiner.training.state import load_state
from refbench.omnirefiner.training.weights import (
    load_pipeline,
    read_card,
    save_adapter,
    save_aligner,
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
        "hardware": hardware(job.device), "seed": job.seed,
        "data": note.read_text().strip().splitlines()[-1] if note.is_file() else job.assets.name,
        "command": shlex.join(["refbench", *sys.argv[1:]]), "torch": torch.__version__, **facts,
    }  # fmt: skip


def held_out_batches(
    assets: Path, size: int, device: str, *, laying: bool = False, aligner: Aligner | None = None
) -> dict[str, Quadruplets]:
    """Two fixed validation batches: `near` (misalignment up to 0.3) and `far` (all of it).

    With `laying` references are laid as in training, the shuffled ones as well.
    """
    out = {}
    for name, low, high in (("near", 0.0, 0.3), ("far", 0.3, 1.0)):
        sampler = open_sampler(assets, size, "cpu", VALIDATION_SEED)
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        levels = torch.rand(VALIDATION_SAMPLES, generator=generator) * (high - low) + low
        batch = sampler.batch(VALIDATION_SAMPLES, levels, details=True)
        draft, reference, target = (batch[k].to(device) * 2 - 1 for k in ("draft", "reference", "target"))
        mask = batch["mask"].to(device)
        right = Quadruplets(draft, reference, target, mask, exchanged(batch).to(mask))
        wrong = replace(right, reference=reference.roll(1, 0))
        if laying:
            right, wrong = (lay_references(q, batch["kind"] == 3, aligner) for q in (right, wrong))
        out[name] = replace(right, shuffled=wrong.reference)
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


def train(
    job: Job, *, telling: Telling | None = None, progress: Progress | None = None, track: Tracking = untracked
) -> Path:
    """Train one stage and export it.

    Args:
        telling: where the training's progress goes.
        progress: called while data is prepared, with what it is, samples done and samples in all.
        track: as :func:`refbench.omnirefiner.training.loop.train`; the autoencoder, a closed form, tells it nothing.

    Returns:
        The exported checkpoint folder.

    Raises:
        RefbenchError: as :meth:`refbench.omnirefiner.training.checks.Job.check`, or there is no such device.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved, and `resume` goes on from it.
    """
    job.check()
    _check_device(job.device)
    telling = telling or Quiet()
    if job.resume and not job.state.is_file():
        telling.note(f"{job.stage}: no saved state at {job.out / job.stage}; it starts from the weights that are there")
    if job.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    if job.stage == "autoencoder":
        telling.tick("autoencoder: drawing its pictures")
        return _fit_autoencoder(job)
    if job.stage == "aligner":
        return _train_aligner(job, telling, progress, track)
    return _train_refiner(job, telling, progress, track)


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


def _train_aligner(job: Job, telling: Telling, progress: Progress | None, track: Tracking) -> Path:
    from refbench.omnirefiner.tiny.aligning import AlignerLearner
    from refbench.omnirefiner.tiny.scenes import SceneSource

    config, found = job.config.aligner, job.out / "aligner" / "model"
    assert config is not None
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        kept = [found, job.init / "aligner"] if job.init else [found]
        start = next((f for f in kept if job.resume and (f / "config.json").is_file()), None)
        aligner = Aligner(config.widths, rounds=config.rounds, finer=config.finer)
        if start:
            aligner.load_state_dict(Aligner.from_pretrained(start).state_dict())
    scenes, held = (SceneSource(folder, config.strength) for folder in (job.assets, job.held_out or job.assets))
    ready = None if job.prepared is None else _prepare(job, drawing_of(job), progress)
    learner = AlignerLearner(aligner, config, scenes, held, device=job.device, seed=job.seed, prepared=ready)
    facts = loop.train(learner, job.state.parent, minutes=job.minutes, resume=job.resume, telling=telling, track=track)
    save_aligner(aligner.eval().cpu(), found, _card(job, facts))
    return found


def _train_refiner(job: Job, telling: Telling, progress: Progress | None, track: Tracking) -> Path:
    stage, config, device, seed = job.stage, job.config, job.device, job.seed
    telling.tick(f"{stage}: loading the model")
    pipeline = start(job)
    if job.resume and not job.state.is_file():
        take_up(job, pipeline)
    source: Source | None = None
    fresh: dict[str, Quadruplets] = {}
    if job.on_scenes:
        source, fresh["scene"] = _scenes(job, pipeline, telling, progress)
    sft, grpo = config.sft, config.grpo
    if job.prepared is not None:  # what is prepared costs nothing to draw
        sft, grpo = sft.model_copy(update={"reuse": 1}), grpo.model_copy(update={"reuse": 1})
    telling.tick(f"{stage}: held-out samples")
    settings = config.base if stage == "base" else sft
    assert settings is not None
    size = grpo.size if stage == "grpo" else settings.size
    sampler = open_sampler(job.assets, size, device, seed, settings.strength)
    checks = held_out_batches(
        job.held_out or job.assets, size, device, laying=stage != "base" and pipeline.config.laying == "blend",
        aligner=pipeline.aligner,
    ) | fresh  # fmt: skip
    prompts = prompts_of(pipeline)
    if stage == "grpo":
        from refbench.omnirefiner.training.grpo import GRPOLearner

        learner: loop.Learner = GRPOLearner(
            pipeline, grpo, sft, sampler, checks, prompts, device=device, seed=seed, source=source
        )
    else:
        learner = SupervisedLearner(
            pipeline, settings, sampler, checks, prompts, stage=stage, device=device, seed=seed, source=source
        )
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
    if (job.out / "aligner" / "model" / "card.json").is_file():
        save_aligner(pipeline.aligner, model / "aligner", read_card(job.out / "aligner" / "model"))
    return model


def _check_device(device: str) -> None:
    """Refuse a GPU that is not there."""
    kind, _, number = device.partition(":")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind != "cpu" and int(number or 0) >= there[kind]:
        raise UnavailableError(
            f"Expected the device {device} to train on, but torch sees {there[kind]} of its kind here; choose another "
            "with --device."
        )


def drawing_of(job: Job, pipeline: OmniRefinerPipeline | None = None) -> Drawing:
    """What draws the samples of a stage that learns on placed scenes.

    Args:
        pipeline: that the stage starts from; the aligner needs none.
    """
    from refbench.omnirefiner.tiny.aligning import ScenePairs
    from refbench.omnirefiner.tiny.scenes import SceneQuadruplets, SceneSource

    if job.stage == "aligner":
        assert job.config.aligner is not None
        return ScenePairs(SceneSource(job.assets, job.config.aligner.strength), job.config.aligner, 0)
    assert pipeline is not None
    scenes = SceneSource(job.assets, job.config.sft.strength)
    return SceneQuadruplets(scenes, job.size, pipeline.config.laying, pipeline.aligner, 0)


def _prepare(job: Job, drawing: Drawing, progress: Progress | None) -> Prepared:
    assert job.prepared is not None
    return prepare(drawing, job.prepared, job.count, seed=job.seed, workers=job.workers, progress=progress)


def prepare_stage(job: Job, progress: Progress | None = None) -> Prepared:
    """Only prepare the data of a stage; a training with the same job then finds it.

    Raises:
        RefbenchError: as :func:`train`.
    """
    job.check()
    return _prepare(job, drawing_of(job, None if job.stage == "aligner" else start(job)), progress)


def _scenes(
    job: Job, pipeline: OmniRefinerPipeline, telling: Telling, progress: Progress | None
) -> tuple[Source, Quadruplets]:
    """What draws placed scenes, and a batch of held-out ones."""
    from refbench.omnirefiner.tiny.scenes import SceneQuadruplets, stream

    held = replace(job, assets=job.held_out or job.assets, seed=VALIDATION_SEED, samples=VALIDATION_SAMPLES)
    if job.prepared is not None:
        ready, check = (_prepare(one, drawing_of(one, pipeline), progress) for one in (job, held))
        shown = Quadruplets(*check.rows(torch.arange(VALIDATION_SAMPLES)))
        return lambda number, generator: Quadruplets(*ready.draw(number, generator)), shown
    telling.note(f"{job.stage}: {VALIDATION_SAMPLES} held-out scenes are placed")

    def opened(one: Job, first: int, workers: int) -> Callable[[int], Quadruplets]:
        drawing = drawing_of(one, pipeline)
        assert isinstance(drawing, SceneQuadruplets)
        drawing.seed = first
        return stream(drawing, workers)

    shown = opened(held, VALIDATION_SEED, 0)(VALIDATION_SAMPLES)
    drawn = opened(job, 1000 * (job.seed + (7 if job.stage == "grpo" else 0) + 1), job.config.sft.workers)
    return lambda number, generator: drawn(number), shown


def train_all(
    job: Job, *, telling: Telling | None = None, progress: Progress | None = None, track: Tracking = untracked
) -> Path:
    """Every stage one after the other in one budget: 20 % aligner, 20 % base, 45 % stage 1, 15 % stage 2.

    A configuration without an aligner gives its share to the other stages. With `resume` finished stages are left
    alone and the one that was stopped goes on with what is left of its share. Arguments and errors as :func:`train`;
    the job's stage is without effect.

    Returns:
        The exported checkpoint folder.
    """
    found, telling = job.out, telling or Quiet()
    shares = {"aligner": 0.2, "base": 0.2, "sft": 0.45, "grpo": 0.15}
    if job.config.aligner is None:
        del shares["aligner"]
    exported = {
        "autoencoder": job.out / "vae", "aligner": job.out / "aligner" / "model",
        "base": job.out / "model" / "transformer", "sft": job.out / "model" / "adapters" / "sft",
        "grpo": job.out / "model" / "adapters" / "grpo",
    }  # fmt: skip
    assert job.minutes is not None
    for stage, share in ({"autoencoder": 0.0} | shares).items():
        one = replace(job, stage=stage)
        state = load_state(one.state) if job.resume else None
        left = 1.0 if state is None else 1.0 - float(state["progress"])
        if job.resume and exported[stage].is_dir() and (left <= 0 or (state is None and stage == "autoencoder")):
            telling.note(f"{stage}: finished before, left as it is")
            found = exported[stage]
            continue
        minutes = max(job.minutes * share / sum(shares.values()) * left, 1e-3) if share else None
        one = replace(one, resume=state is not None, minutes=minutes, prepared=job.prepared if one.on_scenes else None)
        found = train(one, telling=telling, progress=progress, track=track)
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
        aligner = job.out / "aligner" / "model"
        if (aligner / "config.json").is_file():
            pipeline.register_modules(aligner=Aligner.from_pretrained(aligner))
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
