"""The three contestants: found by name, honest cards, equal inputs give equal images."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.adapters.omnirefiner import OmniRefiner, OmniRefinerBase, OmniRefinerSFT
from refbench.adapters.registry import MODELS
from refbench.omnirefiner.tiny.procedural import plate
from refbench.schema import Inputs


@pytest.mark.parametrize("kind", [OmniRefiner, OmniRefinerSFT, OmniRefinerBase])
def test_each_is_registered_by_its_name(kind: type[OmniRefiner]) -> None:
    assert MODELS.load(kind.card.name) is kind
    assert kind.variant == kind.card.name


def test_the_base_needs_no_reference() -> None:
    assert not OmniRefinerBase.card.needs_reference
    assert OmniRefiner.card.needs_reference


def test_a_batch_gives_what_single_questions_give() -> None:
    draft = plate(np.random.default_rng(1), 96)
    mask = np.zeros((96, 96), bool)
    mask[30:60, 20:70] = True
    inputs = [Inputs(str(i), draft, plate(np.random.default_rng(i), 80), mask, "Fix it", None, i) for i in range(2)]
    adapter = OmniRefinerSFT()
    batch = adapter.refine_batch(inputs)
    for one, found in zip(inputs, batch, strict=True):
        # float32 kernels may sum batches in another order: at most one grey level
        assert np.abs(adapter.refine(one)[0].astype(int) - found[0].astype(int)).max() <= 1
