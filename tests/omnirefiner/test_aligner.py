"""The aligner: exact where its parts have a closed form, learns shifts in seconds, and a flow moves what is laid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refbench.crops import crop_box
from refbench.omnirefiner.config import AlignerConfig
from refbench.omnirefiner.models import Aligner
from refbench.omnirefiner.tiny.aligner import (
    SHARE,
    SIDE,
    even_light,
    find_flow,
    flow_error,
    local_correlation,
    warp_by,
)
from refbench.omnirefiner.tiny.aligning import AlignerLearner, Pairs, bend, known_flow, turned, validate_aligner
from refbench.omnirefiner.tiny.procedural import plate
from refbench.omnirefiner.training.loop import train


def _plates(count: int, size: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.stack([torch.from_numpy(plate(rng, size)).permute(2, 0, 1).float() / 127.5 - 1 for _ in range(count)])


def test_a_whole_flow_is_a_roll() -> None:
    picture = torch.rand(2, 3, 16, 20)
    flow = torch.zeros(2, 2, 16, 20)
    flow[:, 0], flow[:, 1] = 3, -2
    moved = warp_by(picture, flow)
    assert torch.allclose(moved[..., 2:, :-3], picture[..., :-2, 3:], atol=1e-5)


def test_correlation_peaks_at_the_move() -> None:
    features = torch.randn(1, 12, 10, 10, generator=torch.Generator().manual_seed(0))
    moved = features.roll((2, -1), (-2, -1))
    likeness = local_correlation(features, moved, 3)
    assert likeness.shape == (1, 49, 10, 10)
    # row offset 2, column offset -1 in a window that starts at -3; away from the border the roll wraps around
    assert (likeness.argmax(1)[0, 1:7, 3:9] == (2 + 3) * 7 + (-1 + 3)).all()
    # by hand, one cell: three times the cosine of the centred features
    a, b = (x - x.mean((-1, -2), keepdim=True) for x in (features, moved))
    a, b = (x / (x.var((-1, -2), unbiased=False, keepdim=True) + 1e-5).sqrt() for x in (a, b))
    expected = 3 * F.cosine_similarity(a[0, :, 5, 5], b[0, :, 6, 4], dim=0)
    assert likeness[0, (1 + 3) * 7 + (-1 + 3), 5, 5].item() == pytest.approx(expected.item(), abs=1e-4)


def test_light_and_contrast_do_not_count() -> None:
    picture = _plates(1, 48)
    # the constant 0.08 under the contrast keeps flat ground flat, so a change of contrast shows a little
    apart = (even_light(picture) - even_light(0.7 * picture + 0.2)).abs().mean()
    assert apart < 0.1 * even_light(picture).abs().mean()


def test_a_bent_reference_is_found_again() -> None:
    target = F.avg_pool2d(_plates(4, 64, 3), 3, 1, 1)
    generator = torch.Generator().manual_seed(1)
    moved, flow = bend(target, torch.zeros(4, 2, 64, 64), 3.0, generator)
    inner = (..., slice(12, -12), slice(12, -12))
    back = (warp_by(moved, flow) - target)[inner].abs().mean()
    assert back < 0.35 * (moved - target)[inner].abs().mean()
    found, sure = known_flow(target, moved)
    # dense inverse search agrees with the exact flow where it is sure of itself, to about a pixel
    off = ((found - flow).square().sum(1, keepdim=True).sqrt() * sure)[inner]
    assert (off.sum() / sure[inner].sum()).item() < 1.0


def test_an_untrained_aligner_moves_nothing() -> None:
    aligner, target = Aligner((8, 8, 8)).eval(), _plates(2, 32)
    mask = torch.ones(2, 1, 32, 32)
    with torch.no_grad():
        flows = aligner(target, target, mask)
    assert len(flows) == 3
    assert all(f.abs().max() == 0 for f in flows)
    even, known = even_light(target), torch.zeros(2, 2, 32, 32)
    floor = 2 * 0.01  # what is left of a root that is rounded off at 1e-4; distances are rounded off at 0.1 px
    assert flow_error(flows, even, even, mask, known, mask).max().item() == pytest.approx(floor, abs=1e-3)
    assert (flow_error(flows, even, even, mask, known + 2, mask) > 1).all()


class Clips:
    """Scenes of clips whose reference is the target itself, bent: the flow alone is to be learned."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self, count: int, misalignment: torch.Tensor, maps: bool = False) -> dict[str, torch.Tensor]:
        seed = int(torch.randint(1 << 30, (1,), generator=self.generator))
        target = F.avg_pool2d(_plates(count, 96, seed), 3, 1, 1)
        reference, _ = bend(target, torch.zeros(count, 2, 96, 96), 5.0, self.generator)
        mask = torch.zeros(count, 1, 96, 96)
        mask[..., 20:76, 20:76] = 1
        none = torch.zeros(count, dtype=torch.int64)
        return {
            "draft": (target + 1) / 2, "target": (target + 1) / 2, "reference": (reference + 1) / 2, "mask": mask,
            "kind": none + 3, "fault": none, "box": torch.zeros(count, 4, dtype=torch.int64),
        }  # fmt: skip


class Small(AlignerConfig):
    """Crops of 48 px, bent far."""

    widths, rounds, finer, size = (16, 16, 16), 2, 1, 48
    lr, ema, bent, bend = 3e-3, 0.8, 1.0, 9.0
    validate_samples, validate_every = 6, 45


def test_training_finds_bent_references_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    aligner = Aligner((16, 16, 16))
    config = Small(steps=140, batch=6, reuse=6, capacity=32)
    target = F.avg_pool2d(_plates(6, 48, 5), 3, 1, 1)
    reference, flow = bend(target, torch.zeros(6, 2, 48, 48), 9.0, torch.Generator().manual_seed(2))
    ones = torch.ones(6, 1, 48, 48)
    pairs = Pairs(target, reference, target, ones, torch.zeros_like(ones), flow, ones)
    before = validate_aligner(aligner.eval(), pairs)
    facts = train(AlignerLearner(aligner, config, Clips, Clips), tmp_path)
    assert facts["scenes"] == 24 + 139  # four batches at first, then a sixth of each
    after = validate_aligner(aligner.eval(), pairs)
    assert before["endpoint"] == pytest.approx(before["endpoint_before"])
    assert after["endpoint"] < 0.85 * before["endpoint"]
    assert after["apart"] < before["apart"]
    more = config.model_copy(update={"steps": 142})
    facts = train(AlignerLearner(aligner, more, Clips, Clips), tmp_path, resume=True)
    assert facts["steps"] >= 140


@pytest.mark.parametrize("seed", range(6))
def test_turned_pairs_keep_their_flow_true(seed: int) -> None:
    target = F.avg_pool2d(_plates(2, 48, 7), 5, 1, 2)
    reference, flow = bend(target, torch.zeros(2, 2, 48, 48), 2.0, torch.Generator().manual_seed(3))
    ones = torch.ones(2, 1, 48, 48)
    pairs = Pairs(target, reference, target, ones, ones, flow, ones)
    moved = turned(pairs, torch.Generator().manual_seed(seed))
    inner = (..., slice(10, -10), slice(10, -10))
    apart = (warp_by(moved.reference, moved.flow) - moved.target)[inner].abs().mean()
    still = (warp_by(reference, flow) - target)[inner].abs().mean()
    assert apart == pytest.approx(still.item(), rel=0.02, abs=1e-4)


def test_the_found_flow_is_in_picture_px() -> None:
    class Shift(Aligner):
        """Always answers one working pixel to the right."""

        def forward(
            self, draft: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, box: torch.Tensor | None = None
        ) -> list[torch.Tensor]:
            flow = torch.zeros_like(draft[:, :2])
            flow[:, 0] = 1
            return [flow]

    picture, mask = plate(np.random.default_rng(0), 320), np.zeros((320, 320), bool)
    mask[60:220, 80:240] = True
    flow = find_flow(Shift((8, 8, 8)), picture, picture, mask, None, np.eye(3))
    x, y, side, _ = crop_box(mask)
    assert flow.shape == (320, 320, 2)
    # the crop is aligned at SIDE px, so a working pixel is side / SIDE of the picture's
    assert np.allclose(flow[y : y + side, x : x + side], (SHARE * side / SIDE, 0), atol=1e-4)
    flow[y : y + side, x : x + side] = 0
    assert not flow.any()
