"""Stage 1 by retouching, or its U-Net control, on placed scenes.

The rate has no schedule that ends with the run, so that hours add up over runs; what is used is the moving average.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from refbench.cache import cache_folder
from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
from refbench.omnirefiner.method.latents import encode
from refbench.omnirefiner.method.losses import draw_sigma, flow_loss
from refbench.omnirefiner.method.tokens import Conditions, pack
from refbench.omnirefiner.method.velocity import add_noise, call, to_velocity
from refbench.omnirefiner.retouch import losses as terms
from refbench.omnirefiner.retouch.data import Ahead, SceneBatch, SceneSampler, draw
from refbench.omnirefiner.retouch.edit import Retouch, composite, from_numbers, upsample, warp
from refbench.omnirefiner.retouch.head import RetouchHead, RetouchLayer
from refbench.omnirefiner.retouch.refiner import load_into
from refbench.omnirefiner.retouch.scenes import PlacedScenes
from refbench.omnirefiner.retouch.unet import RetouchUNet
from refbench.omnirefiner.training.checks import check_device, check_stage1, export
from refbench.omnirefiner.training.loop import Learner, Settings, Values, bfloat16, sheet, train
from refbench.omnirefiner.training.lora import add_lora, trainable
from refbench.omnirefiner.training.prepared import Progress, prepare
from refbench.omnirefiner.training.progress import Telling
from refbench.omnirefiner.training.weights import load_pipeline
from refbench.tasks.composition import luminance
from refbench.tasks.degradations import blur
from refbench.trackers import Tracking, untracked

if TYPE_CHECKING:
    from accelerate import Accelerator

WEIGHTS = {
    "flow": 1.0, "energy": 1.0, "tint": 0.5, "features": 1.0, "matched": 2.0, "hinge": 1.0, "motion": 0.5,
    "critic": 0.1, "range": 2.0,
}  # fmt: skip
"""Weights of the losses; energy, tint, features and matched are divided by the draft's own first."""
DRAFT = {"energy": 0.6, "tint": 0.16, "features": 0.76, "matched": 0.294}
"""The draft's own losses on training scenes, to which a loss of 1 corresponds."""
HINGE, ASTRAY = 0.02, 2.0
"""A loss of likeness, and a distance in px, that count as 1."""
COUNT = 20_000
"""Scenes that are prepared when no other number is given."""
CRITIC_FROM, CRITIC_ALONE = 2000, 300
"""Steps before which no critic speaks to a network that starts untrained; steps that it learns before it speaks."""
REFRESH = 120.0
"""Seconds after which shards that have been added are looked for."""


def searched_motion(scenes: SceneBatch) -> Tensor:
    """From where in the placed reference the target's content comes, (B, 2, S, S) in px, by dense inverse search
    (Kroeger et al. 2016); scenes are on the processor, which does it."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    levels = [
        ((luminance(p)[:, 0] + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy() for p in (scenes.target, scenes.placed)
    ]
    found = np.stack([search.calc(a, b, None) for a, b in zip(*levels, strict=True)])  # type: ignore[call-overload]
    return torch.from_numpy(found).permute(0, 3, 1, 2)


def known_motion(scenes: SceneBatch, searched: Tensor) -> tuple[Tensor, Tensor]:
    """A :func:`searched_motion`, evened; and where it is believed, (B, 1, S, S): there the moved reference is like the
    target, and no less than the unmoved one."""
    inside = scenes.mask * (scenes.weight > 0.5)
    motion = blur(searched * inside, 5.0) / blur(inside, 5.0).clamp(min=1e-3)
    moved = local_similarity(warp(scenes.placed, motion), scenes.target)
    still = local_similarity(scenes.placed, scenes.target)
    small = motion.square().sum(1, keepdim=True) < 14.0**2
    return motion, inside * small * (moved > 0.5) * (moved > still - 0.02)


def local_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Normalised cross-correlation (B, 1, H, W) of luminance in Gaussian windows of 5 px."""
    x, y = luminance(a), luminance(b)
    means = blur(torch.cat([x, y, x * x, y * y, x * y], 1), 5.0)
    x, y, xx, yy, xy = (means[:, k : k + 1] for k in range(5))
    found: Tensor = (xy - x * y) / ((xx - x * x).clamp(min=1e-4) * (yy - y * y).clamp(min=1e-4)).sqrt()
    return found


def losses(
    found: Retouch, scenes: SceneBatch, searched: Tensor, network: Any
) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """All losses but the critic's, means over the batch; and the features of picture and target.

    Args:
        found: how the network retouches the scenes.
        searched: as :func:`searched_motion` gives it.
        network: whose features are compared.
    """
    mask, target = scenes.mask, scenes.target
    picture = composite(found, scenes)
    out = mask * picture + (1 - mask) * target
    with torch.no_grad(), bfloat16(out.device):
        known = terms.features(network, target)
        seen = terms.features(network, scenes.warped)
    with bfloat16(out.device):
        said = terms.features(network, out.contiguous(memory_format=torch.channels_last))
    values = {
        "energy": terms.detail_energy(out, target, mask), "tint": terms.colour_shift(out, target, mask),
        "features": terms.feature_distance(said, known, mask), "matched": terms.nearest_features(said, known, mask),
    }  # fmt: skip
    means = {name: value.mean() / DRAFT[name] for name, value in values.items()}
    means["hinge"] = terms.likeness_hinge(said, known, seen, mask).mean() / HINGE
    motion, trust = known_motion(scenes, searched)
    means["motion"] = terms.motion_error(upsample(found.motion, mask.shape[-2:]), motion, trust).mean() / ASTRAY
    means["range"] = (picture - picture.clamp(-1, 1)).abs().mean()
    return means, said, known


class Network(Protocol):
    """A network that learns to refine placed scenes."""

    name: str
    device: str
    crop: int
    """Side in px of what is learned from at once."""
    names: dict[str, nn.Parameter]
    """What is trained."""

    def answer(self, scenes: SceneBatch, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """Retouching, with gradients, and losses of its own."""
        ...

    def refine(self, scenes: SceneBatch) -> Retouch:
        """Retouching, as a picture is refined."""
        ...


class UNet:
    """The control: :class:`refbench.omnirefiner.retouch.unet.RetouchUNet`."""

    name, crop = "unet", 128

    def __init__(self, *, seed: int = 0, device: str = "cpu") -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net: Any = RetouchUNet()
        self.device = device
        self.net = net.to(device, memory_format=torch.channels_last)
        self.names: dict[str, nn.Parameter] = dict(self.net.named_parameters())

    def answer(self, scenes: SceneBatch, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """One call."""
        del generator
        with bfloat16(self.device):
            return self.refine(scenes), {}

    def refine(self, scenes: SceneBatch) -> Retouch:
        """One call."""
        s = scenes
        return from_numbers(self.net(s.draft, s.placed, s.warped, s.mask, s.weight, s.replaced))


class Streams:
    """Stage 1: LoRA on a base editor's transformer, three streams, flow matching, and a :class:`RetouchLayer`.

    Args:
        base: checkpoint folder of the base editor.
        rank: of the LoRA adapter.
    """

    name, crop = "streams", 96  # attention takes half the time at 128 px

    def __init__(self, base: Path, *, rank: int = 32, seed: int = 0, device: str = "cpu") -> None:
        self.device = device
        self.pipeline = load_pipeline(base, device=device)
        transformer = self.pipeline.transformer
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_lora(transformer, rank, 2 * rank, ends=True)
            transformer.proj_out = RetouchLayer(transformer.inner_dim).to(device)
        transformer.train()
        self.names = trainable(transformer)

    @torch.no_grad()
    def refine(self, scenes: SceneBatch, seed: int = 0) -> Retouch:
        """One call at noise level 1, as a picture is refined."""
        pipeline, conditions = self.pipeline, self.conditions(scenes)
        noise = pipeline.noise(conditions, torch.Generator().manual_seed(seed))
        sigma = torch.ones(len(noise), device=noise.device)
        answer = call(pipeline.transformer, noise, sigma, conditions, pipeline.config.mask_mode)
        return RetouchHead(scenes, pipeline.vae).retouch(answer, conditions)

    @torch.no_grad()
    def conditions(self, scenes: SceneBatch) -> Conditions:
        """Draft, placed reference, mask and what is asked for, encoded."""
        words = [REPLACE if asked > 0.5 else RESTORE for asked in scenes.replaced.tolist()]
        prompts = self.pipeline.embed_prompts(words)
        found: Conditions = self.pipeline.conditions(scenes.draft, scenes.placed, scenes.mask, prompts)
        return found

    def answer(self, scenes: SceneBatch, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """One call at random noise levels, and the flow-matching loss over that of the draft."""
        pipeline, conditions = self.pipeline, self.conditions(scenes)
        head = RetouchHead(scenes, pipeline.vae)
        with torch.no_grad():
            clean = pack(encode(pipeline.vae, scenes.target))
        sigma = draw_sigma(len(clean), 1.6, 1.2, 1.0, generator).to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = add_noise(clean, noise, sigma)
        with bfloat16(self.device):
            answer = call(pipeline.transformer, noisy, sigma, conditions, pipeline.config.mask_mode)
        mask = conditions.mask
        assert mask is not None

        def loss(velocity: Tensor) -> Tensor:
            return flow_loss(velocity, clean, noise, mask, sigma=sigma, cap=8, floor=0.6)

        found = head.read(answer, noisy, sigma, conditions)
        own = loss(found).mean() / loss(to_velocity(noisy, conditions.draft, sigma)).mean()
        return head.retouch(answer, conditions), {"flow": own}


def check_losses(off: tuple[str, ...]) -> None:
    """Refuse names that are no losses.

    Raises:
        RefbenchError: with the losses there are.
    """
    unknown = [name for name in off if name not in WEIGHTS]
    if unknown:
        raise RefbenchError(f"Expected losses among {', '.join(WEIGHTS)}, but got '{unknown[0]}'; correct --without.")


class RetouchLearner(Learner):
    """A network on the placed scenes of a folder, with a critic that learns beside it.

    Args:
        prepared: a folder of prepared scenes; shards that are added while training runs are taken up.
        off: names of losses that are left out, for ablations.
        trained: the network has been trained before, so that the critic speaks as soon as it has learned.

    Raises:
        RefbenchError: there are no scenes, or a loss of another name.
    """

    shown = ()

    def __init__(
        self, network: Network, prepared: Path, *, batch: int = 8, seed: int = 0, off: tuple[str, ...] = (),
        trained: bool = False,
    ) -> None:  # fmt: skip
        check_losses(off)
        torch.manual_seed(seed)
        self.network, self.names, self.device, self.stage, self.seed = (
            network, network.names, network.device, network.name, seed,
        )  # fmt: skip
        self.settings = Settings(
            steps=None, lr=4e-4, warmup=200, batch=batch, ema=0.999, betas=(0.9, 0.99), clip=2.0, log_every=100,
            save_minutes=10.0,
        )  # fmt: skip
        self.weights = {name: weight for name, weight in WEIGHTS.items() if name not in off}
        self.critic = terms.Critic().to(self.device)
        self.speaks = CRITIC_ALONE if trained else CRITIC_FROM
        self.against = torch.optim.AdamW(self.critic.parameters(), 2e-4, betas=(0.5, 0.99))
        self.features = load_efficientnet(self.device)
        self.scenes = SceneSampler(prepared)

    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Every process draws scenes of its own."""
        del telling
        self.step, self.looked = step, time.monotonic()
        self.generator = torch.Generator().manual_seed(self.seed + step + 1_000_003 * accelerator.process_index)
        self.ahead = Ahead(self.drawn, self.generator, self.device)

    def drawn(self, generator: torch.Generator) -> tuple[SceneBatch, Tensor]:
        """A batch, and the motion that was searched for in it."""
        scenes = draw(self.scenes, self.settings.batch, generator, self.network.crop)
        return scenes, searched_motion(scenes)

    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """The weighted losses of one batch; the critic learns after the optimiser's step."""
        del progress
        if time.monotonic() - self.looked > REFRESH:
            self.scenes.refresh()
            self.looked = time.monotonic()
        critic, weights = self.critic, self.weights
        here, searched = self.ahead.next()
        drawn = here.to(self.device)
        found, own = self.network.answer(drawn, self.generator)
        means, said, known = losses(found, drawn, searched.to(self.device), self.features)
        means |= own
        if "critic" in weights and self.step >= self.speaks:
            critic.requires_grad_(False)
            means["critic"] = terms.critic_loss(critic(said, drawn.mask), -1.0, None)
            critic.requires_grad_(True)
        loss = torch.stack([weights[name] * value for name, value in means.items() if name in weights]).sum()
        yield loss, True
        if "critic" in weights and self.step >= self.speaks - CRITIC_ALONE:
            judged = [x.detach() for x in said]
            wrong = terms.critic_loss(critic(judged, drawn.mask), 1.0, 1.0)
            wrong = wrong + terms.critic_loss(critic(known, drawn.mask), -1.0, 1.0)
            self.against.zero_grad(set_to_none=True)
            torch.autograd.backward(wrong)
            self.against.step()
            means["judge"] = wrong
        values |= means | {"gains": found.gains.abs().mean(), "light": found.light.abs().mean()}
        self.step += 1

    def state(self) -> dict[str, Any]:
        """The critic."""
        return {"critic": self.critic.state_dict(), "against": self.against.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the critic."""
        self.critic.load_state_dict(state["critic"])
        self.against.load_state_dict(state["against"])

    @torch.no_grad()
    def pictures(self) -> dict[str, Image]:
        """Draft, placed reference, retouched and target of four scenes, the same ones each time."""
        return {"scenes": shown(self.network, self.scenes)}

    def facts(self) -> dict[str, Any]:
        """Scenes that there are."""
        return {"scenes": len(self.scenes.weights)}

    def saved(self, out: Path, average: dict[str, Tensor]) -> None:
        """Write ``average.safetensors``, in half precision."""
        from safetensors.torch import save_file

        save_file({name: value.half().contiguous() for name, value in average.items()}, out / "average.safetensors")


@dataclass(frozen=True, slots=True)
class Scenes:
    """Where the scenes are that a network learns on, and how those are made that are missing."""

    prepared: Path | None = None
    """Folder that they are kept in; by default below refbench's cache."""
    sources: Path | None = None
    """Folder that ``refbench tasks fetch`` filled; by default in refbench's cache."""
    samples: int | None = None
    """That must be there, :data:`COUNT` when None."""
    workers: int = 1
    """Processes that make them."""
    seed: int = 0
    """Of the scenes, and of what learns from them."""
    progress: Progress | None = None

    def open(self) -> Path:
        """The folder, after what is missing has been made.

        Raises:
            RefbenchError: as :func:`refbench.omnirefiner.training.prepared.prepare`.
        """
        return prepare(
            PlacedScenes(self.sources or cache_folder() / "sources"), self.prepared or cache_folder() / "scenes",
            COUNT if self.samples is None else self.samples, seed=self.seed, workers=self.workers,
            progress=self.progress,
        ).folder  # fmt: skip


def shown(network: Network, scenes: SceneSampler) -> Image:
    """Draft, placed reference, retouched and target of four scenes, the same ones each time."""
    drawn = draw(scenes, 4, torch.Generator().manual_seed(1234), network.crop).to(network.device)
    made = composite(network.refine(drawn), drawn)
    return sheet(drawn.draft, drawn.placed, drawn.mask * made + (1 - drawn.mask) * drawn.draft, drawn.target)


def run_stage1(
    scenes: Scenes, out: Path, minutes: float | None, *, network: str = "unet", init: Path | None = None,
    device: str = "cpu", without: tuple[str, ...] = (), telling: Telling | None = None, track: Tracking = untracked,
) -> Path:  # fmt: skip
    """Learn stage 1, going on from its state in `out`.

    Args:
        scenes: to learn from.
        out: working folder.
        minutes: of training.
        network: "unet", or "streams".
        init: what the first run starts from: for the U-Net a folder with ``stage1.safetensors``, nothing when None;
            for the streams the checkpoint folder of their base editor (``refbench train base``).
        without: as `off` of :class:`RetouchLearner`.
        track: as :func:`refbench.omnirefiner.training.loop.train`.

    Returns:
        The folder of the exported model, or the streams' averaged weights.

    Raises:
        RefbenchError: no minutes, nothing at `init`, no base editor for the streams, `out` cannot be written, or as
            :class:`RetouchLearner`, the loop and :meth:`Scenes.open`.
    """
    check_losses(without)
    first = check_stage1(out, minutes, network, init, without, scenes.seed)
    check_device(device)
    folder, seed = scenes.open(), scenes.seed
    found: Network
    if network == "streams":
        assert init is not None
        found = Streams(init, seed=seed, device=device)
    else:
        found = UNet(seed=seed, device=device)
        if first is not None:
            load_into(found.net, first)
    learner = RetouchLearner(found, folder, seed=seed, off=without, trained=first is not None)
    train(learner, out / network, minutes=minutes, resume=True, telling=telling, track=track)
    average = out / network / "average.safetensors"
    return export(average, out, "stage1") if network == "unet" else average
