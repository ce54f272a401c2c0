"""Text of others (names, notes, errors, paths) made harmless: nothing in it acts on a terminal, a log or a record."""

from __future__ import annotations

from unicodedata import category

from refbench.errors import RefbenchError

REPLACED = "\N{REPLACEMENT CHARACTER}"


def harmless(text: object) -> str:
    """The text with every character that is not printable replaced, but for line ends and wide or narrow spaces.

    Not printable are control characters (so also the beginning of an escape sequence), characters that change the
    direction of writing, and bytes of a file name that are not UTF-8.
    """
    return "".join(c if c.isprintable() or c == "\n" or category(c) == "Zs" else REPLACED for c in str(text))


def printable(text: object, longest: int | None = 120) -> str:
    """The text harmless and on one line, cut to at most `longest` characters; None cuts nothing."""
    line = harmless(text).replace("\n", REPLACED)
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"


def one_line(text: object, longest: int = 300) -> str:
    """The text for the inside of a sentence: harmless, every run of spaces and of what was replaced one space."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def check_utf8(text: str, what: str) -> None:
    """Refuse text that cannot be written into a record, as it is not UTF-8 (so are some file names on Linux).

    Raises:
        RefbenchError: with what it is the name of.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefbenchError(f"Expected text in UTF-8 as {what}, but '{printable(text)}' is not; rename it.") from None
