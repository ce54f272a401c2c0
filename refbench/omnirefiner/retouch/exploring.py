"""Stage 2 by retouching: the group explores the eight numbers, patch by patch (GRPO).

White noise on latents, which Flow-GRPO explores with, has no place in a network of one call; here what it *says* is the
action. With m the mean of each number over a patch of 32 px, a ~ N(m, s^2) is drawn for every patch and picture of the
group, and the patch's numbers are moved by a - m. The policy is a Gaussian in these numbers, so its ratio, clipping and
KL are those of :mod:`refbench.omnirefiner.method.policy`, per patch; and because the reward is patch-wise, each patch
is credited with its own reward, compared with the same patch of the group's other pictures.

The reward's features are EfficientNet-Lite0's and XFeat's, which no metric of the score uses; its energy of detail is
kin to the score's ``sharpness``, as stage 1's loss is. The score judges. There is no term against double exposures:
where the reference is let in is no action, and retouching mixes no two pictures.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.images import Image
from refbench.metrics.backbones import load_efficientnet
from refbench.omnirefiner.method.policy import clipped_objective
from refbench.omnirefiner.method.rewards import patch_grid, pixel_map, used_patches
from refbench.omnirefiner.retouch import losses as terms
from refbench.omnirefiner.retouch.data import Ahead, SceneBatch, SceneSampler, draw
from refbench.omnirefiner.retouch.edit import CELL, NUMBERS, composite, from_numbers
from refbench.omnirefiner.retouch.refiner import load_into
from refbench.omnirefiner.retouch.training import REFRESH, Scenes, UNet, shown
from refbench.omnirefiner.retouch.unet import RetouchUNet
from refbench.omnirefiner.training.checks import check_device, check_stage2, export
from refbench.omnirefiner.training.loop import Learner, Settings, Values, bfloat16, train
from refbench.omnirefiner.training.progress import Telling
from refbench.registration.xfeat import XFeat, load_xfeat
from refbench.trackers import Tracking, untracked

if TYPE_CHECKING:
    from accelerate import Accelerator

PATCH = 32
"""Side in px of a patch."""
SPREAD = (0.3,) * 3 + (0.1,) * 3 + (0.2,) * 2
"""Standard deviation of each number, before it is bounded: about 0.3 of a gain's logarithm, 0.05 of light, 0.8 px."""
REWARDS = {"matched": 1.0, "energy": 0.5, "reference": 0.5, "keypoints": 0.5, "pixel": 0.1}
"""Weights of the reward's parts: features nearest in the target, energy of detail as the target's, likeness to the
reference, its keypoints found again, masked pixel accuracy."""
CLIP, KL, CAP, FLOOR = 0.2, 0.05, 4.0, 1e-3
"""Range of the ratio, weight of the KL to stage 1, largest advantage, least spread that advantages are divided by."""


def patch_advantages(rewards: Tensor, used: Tensor, floor: float = FLOOR, cap: float = CAP) -> Tensor:
    """Advantages (G, K, rows, columns) of patch rewards.

    Each patch's reward minus the group's mean for that patch, over the root of the mean within-group variance of all
    `used` patches (G, rows, columns).
    """
    centred = (rewards - rewards.mean(1, keepdim=True)) * used[:, None].to(rewards)
    count = used.sum().clamp(min=1) * max(rewards.shape[1] - 1, 1)
    spread = (centred.square().sum() / count).sqrt()
    return (centred / spread.clamp(min=floor)).clamp(-cap, cap)


def log_likelihood(action: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Gaussian log-probability (..., rows, columns) of actions (..., 8, rows, columns), without the constant that
    ratios do not see."""
    return -((action - mean) / spread.view(-1, 1, 1)).square().sum(-3) / 2


def policy_loss(
    means: Tensor, actions: Tensor, old: Tensor, held: Tensor, advantages: Tensor, weights: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """(E14, E15) Clipped objective and KL, per patch, and what to log.

    Args:
        means: of the policy (G, 8, rows, columns).
        actions: (G, K, 8, rows, columns), drawn when the means were `old`.
        held: means of stage 1.
        advantages: (G, K, rows, columns).
        weights: of the patches (G, rows, columns), adding to 1 in a scene.
    """
    spread = torch.tensor(SPREAD, device=means.device)
    ratio = (log_likelihood(actions, means[:, None], spread) - log_likelihood(actions, old[:, None], spread)).exp()
    surrogate = clipped_objective(ratio, advantages, CLIP).mean(1)
    kl = -log_likelihood(means, held, spread)
    loss = ((surrogate + KL * kl) * weights).sum((1, 2)).mean()
    seen = weights[:, None].expand_as(ratio) > 0
    clipped = ((ratio - 1).abs() > CLIP).float()
    return loss, {"ratio": ratio.detach()[seen], "kl": kl.detach()[weights > 0], "clip_share": clipped[seen]}


@torch.no_grad()
def reward_maps(
    picture: Tensor, scenes: SceneBatch, known: list[Tensor], seen: list[Tensor], network: Any, keypoints: XFeat
) -> dict[str, Tensor]:
    """The reward's parts by name, each (B, rows, columns), of pictures (B, 3, S, S) in [-1, 1].

    Args:
        scenes: what the pictures were made of.
        known, seen: features of the target, and of the reference through its pose.
        network: that they are of.
        keypoints: network whose keypoints are looked for.
    """
    mask = scenes.mask
    out = mask * picture + (1 - mask) * scenes.target
    with bfloat16(out.device):
        said = terms.features(network, out.contiguous(memory_format=torch.channels_last))
    side = mask.shape[-1] // PATCH
    fine = list(zip(said[:2], known[:2], strict=True))
    matched = sum(pooled(terms.best_match(*pair), mask, side) for a, b in fine for pair in ((a, b), (b, a))) / 4
    like = sum(windowed(a, b, side) for a, b in zip(said[1:], seen[1:], strict=True)) / 2
    found = keypoints_found(keypoints, out, scenes.warped)
    return {
        "matched": torch.as_tensor(matched), "reference": torch.as_tensor(like),
        "energy": -pooled(terms.energy_difference(out, scenes.target, mask), mask, side),
        "keypoints": pooled(found, mask, side),
        "pixel": pixel_map((out + 1) / 2, (scenes.target + 1) / 2, mask, PATCH),
    }  # fmt: skip


def keypoints_found(network: XFeat, picture: Tensor, view: Tensor) -> Tensor:
    """How well the keypoints of a view of the reference are found in a picture, both (B, 3, S, S) in [-1, 1].

    Returns:
        (B, 1, S / 8, S / 8), cosine of XFeat's descriptors with the best within one cell, times how reliable XFeat
        calls the view there.
    """
    described, _, reliable = network(torch.cat([picture, view]) / 2 + 0.5)
    own, wanted = F.normalize(described, dim=1).chunk(2)
    found: Tensor = terms.best_match(wanted, own) * reliable.chunk(2)[1]
    return found


def pooled(values: Tensor, mask: Tensor, side: int) -> Tensor:
    """Means (B, side, side) of (B, 1, h, w) over the masked cells of each patch."""
    inside = F.adaptive_max_pool2d(mask, values.shape[-2:])
    top, share = (F.adaptive_avg_pool2d(x, side)[:, 0] for x in (values * inside, inside))
    return top / share.clamp(min=1e-6)


def windowed(a: Tensor, b: Tensor, side: int) -> Tensor:
    """Cosines (B, side, side) of features pooled over windows of two patches' side around each patch."""
    step = a.shape[-1] // side
    means = [F.avg_pool2d(F.pad(x, (step // 2,) * 4, mode="replicate"), 2 * step, step) for x in (a, b)]
    first, second = (m[..., :side, :side] for m in means)
    return F.cosine_similarity(first, second)


class RetouchExplorer(Learner):
    """Stage 2: GRPO on the last level of a stage 1.

    Args:
        network: with the weights of stage 1; trained in place.
        prepared: a folder of prepared scenes.
        group: pictures a scene.
        constant: train eight numbers, the same for every place of every scene, instead (a control).
    """

    stage, shown = "stage2", ("reward/matched",)

    def __init__(
        self, network: UNet, prepared: Path, *, batch: int = 8, group: int = 8, seed: int = 0, constant: bool = False
    ) -> None:
        self.network, self.device, self.seed, self.group = network, network.device, seed, group
        network.net.requires_grad_(False)
        self.first = copy.deepcopy(network.net)
        self.shift = nn.Parameter(torch.zeros(1, NUMBERS, 1, 1, device=self.device))
        self.names = {"shift": self.shift} if constant else network.net.tail_weights()
        for p in self.names.values():
            p.requires_grad_(True)
        self.settings = Settings(
            steps=None, lr=3e-3 if constant else 5e-5, warmup=100, batch=batch, ema=0.998, betas=(0.9, 0.99),
            weight_decay=0.0, clip=1.0, log_every=20, save_minutes=5.0,
        )  # fmt: skip
        self.features = load_efficientnet(self.device)
        self.keypoints = copy.deepcopy(load_xfeat()).to(self.device)
        self.scenes = SceneSampler(prepared)
        self.spread = torch.tensor(SPREAD, device=self.device).view(-1, 1, 1)

    def begin(self, step: int, accelerator: Accelerator, telling: Telling) -> None:
        """Every process draws scenes of its own."""
        del telling
        self.looked = time.monotonic()
        self.generator = torch.Generator().manual_seed(self.seed + 17 + step + 1_000_003 * accelerator.process_index)
        self.ahead = Ahead(
            lambda generator: draw(self.scenes, self.settings.batch, generator, self.network.crop), self.generator,
            self.device,
        )  # fmt: skip

    def numbers(self, net: RetouchUNet, trunk: tuple[Tensor, Tensor]) -> Tensor:
        """What the last level of a network says (G, 8, h, w), unbounded."""
        with bfloat16(self.device):
            return net.tail(*trunk)

    def means(self, numbers: Tensor) -> Tensor:
        """Means (G, 8, rows, columns) over the patches."""
        return F.avg_pool2d(numbers, PATCH // CELL)

    @torch.no_grad()
    def explore(self, scenes: SceneBatch, numbers: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Actions (G, K, 8, rows, columns) and their advantages (G, K, rows, columns)."""
        old, used = self.means(numbers), used_patches(scenes.mask, PATCH)
        with bfloat16(self.device):
            known, seen = (terms.features(self.features, x) for x in (scenes.target, scenes.warped))
        shape = (len(old), self.group, *old.shape[1:])
        offsets = self.spread * torch.randn(shape, generator=self.generator).to(old)
        parts: dict[str, list[Tensor]] = {name: [] for name in REWARDS}
        for k in range(self.group):
            wide = F.interpolate(offsets[:, k], numbers.shape[-2:], mode="bilinear", align_corners=False)
            picture = composite(from_numbers(numbers + wide), scenes).clamp(-1, 1)
            for name, found in reward_maps(picture, scenes, known, seen, self.features, self.keypoints).items():
                parts[name].append(found)
        total = torch.zeros(shape[0], self.group, *shape[3:], device=old.device)
        for name, maps in parts.items():
            rewards = torch.stack(maps, 1)
            total = total + REWARDS[name] / sum(REWARDS.values()) * patch_advantages(rewards, used)
            values[f"reward/{name}"] = (rewards.mean(1) * used).sum() / used.sum()
        return old[:, None] + offsets, total

    def losses(self, progress: float, values: Values) -> Iterator[tuple[Tensor, bool]]:
        """One group for each scene, and two optimiser steps on it."""
        del progress
        if time.monotonic() - self.looked > REFRESH:
            self.scenes.refresh()
            self.looked = time.monotonic()
        scenes = self.ahead.next().to(self.device)
        s = scenes
        with torch.no_grad(), bfloat16(self.device):
            trunk = self.network.net.trunk(s.draft, s.placed, s.warped, s.mask, s.weight, s.replaced)
        with torch.no_grad():
            held = self.means(self.numbers(self.first, trunk))
        old: Tensor | None = None
        actions = advantages = torch.zeros(())
        weights = patch_grid(s.mask, PATCH) * used_patches(s.mask, PATCH)
        weights = weights / weights.sum((1, 2), keepdim=True)
        for _ in range(2):
            numbers = self.numbers(self.network.net, trunk) + self.shift
            if old is None:
                old = self.means(numbers).detach()
                actions, advantages = self.explore(scenes, numbers.detach(), values)
            loss, logged = policy_loss(self.means(numbers), actions, old, held, advantages, weights)
            values |= {name: value.mean() for name, value in logged.items()}
            yield loss, True

    @torch.no_grad()
    def pictures(self) -> dict[str, Image]:
        """As stage 1's; a constant's are not shown."""
        return {} if "shift" in self.names else {"scenes": shown(self.network, self.scenes)}

    def facts(self) -> dict[str, Any]:
        """Scenes that there are."""
        return {"scenes": len(self.scenes.weights)}

    def saved(self, out: Path, average: dict[str, Tensor]) -> None:
        """Write ``average.safetensors``, in half precision."""
        from safetensors.torch import save_file

        save_file({name: value.half().contiguous() for name, value in average.items()}, out / "average.safetensors")


def run_stage2(
    scenes: Scenes, out: Path, minutes: float | None, *, stage1: Path | None = None, constant: bool = False,
    device: str = "cpu", telling: Telling | None = None, track: Tracking = untracked,
) -> Path:  # fmt: skip
    """Learn stage 2 from a stage 1, going on from its state in `out`.

    Args:
        scenes, minutes, track: as :func:`refbench.omnirefiner.retouch.training.run_stage1` has them.
        out: working folder, with ``model/stage1.safetensors`` where `stage1` is None.
        stage1: folder with ``stage1.safetensors`` to start from.
        constant: as :class:`RetouchExplorer` has it; exports nothing.

    Returns:
        The folder of the exported model, or the constant.

    Raises:
        RefbenchError: no minutes, no stage 1, or `out` cannot be written.
    """
    name = "constant" if constant else "stage2"
    first = check_stage2(out, minutes, stage1, constant, scenes.seed)
    check_device(device)
    folder = scenes.open()
    network = UNet(device=device)
    load_into(network.net, first)
    learner = RetouchExplorer(network, folder, seed=scenes.seed, constant=constant)
    if not constant:
        export(first, out, "stage1")
    train(learner, out / name, minutes=minutes, resume=True, telling=telling, track=track)
    average = out / name / "average.safetensors"
    return average if constant else export(average, out, "stage2")
