"""Random tiny models of the published classes, and quadruplets made of noise, for this room's tests."""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor

from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.training.data import Quadruplets
from refbench.omnirefiner.training.explorer import NoiseExplorer
from refbench.omnirefiner.training.loop import Values

KONTEXT: dict[str, Any] = {
    "in_channels": 64, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "pooled_projection_dim": 20, "guidance_embeds": True, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=4, scaling_factor=0.36,
        shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def transformer(**changes: Any) -> FluxTransformer2DModel:
    torch.manual_seed(2)
    return FluxTransformer2DModel(**(KONTEXT | changes)).eval()


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The published one: dynamic shifting on."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
        base_image_seq_len=256, max_image_seq_len=4096,
    )  # fmt: skip


def tokenizers() -> tuple[Any, Any]:
    """CLIP's and T5's of the published classes over single letters, made without network."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTokenizer, T5TokenizerFast

    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in string.printable:
        vocabulary.setdefault(letter, len(vocabulary))
        vocabulary.setdefault(letter + "</w>", len(vocabulary))
    clip = CLIPTokenizer(vocab=vocabulary, merges=[])
    clip.model_max_length = 77
    pieces: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(c, -2.0) for c in string.ascii_letters + string.digits]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    t5 = T5TokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", extra_ids=0
    )
    t5.model_max_length = 512
    return clip, t5


def text_parts() -> tuple[Any, Any, Any, Any]:
    """CLIP and T5 of the published classes with their tokenizers, random and tiny."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip_tokenizer, t5_tokenizer = tokenizers()
    torch.manual_seed(3)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer), hidden_size=20, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=20, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )
    )  # fmt: skip
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip
    return clip.eval(), clip_tokenizer, t5.eval(), t5_tokenizer


def pipeline(**options: Any) -> OmniRefinerPipeline:
    """An OmniRefiner of Kontext's classes without text encoders, guidance 2.5."""
    changes = options.pop("transformer", {})
    found = OmniRefinerPipeline(
        scheduler(), autoencoder(), transformer(**changes), working_size=64, default_steps=2, guidance=2.5, **options
    )
    found.set_progress_bar_config(disable=True)
    return found


class NoiseSampler:
    """Quadruplets whose reference is the target moved by up to four pixels, the draft its blur; no assets needed."""

    def __init__(self, size: int = 32, seed: int = 0) -> None:
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def batch(self, count: int, misalignment: float | Tensor = 1.0, details: bool = False) -> dict[str, Tensor]:
        coarse = torch.rand(count, 3, self.size // 4, self.size // 4, generator=self.generator)
        target = torch.nn.functional.interpolate(coarse, (self.size, self.size), mode="nearest")
        level = float(torch.as_tensor(misalignment, dtype=torch.float32).mean())
        reference = target.roll(round(4 * level), -1)
        mask = torch.zeros(count, 1, self.size, self.size)
        mask[..., self.size // 4 : -self.size // 4, self.size // 4 : -self.size // 4] = 1
        draft = target * (1 - mask) + torch.nn.functional.avg_pool2d(target, 9, 1, 4) * mask
        out = {"draft": draft, "reference": reference, "target": target, "mask": mask}
        if details:
            out |= {"kind": torch.full((count,), 3), "fault": torch.zeros(count, dtype=torch.int64)}
        return out


def quadruplets(count: int = 2, size: int = 32, seed: int = 0) -> Quadruplets:
    """One batch in [-1, 1]."""
    found = NoiseSampler(size, seed).batch(count, 0.5)
    return Quadruplets(*(found[k] * 2 - 1 for k in ("draft", "reference", "target")), found["mask"])


def iterate(
    explorer: NoiseExplorer, batch: Quadruplets, prompts: list[str], optimiser: torch.optim.Optimizer
) -> dict[str, float]:
    """One iteration of stage 2, as the loop makes it."""
    values: Values = {}
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    for loss, last in explorer.losses(batch, explorer.pipeline.embed_prompts(prompts), values):
        torch.autograd.backward(loss)
        if last:
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
    return {name: float(value) for name, value in values.items()}
