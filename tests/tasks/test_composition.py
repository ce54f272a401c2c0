"""Composition: geometry by closed form and by OpenCV, light and grain of the surface, nothing outside the print."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.tasks.composition import compose, lay_on, print_grid, rotate_quad, square_to_quad, warp_points

SQUARE = torch.tensor([[[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]]], dtype=torch.float64)
jitter = st.floats(-0.3, 0.3)


@given(st.lists(jitter, min_size=8, max_size=8))
@settings(max_examples=50, deadline=None)
def test_homography_is_opencvs(moves: list[float]) -> None:
    import cv2

    quad = SQUARE + torch.tensor(moves, dtype=torch.float64).view(1, 4, 2)
    matrix = square_to_quad(quad)
    moved, depth = warp_points(SQUARE, matrix)
    assert torch.allclose(moved, quad, atol=1e-9)
    assert bool((depth > 0).all())
    other = cv2.getPerspectiveTransform(SQUARE[0].numpy().astype(np.float32), quad[0].numpy().astype(np.float32))
    mine = (matrix[0] / matrix[0, 2, 2]).numpy()
    assert np.abs(mine - other).max() < 1e-4  # OpenCV solves from float32 corners


def test_identity_quad_samples_print_itself() -> None:
    grid = print_grid(SQUARE, torch.zeros(1, 1, 8, 6, dtype=torch.float64))
    xs = (torch.arange(6, dtype=torch.float64) * 2 + 1) / 6 - 1
    assert torch.allclose(grid[0, 3, :, 0], xs)
    assert torch.allclose(grid[0, :, 0, 1], (torch.arange(8).double() * 2 + 1) / 8 - 1)


def test_cylinder_shows_print_by_arc_sine() -> None:
    """A print that goes around by the half angle a appears at u = sin(a s) / sin(a) for its own coordinate s."""
    like = torch.zeros(1, 1, 9, 65, dtype=torch.float64)
    flat, bent = print_grid(SQUARE, like), print_grid(SQUARE, like, wrap=torch.tensor([1.2], dtype=torch.float64))
    angle = torch.tensor(1.2, dtype=torch.float64)
    assert torch.allclose(torch.sin(bent[0, 4, :, 0] * angle) / torch.sin(angle), flat[0, 4, :, 0], atol=1e-12)
    assert torch.equal(bent[..., 1], flat[..., 1])


def test_outside_print_surface_is_untouched() -> None:
    surface = torch.rand(1, 3, 48, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = torch.ones(1, 4, 16, 16, dtype=torch.float64)
    quad = rotate_quad(torch.zeros(1, 2), torch.full((1, 2), 0.4), torch.tensor([0.2]), torch.zeros(1, 2)).double()
    picture, cover = compose(surface, layer, quad, supersample=2)
    clear = (cover == 0).expand_as(surface)
    assert torch.equal(picture[clear], surface[clear])
    assert 0.1 < float(cover.mean()) < 0.25


def test_flat_opaque_print_keeps_its_colour() -> None:
    """On a flat grey of luminance 0.62 shading and exposure are exactly 1, so the print's own colour comes out."""
    surface = torch.full((1, 3, 40, 40), 0.62, dtype=torch.float64)
    layer = torch.ones(1, 4, 40, 40, dtype=torch.float64)
    layer[:, 0], layer[:, 1], layer[:, 2] = 0.8, 0.3, 0.1
    picture = lay_on(surface, layer, opacity=1.0)
    assert torch.allclose(picture[0, :, 20, 20], torch.tensor([0.8, 0.3, 0.1], dtype=torch.float64), atol=1e-9)


def test_print_takes_the_surfaces_light() -> None:
    ramp = torch.linspace(0.3, 0.9, 64, dtype=torch.float64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    noise = torch.randn(1, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.03
    layer = torch.full((1, 4, 64, 64), 0.5, dtype=torch.float64)
    layer[:, 3] = 1
    smooth = lay_on(ramp.contiguous(), layer, opacity=1.0)
    assert smooth[0, 0, 32, 56] > smooth[0, 0, 32, 8] * 1.5
    rough = lay_on((ramp + noise).clamp(0, 1), layer, opacity=1.0)
    assert float((rough - smooth).std()) > 0.01
    assert float((lay_on((ramp + noise).clamp(0, 1), layer, opacity=1.0, grain=0.0) - smooth).std()) < 0.006
