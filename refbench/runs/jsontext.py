"""JSON as refbench writes it: valid everywhere, so infinities and NaN, which JSON has not, become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """The same value with every infinite or NaN number replaced by None (the PSNR of equal images is infinite)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def as_json(value: Any, *, ascii_only: bool = False) -> str:
    """JSON text, indented by two, of plain values; `ascii_only` writes all other characters as escapes."""
    return json.dumps(finite(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file that refbench can make again; None where it is missing or broken."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
