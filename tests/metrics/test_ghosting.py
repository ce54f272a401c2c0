"""Ghosting: the draft's detail at part strength is a double exposure; the draft, the target and a blur are not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from refbench.images import Image
from refbench.metrics import Measurer
from refbench.metrics.consistency.ghosting import doubled
from refbench.metrics.regions import composite
from refbench.schema import Truth
from tests.metrics.scenes import halfway, wrong_thing


@pytest.fixture(scope="module")
def measurer() -> Measurer:
    return Measurer(["ghosting"], threads=1)


def ghosting(measurer: Measurer, output: Image, truth: Truth | None = None) -> float:
    (score,) = measurer.measure([truth or wrong_thing()], [output])[0]
    return score.value


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_blend_of_draft_and_target_is_double(measurer: Measurer, share: float) -> None:
    assert ghosting(measurer, halfway(wrong_thing(), 1.0 - share)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0.0), (0.3, 1 / 3), (0.35, 0.5), (0.9, 0.5)])
def test_a_faint_remnant_counts_in_part(measurer: Measurer, share: float, expected: float) -> None:
    """(share - 0.2) / 0.3 on the way in and (1 - share) / 0.2 on the way out."""
    assert ghosting(measurer, halfway(wrong_thing(), 1.0 - share)) == pytest.approx(expected, abs=0.08)


def test_draft_and_target_are_not_double(measurer: Measurer) -> None:
    truth = wrong_thing()
    assert truth.draft is not None
    assert ghosting(measurer, truth.draft) == pytest.approx(0.0, abs=0.02)
    assert ghosting(measurer, truth.target) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_blurred_target_is_not_double(measurer: Measurer, sigma: float) -> None:
    truth = wrong_thing()
    assert truth.mask is not None
    soft = np.asarray(cv2.GaussianBlur(truth.target, (0, 0), sigma), dtype=np.uint8)
    assert ghosting(measurer, composite(soft, truth.target, truth.mask)) < 0.05


def test_draft_like_target_has_no_ghost(measurer: Measurer) -> None:
    truth = replace(wrong_thing(), draft=wrong_thing().target)
    assert ghosting(measurer, 255 - truth.target, truth) == 0.0


def test_ghosting_rises_and_falls_with_share() -> None:
    shares = np.array([0.0, 0.2, 0.35, 0.5, 0.8, 0.9, 1.0])
    np.testing.assert_allclose(doubled(shares), [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0], atol=1e-12)
