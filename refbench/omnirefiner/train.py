"""Entry point of training: one stage of one configuration, resumable, with a budget of minutes.

A working folder holds ``vae/``, one folder of state and log a stage (``base/``, ``sft/``, ``grpo/``) and the exported
checkpoint ``model/`` in the layout of :mod:`refbench.omnirefiner.weights`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refbench.errors import RefbenchError
from refbench.omnirefiner.config import Config, Stage, SupervisedConfig, load_config
from refbench.omnirefiner.data import Quadruplets, exchanged, lay_references, open_sampler
from refbench.omnirefiner.instructions import REPLACE, RESTORE
from refbench.omnirefiner.models import Aligner
from refbench.omnirefiner.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.plain import LORA_FILE
from refbench.omnirefiner.sft import Prompts, train_supervised
from refbench.omnirefiner.trainer import load_state, trainable
from refbench.omnirefiner.weights import (
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

    from refbench.omnirefiner.procedural import plate
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

    Returns:
        The exported checkpoint folder.

    Raises:
        RefbenchError: an unknown stage, or a missing earlier stage.
    """
    config = config if isinstance(config, Config) else load_config(config)
    assets, out = Path(assets), Path(out)
    model = out / "model"
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    if stage == "autoencoder":
        from refbench.omnirefiner.autoencoder import (
            build_autoencoder,
            crops,
            reconstruction_psnr,
            train_autoencoder,
        )
        from refbench.omnirefiner.models import PatchAutoencoder

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            vae = build_autoencoder(config.model.autoencoder)
        training, check = _pictures(assets)
        if isinstance(vae, PatchAutoencoder):
            generator = torch.Generator().manual_seed(seed)
            vae.fit(crops(training, 1500, config.model.working_size // 2, generator))
            shown = crops(check, 48, config.model.working_size // 2, generator)
            fitted = {"psnr": round(reconstruction_psnr(vae, shown), 2), "method": "principal components, closed form"}
            save_autoencoder(vae, out / "vae", _card(stage, device, seed, fitted, assets))
            return out / "vae"
        facts = train_autoencoder(
            vae, training, check, out / "autoencoder", minutes=minutes or 12.0, seed=seed, device=device
        )
        save_autoencoder(vae, out / "vae", _card(stage, device, seed, dict(facts), assets))
        return out / "vae"
    if stage == "aligner":
        from refbench.omnirefiner.aligning import train_aligner
        from refbench.omnirefiner.scenes import open_scenes

        if config.aligner is None:
            raise RefbenchError(
                f"Expected a section 'aligner' in the configuration '{config.name}', but there is none; leave the "
                "stage out or add the section."
            )
        found = out / "aligner" / "model"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            kept = [found, Path(init) / "aligner"] if init else [found]
            start = next((f for f in kept if resume and (f / "config.json").is_file()), None)
            aligner = Aligner(config.aligner.widths, rounds=config.aligner.rounds, finer=config.aligner.finer)
            if start:
                aligner.load_state_dict(Aligner.from_pretrained(start).state_dict())
        strength = config.aligner.strength
        facts = train_aligner(
            aligner, config.aligner, partial(open_scenes, assets, strength=strength),
            partial(open_scenes, Path(held_out or assets), strength=strength), out / "aligner",
            minutes=minutes, device=device, resume=resume, seed=seed,
        )  # fmt: skip
        save_aligner(aligner.cpu(), found, _card(stage, device, seed, facts, assets))
        return found
    if stage not in ("base", "sft", "grpo"):
        raise RefbenchError(
            f"Expected a stage autoencoder, aligner, base, sft or grpo, but got '{stage}'; choose one of these."
        )
    pipeline = _start(stage, config, out, init, seed)
    if resume and not (out / stage / "state.pt").is_file():
        _take_up(stage, pipeline, config, out, init)
    prompts = prompts_of(pipeline)
    if stage == "grpo":
        from refbench.omnirefiner.grpo import train_grpo

        sampler = open_sampler(assets, config.grpo.size, device, seed, config.sft.strength)
        check_batches = held_out_batches(
            Path(held_out or assets), config.grpo.size, device, laying=pipeline.config.laying == "blend",
            aligner=pipeline.aligner,
        )  # fmt: skip
        source = _scenes(pipeline, config.sft, config.grpo.size, assets, held_out, seed + 7, check_batches)
        facts = train_grpo(
            pipeline, config.grpo, config.sft, sampler, check_batches, prompts, out / "grpo", minutes=minutes,
            device=device, resume=resume, seed=seed, source=source,
        )  # fmt: skip
    else:
        settings = config.base if stage == "base" else config.sft
        if settings is None:
            raise RefbenchError(
                f"Expected a section 'base' in the configuration '{config.name}', but it adapts a trained editor; "
                "train sft instead."
            )
        sampler = open_sampler(assets, settings.size, device, seed, settings.strength)
        check_batches = held_out_batches(
            Path(held_out or assets), settings.size, device,
            laying=stage == "sft" and pipeline.config.laying == "blend", aligner=pipeline.aligner,
        )  # fmt: skip
        source = None
        if stage == "sft":
            source = _scenes(pipeline, settings, settings.size, assets, held_out, seed, check_batches)
        facts = train_supervised(
            pipeline, settings, sampler, check_batches, prompts, out / stage, stage=stage, minutes=minutes,
            device=device, resume=resume, seed=seed, source=source,
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


def _scenes(
    pipeline: OmniRefinerPipeline, settings: SupervisedConfig, size: int, assets: Path, held_out: str | Path | None,
    seed: int, check: dict[str, Quadruplets],
) -> Callable[[int], Quadruplets] | None:  # fmt: skip
    """What draws placed scenes, where the configuration wants them; `check` gets a batch of held-out ones, "scene"."""
    if not settings.scenes:
        return None
    from refbench.omnirefiner.scenes import SceneQuadruplets, open_scenes, stream

    def of(folder: Path, seed: int) -> SceneQuadruplets:
        opened = partial(open_scenes, folder, strength=settings.strength)
        return SceneQuadruplets(opened, size, pipeline.config.laying, pipeline.aligner, seed)

    check["scene"] = stream(of(Path(held_out or assets), VALIDATION_SEED), 0)(VALIDATION_SAMPLES)
    return stream(of(assets, 1000 * (seed + 1)), settings.workers)


def train_all(
    config: str | Path | Config = "tiny",
    *,
    assets: str | Path,
    out: str | Path,
    minutes: float,
    held_out: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Path:
    """Every stage one after the other in one budget: 20 % aligner, 20 % base, 45 % stage 1, 15 % stage 2.

    A configuration without an aligner gives its share to the other stages; see :func:`train`.

    Returns:
        The exported checkpoint folder.
    """
    config = config if isinstance(config, Config) else load_config(config)
    found = Path(out)
    shares = {"aligner": 0.2, "base": 0.2, "sft": 0.45, "grpo": 0.15}
    if config.aligner is None:
        del shares["aligner"]
    train("autoencoder", config, assets=assets, out=out, device=device, seed=seed)
    for stage, share in shares.items():
        found = train(
            stage, config, assets=assets, out=out, held_out=held_out, device=device, seed=seed,
            minutes=minutes * share / sum(shares.values()),
        )  # fmt: skip
    return found


def _adapter_state(pipeline: OmniRefinerPipeline) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in trainable(pipeline.transformer).items()}


def _start(stage: str, config: Config, out: Path, init: str | Path | None, seed: int) -> OmniRefinerPipeline:
    """The pipeline a stage starts from: fresh, from the working folder, from `init`, or a trained base (full scale)."""
    from diffusers import AutoencoderKL

    from refbench.omnirefiner.models import PatchAutoencoder

    model = out / "model"
    earlier: tuple[str, ...] = ("sft",) if stage == "grpo" else ()
    source = model if (model / "model_index.json").is_file() else (Path(init) if init else None)
    if stage == "base":
        if init is not None:
            return load_pipeline(init)
        pipeline = OmniRefinerPipeline.fresh(config.model, seed)
        if not (out / "vae" / "config.json").is_file():
            raise RefbenchError(
                f"Expected a trained autoencoder at {out / 'vae'}, but there is none; run `refbench train autoencoder` "
                "first, or start from a checkpoint with --init."
            )
        kind = PatchAutoencoder if "patch" in config.model.autoencoder else AutoencoderKL
        pipeline.register_modules(vae=kind.from_pretrained(out / "vae", torch_dtype=torch.float32))
        aligner = out / "aligner" / "model"
        if (aligner / "config.json").is_file():
            pipeline.register_modules(aligner=Aligner.from_pretrained(aligner))
        return pipeline
    if source is not None:
        return load_pipeline(source, earlier)
    if config.model.pretrained is not None:
        from refbench.omnirefiner.kontext import load_kontext

        return load_kontext(config.model, adapters=[out / "model" / "adapters" / name for name in earlier])
    raise RefbenchError(
        f"Expected a trained base editor at {model}, but there is none; run `refbench train base` first, or start from "
        "a checkpoint with --init."
    )


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
    from refbench.omnirefiner.trainer import add_lora, copy_into

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
