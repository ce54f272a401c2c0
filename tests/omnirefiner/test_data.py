"""Training data: what belongs to a sample stays with it."""

from __future__ import annotations

import torch

from refbench.omnirefiner.training.data import Quadruplets, exchanged, mirrored
from tests.omnirefiner import toys


def test_replacing_stays_with_its_sample() -> None:
    batch = toys.quadruplets(2, 32)
    assert batch.replaced.tolist() == [0, 0]
    told = Quadruplets(*batch.parts[:4], torch.tensor([0.0, 1.0]))
    assert told.rows(torch.tensor([1, 1, 0])).replaced.tolist() == [1, 1, 0]
    assert told.first(1).replaced.tolist() == [0]
    assert mirrored(told, torch.Generator().manual_seed(0)).replaced.tolist() == [0, 1]
    kinds = {"fault": torch.tensor([0, 1, 1, 1]), "kind": torch.tensor([2, 2, -1, 0])}
    assert exchanged(kinds).tolist() == [False, True, False, True]


def test_mirroring_turns_all_parts_together() -> None:
    batch = toys.quadruplets(32, 16)
    made = mirrored(batch, torch.Generator().manual_seed(0))
    turned = [not torch.equal(a, b) for a, b in zip(batch.target, made.target, strict=True)]
    assert 4 < sum(turned) < 28
    for k, flipped in enumerate(turned):
        for part in ("draft", "reference", "mask"):
            old = getattr(batch, part)[k]
            assert torch.equal(getattr(made, part)[k], old.flip(-1) if flipped else old)
