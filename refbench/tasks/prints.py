"""Prints at full quality, one at a time: text set in a real font, logos, rendered objects and patterns.

A print is (h, w, 4) uint8 RGBA with straight alpha. Garbled text (wrong, broken, merged letters) is made
here too, because it happens to the print before it lies on its surface.
"""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Print = NDArray[np.uint8]
Colour = tuple[int, int, int]


def hex_colour(text: str) -> Colour:
    """``"#c03a2b"`` as three levels."""
    value = text.lstrip("#")
    return int(value[0:2], 16), int(value[2:4], 16), int(value[4:6], 16)


def wrong_text(text: str, strength: float, rng: np.random.Generator) -> str:
    """Exchange a share `strength` of the letters for others of their kind, at least one; spaces stay."""
    places = [i for i, letter in enumerate(text) if letter.isalnum()]
    count = max(1, round(len(places) * strength))
    letters = list(text)
    for place in rng.choice(places, size=min(count, len(places)), replace=False):
        old = letters[place]
        pool = (
            "0123456789" if old.isdigit() else ("ABCDEFGHIKLMNOPRSTUVXZ" if old.isupper() else "abcdeghiklmnoprstuvxz")
        )
        letters[place] = str(rng.choice([new for new in pool if new != old]))
    return "".join(letters)


def text_print(
    lines: list[str],
    font: Path,
    *,
    ink: str = "#1b1b1b",
    panel: str | None = None,
    size: int = 120,
    spacing: float = 1.12,
    radius: float = 0.1,
    rule: bool = False,
    garble: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Print:
    """Set lines of text, centred, `size` px high letters, on a panel or on nothing.

    Args:
        ink, panel: hex colours; no panel leaves the letters alone.
        radius: rounding of the panel's corners as a share of its height.
        rule: draw a thin frame inside the panel.
        garble: 0 sets the text as it is; up to 1 the letters are drawn one by one, some mirrored, cut,
            turned or pushed into each other (`rng` decides; required then).
    """
    face = ImageFont.truetype(str(font), size)
    ascent, descent = face.getmetrics()
    step = round((ascent + descent) * spacing * 0.82)
    widths = [face.getlength(line) for line in lines]
    pad = round(size * (0.42 if panel else 0.12))
    width, height = math.ceil(max(widths)) + 2 * pad, step * len(lines) + 2 * pad
    cover = Image.new("L", (width, height), 0)
    for number, line in enumerate(lines):
        y = pad + number * step + (step - ascent - descent) / 2
        x = (width - widths[number]) / 2
        if garble <= 0 or rng is None:
            ImageDraw.Draw(cover).text((x, y), line, font=face, fill=255)
        else:
            _garbled_line(cover, line, face, x, y, garble, rng)
    layer = np.zeros((height, width, 4), np.uint8)
    ink_levels = hex_colour(ink)
    letters = np.asarray(cover, np.float64)[..., None] / 255
    if panel is None:
        layer[..., :3] = ink_levels
        layer[..., 3] = np.asarray(cover)
        return layer
    plate = Image.new("L", (width, height), 0)
    corner = round(radius * height)
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, width - 1, height - 1), corner, fill=255)
    ground = np.full((height, width, 3), hex_colour(panel), np.float64)
    if rule:
        frame = Image.new("L", (width, height), 0)
        inset = round(size * 0.14)
        ImageDraw.Draw(frame).rounded_rectangle(
            (inset, inset, width - 1 - inset, height - 1 - inset), corner, outline=255, width=max(2, size // 22)
        )
        letters = np.maximum(letters, np.asarray(frame, np.float64)[..., None] / 255)
    mixed = ground * (1 - letters) + np.array(ink_levels, np.float64) * letters
    layer[..., :3] = np.clip(np.rint(mixed), 0, 255)
    layer[..., 3] = np.asarray(plate)
    return layer


def _garbled_line(
    cover: Image.Image,
    line: str,
    face: ImageFont.FreeTypeFont,
    x: float,
    y: float,
    garble: float,
    rng: np.random.Generator,
) -> None:
    side = round(face.size * 2)
    for letter in line:
        advance = face.getlength(letter)
        tile = Image.new("L", (side, side), 0)
        ImageDraw.Draw(tile).text((side / 4, side / 6), letter, font=face, fill=255)
        kind = rng.random()
        cut = float(rng.uniform(0.35, 0.75))
        turn = float(rng.uniform(-1, 1))
        if letter.strip() and kind < 0.25 * garble:
            box = tile.getbbox()
            if box:
                tile.paste(tile.crop(box).transpose(Image.Transpose.FLIP_LEFT_RIGHT), box[:2])
        elif letter.strip() and kind < 0.55 * garble:
            box = tile.getbbox()
            if box:
                at = round(box[1] + (box[3] - box[1]) * cut)
                thick = max(2, round((box[3] - box[1]) * 0.2))
                ImageDraw.Draw(tile).rectangle((0, at - thick // 2, side, at + thick // 2), fill=0)
        elif letter.strip() and kind < 0.8 * garble:
            tile = tile.rotate(turn * 28 * garble, Image.Resampling.BICUBIC, center=(side / 4 + advance / 2, side / 2))
        at_x, at_y = round(x - side / 4), round(y - side / 6 + turn * face.size * 0.09 * garble)
        region = (at_x, at_y, at_x + side, at_y + side)
        old = cover.crop(region)
        merged = np.maximum(np.asarray(old), np.asarray(tile))
        cover.paste(Image.fromarray(merged), region[:2])
        x += advance * (1 - 0.14 * garble)


def _palette(rng: np.random.Generator) -> list[Colour]:
    hue = rng.random()
    shift = float(rng.choice([0.08, 0.33, 0.5, 0.58]))
    dark = bool(rng.random() < 0.5)
    ground = colorsys.hsv_to_rgb(
        hue, rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.4) if dark else rng.uniform(0.82, 0.97)
    )
    first = colorsys.hsv_to_rgb(
        (hue + shift) % 1, rng.uniform(0.4, 0.9), rng.uniform(0.8, 1) if dark else rng.uniform(0.3, 0.6)
    )
    second = colorsys.hsv_to_rgb((hue + 2 * shift) % 1, rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.95))
    return [tuple(round(c * 255) for c in colour) for colour in (ground, first, second)]  # type: ignore[misc]


PATTERNS = (
    "stripes",
    "checks",
    "dots",
    "zigzag",
    "waves",
    "scales",
    "triangles",
    "argyle",
    "rings",
    "weave",
    "leaves",
    "terrazzo",
)


def pattern_print(kind: str, seed: int, size: int = 384, cells: int = 6, colours: list[str] | None = None) -> Print:
    """A procedural pattern of one of the :data:`PATTERNS`, opaque, (size, size, 4); `seed` draws colours and shape."""
    rng = np.random.default_rng(seed)
    ground, first, second = [hex_colour(c) for c in colours] if colours else _palette(rng)
    big = size * 2
    picture = Image.new("RGB", (big, big), ground)
    draw = ImageDraw.Draw(picture)
    step = big / cells
    thick = float(rng.uniform(0.25, 0.5))
    for row in range(-1, cells + 2):
        for column in range(-1, cells + 2):
            x, y = column * step, row * step
            odd = (row + column) % 2
            main = first if odd else second
            if kind == "stripes":
                draw.rectangle((x, 0, x + step * thick, big), fill=first)
                draw.rectangle((x + step * (thick + 0.12), 0, x + step * (thick + 0.2), big), fill=second)
            elif kind == "checks":
                if odd:
                    draw.rectangle((x, y, x + step, y + step), fill=first)
                inset = step * 0.3
                draw.rectangle((x + inset, y + inset, x + step - inset, y + step - inset), fill=second)
            elif kind == "dots":
                shift = step / 2 if row % 2 else 0
                r = step * (0.18 + 0.5 * thick * (0.5 if odd else 0.75))
                draw.ellipse((x + shift - r, y - r, x + shift + r, y + r), fill=main)
            elif kind == "zigzag":
                points = [(x, y), (x + step / 2, y + step / 2), (x + step, y)]
                draw.line(points, fill=first if row % 2 else second, width=round(step * thick * 0.6), joint="curve")
            elif kind == "waves":
                points = [(x + t * step / 12, y + math.sin(t / 12 * 2 * math.pi) * step * 0.22) for t in range(13)]
                draw.line(points, fill=first if row % 2 else second, width=round(step * thick * 0.55), joint="curve")
            elif kind == "scales":
                shift = step / 2 if row % 2 else 0
                for share, colour in ((0.55, first), (0.4, ground), (0.28, second)):
                    r = step * share
                    draw.pieslice((x + shift - r, y - r, x + shift + r, y + r), 0, 180, fill=colour)
            elif kind == "triangles":
                draw.polygon([(x, y), (x + step, y), (x + (0 if odd else step), y + step)], fill=main)
            elif kind == "argyle":
                if odd:
                    draw.polygon(
                        [
                            (x + step / 2, y - step * 0.3),
                            (x + step * 1.1, y + step / 2),
                            (x + step / 2, y + step * 1.3),
                            (x - step * 0.1, y + step / 2),
                        ],
                        fill=first,
                    )
                draw.line([(x, y), (x + step, y + step)], fill=second, width=max(2, round(step * 0.05)))
                draw.line([(x + step, y), (x, y + step)], fill=second, width=max(2, round(step * 0.05)))
            elif kind == "rings":
                for share, colour in ((0.46, first), (0.32, ground), (0.2, second)):
                    r = step * share
                    draw.ellipse((x + step / 2 - r, y + step / 2 - r, x + step / 2 + r, y + step / 2 + r), fill=colour)
            elif kind == "weave":
                gap = step * 0.08
                if odd:
                    draw.rectangle((x - gap, y + gap, x + step + gap, y + step - gap), fill=first)
                else:
                    draw.rectangle((x + gap, y - gap, x + step - gap, y + step + gap), fill=second)
            elif kind == "leaves":
                angle = float(rng.uniform(0, math.pi))
                _leaf(draw, x + step / 2, y + step / 2, step * 0.45, angle, main, ground)
            else:
                for _ in range(2):
                    cx, cy = x + float(rng.uniform(0, step)), y + float(rng.uniform(0, step))
                    r = step * float(rng.uniform(0.08, 0.3))
                    corners = sorted(float(a) for a in rng.uniform(0, 2 * math.pi, 6))
                    draw.polygon(
                        [(cx + r * math.cos(a), cy + r * math.sin(a)) for a in corners],
                        fill=first if rng.random() < 0.5 else second,
                    )
    small = picture.resize((size, size), Image.Resampling.BOX)
    out = np.full((size, size, 4), 255, np.uint8)
    out[..., :3] = np.asarray(small)
    return out


def _leaf(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, angle: float, fill: Colour, vein: Colour) -> None:
    side = [(t / 10 * 2 - 1, math.sin(t / 10 * math.pi) * 0.38) for t in range(11)]
    outline = side + [(a, -b) for a, b in reversed(side)]
    cos, sin = math.cos(angle), math.sin(angle)
    draw.polygon([(x + size * (a * cos - b * sin), y + size * (a * sin + b * cos)) for a, b in outline], fill=fill)
    draw.line(
        [(x - size * cos * 0.8, y - size * sin * 0.8), (x + size * cos * 0.8, y + size * sin * 0.8)],
        fill=vein,
        width=max(1, round(size * 0.07)),
    )


def with_panel(mark: Print, panel: str, margin: float = 0.22, radius: float = 0.16) -> Print:
    """A logo on a rounded plate of one colour."""
    height, width = mark.shape[:2]
    pad = round(margin * max(height, width))
    out = np.zeros((height + 2 * pad, width + 2 * pad, 4), np.uint8)
    plate = Image.new("L", (out.shape[1], out.shape[0]), 0)
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, out.shape[1] - 1, out.shape[0] - 1), round(radius * min(out.shape[:2])), fill=255
    )
    out[..., :3] = hex_colour(panel)
    out[..., 3] = np.asarray(plate)
    inner = out[pad : pad + height, pad : pad + width]
    alpha = mark[..., 3:].astype(np.float64) / 255
    inner[..., :3] = np.clip(np.rint(inner[..., :3] * (1 - alpha) + mark[..., :3] * alpha), 0, 255)
    return out
