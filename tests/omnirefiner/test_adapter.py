"""The models of this package: found by name, honest cards, equal inputs give equal images."""

from __future__ import annotations

import numpy as np
import pytest

from refbench.adapters.omnirefiner import OmniRefiner, OmniRefinerSFT
from refbench.adapters.registry import MODELS
from refbench.omnirefiner.tiny.procedural import plate
from refbench.schema import Inputs


@pytest.mark.parametrize("kind", [OmniRefiner, OmniRefinerSFT])
def test_each_is_registered_by_its_name(kind: type[OmniRefiner]) -> None:
    assert MODELS.load(kind.card.name) is kind
    assert kind.variant == kind.card.name


def test_batch_gives_what_single_questions_give() -> None:
    draft = plate(np.random.default_rng(1), 96)
    mask = np.zeros((96, 96), bool)
    mask[30:60, 20:70] = True
    inputs = [Inputs(str(i), draft, plate(np.random.default_rng(i), 80), mask, "Fix it", None, i) for i in range(2)]
    adapter = OmniRefinerSFT()
    batch = adapter.refine_batch(inputs)
    for one, found in zip(inputs, batch, strict=True):
        assert np.array_equal(adapter.refine(one)[0], found[0])
