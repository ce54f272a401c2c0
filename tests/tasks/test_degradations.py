"""Degradations: seeded, in range, nothing at strength 0, and worse with more of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.errors import RefbenchError
from refbench.tasks.degradations import DEGRADATIONS, blur, dct_matrix, degrade, degrade_mixed


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    from skimage import data

    crop = data.astronaut()[20:148, 160:288].astype(np.float64) / 255
    return torch.from_numpy(crop).permute(2, 0, 1).unsqueeze(0)


def _seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_seeds_decide_the_pixels(name: str, photo: torch.Tensor) -> None:
    first, again = (degrade(name, photo, 0.7, _seeded()) for _ in range(2))
    assert torch.equal(first, again)
    if name != "jpeg":  # the one that draws nothing
        assert not torch.equal(first, degrade(name, photo, 0.7, _seeded(4)))


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_strength_zero_changes_nothing_visible(name: str, photo: torch.Tensor) -> None:
    assert (degrade(name, photo, 0.0, _seeded()) - photo).abs().max() < 0.5 / 255


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_more_strength_is_more_error(name: str, photo: torch.Tensor) -> None:
    errors = [
        float((degrade(name, photo, level, _seeded()) - photo).square().mean().sqrt()) for level in (0.2, 0.5, 0.8, 1.0)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 0.02


@given(
    name=st.sampled_from(sorted(DEGRADATIONS)), level=st.floats(0, 1), seed=st.integers(0, 99), odd=st.integers(0, 7)
)
@settings(max_examples=40, deadline=None)
def test_any_picture_stays_in_range_and_shape(name: str, level: float, seed: int, odd: int) -> None:
    picture = torch.rand(2, 3, 40 + odd, 56 - odd, generator=_seeded(seed))
    out = degrade(name, picture, level, _seeded(seed))
    assert out.shape == picture.shape
    assert bool(torch.isfinite(out).all())
    assert out.min() >= 0
    assert out.max() <= 1


def test_strengths_are_per_sample(photo: torch.Tensor) -> None:
    pair = photo.repeat(2, 1, 1, 1)
    out = degrade("latent-x4", pair, torch.tensor([0.0, 1.0]), _seeded())
    assert (out[0] - pair[0]).abs().max() < 1e-9
    assert (out[1] - pair[1]).abs().max() > 0.1


def test_mixed_batch_spoils_each_as_chosen(photo: torch.Tensor) -> None:
    batch = photo.repeat(3, 1, 1, 1)
    out = degrade_mixed(("jpeg", "latent-x8"), torch.tensor([0, -1, 1]), batch, torch.full((3,), 0.8), _seeded())
    assert torch.equal(out[1], batch[1])
    assert torch.allclose(out[0], degrade("jpeg", photo, 0.8, _seeded())[0])
    assert float((out[2] - batch[2]).abs().mean()) > float((out[0] - batch[0]).abs().mean())


def test_coarser_latents_lose_more(photo: torch.Tensor) -> None:
    errors = [float((degrade(f"latent-x{k}", photo, 1.0, _seeded()) - photo).square().mean()) for k in (2, 4, 8)]
    assert errors == sorted(errors)


def test_the_dct_is_orthonormal_and_scipys() -> None:
    from scipy.fft import dct

    matrix = dct_matrix(8, torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(matrix @ matrix.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    signal = np.random.default_rng(0).random(8)
    assert np.allclose(matrix.numpy() @ signal, dct(signal, norm="ortho"), atol=1e-12)


def test_blur_is_scipys_gaussian(photo: torch.Tensor) -> None:
    from scipy.ndimage import gaussian_filter1d

    mine = blur(photo, 2.0)[0, 0].numpy()
    other = photo[0, 0].numpy()
    for axis in (0, 1):
        other = gaussian_filter1d(other, 2.0, axis=axis, mode="mirror", radius=5)
    assert np.abs(mine - other).max() < 1e-12


def test_an_unknown_name_is_refused(photo: torch.Tensor) -> None:
    with pytest.raises(RefbenchError, match="did you mean melt"):
        degrade("melted", photo, 0.5, _seeded())
