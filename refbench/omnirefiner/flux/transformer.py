"""FLUX's transformer in plain torch: the layers, names and arithmetic of diffusers' ``FluxTransformer2DModel``.

For refining with a small checkpoint: importing diffusers' class takes several times as long as refining a picture.
Weights have the same names, and answers are equal bit for bit (tests/omnirefiner/test_plain.py). Training and what has
text encoders use diffusers' own class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refbench.omnirefiner.tensors import Placed

THETA = 10000.0
"""Base of the rotary frequencies, and of the time embedding's."""
TIME_CHANNELS = 256
Rotary = tuple[Tensor, Tensor]
"""Cosines and sines (N, head size) of each token's position."""


def rotary(ids: Tensor, axes: Sequence[int]) -> Rotary:
    """Rotary factors of positions (N, len(axes)); an axis has so many numbers of a head."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    dtype = torch.float32 if ids.device.type == "mps" else torch.float64
    for axis, width in enumerate(axes):
        rates = 1.0 / (THETA ** (torch.arange(0, width, 2, dtype=dtype, device=ids.device) / width))
        angles = torch.outer(ids.float()[:, axis], rates)
        for parts, values in zip(found, (angles.cos(), angles.sin()), strict=True):
            parts.append(values.repeat_interleave(2, dim=1).float())
    return torch.cat(found[0], -1), torch.cat(found[1], -1)


def turned(tokens: Tensor, factors: Rotary) -> Tensor:
    """Queries or keys (B, N, heads, head size) turned by their positions."""
    cosines, sines = (part[None, :, None] for part in factors)
    real, imaginary = tokens.reshape(*tokens.shape[:-1], -1, 2).unbind(-1)
    crossed = torch.stack([-imaginary, real], dim=-1).flatten(3)
    return (tokens.float() * cosines + crossed.float() * sines).to(tokens.dtype)


class Attention(nn.Module):
    """Self-attention over all tokens; with `joint` the first of them, the text's, have projections of their own."""

    def __init__(self, width: int, head_size: int, *, joint: bool) -> None:
        super().__init__()
        self.head_size = head_size
        self.norm_q, self.norm_k = nn.RMSNorm(head_size, eps=1e-6), nn.RMSNorm(head_size, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        if joint:
            self.norm_added_q, self.norm_added_k = nn.RMSNorm(head_size, eps=1e-6), nn.RMSNorm(head_size, eps=1e-6)
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
            self.to_out = nn.ModuleList([nn.Linear(width, width)])
            self.to_add_out = nn.Linear(width, width)

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:-1], -1, self.head_size)

    def forward(self, tokens: Tensor, factors: Rotary, text: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Answers to `tokens` (B, N, D) and `text` (B, T, D); `factors` are of the text's positions, then the rest."""
        query = self.norm_q(self._heads(self.to_q(tokens)))
        key = self.norm_k(self._heads(self.to_k(tokens)))
        value = self._heads(self.to_v(tokens))
        if text is not None:
            query = torch.cat([self.norm_added_q(self._heads(self.add_q_proj(text))), query], dim=1)
            key = torch.cat([self.norm_added_k(self._heads(self.add_k_proj(text))), key], dim=1)
            value = torch.cat([self._heads(self.add_v_proj(text)), value], dim=1)
        query, key = turned(query, factors), turned(key, factors)
        query, key, value = (part.permute(0, 2, 1, 3) for part in (query, key, value))
        found = F.scaled_dot_product_attention(query, key, value).permute(0, 2, 1, 3).flatten(2, 3).to(query.dtype)
        if text is None:
            return found, None
        said, shown = found.split_with_sizes([text.shape[1], found.shape[1] - text.shape[1]], dim=1)
        return self.to_out[0](shown.contiguous()), self.to_add_out(said.contiguous())


class Modulation(nn.Module):
    """Layer norm whose scale and shift, and `count` - 2 further vectors, come from the conditioning (B, D)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(width, count * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def forward(self, tokens: Tensor, conditioning: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Modulated tokens (B, N, D), and the vectors (B, D) that are left."""
        shift, scale, *rest = self.linear(F.silu(conditioning)).chunk(self.count, dim=1)
        return self.norm(tokens) * (1 + scale[:, None]) + shift[:, None], tuple(rest)


class LastModulation(Modulation):
    """The last one, which has its vectors in the other order."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)

    def forward(self, tokens: Tensor, conditioning: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Modulated tokens (B, N, D)."""
        scale, shift = self.linear(F.silu(conditioning).to(tokens.dtype)).chunk(2, dim=1)
        return self.norm(tokens) * (1 + scale)[:, None, :] + shift[:, None, :], ()


class _GELU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.gelu(self.proj(tokens), approximate="tanh")


class FeedForward(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_GELU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        for layer in self.net:
            tokens = layer(tokens)
        return tokens


class DoubleBlock(nn.Module):
    """Text and picture tokens with weights of their own, which meet in the attention."""

    def __init__(self, width: int, head_size: int) -> None:
        super().__init__()
        self.norm1, self.norm1_context = Modulation(width, 6), Modulation(width, 6)
        self.attn = Attention(width, head_size, joint=True)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ff = FeedForward(width)
        self.norm2_context = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.ff_context = FeedForward(width)

    def forward(self, text: Tensor, tokens: Tensor, conditioning: Tensor, factors: Rotary) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, N, D) -> the same."""
        shown, here = self.norm1(tokens, conditioning)
        said, there = self.norm1_context(text, conditioning)
        shown, said = self.attn(shown, factors, said)
        tokens = _fed(tokens, shown, here, self.norm2, self.ff)
        return _fed(text, said, there, self.norm2_context, self.ff_context), tokens


def _fed(tokens: Tensor, attended: Tensor, rest: tuple[Tensor, ...], norm: nn.Module, feed: nn.Module) -> Tensor:
    gate, shift, scale, second = rest
    tokens = tokens + gate.unsqueeze(1) * attended
    found = feed(norm(tokens) * (1 + scale[:, None]) + shift[:, None])
    answer: Tensor = tokens + second.unsqueeze(1) * found
    return answer


class SingleBlock(nn.Module):
    """Text and picture tokens as one sequence, attention and MLP side by side."""

    def __init__(self, width: int, head_size: int) -> None:
        super().__init__()
        self.norm = Modulation(width, 3)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)
        self.attn = Attention(width, head_size, joint=False)

    def forward(self, tokens: Tensor, conditioning: Tensor, factors: Rotary) -> Tensor:
        """(B, T + N, D) -> the same."""
        modulated, (gate,) = self.norm(tokens, conditioning)
        hidden = F.gelu(self.proj_mlp(modulated), approximate="tanh")
        attended, _ = self.attn(modulated, factors)
        answer: Tensor = tokens + gate.unsqueeze(1) * self.proj_out(torch.cat([attended, hidden], dim=2))
        return answer


class Embedder(nn.Module):
    """Two layers with SiLU between."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(B, inputs) -> (B, width)."""
        found: Tensor = self.linear_2(F.silu(self.linear_1(values)))
        return found


def waves(times: Tensor) -> Tensor:
    """Cosines and sines (B, :data:`TIME_CHANNELS`) of noise levels (B,) in thousandths."""
    half = TIME_CHANNELS // 2
    exponents = -math.log(THETA) * torch.arange(start=0, end=half, dtype=torch.float32, device=times.device)
    angles = times[:, None].float() * torch.exp(exponents / half)[None, :]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


class TimeText(nn.Module):
    """The conditioning (B, width) from noise level, pooled prompt and, for distilled models, guidance."""

    def __init__(self, pooled: int, width: int, guided: bool) -> None:
        super().__init__()
        self.timestep_embedder = Embedder(TIME_CHANNELS, width)
        if guided:
            self.guidance_embedder = Embedder(TIME_CHANNELS, width)
        self.text_embedder = Embedder(pooled, width)

    def forward(self, times: Tensor, guidance: Tensor | None, pooled: Tensor) -> Tensor:
        """Levels and guidance (B,) in thousandths, pooled prompts (B, P)."""
        found: Tensor = self.timestep_embedder(waves(times).to(pooled.dtype))
        if guidance is not None:
            found = found + self.guidance_embedder(waves(guidance).to(pooled.dtype))
        answer: Tensor = found + self.text_embedder(pooled)
        return answer


class FluxTransformer(Placed):
    """The whole transformer; keyword arguments are those of ``transformer/config.json``."""

    def __init__(
        self, *, in_channels: int, out_channels: int | None, num_layers: int, num_single_layers: int,
        attention_head_dim: int, num_attention_heads: int, joint_attention_dim: int, pooled_projection_dim: int,
        guidance_embeds: bool = False, axes_dims_rope: Sequence[int], patch_size: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        width = num_attention_heads * attention_head_dim
        self.axes = tuple(axes_dims_rope)
        self.time_text_embed = TimeText(pooled_projection_dim, width, guidance_embeds)
        self.context_embedder = nn.Linear(joint_attention_dim, width)
        self.x_embedder = nn.Linear(in_channels, width)
        self.transformer_blocks = nn.ModuleList(DoubleBlock(width, attention_head_dim) for _ in range(num_layers))
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(width, attention_head_dim) for _ in range(num_single_layers)
        )
        self.norm_out = LastModulation(width)
        self.proj_out = nn.Linear(width, patch_size * patch_size * (out_channels or in_channels))

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor, timestep: Tensor,
        img_ids: Tensor, txt_ids: Tensor, guidance: Tensor | None = None, **_: Any,
    ) -> tuple[Tensor]:  # fmt: skip
        """Called as diffusers' class is: tokens (B, N, C), prompt (B, T, D), levels (B,), positions (N, 3), (T, 3)."""
        tokens = self.x_embedder(hidden_states)
        times, strength = (None if t is None else t.to(tokens.dtype) * 1000 for t in (timestep, guidance))
        conditioning = self.time_text_embed(times, strength, pooled_projections)
        text = self.context_embedder(encoder_hidden_states)
        factors = rotary(torch.cat((txt_ids, img_ids), dim=0), self.axes)
        for block in self.transformer_blocks:
            text, tokens = block(text, tokens, conditioning, factors)
        said = text.shape[1]
        for block in self.single_transformer_blocks:
            both = block(torch.cat([text, tokens], dim=1), conditioning, factors)
            text, tokens = both[:, :said], both[:, said:]
        return (self.proj_out(self.norm_out(tokens, conditioning)[0]),)
