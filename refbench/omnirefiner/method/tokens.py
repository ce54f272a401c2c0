"""From latents to the transformer's sequence: packing, stream ids, and the mask.

OmniRefiner (arXiv 2511.19990) lays three pictures on one sequence, ``[noisy | draft | reference]``, all seen by
full attention. A token's position is (stream, row, column); rows and columns are not shifted between streams, so the
same place in draft and result differs in the stream alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

NOISY, DRAFT, REFERENCE = 0, 1, 2
MaskMode: TypeAlias = Literal["none", "channels"]


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) -> tokens (B, h/2 * w/2, 4C), the 2x2 packing of FLUX."""
    batch, channels, height, width = latents.shape
    tokens = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(batch, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Inverse of :func:`pack`; `height` and `width` are of the latents, both even."""
    batch, _, channels = tokens.shape
    latents = tokens.view(batch, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return latents.reshape(batch, channels // 4, height, width)


def grid_ids(height: int, width: int, stream: int) -> Tensor:
    """Positions (h/2 * w/2, 3) = (stream, row, column) of the tokens of latents (h, w)."""
    ids = torch.zeros(height // 2, width // 2, 3)
    ids[..., 0] = stream
    ids[..., 1] += torch.arange(height // 2)[:, None]
    ids[..., 2] += torch.arange(width // 2)[None]
    return ids.reshape(-1, 3)


def latent_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, 1, H, W) in [0, 1] on the latent grid (h, w): a cell counts where any pixel of it does."""
    return F.adaptive_max_pool2d(mask, (height, width))


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that stays fixed while one batch is denoised."""

    draft: Tensor
    """Packed draft latents (B, N, C)."""
    size: tuple[int, int]
    """Latent height and width of draft and result."""
    prompt_embeds: Tensor
    """(B, T, D) states of the prompt; one zero token where there is no text encoder."""
    pooled: Tensor
    """(B, P)."""
    reference: Tensor | None = None
    """Packed reference latents (B, M, C); None leaves the stream out: a single-image editor."""
    reference_size: tuple[int, int] | None = None
    mask: Tensor | None = None
    """Latent mask (B, 1, h, w)."""
    guidance: float | None = None
    """For guidance-distilled transformers."""

    def without_reference(self) -> Conditions:
        """The same question to a single-image editor."""
        return self._but(reference=None, reference_size=None)

    def repeat(self, times: int) -> Conditions:
        """Every question `times` times in a row: a group of GRPO."""

        def again(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.repeat_interleave(times, 0)

        return self._but(
            draft=self.draft.repeat_interleave(times, 0),
            prompt_embeds=self.prompt_embeds.repeat_interleave(times, 0),
            pooled=self.pooled.repeat_interleave(times, 0),
            reference=again(self.reference), mask=again(self.mask),
        )  # fmt: skip

    def rows(self, index: Tensor | slice) -> Conditions:
        """Some questions of the batch."""

        def take(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return self._but(
            draft=self.draft[index], prompt_embeds=self.prompt_embeds[index], pooled=self.pooled[index],
            reference=take(self.reference), mask=take(self.mask),
        )  # fmt: skip

    def _but(self, **changes: object) -> Conditions:
        import dataclasses

        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def assemble(noisy: Tensor, conditions: Conditions, mode: MaskMode) -> tuple[Tensor, Tensor]:
    """(E2) The sequence and its positions: ``[noisy | draft | reference]`` (B, N, C') and ids (N, 3).

    With `mode` "none" it is the paper's figure; with "channels" every token carries its four latent mask cells as extra
    inputs (the reference -1, "not to be refined").
    """
    parts, ids = [noisy], [grid_ids(*conditions.size, NOISY)]
    parts.append(conditions.draft)
    ids.append(grid_ids(*conditions.size, DRAFT))
    if conditions.reference is not None:
        assert conditions.reference_size is not None
        parts.append(conditions.reference)
        ids.append(grid_ids(*conditions.reference_size, REFERENCE))
    if mode == "channels":
        assert conditions.mask is not None
        cells = pack(conditions.mask).to(noisy)
        marks = [cells, cells] + [torch.full_like(part[..., :4], -1.0) for part in parts[2:]]
        parts = [torch.cat([part, mark], dim=-1) for part, mark in zip(parts, marks, strict=True)]
    return torch.cat(parts, dim=1), torch.cat(ids, dim=0).to(noisy.device)
