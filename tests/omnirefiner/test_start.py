"""The prepared start: two heads of every block look at the same place in the draft and in the reference."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxPosEmbed

from refbench.omnirefiner.method.tokens import DRAFT, NOISY, REFERENCE, grid_ids
from refbench.omnirefiner.tiny.start import OPEN, positional_vectors

AXES = (8, 12, 12)


def test_each_pointed_head_looks_there() -> None:
    ids = torch.cat([grid_ids(12, 12, stream) for stream in (NOISY, DRAFT, REFERENCE)])
    rotary = FluxPosEmbed(10000, list(AXES))(ids)
    for offset, stream in ((1, DRAFT), (2, REFERENCE)):
        query, key = positional_vectors(AXES, offset)
        queries, keys = (
            apply_rotary_emb(v.expand(1, len(ids), 1, -1), rotary, sequence_dim=1)[0, :, 0] for v in (query, key)
        )
        found = (queries[:36] @ keys.T).argmax(1)
        assert torch.equal(found, torch.arange(36) + 36 * stream)


def test_the_untrained_output_is_zero() -> None:
    from tests.omnirefiner.test_training import _fresh

    transformer = _fresh().transformer
    assert float(transformer.proj_out.weight.abs().max()) == 0
    width = transformer.inner_dim
    gate = transformer.single_transformer_blocks[0].norm.linear.bias[2 * width :]
    assert torch.equal(gate, torch.ones(width))


def test_stage_one_can_move_the_gate() -> None:
    from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
    from refbench.omnirefiner.training.data import Quadruplets
    from refbench.omnirefiner.training.lora import add_lora, trainable
    from refbench.omnirefiner.training.sft import encode_batch
    from tests.omnirefiner.test_training import MODEL

    pipeline = OmniRefinerPipeline.fresh(MODEL, seed=0)
    generator = torch.Generator().manual_seed(0)
    draft, reference = (torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    pipeline.vae.fit(torch.cat([draft, reference]))
    batch = Quadruplets(draft, reference, reference, torch.ones(2, 1, 32, 32))
    conditions, clean = encode_batch(pipeline, batch, pipeline.embed_prompts(["a", "b"]), reference=True)
    noise = pipeline.noise(conditions, torch.Generator().manual_seed(0))
    _, gate = pipeline.denoise_gated(noise, conditions, 1)
    assert gate is not None
    assert torch.allclose(gate, torch.full_like(gate, OPEN), atol=1e-6)
    # the base never saw a reference, so the gate's own layer must be in the adapter or the gate stays as it is
    add_lora(pipeline.transformer, 4)
    weights = list(trainable(pipeline.transformer).values())
    optimiser = torch.optim.Adam(weights, lr=0.02)
    for _ in range(30):
        found = noise - pipeline.predict(noise, torch.ones(2), conditions, sampling=False)[0]
        loss = (found - clean).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    _, gate = pipeline.denoise_gated(noise, conditions, 1)
    assert gate is not None
    # the reference is the answer: the gate has opened further, at every place
    assert float(gate.min()) > OPEN + 0.1


def test_a_prompt_says_nothing_untrained() -> None:
    from refbench.omnirefiner.method.instructions import REPLACE, RESTORE
    from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
    from refbench.omnirefiner.training.lora import add_lora, trainable
    from refbench.omnirefiner.training.sft import encode_batch
    from tests.omnirefiner import toys
    from tests.omnirefiner.test_training import MODEL

    pipeline = OmniRefinerPipeline.fresh(MODEL, seed=0)
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.1)
    batch = toys.quadruplets(1)
    pipeline.vae.fit(torch.cat([batch.draft, batch.target]))

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        mend, replace = (
            encode_batch(pipeline, batch, pipeline.embed_prompts([x]), reference=True)[0] for x in (RESTORE, REPLACE)
        )
        noise = torch.zeros_like(mend.draft)
        return pipeline.denoise(noise, mend, 1), pipeline.denoise(noise, replace, 1)

    mended, replaced = answers()
    assert torch.equal(mended, replaced)
    add_lora(pipeline.transformer, 4)
    reads = {k: p for k, p in trainable(pipeline.transformer).items() if "text_embedder" in k and "lora_B" in k}
    for parameter in reads.values():
        torch.nn.init.normal_(parameter)
    assert len(reads) == 1
    again, replaced = answers()
    assert torch.equal(mended, again)
    assert not torch.allclose(again, replaced, atol=1e-3)
