"""The learned metrics on their real weights: `make test-weights`, where the network or the caches have them.

Each comparison of tests/metrics/test_learned.py again, on real weights, and values that others have published.
A file that cannot be had skips its tests by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from refbench.errors import RefbenchError
from refbench.metrics import Measurer
from refbench.metrics.learned import base
from refbench.metrics.registry import make_metrics
from refbench.weights import fetch
from tests.metrics.learned_reference import PLAIN
from tests.metrics.scenes import halfway, scene

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def _the_users_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Downloads go where the user's other tools find them; the switch is the user's (`make test-weights` sets 0)."""
    monkeypatch.delenv("REFBENCH_CACHE", raising=False)
    base.forget_networks()
    yield
    base.forget_networks()


def had(name: str) -> None:
    """Skip where a metric's libraries or weights cannot be had."""
    metric = make_metrics([name])[name]
    files = getattr(metric, "files", ())
    offline = os.environ.get("REFBENCH_OFFLINE", "") == "1"
    for file in files:
        try:
            fetch(file, allow_network=not offline)
        except RefbenchError as error:
            pytest.skip(f"{file}: {error}")
    missing = metric.missing()
    if missing is not None:
        pytest.skip(missing)


@pytest.mark.parametrize("name", list(PLAIN))
def test_the_value_is_the_original_librarys(name: str) -> None:
    import torch

    had(name)
    truth = scene()
    output = halfway(truth)
    if name == "background_lpips":
        output = np.clip(output.astype(int) + np.arange(output.shape[1])[None, :, None] % 7, 0, 255).astype(np.uint8)
    with torch.inference_mode():
        expected = PLAIN[name](truth, output)
    (found,) = Measurer([name], threads=1).measure([truth], [output])[0]
    assert found.value == pytest.approx(expected, abs=1e-5, rel=1e-4)
    card = make_metrics([name])[name].card()
    assert card.weights_sha256
    assert "random" not in card.weights_sha256


def test_lpips_of_torchmetrics_documented_example() -> None:
    """torchmetrics 1.9, functional/image/lpips.py: two pairs of seeded noise, printed as tensor([0.1024, 0.0938])."""
    had("lpips_squeeze")
    import torch

    from refbench.metrics.learned.trunks import lpips_maps, stages, unit

    generator = torch.Generator().manual_seed(42)
    one, two = (torch.rand(2, 3, 100, 100, generator=generator) for _ in range(2))
    a, b = ([unit(stage) for stage in stages("squeeze", images)] for images in (one, two))
    found = sum(found.mean(dim=(1, 2, 3)) for found in lpips_maps("squeeze", a, b))
    assert found.tolist() == pytest.approx([0.1024, 0.0938], abs=6e-5)
