"""Text from strangers: what is refused in an entry, and how what is left is written into each format.

A submission's text ends up in Markdown, HTML, LaTeX, CSV, JSON and terminals. It is checked once, when an
entry is read (:func:`check_text`), and escaped again by each renderer: neither trusts the other.
"""

from __future__ import annotations

import html
import re
from typing import Any

from refbench.csvtext import csv_cell
from refbench.leaderboard.refused import RefusedError
from refbench.plaintext import printable as printable  # the format of terminals and logs, beside those below
from refbench.spelling import latex_text

LONGEST = 500
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._+-]{0,62}[a-z0-9])?")
_TAG = re.compile(r"<\s*[a-zA-Z/!?]")
_SCHEME = re.compile(r"(?:java|vb)script\s*:|data:[a-z]+/|file://", re.IGNORECASE)


def check_text(value: str, where: str, longest: int = LONGEST) -> None:
    """Refuse text that could act instead of being read: control and direction characters, markup, script links.

    Raises:
        RefusedError: "control-character", "markup" or "text-too-long".
    """
    if len(value) > longest:
        raise RefusedError(
            "text-too-long",
            f"Expected at most {longest} characters in {where}, but there are {len(value)}; shorten it.",
        )
    for place, character in enumerate(value):
        if not character.isprintable():
            raise RefusedError(
                "control-character",
                f"Expected printable text in {where}, but character {place + 1} is U+{ord(character):04X}; remove it.",
            )
    if _TAG.search(value) or _SCHEME.search(value):
        raise RefusedError(
            "markup", f"Expected plain text in {where}, but it holds markup or a script link; remove it."
        )


def check_tree(value: Any, where: str, longest: int = LONGEST, depth: int = 12) -> None:
    """:func:`check_text` on every string, keys included, of plain JSON data.

    Raises:
        RefusedError: as :func:`check_text`, or "too-deep".
    """
    if depth == 0:
        raise RefusedError("too-deep", f"Expected plain fields in {where}, but they are nested too deeply.")
    if isinstance(value, str):
        check_text(value, where, longest)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, f"a key of {where}", longest)
            check_tree(item, f"{where}.{printable(key, 40)}", longest, depth - 1)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_tree(item, f"{where}[{number}]", longest, depth - 1)


def markdown(text: object) -> str:
    """Text as it stands inside a cell of a GitHub table: no markup of its own, no cell ends, no line ends."""
    line = html.escape(printable(text, LONGEST), quote=False)
    return re.sub(r"([\\`*_\[\]|~#@:])", lambda found: f"&#{ord(found.group(1))};", line)


def latex(text: object) -> str:
    """Text for LaTeX; every character that LaTeX gives a meaning is written by its command."""
    return latex_text(printable(text, LONGEST))


def csv(text: object) -> str:
    """Text for a spreadsheet: one line that is no formula."""
    return csv_cell(printable(text, LONGEST))


def web_link(text: str | None) -> str | None:
    """The text if it is an address that a page may link to (https, nothing else), else None."""
    return text if text and re.fullmatch(r"https://[A-Za-z0-9.-]+(?:/[\w./%+~=&?#-]*)?", text) else None
