"""A library's transformer with less work for the same vector: what no class token needs is left out.

The libraries' own code runs but for three parts of their blocks: attention goes through torch's fused kernel
(open_clip's and DreamSim's write the whole table of weights to memory), the quick GELU works in place, and in the last
block only the class token asks and passes the MLP. Values differ by the order of sums (1e-6 of a vector's largest
number); tests and benchmarks compare with the libraries' networks as they come.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

QUICK = 1.702
"""Of OpenAI's quick GELU, x * sigmoid(1.702 x)."""


class SelfAttention(nn.Module):
    """Self-attention by ``scaled_dot_product_attention``, called as open_clip and DreamSim call theirs.

    Args:
        inward: makes queries, keys and values, in this order: (3 d, d) and its bias.
        outward: the projection after it.
        heads: how many; d is divisible by it.
        only_class: only the class token, which comes first, asks: the result is (n, 1, d).
    """

    def __init__(self, inward: tuple[Tensor, Tensor], outward: nn.Module, heads: int, only_class: bool) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(part.detach(), requires_grad=False) for part in inward)
        self.outward = outward
        self.heads = heads
        self.only_class = only_class

    def forward(self, x: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """(n, tokens, d) -> (n, tokens or 1, d), and None where the libraries give the table of weights."""
        width = x.shape[-1]
        if self.only_class:
            parts = [F.linear(x[:, :1], self.weight[:width], self.bias[:width])]
            parts += F.linear(x, self.weight[width:], self.bias[width:]).chunk(2, dim=-1)
        else:
            parts = list(F.linear(x, self.weight, self.bias).chunk(3, dim=-1))
        query, key, value = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.outward(found.transpose(1, 2).flatten(2)), None


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x) of a tensor that nobody else needs, in its own memory."""

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        return F.silu(x.mul_(QUICK), inplace=True).div_(QUICK)


def only_class_token(norm: nn.Module) -> None:
    """Let a last block's MLP see its class token alone, by the layer norm before it; all else after it is unused.

    The class token's value is the same: the sum with the residual broadcasts, so that the library's own code runs.
    """
    norm.register_forward_pre_hook(lambda _, given: (given[0][:, :1],))


def lean_open_clip(tower: Any) -> Any:
    """open_clip's image tower, whose pool is the class token."""
    blocks = tower.transformer.resblocks
    for block in blocks:
        attn = block.attn
        inward = (attn.in_proj_weight, attn.in_proj_bias)
        block.attn = SelfAttention(inward, attn.out_proj, attn.num_heads, block is blocks[-1])
        if type(block.mlp.gelu).__name__ == "QuickGELU":
            block.mlp.gelu = QuickGELU()
    only_class_token(blocks[-1].ln_2)
    return tower


def lean_dinov2(model: Any) -> Any:
    """transformers' DINOv2, whose attention is fused already."""
    only_class_token(model.encoder.layer[-1].norm2)
    return model


def lean_dreamsim(model: Any) -> Any:
    """DreamSim, its LoRA added to the weights that it corrects."""
    merged = model.merge_and_unload()
    for extractor in merged.extractor_list:
        blocks = extractor.model.blocks
        for block in blocks:
            attn = block.attn
            inward = (attn.qkv.weight, attn.qkv.bias)
            block.attn = SelfAttention(inward, attn.proj, attn.num_heads, block is blocks[-1])
            if type(block.mlp.act).__name__ == "QuickGELU":
                block.mlp.act = QuickGELU()
        only_class_token(blocks[-1].norm2)
    return merged
