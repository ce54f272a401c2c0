"""Training data: references laid as the focus lays them, and samples that are used more than once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from refbench.omnirefiner.tiny.procedural import plate
from refbench.omnirefiner.training.data import Quadruplets, Reservoir, draw, exchanged, lay_references, mirrored
from tests.omnirefiner import toys


def _pictures(count: int, size: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.stack(
        [torch.from_numpy(plate(rng, size).copy()).permute(2, 0, 1).float() / 127.5 - 1 for _ in range(count)]
    )


def _batch(dim: float = 1.0) -> Quadruplets:
    target = _pictures(2, 64, 1)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    blurred = torch.nn.functional.avg_pool2d(target, 7, 1, 3)
    return Quadruplets(target * (1 - mask) + blurred * mask, (target + 1) * dim - 1, target, mask)


def test_a_placed_reference_keeps_the_surroundings() -> None:
    batch = _batch(dim=0.6)
    laid = lay_references(batch, torch.tensor([True, True]), None)
    outside = (batch.mask == 0).expand(-1, 3, -1, -1)
    # rounded to eight bits on the way
    assert (laid.reference - batch.draft)[outside].abs().max() <= 1 / 127.5 + 1e-6
    inside = (batch.mask > 0).expand(-1, 3, -1, -1)
    dark, lit, spoilt = (
        (x - batch.target)[inside].abs().mean() for x in (batch.reference, laid.reference, batch.draft)
    )
    assert lit < 0.5 * dark
    assert lit < spoilt
    assert torch.equal(laid.target, batch.target)


def test_another_print_follows_no_flow() -> None:
    class Far(torch.nn.Module):
        """Moves everything by ten pixels."""

        def forward(self, draft: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            return [torch.full_like(draft[:, :2], 10.0)]

    batch, same = _batch(), torch.tensor([False, False])
    aligner: object = Far()
    told = replace(batch, other=torch.ones(2))
    other, kept = (lay_references(q, same, aligner) for q in (told, batch))  # type: ignore[arg-type]
    assert torch.equal(other.reference, lay_references(told, same, None).reference)
    assert not torch.equal(kept.reference, lay_references(batch, same, None).reference)


def test_what_is_replaced_stays_with_its_sample() -> None:
    batch = _batch()
    assert batch.replaced.tolist() == [0, 0]
    told = Quadruplets(*batch.parts[:4], torch.tensor([0.0, 1.0]))
    assert told.rows(torch.tensor([1, 1, 0])).replaced.tolist() == [1, 1, 0]
    assert told.first(1).replaced.tolist() == [0]
    assert mirrored(told, torch.Generator().manual_seed(0)).replaced.tolist() == [0, 1]
    assert lay_references(told, torch.tensor([False, False]), None).replaced.tolist() == [0, 1]
    kinds = {"fault": torch.tensor([0, 1, 1, 1]), "kind": torch.tensor([2, 2, -1, 0])}
    assert exchanged(kinds).tolist() == [False, True, False, True]


def test_drawing_with_laying_lays() -> None:
    plain, laid = (
        draw(toys.NoiseSampler(64, 3), 2, 0.5, torch.Generator().manual_seed(0), laying=how) for how in (False, True)
    )
    assert torch.equal(plain.draft, laid.draft)
    outside = (laid.mask == 0).expand(-1, 3, -1, -1)
    assert (laid.reference - laid.draft)[outside].abs().max() <= 1 / 127.5 + 1e-6


def test_a_reservoir_uses_samples_evenly() -> None:
    made = 0

    def make(count: int) -> tuple[torch.Tensor, ...]:
        nonlocal made
        values = torch.arange(made, made + count, dtype=torch.float32)
        made += count
        return (values, -values)

    reservoir, generator = Reservoir(make, 64, 4), torch.Generator().manual_seed(0)
    drawn = [reservoir.draw(16, generator) for _ in range(200)]
    assert all(torch.equal(a, -b) for a, b in drawn)  # what belongs together stays together
    seen = torch.cat([a for a, _ in drawn])
    assert len(seen) == 3200
    # 16 at first and then a quarter of each batch
    assert made == reservoir.made == 16 + 199 * 4
    early = seen[seen < made - 64]
    # each is drawn 4 times on average (64 places, 16 draws a batch, 16 batches until it is overwritten)
    assert 3.5 < len(early) / (made - 64) < 4.5
    once = Reservoir(make, 64, 1)
    assert torch.equal(once.draw(3, generator)[0], torch.arange(made - 3, made).float())
    early_start = Reservoir(make, 64, 4, first=40)
    early_start.draw(8, generator)
    assert early_start.made == 40


def test_mirroring_turns_all_parts_together() -> None:
    batch = toys.quadruplets(32, 16)
    made = mirrored(batch, torch.Generator().manual_seed(0))
    turned = [not torch.equal(a, b) for a, b in zip(batch.target, made.target, strict=True)]
    assert 4 < sum(turned) < 28
    for k, flipped in enumerate(turned):
        for part in ("draft", "reference", "mask"):
            old = getattr(batch, part)[k]
            assert torch.equal(getattr(made, part)[k], old.flip(-1) if flipped else old)
