"""Text for what has few characters: words for those that a font lacks, and text for LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\u2013": "--", "\u2014": "---", "\u2026": r"\ldots{}", "\u2018": "`", "\u2019": "'",
    "\u201c": "``", "\u201d": "''", "\u2212": "$-$", "\u00d7": r"$\times$", "\u2191": r"$\uparrow$",
    "\u2193": r"$\downarrow$", "\u03c1": r"$\rho$", "\u0394": r"$\Delta$", "\u2265": r"$\geq$", "\u2264": r"$\leq$",
    "\u00b1": r"$\pm$", "\u00a0": "~",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Plain text made safe for LaTeX with any engine.

    Control characters become spaces, so that no name can end a line or start a command; letters past Latin, which
    pdfLaTeX refuses, and symbols without a command are spelt out.
    """
    plain = "".join(c if c.isprintable() or c in _LATEX or unicodedata.category(c) == "Cf" else " " for c in text)
    safe = "".join(_LATEX.get(c, c) for c in spelt(plain, lambda c: c in _LATEX or ord(c) < 0x180))
    return f"{{[}}{safe[1:]}" if safe.startswith("[") else safe  # else the end of the line before would take it


def spelt(text: str, known: Callable[[str], bool]) -> str:
    """The text with each run of characters that are not `known` as words in brackets.

    A letter or syllable becomes its name ("か" is "ka"), a symbol what it shows ("🚀" is "rocket"), and a Chinese
    character, which has no name of its own, its code point ("図" is "U+56F3"). Marks that only change how their
    neighbours look, such as variation selectors, are left out. The text is composed (NFC) first.
    """
    out: list[str] = []
    words: list[str] = []
    for character in [*unicodedata.normalize("NFC", text), ""]:
        if character and not known(character):
            words.append(_word(character))
            continue
        if any(words):
            out.append(f"[{' '.join(filter(None, words))}]")
        words = []
        out.append(character)
    return "".join(out)


def _word(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    name = unicodedata.name(character, "")
    letter = re.search(r"(?:LETTER|SYLLABLE)(?: SMALL)? ([A-Z]+)$", name)
    if letter:
        return letter[1].lower()
    if not name or re.search(r"IDEOGRAPH|[0-9A-F]{4,}$", name):
        return f"U+{ord(character):04X}"
    return name.lower()
