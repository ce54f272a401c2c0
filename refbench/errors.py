"""The one exception a user ever sees: what was expected, what came, where, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefbenchError(Exception):
    """Wrong input, told in one sentence; the command line turns it into exit code 2."""


class UnavailableError(RefbenchError):
    """Something real that cannot run here (weights, an extra, a GPU); says what fetches it."""


EXTRAS = {
    "models": ("diffusers", "transformers", "accelerate", "peft", "huggingface_hub"),
    "build": ("datasets", "resvg_py"),
    "learned": ("lpips", "open_clip", "dreamsim", "pytorch_fid", "cleanfid"),
    "web": ("httpx",),
    "pyiqa": ("pyiqa",),
}
"""Extra of this package -> the modules that come with it and that a plain install may lack."""


def missing_package(error: BaseException | str, purpose: str = "") -> UnavailableError | None:
    """The error for an optional package that is not installed, with the extra that brings it; None for any other.

    Args:
        error: what an import raised, or the module's name.
        purpose: what it is for, e.g. "to draw logos".
    """
    name = error if isinstance(error, str) else error.name if isinstance(error, ModuleNotFoundError) else None
    top = (name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if top in modules), None)
    if extra is None:
        return None
    need = f"the package {top} {purpose}".strip()
    return UnavailableError(
        f"Expected {need}, but it is not installed; install the extra '{extra}': `pip install 'refbench[{extra}]'`."
    )


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RefbenchError:
    """The error for an unknown model, task, metric or suite, with the nearest known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return RefbenchError(f"Unknown {kind} '{name}': {hint}")
