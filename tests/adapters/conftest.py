"""Samples for the tests of adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refbench.schema import Inputs

HERE = Path(__file__).resolve().parent


@pytest.fixture
def faulty() -> Path:
    return HERE / "faulty.py"


@pytest.fixture
def faulty_script() -> Path:
    return HERE / "faulty_script.py"


@pytest.fixture
def sample() -> Callable[..., Inputs]:
    """A maker of small samples: sample(id, prompt)."""
    generator = np.random.default_rng(1)
    draft = generator.integers(0, 256, (40, 56, 3), np.uint8)
    reference = generator.integers(0, 256, (30, 64, 3), np.uint8)
    mask = np.zeros((40, 56), bool)
    mask[10:30, 12:40] = True

    def make(name: str, prompt: str = "fix it") -> Inputs:
        return Inputs(name, draft.copy(), reference.copy(), mask.copy(), prompt, (5, 6, 20, 15), 3)

    return make
