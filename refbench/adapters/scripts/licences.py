"""Licences that a user has accepted, remembered in a small file in the user's configuration folder."""

from __future__ import annotations

import json
import os
from pathlib import Path


def licence_file() -> Path:
    """``refbench/accepted_licences.json`` in ``XDG_CONFIG_HOME`` or ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "refbench" / "accepted_licences.json"


def _read() -> dict[str, dict[str, str]]:
    try:
        found = json.loads(licence_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def accepted(model: str, licence: str) -> bool:
    """Whether this licence of a model has been accepted before."""
    entry = _read().get(model)
    return isinstance(entry, dict) and entry.get("licence") == licence


def accept(model: str, licence: str, when: str) -> None:
    """Remember that it was accepted, and when (ISO 8601, UTC); the first time stays."""
    if accepted(model, licence):
        return
    path = licence_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_read() | {model: {"licence": licence, "accepted": when}}, indent=1), encoding="utf-8")
