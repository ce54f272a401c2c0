"""The aligner: exact where its parts have a closed form, learns shifts in seconds, and a flow moves what is laid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refbench.omnirefiner.aligner import SHARE, Aligner, even_light, find_flow, flow_error, local_correlation, warp_by
from refbench.omnirefiner.aligning import bend, known_flow, train_aligner, validate_aligner
from refbench.omnirefiner.config import AlignerConfig
from refbench.omnirefiner.data import Quadruplets
from refbench.omnirefiner.procedural import plate
from refbench.registration.laying import view
from tests.omnirefiner import toys


def _plates(count: int, size: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.stack([torch.from_numpy(plate(rng, size)).permute(2, 0, 1).float() / 127.5 - 1 for _ in range(count)])


def test_a_flow_of_whole_pixels_is_a_roll() -> None:
    picture = torch.rand(2, 3, 16, 20)
    flow = torch.zeros(2, 2, 16, 20)
    flow[:, 0], flow[:, 1] = 3, -2
    moved = warp_by(picture, flow)
    assert torch.allclose(moved[..., 2:, :-3], picture[..., :-2, 3:], atol=1e-5)


def test_correlation_peaks_where_the_other_picture_was_moved_to() -> None:
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


def test_a_bent_reference_is_found_again_by_the_flow_that_comes_with_it() -> None:
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


def test_an_untrained_aligner_moves_nothing_and_its_loss_is_zero_only_for_the_known_flow() -> None:
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


def test_training_learns_to_find_bent_references_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    aligner = Aligner((16, 16, 16))
    config = AlignerConfig(
        widths=(16, 16, 16), steps=90, batch=6, size=48, lr=3e-3, ema=0.8, largest=0.0, wild=0.0, light=0.0, bent=1.0,
        bend=9.0, reuse=2, validate_samples=4, validate_every=45,
    )  # fmt: skip

    class Sharp(toys.NoiseSampler):
        """Its draft is its target, so that the flow alone is to be learned."""

        def batch(
            self, count: int, misalignment: float | torch.Tensor = 1.0, details: bool = False
        ) -> dict[str, torch.Tensor]:
            made = super().batch(count, 0.0)
            return made | {"draft": made["target"], "mask": torch.ones_like(made["mask"])}

    target = (Sharp(48, 5).batch(6)["target"]) * 2 - 1
    reference, flow = bend(target, torch.zeros(6, 2, 48, 48), 9.0, torch.Generator().manual_seed(2))
    batch = Quadruplets(target, reference, target, torch.ones(6, 1, 48, 48))
    sure = torch.ones(6, 1, 48, 48)
    before = validate_aligner(aligner.eval(), batch, flow, sure)
    train_aligner(aligner, config, Sharp(48, 1), Sharp(48, 2), tmp_path)
    after = validate_aligner(aligner, batch, flow, sure)
    assert before["endpoint"] == pytest.approx(before["endpoint_before"])
    assert after["endpoint"] < 0.85 * before["endpoint"]
    assert after["apart"] < before["apart"]
    more = config.model_copy(update={"steps": 92})
    facts = train_aligner(aligner, more, Sharp(48, 1), Sharp(48, 2), tmp_path, resume=True)
    assert facts["steps"] >= 90


def test_the_found_flow_is_in_px_of_the_picture_whatever_the_size() -> None:
    class Shift(Aligner):
        """Always answers one working pixel to the right."""

        def forward(self, draft: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            flow = torch.zeros_like(draft[:, :2])
            flow[:, 0] = 1
            return [flow]

    picture = plate(np.random.default_rng(0), 256)[:, :192]
    flow = find_flow(Shift((8, 8, 8)), picture, picture, np.ones((256, 192), bool))
    # 256 px are aligned at 128, so a working pixel is two of the picture's
    assert flow.shape == (256, 192, 2)
    assert np.allclose(flow, (2 * SHARE, 0), atol=1e-4)
    shown = view(picture, np.eye(3), (0, 0, 192, 256), flow / SHARE)
    assert np.abs(shown[:, :-4].astype(int) - picture[:, 2:-2]).max() <= 1
