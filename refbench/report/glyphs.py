"""Which characters can be drawn: by the style's own font, by another font of this machine, or only in words.

The style's fonts come with matplotlib and have Latin, Greek and Cyrillic. What they lack (Chinese, Japanese, Korean,
emoji) is taken from the fonts that this machine has; what none has is spelt out (:mod:`refbench.spelling`).
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.spelling import spelt

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def families(text: str, family: str) -> list[str]:
    """The style's family, and others of this machine that have what it lacks of `text`."""
    found = [family]
    for character in text:
        if ord(character) > 126 and not any(ord(character) in _family(one) for one in found):
            other = _other(character)
            if other is not None:
                found.append(other)
    return found


def drawable(text: str, family: str) -> str:
    """The text as it can be drawn: what no font of this machine has is in words."""
    return spelt(
        text, lambda c: ord(c) in range(32, 127) or c == "\n" or ord(c) in _family(family) or _other(c) is not None
    )


def settle(figure: Figure, family: str) -> set[str]:
    """Give every text of a figure the fonts it needs, spell out what none has, and let no dollar start mathematics.

    Returns:
        The characters that no font of this machine has.
    """
    from matplotlib.text import Text

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font without a bold is good enough
    lacking: set[str] = set()

    def mended(text: Text) -> str:
        words = text.get_text()
        if "$" in words and "\\mathdefault" not in words:  # the second is matplotlib's own, on logarithmic axes
            text.set_parse_math(False)
        if words.isascii():
            return words
        shown = drawable(words, family)
        lacking.update(c for c in words if drawable(c, family) != c)
        text.set_fontfamily(families(shown, family))
        return shown

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):  # their texts are written anew at each draw
            labels = axis.get_ticklabels()
            words = [label.get_text() for label in labels]
            shown = [mended(label) for label in labels]
            if shown != words:
                axis.set_ticks(axis.get_ticklocs(), labels=shown)
    for text in figure.findobj(Text):
        shown_text = mended(text)
        if shown_text != text.get_text():
            text.set_text(shown_text)
    return lacking


@lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[int]:
    """Code points that a font file has glyphs for; none where matplotlib cannot read it (colour bitmaps)."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@lru_cache(maxsize=256)
def _family(name: str) -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont

    return _characters(findfont(FontProperties(family=name)))


@lru_cache(maxsize=4096)
def _other(character: str) -> str | None:
    """The family of an upright font of this machine that has a character; None where there is none."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    own = Path(matplotlib.get_data_path())  # besides DejaVu there are only parts of mathematics, and boxes
    fonts = [
        font
        for font in fontManager.ttflist
        if font.style == "normal"
        and (font.name.startswith("DejaVu Sans") or own not in Path(font.fname).parents)
        and not font.name.lower().startswith((".last", "last resort"))
    ]

    def order(font: object) -> tuple[int, str]:
        weight = getattr(font, "weight", 400)
        return abs((weight if isinstance(weight, int) else 400) - 400), str(getattr(font, "name", ""))

    for font in sorted(fonts, key=order):
        if ord(character) in _characters(font.fname) and ord(character) in _family(font.name):
            return str(font.name)
    return None
