"""The one exception a user ever sees: what was expected, what came, where, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class RefbenchError(Exception):
    """Wrong input, told in one sentence; the command line turns it into exit code 2."""


class UnavailableError(RefbenchError):
    """Something real that cannot run here (weights, an extra, a GPU); says what fetches it."""


EXTRAS = {
    "models": ("diffusers", "transformers", "accelerate", "peft", "huggingface_hub"),
    "build": ("datasets", "resvg_py"),
    "learned": ("lpips", "open_clip", "dreamsim", "pytorch_fid", "cleanfid"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "web": ("httpx",),
    "app": ("starlette", "uvicorn", "python_multipart"),
    "pyiqa": ("pyiqa",),
    "trackio": ("trackio",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
}
"""Extra of this package -> the modules that come with it and that a plain install may lack."""


def check_seed(seed: int) -> int:
    """The seed, if every random generator takes it.

    Raises:
        RefbenchError: it is below 0 or has more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise RefbenchError(f"Expected a seed of 0 or more, and below 2^63, but {seed} came.")
    return seed


def check_timeout(seconds: float) -> float:
    """The time, if a model can have it.

    Raises:
        RefbenchError: it is no number above 0.
    """
    if not 0 < seconds < float("inf"):
        raise RefbenchError(f"Expected --timeout of more than 0 seconds, but {seconds:g} came.")
    return seconds


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


MOST_NAMES = 12
"""So many known names are spelt out; of longer lists the error says where to see them."""

_LISTS = {"model": "refbench list models", "metric": "refbench list metrics", "weight file": "refbench weights list"}


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """At most three known names that `name` may be a slip of, the nearest first; often none.

    Case and punctuation do not count. A name is near where it is three quarters the same (difflib's ratio: about one
    slip in four letters), where one of its words begins with the letters given (three or more), or where it holds them
    (four or more). What is much further away than the nearest is left out.
    """
    wanted = _letters(name)
    nearness = {}
    for one in known:
        pair = (wanted, _letters(one))
        ratio = max(difflib.SequenceMatcher(None, *order).ratio() for order in (pair, pair[::-1]))
        parts = [_letters(one), *map(_letters, re.split(r"[\W_]+", one))]
        begins = len(wanted) >= 3 and any(part.startswith(wanted) for part in parts)
        if begins or (len(wanted) >= 4 and wanted in parts[0]):
            ratio = max(ratio, 0.9)
        nearness[one] = ratio
    best = max(nearness.values(), default=0.0)
    near = [one for one, ratio in nearness.items() if ratio >= max(0.75, best - 0.1)]
    return sorted(near, key=lambda one: (-nearness[one], one))[:3]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def in_words(names: Iterable[str], last: str = "or") -> str:
    """ "a", "a or b", "a, b or c"."""
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def unknown_name(kind: str, name: str, known: Iterable[str], *, otherwise: str = "") -> RefbenchError:
    """The error for an unknown model, task, metric or suite, with the near names, else the known ones.

    Args:
        otherwise: what can be given in place of a known name, as in "a folder with suite.json".
    """
    names = list(known)
    near = near_names(name, names)
    if near:
        return RefbenchError(f"Unknown {kind} '{name}': did you mean {in_words(near)}?")
    others = len(names) - MOST_NAMES
    if not names:
        hint = "there are none"
    elif others <= 0:
        hint = f"known: {', '.join(sorted(names))}"
    elif kind in _LISTS:
        hint = f"'{_LISTS[kind]}' shows all {len(names)}"
    else:
        hint = f"known: {', '.join(sorted(names)[:MOST_NAMES])} and {others} more"
    return RefbenchError(f"Unknown {kind} '{name}': {hint}{f'; or give {otherwise}' if otherwise else ''}.")
