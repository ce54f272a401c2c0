"""Weights that ship inside the package, read and checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    from torch import Tensor


def read_shipped(path: Path, sha256: str) -> dict[str, Tensor]:
    """The weights in a safetensors file, in single precision; 8-bit matrices times the ``.scale`` of each row.

    Raises:
        RefbenchError: the file is missing, or another one.
    """
    from safetensors.torch import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise RefbenchError(
            f"Expected the weights of {path.stem} at {path}, but {error.strerror}; install refbench again."
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise RefbenchError(
            f"Expected SHA-256 {sha256[:12]}... at {path}, but it is {found[:12]}...: the file is damaged or another "
            "one; install refbench again."
        )
    state = load(data)
    scales = {key.removesuffix(".scale"): state.pop(key).float() for key in list(state) if key.endswith(".scale")}
    return {
        key: value.float() * scales[key][:, None] if key in scales else value.float() for key, value in state.items()
    }
