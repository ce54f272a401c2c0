"""The prepared start: two heads of every block look at the same place in the draft and in the reference."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxPosEmbed

from refbench.omnirefiner.initial import positional_vectors
from refbench.omnirefiner.tokens import DRAFT, NOISY, REFERENCE, grid_ids

AXES = (8, 12, 12)


def test_each_pointed_head_looks_at_its_stream_at_the_same_place() -> None:
    ids = torch.cat([grid_ids(12, 12, stream) for stream in (NOISY, DRAFT, REFERENCE)])
    rotary = FluxPosEmbed(10000, list(AXES))(ids)
    for offset, stream in ((1, DRAFT), (2, REFERENCE)):
        query, key = positional_vectors(AXES, offset)
        queries, keys = (
            apply_rotary_emb(v.expand(1, len(ids), 1, -1), rotary, sequence_dim=1)[0, :, 0] for v in (query, key)
        )
        found = (queries[:36] @ keys.T).argmax(1)
        assert torch.equal(found, torch.arange(36) + 36 * stream)


def test_the_untrained_output_is_zero_and_the_gates_are_open() -> None:
    from tests.omnirefiner.test_training import _fresh

    transformer = _fresh().transformer
    assert float(transformer.proj_out.weight.abs().max()) == 0
    width = transformer.inner_dim
    gate = transformer.single_transformer_blocks[0].norm.linear.bias[2 * width :]
    assert torch.equal(gate, torch.ones(width))
