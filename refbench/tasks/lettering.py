"""Typeset batches of short texts from a glyph atlas, vectorised in torch; and garble them.

The atlas is (F, C, T, T) uint8 coverage with advances (F, C) in px, made by
:func:`refbench.tasks.training_assets.glyph_atlas`. A text is at most `LINES` x `COLUMNS` characters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refbench.tasks.degradations import sample

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&!?%+-"
LINES, COLUMNS = 3, 8


@dataclass(frozen=True, slots=True)
class Texts:
    """A batch of texts: fonts (B,), characters (B, L, K) with -1 where there is none."""

    fonts: Tensor
    characters: Tensor


def random_texts(batch: int, fonts: int, generator: torch.Generator, device: torch.device) -> Texts:
    """Random words in 1 to 3 lines of 2 to 8 characters, in one case a text."""

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator, device=device)

    font = whole(0, fonts, batch)
    lines = whole(0, 10, batch)
    lines = 1 + (lines >= 4).long() + (lines >= 8).long()
    lengths = whole(2, COLUMNS + 1, batch, LINES)
    kind = whole(0, 10, batch, 1, 1)
    letters = whole(0, 26, batch, LINES, COLUMNS)
    digits = 52 + whole(0, 16, batch, LINES, COLUMNS)
    first = torch.arange(COLUMNS, device=device).view(1, 1, -1) == 0
    mixed = torch.where(first, letters, letters + 26)
    characters = torch.where(kind < 5, letters, torch.where(kind < 8, mixed, digits))
    column = torch.arange(COLUMNS, device=device).view(1, 1, -1)
    line = torch.arange(LINES, device=device).view(1, -1, 1)
    present = (column < lengths.unsqueeze(-1)) & (line < lines.view(-1, 1, 1))
    return Texts(font, torch.where(present, characters, torch.full_like(characters, -1)))


def typeset(
    texts: Texts, atlas: Tensor, advances: Tensor, size: int, tiles: Tensor | None = None, squeeze: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Coverage (B, 1, size, size) of texts stretched over the square, and their aspect width / height (B,).

    Args:
        atlas, advances: (F, C, T, T) floats in [0, 1] and (F, C) px.
        tiles: (B, L, K, T, T) to use in place of the atlas's glyphs (broken ones); layout is unchanged.
        squeeze: (B,) factor on the advances, below 1 merges letters.
    """
    batch, lines, columns = texts.characters.shape
    side = atlas.shape[-1]
    index = texts.characters.clamp(min=0)
    present = texts.characters >= 0
    if tiles is None:
        tiles = glyph_tiles(texts, atlas)
    width = torch.where(present, advances[texts.fonts.view(-1, 1, 1), index], advances.new_zeros(()))
    if squeeze is not None:
        width = width * squeeze.view(-1, 1, 1)
    ends = width.cumsum(dim=2)
    total = ends[..., -1]
    count = present.any(dim=2).sum(dim=1)
    pad = side * 0.25
    whole = total.max(dim=1).values + 2 * pad
    height = count.to(whole) * side * 0.92 + pad
    where = (torch.arange(size, device=atlas.device, dtype=atlas.dtype) + 0.5) / size
    y = where.view(1, -1) * height.view(-1, 1) - pad / 2
    row = (y / (side * 0.92)).floor().clamp(min=0).long().minimum((count - 1).view(-1, 1))
    local_y = y - row.to(y) * side * 0.92
    line_ends = ends.gather(1, row.unsqueeze(-1).expand(-1, -1, columns))
    line_total = total.gather(1, row)
    line_width = width.gather(1, row.unsqueeze(-1).expand(-1, -1, columns))
    start = (whole.view(-1, 1) - line_total) / 2
    x = where.view(1, 1, -1) * whole.view(-1, 1, 1) - start.unsqueeze(-1)
    column = torch.searchsorted(line_ends.contiguous(), x.contiguous().clamp(min=0), right=True).clamp(max=columns - 1)
    before = (line_ends - line_width).gather(2, column)
    advance = line_width.gather(2, column)
    local_x = (side / 2 + x - before - advance / 2).clamp(0, side - 0.01)
    outside = (x < 0) | (x >= line_total.unsqueeze(-1)) | ((local_y < 0) | (local_y >= side)).unsqueeze(-1)
    strip_x = (column.to(x) * side + local_x) / (columns * side) * 2 - 1
    strip_y = ((row.to(y) * side + local_y.clamp(0, side - 0.01)) / (lines * side) * 2 - 1).unsqueeze(-1)
    grid = torch.stack([strip_x, strip_y.expand_as(strip_x)], dim=-1)
    strip = tiles.permute(0, 1, 3, 2, 4).reshape(batch, 1, lines * side, columns * side)
    cover = sample(strip, grid, padding="zeros")
    return cover * (~outside).unsqueeze(1).to(cover), whole / height


def glyph_tiles(texts: Texts, atlas: Tensor) -> Tensor:
    """(B, L, K, T, T) glyph pictures of the texts, empty where there is no character."""
    tiles = atlas[texts.fonts.view(-1, 1, 1), texts.characters.clamp(min=0)]
    return tiles * (texts.characters >= 0).to(tiles).unsqueeze(-1).unsqueeze(-1)


def garble(texts: Texts, atlas: Tensor, strength: Tensor, generator: torch.Generator) -> tuple[Texts, Tensor, Tensor]:
    """Wrong, broken and merged letters: new texts, their glyph tiles and the squeeze of their advances.

    A share `strength` (B,) of the letters is wrong; half as many of the others are broken (mirrored,
    turned upside down, a stroke cut out); every fourth text is squeezed so that its letters merge.
    """
    shape = texts.characters.shape
    device = atlas.device

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=device, dtype=atlas.dtype)

    level = strength.view(-1, 1, 1)
    swap = uniform(*shape) < level
    swap[:, 0, 0] = True
    other = torch.randint(0, 25, shape, generator=generator, device=device)
    base = torch.where(texts.characters >= 52, 52, torch.where(texts.characters >= 26, 26, 0))
    spread = torch.where(texts.characters >= 52, 16, 26)
    shifted = base + (texts.characters - base + 1 + other % (spread - 1)) % spread
    wrong = Texts(texts.fonts, torch.where(swap & (texts.characters >= 0), shifted, texts.characters))
    tiles = glyph_tiles(wrong, atlas)
    draw = uniform(*shape, 1, 1)
    half = level.unsqueeze(-1).unsqueeze(-1) * 0.5
    side = atlas.shape[-1]
    tiles = torch.where(draw < half * 0.35, tiles.flip(-1), tiles)
    tiles = torch.where((draw >= half * 0.35) & (draw < half * 0.6), tiles.flip(-2), tiles)
    line = torch.arange(side, device=device, dtype=atlas.dtype).view(1, 1, 1, side, 1)
    cut = uniform(*shape, 1, 1) * side * 0.6 + side * 0.15
    gap = ((line - cut).abs() > side * 0.11).to(tiles)
    tiles = torch.where((draw >= half * 0.6) & (draw < half), tiles * gap, tiles)
    squeeze = torch.where(uniform(shape[0]) < 0.25, 1 - 0.3 * strength, torch.ones_like(strength))
    return wrong, tiles, squeeze
