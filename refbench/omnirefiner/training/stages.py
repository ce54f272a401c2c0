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

from refbench.errors import RefbenchError, UnavailableError
from refbench.omnirefiner.config import LORA_FILE, Config, Stage, load_config
from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.models import Aligner
from refbench.omnirefiner.training.checks import check_start, check_training, learns_on_scenes, samples_of, size_of
from refbench.omnirefiner.training.data import Quadruplets, Source, exchanged, lay_references, open_sampler
from refbench.omnirefiner.training.loop import load_state, trainable
from refbench.omnirefiner.training.prepared import Drawing, Prepared, Progress, prepare
from refbench.omnirefiner.training.progress import Quiet, Telling
from refbench.omnirefiner.training.sft import Prompts, train_supervised
from refbench.omnirefiner.training.weights import (
    load_pipeline,
    read_card,
    save_adapter,
    save_aligner,
    save_autoencoder,
    save_base,
    take_up_adapter,
)

VALIDATION_SEED = 20_251_119
VALIDATION_SAMPLES = 48


def hardware(device: str) -> str:
    """Processor and number of threads, or the GPU's name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def _card(stage: str, device: str, seed: int, facts: dict[str, Any], assets: Path) -> dict[str, Any]:
    note = assets / "README.md"
    return {
        "stage": stage, "paper": "arXiv 2511.19990", "licence": "Apache-2.0",
        "hardware": hardware(device), "seed": seed,
        "data": note.read_text().strip().splitlines()[-1] if note.is_file() else assets.name,
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
    stage: Stage | str,
    config: str | Path | Config = "tiny",
    *,
    assets: str | Path,
    out: str | Path,
    held_out: str | Path | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    resume: bool = False,
    init: str | Path | None = None,
    seed: int = 0,
    prepared: str | Path | None = None,
    samples: int | None = None,
    workers: int = 1,
    telling: Telling | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train one stage and export it.

    Args:
        stage: "autoencoder", "aligner", "base", "sft" or "grpo".
        config: a shipped name, a YAML file, or a :class:`Config`.
        assets: folder of prepared training assets.
        out: working folder; later stages find the earlier ones there.
        held_out: folder of prepared validation assets; by default validation is drawn from `assets`.
        minutes: time budget; the learning rate's schedule ends with it.
        device: "cpu", "cuda", "cuda:1", ...
        resume: go on from the stage's state in `out`; without it from the half-precision weights of the stage in `out`
            or `init`, with a fresh optimiser.
        init: checkpoint folder (the shipped one, say) to start from where `out` has no earlier stage.
        seed: of weights and data.
        prepared: folder of prepared data to learn from; what is missing of it is made first. Without it scenes are
            drawn while the stage learns.
        samples: how many are prepared; the configuration's number when None.
        workers: processes that prepare.
        telling: where the training's progress goes.
        progress: called while data is prepared, with what it is, samples done and samples in all.

    Returns:
        The exported checkpoint folder.

    Raises:
        RefbenchError: as :func:`refbench.omnirefiner.training.checks.check_training`, or there is no such device.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved, and `resume` goes on from it.
    """
    config = check_training(
        stage, config, assets=assets, out=out, held_out=held_out, minutes=minutes, device=device, resume=resume,
        init=init, seed=seed, prepared=prepared, samples=samples, workers=workers,
    )  # fmt: skip
    _check_device(device)
    telling = telling or Quiet()
    assets, out = Path(assets), Path(out)
    held = Path(held_out or assets)
    model = out / "model"
    if resume and not (out / stage / "state.pt").is_file():
        telling.note(f"{stage}: no saved state at {out / stage}; it starts from the weights that are there")
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    if stage == "autoencoder":
        from refbench.omnirefiner.models import PatchAutoencoder, build_autoencoder
        from refbench.omnirefiner.tiny.autoencoder import (
            crops,
            reconstruction_psnr,
            train_autoencoder,
        )

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            vae = build_autoencoder(config.model.autoencoder)
        telling.tick("autoencoder: drawing its pictures")
        training, check = _pictures(assets)
        if isinstance(vae, PatchAutoencoder):
            generator = torch.Generator().manual_seed(seed)
            vae.fit(crops(training, 1500, config.model.working_size // 2, generator))
            shown = crops(check, 48, config.model.working_size // 2, generator)
            fitted = {"psnr": round(reconstruction_psnr(vae, shown), 2), "method": "principal components, closed form"}
            save_autoencoder(vae, out / "vae", _card(stage, device, seed, fitted, assets))
            return out / "vae"
        facts = train_autoencoder(
            vae,
            training,
            check,
            out / "autoencoder",
            minutes=minutes or 12.0,
            seed=seed,
            device=device,
            telling=telling,
        )
        save_autoencoder(vae, out / "vae", _card(stage, device, seed, dict(facts), assets))
        return out / "vae"
    if stage == "aligner":
        from refbench.omnirefiner.tiny.aligning import train_aligner
        from refbench.omnirefiner.tiny.scenes import SceneSource

        assert config.aligner is not None
        found = out / "aligner" / "model"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            kept = [found, Path(init) / "aligner"] if init else [found]
            start = next((f for f in kept if resume and (f / "config.json").is_file()), None)
            aligner = Aligner(config.aligner.widths, rounds=config.aligner.rounds, finer=config.aligner.finer)
            if start:
                aligner.load_state_dict(Aligner.from_pretrained(start).state_dict())
        strength = config.aligner.strength
        ready = None
        if prepared is not None:
            pairs = drawing_of(stage, config, assets)
            ready = prepare(
                pairs, prepared, samples or samples_of(stage, config), seed=seed, workers=workers, progress=progress
            )
        facts = train_aligner(
            aligner, config.aligner, SceneSource(assets, strength), SceneSource(held, strength), out / "aligner",
            minutes=minutes, device=device, resume=resume, seed=seed, prepared=ready, telling=telling,
        )  # fmt: skip
        save_aligner(aligner.cpu(), found, _card(stage, device, seed, facts, assets))
        return found
    telling.tick(f"{stage}: loading the model")
    pipeline = _start(stage, config, out, init, seed)
    if resume and not (out / stage / "state.pt").is_file():
        _take_up(stage, pipeline, config, out, init)
    prompts = prompts_of(pipeline)
    source: Source | None = None
    fresh: dict[str, Quadruplets] = {}
    if learns_on_scenes(stage, config):
        source, fresh["scene"] = _scenes(
            stage, config, pipeline, assets, held, seed, prepared, samples, workers, telling, progress
        )
    if prepared is not None:  # what is prepared costs nothing to draw
        config = config.model_copy(update={
            "sft": config.sft.model_copy(update={"reuse": 1}), "grpo": config.grpo.model_copy(update={"reuse": 1}),
        })  # fmt: skip
    telling.tick(f"{stage}: held-out samples")
    if stage == "grpo":
        from refbench.omnirefiner.training.grpo import train_grpo

        sampler = open_sampler(assets, config.grpo.size, device, seed, config.sft.strength)
        check_batches = held_out_batches(
            held, config.grpo.size, device, laying=pipeline.config.laying == "blend", aligner=pipeline.aligner
        )
        facts = train_grpo(
            pipeline, config.grpo, config.sft, sampler, check_batches | fresh, prompts, out / "grpo", minutes=minutes,
            device=device, resume=resume, seed=seed, source=source, telling=telling,
        )  # fmt: skip
    else:
        settings = config.base if stage == "base" else config.sft
        assert settings is not None
        sampler = open_sampler(assets, settings.size, device, seed, settings.strength)
        check_batches = held_out_batches(
            held, settings.size, device, laying=stage == "sft" and pipeline.config.laying == "blend",
            aligner=pipeline.aligner,
        )  # fmt: skip
        facts = train_supervised(
            pipeline, settings, sampler, check_batches | fresh, prompts, out / stage, stage=stage, minutes=minutes,
            device=device, resume=resume, seed=seed, source=source, telling=telling,
        )  # fmt: skip
    card = _card(stage, device, seed, facts, assets)
    pipeline.to("cpu")
    if stage == "base":
        if (out / "vae" / "card.json").is_file():
            save_autoencoder(pipeline.vae, model / "vae", read_card(out / "vae"))
        save_base(pipeline, model, card)
        if (out / "aligner" / "model" / "card.json").is_file():
            save_aligner(pipeline.aligner, model / "aligner", read_card(out / "aligner" / "model"))
    else:
        save_adapter(_adapter_state(pipeline), pipeline.transformer, "default", model / "adapters" / stage, card)
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


def drawing_of(stage: str, config: Config, assets: Path, pipeline: OmniRefinerPipeline | None = None) -> Drawing:
    """What draws the samples of a stage that learns on placed scenes.

    Args:
        pipeline: that the stage starts from; the aligner needs none.
    """
    from refbench.omnirefiner.tiny.aligning import ScenePairs
    from refbench.omnirefiner.tiny.scenes import SceneQuadruplets, SceneSource

    if stage == "aligner":
        assert config.aligner is not None
        return ScenePairs(SceneSource(assets, config.aligner.strength), config.aligner, 0)
    assert pipeline is not None
    scenes = SceneSource(assets, config.sft.strength)
    return SceneQuadruplets(scenes, size_of(stage, config), pipeline.config.laying, pipeline.aligner, 0)


def prepare_stage(
    stage: str,
    config: str | Path | Config = "tiny",
    *,
    assets: str | Path,
    out: str | Path,
    prepared: str | Path,
    init: str | Path | None = None,
    seed: int = 0,
    samples: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Prepared:
    """Only prepare the data of a stage; a training with the same arguments then finds it.

    Arguments and errors as :func:`train`.
    """
    config = check_training(
        stage, config, assets=assets, out=out, init=init, seed=seed, prepared=prepared, samples=samples, workers=workers
    )
    pipeline = None if stage == "aligner" else _start(stage, config, Path(out), init, seed)
    drawing = drawing_of(stage, config, Path(assets), pipeline)
    count = samples or samples_of(stage, config)
    return prepare(drawing, prepared, count, seed=seed, workers=workers, progress=progress)


def _scenes(
    stage: str, config: Config, pipeline: OmniRefinerPipeline, assets: Path, held: Path, seed: int,
    prepared: str | Path | None, samples: int | None, workers: int, telling: Telling, progress: Progress | None,
) -> tuple[Source, Quadruplets]:  # fmt: skip
    """What draws placed scenes, and a batch of held-out ones."""
    from refbench.omnirefiner.tiny.scenes import SceneQuadruplets, SceneSource, stream

    size, laying, aligner = size_of(stage, config), pipeline.config.laying, pipeline.aligner
    if prepared is not None:
        count = samples or samples_of(stage, config)
        ready, check = (
            prepare(
                drawing_of(stage, config, folder, pipeline), prepared, n, seed=s, workers=workers, progress=progress
            )
            for folder, n, s in ((assets, count, seed), (held, VALIDATION_SAMPLES, VALIDATION_SEED))
        )
        shown = Quadruplets(*check.rows(torch.arange(VALIDATION_SAMPLES)))
        return lambda number, generator: Quadruplets(*ready.draw(number, generator)), shown
    telling.note(f"{stage}: {VALIDATION_SAMPLES} held-out scenes are placed")
    held_scenes, scenes = (SceneSource(folder, config.sft.strength) for folder in (held, assets))
    shown = stream(SceneQuadruplets(held_scenes, size, laying, aligner, VALIDATION_SEED), 0)(VALIDATION_SAMPLES)
    first = 1000 * (seed + (7 if stage == "grpo" else 0) + 1)
    drawn = stream(SceneQuadruplets(scenes, size, laying, aligner, first), config.sft.workers)
    return lambda number, generator: drawn(number), shown


def train_all(
    config: str | Path | Config = "tiny",
    *,
    assets: str | Path,
    out: str | Path,
    minutes: float,
    held_out: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
    prepared: str | Path | None = None,
    samples: int | None = None,
    workers: int = 1,
    telling: Telling | None = None,
    progress: Progress | None = None,
) -> Path:
    """Every stage one after the other in one budget: 20 % aligner, 20 % base, 45 % stage 1, 15 % stage 2.

    A configuration without an aligner gives its share to the other stages. With `resume` finished stages are left
    alone and the one that was stopped goes on with what is left of its share. Arguments and errors as :func:`train`.

    Returns:
        The exported checkpoint folder.
    """
    config = config if isinstance(config, Config) else load_config(config)
    found, place, telling = Path(out), Path(out), telling or Quiet()
    shares = {"aligner": 0.2, "base": 0.2, "sft": 0.45, "grpo": 0.15}
    if config.aligner is None:
        del shares["aligner"]
    exported = {
        "autoencoder": place / "vae", "aligner": place / "aligner" / "model", "base": place / "model" / "transformer",
        "sft": place / "model" / "adapters" / "sft", "grpo": place / "model" / "adapters" / "grpo",
    }  # fmt: skip
    for stage, share in ({"autoencoder": 0.0} | shares).items():
        state = load_state(place / stage / "state.pt") if resume else None
        left = 1.0 if state is None else 1.0 - float(state["progress"])
        if resume and exported[stage].is_dir() and (left <= 0 or (state is None and stage == "autoencoder")):
            telling.note(f"{stage}: finished before, left as it is")
            found = exported[stage]
            continue
        scenes, whole = learns_on_scenes(stage, config), sum(shares.values())
        found = train(
            stage, config, assets=assets, out=out, held_out=held_out, device=device, seed=seed,
            resume=state is not None, minutes=max(minutes * share / whole * left, 1e-3) if share else None,
            prepared=prepared if scenes else None, samples=samples, workers=workers, telling=telling, progress=progress,
        )  # fmt: skip
    return found


def _adapter_state(pipeline: OmniRefinerPipeline) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in trainable(pipeline.transformer).items()}


def _start(stage: str, config: Config, out: Path, init: str | Path | None, seed: int) -> OmniRefinerPipeline:
    """The pipeline a stage starts from: fresh, from the working folder, from `init`, or a trained base (full scale)."""
    from diffusers import AutoencoderKL

    from refbench.omnirefiner.models import PatchAutoencoder

    check_start(stage, config, out, None if init is None else Path(init))
    model = out / "model"
    earlier: tuple[str, ...] = ("sft",) if stage == "grpo" else ()
    source = model if (model / "model_index.json").is_file() else (Path(init) if init else None)
    if stage == "base":
        if init is not None:
            return load_pipeline(init)
        pipeline = OmniRefinerPipeline.fresh(config.model, seed)
        kind = PatchAutoencoder if "patch" in config.model.autoencoder else AutoencoderKL
        pipeline.register_modules(vae=kind.from_pretrained(out / "vae", torch_dtype=torch.float32))
        aligner = out / "aligner" / "model"
        if (aligner / "config.json").is_file():
            pipeline.register_modules(aligner=Aligner.from_pretrained(aligner))
        return pipeline
    if source is not None:
        return load_pipeline(source, earlier)
    from refbench.omnirefiner.flux.kontext import load_kontext

    return load_kontext(config.model, adapters=[out / "model" / "adapters" / name for name in earlier])


def _take_up(stage: str, pipeline: OmniRefinerPipeline, config: Config, out: Path, init: str | Path | None) -> None:
    """Go on from a stage's exported adapter where its full state is gone; the optimiser starts afresh."""
    if stage not in ("sft", "grpo"):
        return
    rank, alpha = (config.sft.lora_rank, config.sft.lora_alpha) if stage == "sft" else (config.grpo.lora_rank, None)
    for source in [out / "model"] + ([Path(init)] if init else []):
        folder = source / "adapters" / stage
        if (folder / LORA_FILE).is_file():
            assert rank is not None
            take_up_adapter(pipeline.transformer, folder, rank, alpha)
            return


def export_state(
    stage: str,
    config: str | Path | Config,
    out: str | Path,
    assets: str | Path = "",
    *,
    device: str = "cpu",
    seed: int = 0,
) -> Path:
    """Export a stage's last saved moving average while it still trains, or after a kill."""
    from refbench.omnirefiner.training.loop import add_lora, copy_into

    config = config if isinstance(config, Config) else load_config(config)
    out = Path(out)
    state = load_state(out / stage / "state.pt")
    if state is None:
        raise RefbenchError(f"Expected training state at {out / stage / 'state.pt'}, but there is none; train first.")
    pipeline = _start(stage, config, out, None, 0)
    facts = {k: state[k] for k in ("step", "samples", "minutes", "progress")}
    card = _card(stage, device, seed, facts | {"note": "exported from saved state"}, Path(assets))
    if stage == "base":
        copy_into(dict(pipeline.transformer.named_parameters()), state["average"])
        save_base(pipeline, out / "model", card)
    else:
        rank = config.sft.lora_rank if stage == "sft" else config.grpo.lora_rank
        assert rank is not None
        add_lora(pipeline.transformer, rank, config.sft.lora_alpha if stage == "sft" else None)
        copy_into(trainable(pipeline.transformer), state["average"])
        folder = out / "model" / "adapters" / stage
        save_adapter(_adapter_state(pipeline), pipeline.transformer, "default", folder, card)
    return out / "model"
