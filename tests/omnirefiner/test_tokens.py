"""Packing and positions are FLUX's own; streams are 0, 1, 2."""

from __future__ import annotations

import torch
from diffusers import FluxKontextPipeline
from hypothesis import given
from hypothesis import strategies as st

from refbench.omnirefiner.method.tokens import Conditions, assemble, grid_ids, latent_mask, pack, unpack


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_unpack_inverts_pack(batch: int, channels: int, rows: int, columns: int) -> None:
    latents = torch.arange(batch * channels * rows * columns * 4.0).view(batch, channels, rows * 2, columns * 2)
    assert torch.equal(unpack(pack(latents), rows * 2, columns * 2), latents)


def test_packing_and_ids_are_those_of_diffusers() -> None:
    latents = torch.randn(2, 16, 8, 12)
    assert torch.equal(pack(latents), FluxKontextPipeline._pack_latents(latents, 2, 16, 8, 12))
    stock = FluxKontextPipeline._prepare_latent_image_ids(2, 4, 6, torch.device("cpu"), torch.float32)
    assert torch.equal(grid_ids(8, 12, 0), stock)


def _conditions(batch: int = 1) -> Conditions:
    mask = torch.zeros(batch, 1, 4, 4)
    mask[..., :2, :2] = 1
    return Conditions(
        draft=torch.ones(batch, 4, 8), size=(4, 4), prompt_embeds=torch.zeros(batch, 1, 4),
        pooled=torch.zeros(batch, 4),
        reference=2 * torch.ones(batch, 9, 8), reference_size=(6, 6), mask=mask,
    )  # fmt: skip


def test_the_sequence_is_noisy_draft_reference() -> None:
    sequence, ids = assemble(torch.zeros(1, 4, 8), _conditions(), "none")
    assert sequence[0, :, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 9
    assert ids[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 9
    assert torch.equal(ids[:4, 1:], ids[4:8, 1:])
    assert ids[8, 1:].tolist() == [0, 0]
    assert ids[-1, 1:].tolist() == [2, 2]


def test_mask_channels_are_its_cells() -> None:
    sequence, _ = assemble(torch.zeros(2, 4, 8), _conditions(2), "channels")
    assert sequence.shape == (2, 17, 12)
    assert sequence[0, :, 8:].mean(1).tolist() == [1, 0, 0, 0, 1, 0, 0, 0] + [-1] * 9


def test_a_cell_counts_for_any_pixel() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 5, 11] = 1
    assert latent_mask(mask, 4, 4).nonzero().tolist() == [[0, 0, 1, 2]]
