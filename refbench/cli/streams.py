"""Standard streams that take whatever is printed: closed ones, and terminals that cannot show every character."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path

PLAINER = {
    "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2026": "...", "\u00d7": "x", "\u2191": "^", "\u2193": "v",
    "\u00b1": "+-", "\u00b7": ".", "\u2264": "<=", "\u2265": ">=", "\u2192": "->", "\ufffd": "?",
}  # fmt: skip
"""What stands in ASCII for the characters that refbench itself prints; all others are shown by their code."""
HANDLER = "refbench.plainer"


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(PLAINER.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), error.end


def prepare() -> None:
    """Open what is closed on nothing, and let no character stop the output.

    A closed descriptor is filled first: else the next file that is opened takes its number, and what a library prints
    goes into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open for as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(HANDLER, _plainer)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=HANDLER)
