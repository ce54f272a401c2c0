"""The one exception a user ever sees: what was expected, what came, where, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefbenchError(Exception):
    """Wrong input, told in one sentence; the command line turns it into exit code 2."""


class UnavailableError(RefbenchError):
    """Something real that cannot run here (weights, an extra, a GPU); says what fetches it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RefbenchError:
    """The error for an unknown model, task, metric or suite, with the nearest known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return RefbenchError(f"Unknown {kind} '{name}': {hint}")
