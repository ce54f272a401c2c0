"""Train stage 1 or its U-Net control on placed scenes: resumable, at a constant rate, for as many minutes as there are.

The rate has no schedule that ends with the run, so that hours add up over runs; what is used is the moving average.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from refbench.errors import RefbenchError
from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.method.tokens import Conditions
from refbench.omnirefiner.retouch import losses as held
from refbench.omnirefiner.retouch.edit import Retouch, finished, read, warp, wide
from refbench.omnirefiner.retouch.unet import Mender
from refbench.omnirefiner.training.loop import Average, append_log, copy_into, load_state, save_state
from refbench.omnirefiner.training.prepared import SHARD, Prepared, Progress, prepare
from refbench.omnirefiner.training.progress import Quiet, Telling, rounds
from refbench.tasks.composition import luminance
from refbench.tasks.degradations import blur

WEIGHTS = {
    "flow": 1.0, "energy": 1.0, "tint": 0.5, "features": 1.0, "matched": 2.0, "hinge": 1.0, "motion": 0.5,
    "critic": 0.1, "range": 2.0,
}  # fmt: skip
"""Weights of the losses; energy, tint, features and matched are divided by the draft's own first."""
DRAFT = {"energy": 0.6, "tint": 0.16, "features": 0.76, "matched": 0.294}
"""The draft's own losses on training scenes, to which a loss of 1 corresponds."""
HINGE, ASTRAY = 0.02, 2.0
"""A loss of likeness, and a distance in px, that count as 1."""
LEAST_WRONG, MOST_WORSE, CLIPS = 0.12, 1.35, 1.2
"""Least error of a draft, most of a placed reference in terms of it, and how much more often clips are drawn."""
SCENES = 20_000
"""Scenes that are prepared when no other number is given."""
CRITIC_FROM = 2000
"""Steps before which no critic speaks."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """A batch: pictures (B, 3, S, S) in [-1, 1], mask (B, 1, S, S) in {0, 1}, other (B,) in {0, 1}, and by how much the
    reference is let in, weight (B, 1, S, S) in [0, 1]."""

    draft: Tensor
    placed: Tensor
    view: Tensor
    target: Tensor
    mask: Tensor
    weight: Tensor
    other: Tensor

    def to(self, device: str) -> Scenes:
        """The batch on a device."""
        return Scenes(*(getattr(self, field.name).to(device) for field in fields(self)))


class Drawer:
    """Scenes of a folder of prepared shards, those that are like the suites' more often; see :func:`fitness`.

    Args:
        folder: of prepared scenes; shards that are added later are found by :meth:`refresh`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = torch.zeros(0)
        self.refresh()

    def refresh(self) -> None:
        """Take up the shards that have been added."""
        self.prepared = open_shards(self.folder)
        for start in range(len(self.weights), len(self.prepared), SHARD):
            rows = self.prepared.rows(torch.arange(start, start + SHARD))
            self.weights = torch.cat([self.weights, fitness(*rows)])

    def rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """`count` scenes as :class:`refbench.omnirefiner.retouch.scenes.PlacedScenes` made them, with replacement."""
        return self.prepared.rows(torch.multinomial(self.weights, count, replacement=True, generator=generator))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The same, and how far ``place-blend`` lets the reference in, in the order of :class:`Scenes`."""
        draft, placed, view, target, mask, other, kind = self.rows(count, generator)
        weight = torch.stack([let_in(*row) for row in zip(draft, placed, mask, kind, strict=True)])
        return draft, placed, view, target, mask, weight, other


def let_in(draft: Tensor, placed: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
    """Weights (1, S, S): 1 where the placed reference (3, S, S) differs from the draft, else 0
    (:mod:`refbench.registration.selection`); a clip, whose surroundings are the draft's own, is laid whole."""
    from refbench.images import mask_box
    from refbench.registration.selection import differing

    inside = mask[0].numpy() > 0.5
    if kind > 0.5 or not inside.any():
        return mask
    before, laid = (((p.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy() for p in (draft, placed))
    return torch.from_numpy(differing(before, laid, inside, max(mask_box(inside)[2:])) * inside)[None]


def fitness(
    draft: Tensor, placed: Tensor, view: Tensor, target: Tensor, mask: Tensor, other: Tensor, kind: Tensor
) -> Tensor:
    """How often scenes (B,) are drawn: 0 where the draft is hardly wrong or the reference placed much worse than it.

    Mild drafts beside bad poses teach a network to distrust the reference. What is left has the suites' error of draft
    and of placed reference, and their share of exchanges and of clips (reports/omnirefiner-stage1.md).
    """
    del view, other
    wrong, laid = held.rmse(draft, target, mask), held.rmse(placed, target, mask)
    return ((wrong > LEAST_WRONG) & (laid < MOST_WORSE * wrong)) * torch.where(kind > 0.5, CLIPS, 1.0)


def draw(prepared: Drawer, count: int, generator: torch.Generator, size: int) -> Scenes:
    """Random crops of `size` px with some mask in them; some mirrored, with other channels and another gamma."""
    rows: list[tuple[Tensor, ...]] = []
    while len(rows) < count:
        found = prepared.draw(count, generator)
        for k in range(count):
            room = found[0].shape[-1] - size
            top, left = torch.randint(room + 1, (2,), generator=generator).tolist()
            crop = [part[k, :, top : top + size, left : left + size] for part in found[:6]]
            if float(crop[4].sum()) >= 0.02 * size * size:
                rows.append((*crop, found[6][k]))
    parts = [torch.stack(part) for part in zip(*rows[:count], strict=True)]
    pictures = [(p + 1) / 2 for p in parts[:4]]
    flips = torch.rand(count, 3, generator=generator)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    order = torch.where(flips[:, :1] < 0.5, order, torch.arange(3).expand(count, 3))
    gamma = torch.exp(torch.randn(count, generator=generator) * 0.2).view(-1, 1, 1, 1)
    turned = [p.gather(1, order[:, :, None, None].expand_as(p)).clamp(0, 1) ** gamma * 2 - 1 for p in pictures]
    mirror = (flips[:, 1] < 0.5).view(-1, 1, 1, 1)
    upside = (flips[:, 2] < 0.2).view(-1, 1, 1, 1)
    made = [torch.where(mirror, p.flip(-1), p) for p in (*turned, *parts[4:6])]
    made = [torch.where(upside, p.flip(-2), p) for p in made]
    return Scenes(*made[:4], (made[4] > 0.5).float(), made[5], parts[6].round())


def known_motion(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """From where in the placed reference the target's content comes, (B, 2, S, S) in px, by dense inverse search
    (Kroeger et al. 2016), evened; and where that is believed, (B, 1, S, S): there the moved reference is like the
    target, and no less than the unmoved one."""
    import cv2
    import numpy as np

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    levels = [
        ((luminance(p)[:, 0] + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy() for p in (scenes.target, scenes.placed)
    ]
    found = np.stack([search.calc(a, b, None) for a, b in zip(*levels, strict=True)])  # type: ignore[call-overload]
    inside = scenes.mask * (scenes.weight > 0.5)
    motion = blur(torch.from_numpy(found).permute(0, 3, 1, 2) * inside, 5.0) / blur(inside, 5.0).clamp(min=1e-3)
    moved = alike(warp(scenes.placed, motion), scenes.target)
    still = alike(scenes.placed, scenes.target)
    small = motion.square().sum(1, keepdim=True) < 14.0**2
    return motion, inside * small * (moved > 0.5) * (moved > still - 0.02)


def alike(a: Tensor, b: Tensor) -> Tensor:
    """Normalised cross-correlation (B, 1, H, W) of luminance in Gaussian windows of 5 px."""
    x, y = luminance(a), luminance(b)
    means = blur(torch.cat([x, y, x * x, y * y, x * y], 1), 5.0)
    x, y, xx, yy, xy = means.split(1, 1)
    return (xy - x * y) / ((xx - x * x).clamp(min=1e-4) * (yy - y * y).clamp(min=1e-4)).sqrt()


def losses(found: Retouch, scenes: Scenes, network: Any) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """All losses but the critic's, means over the batch; and the features of picture and target."""
    mask, target = scenes.mask, scenes.target
    picture = finished(found, scenes)
    out = mask * picture + (1 - mask) * target
    with torch.no_grad(), torch.autocast(out.device.type, torch.bfloat16):
        known = held.features(network, target)
        seen = held.features(network, scenes.view)
    with torch.autocast(out.device.type, torch.bfloat16):
        said = held.features(network, out.contiguous(memory_format=torch.channels_last))
    values = {
        "energy": held.energy(out, target, mask), "tint": held.tint(out, target, mask),
        "features": held.placed_features(said, known, mask), "matched": held.matched(said, known, mask),
    }  # fmt: skip
    means = {name: value.mean() / DRAFT[name] for name, value in values.items()}
    means["hinge"] = held.hinge(said, known, seen, mask).mean() / HINGE
    motion, trust = known_motion(scenes)
    means["motion"] = held.astray(wide(found.motion, mask.shape[-2:]), motion, trust).mean() / ASTRAY
    means["range"] = (picture - picture.clamp(-1, 1)).abs().mean()
    return means, said, known


class Learner(Protocol):
    """A network that learns to refine placed scenes."""

    name: str
    device: str
    crop: int
    """Side in px of what is learned from at once."""
    names: dict[str, nn.Parameter]
    """What is trained."""

    def answer(self, scenes: Scenes, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """Retouching, with gradients, and losses of its own."""
        ...


class UNetLearner:
    """The control: :class:`refbench.omnirefiner.retouch.unet.Mender`."""

    name, crop = "unet", 128

    def __init__(self, *, seed: int = 0, device: str = "cpu") -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net: Any = Mender()
        self.device = device
        self.net = net.to(device, memory_format=torch.channels_last)
        self.names: dict[str, nn.Parameter] = dict(self.net.named_parameters())

    def answer(self, scenes: Scenes, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """One call."""
        del generator
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
            return self.refine(scenes), {}

    def refine(self, scenes: Scenes) -> Retouch:
        """One call."""
        return read(self.net(scenes.draft, scenes.placed, scenes.view, scenes.mask, scenes.weight, scenes.other))


class StreamsLearner:
    """Stage 1: LoRA on a base editor's transformer, three streams, flow matching, and a :class:`RetouchHead`.

    Args:
        base: checkpoint folder of the base editor.
        rank: of the LoRA adapter.
    """

    name, crop = "streams", 96  # attention takes half the time at 128 px

    def __init__(self, base: Path, *, rank: int = 32, seed: int = 0, device: str = "cpu") -> None:
        from refbench.omnirefiner.retouch.head import RetouchHead
        from refbench.omnirefiner.training.loop import add_lora, trainable
        from refbench.omnirefiner.training.weights import load_pipeline

        self.device = device
        self.pipeline = load_pipeline(base, device=device)
        transformer = self.pipeline.transformer
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_lora(transformer, rank, 2 * rank, heads=False)
            transformer.proj_out = RetouchHead(transformer.inner_dim).to(device)
        transformer.train()
        self.names = trainable(transformer)

    @torch.no_grad()
    def refine(self, scenes: Scenes, seed: int = 0) -> Retouch:
        """One call at noise level 1, as a picture is refined."""
        from refbench.omnirefiner.retouch.head import retouching

        pipeline, conditions = self.pipeline, self.conditions(scenes)
        noise = pipeline.noise(conditions, torch.Generator().manual_seed(seed))
        sigma = torch.ones(len(noise), device=noise.device)
        return retouching(pipeline.transformer, noise, sigma, conditions, pipeline.config.mask_mode)

    @torch.no_grad()
    def conditions(self, scenes: Scenes) -> Conditions:
        """Draft, placed reference, mask and what is asked for, encoded."""
        from refbench.omnirefiner.method.instructions import REPLACE, RESTORE

        words = [REPLACE if asked > 0.5 else RESTORE for asked in scenes.other.tolist()]
        prompts = self.pipeline.embed_prompts(words)
        found: Conditions = self.pipeline.conditions(scenes.draft, scenes.placed, scenes.mask, prompts)
        return found

    def answer(self, scenes: Scenes, generator: torch.Generator) -> tuple[Retouch, dict[str, Tensor]]:
        """One call at random noise levels, and the flow-matching loss over that of the draft."""
        from refbench.omnirefiner.method.losses import draw_sigma, flow_loss
        from refbench.omnirefiner.method.tokens import pack
        from refbench.omnirefiner.method.velocity import add_noise
        from refbench.omnirefiner.retouch.head import retouching
        from refbench.omnirefiner.tiny.autoencoder import encode

        pipeline, conditions = self.pipeline, self.conditions(scenes)
        with torch.no_grad():
            clean = pack(encode(pipeline.vae, scenes.target))
        sigma = draw_sigma(len(clean), 1.6, 1.2, 1.0, generator).to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = add_noise(clean, noise, sigma)
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
            found = retouching(pipeline.transformer, noisy, sigma, conditions, pipeline.config.mask_mode)
        picture = finished(found, scenes)
        predicted = pack(encode(pipeline.vae, picture.to(pipeline.vae.dtype)))
        mask = conditions.mask
        assert mask is not None

        def loss(x0: Tensor) -> Tensor:
            velocity = (noisy - x0) / sigma.view(-1, 1, 1)
            return flow_loss(velocity, clean, noise, mask, sigma=sigma, cap=8, floor=0.6)

        return found, {"flow": loss(predicted.float()).mean() / loss(conditions.draft).mean()}


def train_stage1(
    learner: Learner,
    prepared: Path,
    out: Path,
    *,
    minutes: float,
    batch: int = 8,
    lr: float = 4e-4,
    ema: float = 0.999,
    seed: int = 0,
    off: tuple[str, ...] = (),
    telling: Telling | None = None,
    every: float = 10.0,
) -> Path:
    """Go on from ``out/state.pt``, or start.

    Args:
        prepared: a folder of prepared scenes; shards that are added while training runs are taken up.
        out: working folder.
        minutes: of this run.
        off: names of losses that are left out, for ablations.
        telling: where progress goes.
        every: minutes between writings of state and of ``average.safetensors``.

    Returns:
        The path of the averaged weights, in half precision.

    Raises:
        RefbenchError: there are no scenes, a loss of another name, or a state of another network.
    """
    from safetensors.torch import save_file

    telling = telling or Quiet()
    unknown = [name for name in off if name not in WEIGHTS]
    if unknown:
        raise RefbenchError(f"Expected losses among {', '.join(WEIGHTS)}, but got '{unknown[0]}'; correct --without.")
    torch.manual_seed(seed)
    names = learner.names
    critic = held.Critic().to(learner.device)
    network = load_efficientnet(learner.device)
    optimiser = torch.optim.AdamW(names.values(), lr, betas=(0.9, 0.99), weight_decay=0.01)
    against = torch.optim.AdamW(critic.parameters(), 2e-4, betas=(0.5, 0.99))
    average = Average(names, ema)
    step, spent = 0, 0.0
    state = load_state(out / "state.pt")
    if state is not None:
        if set(state["weights"]) != set(names):
            raise RefbenchError(
                f"Expected the state of a {learner.name} network in {out / 'state.pt'}, but it is another's; choose "
                "another --out or --network."
            )
        copy_into(names, state["weights"])
        critic.load_state_dict(state["critic"])
        optimiser.load_state_dict(state["optimiser"])
        against.load_state_dict(state["against"])
        average.shadow = {name: value.to(learner.device) for name, value in state["average"].items()}
        average.count = state["count"]
        step, spent = state["step"], state["minutes"]
    generator = torch.Generator().manual_seed(seed + step)
    began = time.monotonic()
    weights = {name: weight for name, weight in WEIGHTS.items() if name not in off}
    running: dict[str, float] = {}
    scenes = Drawer(prepared)
    looked = exported = began

    def save(progress: float) -> None:
        del progress
        save_state(out / "state.pt", {
            "weights": {name: p.detach() for name, p in names.items()}, "critic": critic.state_dict(),
            "optimiser": optimiser.state_dict(), "against": against.state_dict(), "average": average.shadow,
            "count": average.count, "step": step, "minutes": spent + (time.monotonic() - began) / 60,
        })  # fmt: skip
        half = {name: value.half().contiguous() for name, value in average.shadow.items()}
        save_file(half, out / "average.safetensors")

    for _ in rounds(lambda: min(1.0, (time.monotonic() - began) / 60 / minutes), save):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 200)
        drawn = draw(scenes, batch, generator, learner.crop).to(learner.device)
        found, own = learner.answer(drawn, generator)
        means, said, known = losses(found, drawn, network)
        means |= own
        if "critic" in weights and step >= CRITIC_FROM:
            critic.requires_grad_(False)
            means["critic"] = held.spoken(critic(said, drawn.mask), -1.0, None)
            critic.requires_grad_(True)
        loss = torch.stack([weights[name] * value for name, value in means.items() if name in weights]).sum()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(names.values(), 2.0)
        optimiser.step()
        average.update(names)
        if "critic" in weights and step >= CRITIC_FROM - 300:
            judged = [x.detach() for x in said]
            wrong = held.spoken(critic(judged, drawn.mask), 1.0, 1.0)
            wrong = wrong + held.spoken(critic(known, drawn.mask), -1.0, 1.0)
            against.zero_grad(set_to_none=True)
            torch.autograd.backward(wrong)
            against.step()
            means["judge"] = wrong
        means |= {name: getattr(found, name).abs().mean() for name in ("gains", "light")}
        for name, value in means.items():
            latest = float(value.detach())
            running[name] = 0.98 * running.get(name, latest) + 0.02 * latest
        step += 1
        now = time.monotonic()
        if step % 100 == 0:
            told = {name: round(value, 4) for name, value in running.items()}
            past = round(spent + (now - began) / 60, 2)
            append_log(out / "log.jsonl", step=step, minutes=past, scenes=len(scenes.weights), **told)
            telling.tick(f"{learner.name}: step {step:,}, {told}")
        if now - looked > 120:
            scenes.refresh()
            looked = now
        if now - exported > 60 * every:
            save(0.0)
            exported = now
    return out / "average.safetensors"


def run_stage1(
    prepared: Path | None,
    out: Path | None,
    *,
    network: str = "streams",
    base: Path | None = None,
    sources: Path | None = None,
    samples: int | None = None,
    workers: int = 1,
    minutes: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    without: tuple[str, ...] = (),
    telling: Telling | None = None,
    progress: Progress | None = None,
) -> Path:
    """Prepare scenes and, where there is a folder `out`, learn from them.

    Args:
        prepared: where scenes are kept; by default below refbench's cache.
        out: working folder, see :func:`train_stage1`; None only prepares.
        network: "streams" or "unet".
        base: checkpoint folder of the base editor; the shipped one when None.
        sources: the folder that ``refbench tasks fetch`` filled.
        samples: scenes that must be there, :data:`SCENES` when None.
        workers: processes that prepare.
        minutes: of training.
        without: as `off` of :func:`train_stage1`.

    Returns:
        The folder of scenes, or the averaged weights.

    Raises:
        RefbenchError: no minutes, or as :func:`train_stage1` and :func:`refbench.omnirefiner.training.prepared.prepare`.
    """
    from refbench.cache import cache_folder
    from refbench.omnirefiner.retouch.scenes import PlacedScenes
    from refbench.omnirefiner.tiny.runtime import checkpoints

    if out is not None and not (minutes is not None and minutes > 0):
        raise RefbenchError("Expected a budget of minutes to train stage 1, but there is none; add e.g. --minutes 60.")
    scenes = PlacedScenes(sources or cache_folder() / "sources")
    ready = prepare(
        scenes, prepared or cache_folder() / "scenes", samples or SCENES, seed=seed, workers=workers, progress=progress
    )
    if out is None or minutes is None:
        return ready.folder
    learner: Learner
    if network == "unet":
        learner = UNetLearner(seed=seed, device=device)
    else:
        learner = StreamsLearner(base or checkpoints(), seed=seed, device=device)
    return train_stage1(learner, ready.folder, out / network, minutes=minutes, seed=seed, off=without, telling=telling)


def open_shards(folder: Path) -> Prepared:
    """The shards that are there, up to the first that is missing.

    Raises:
        RefbenchError: there is none.
    """
    from refbench.omnirefiner.retouch.scenes import KINDS

    count = 0
    while (folder / f"shard-{count:05d}.safetensors").is_file():
        count += 1
    if not count:
        raise RefbenchError(f"Expected prepared scenes in {folder}, but there are none; run `refbench train prepare`.")
    return Prepared(folder, count, KINDS)
