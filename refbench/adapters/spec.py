"""What a user writes after ``--model``: a name, a file, a file:Class, or a folder of PNGs; nothing is imported."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refbench.adapters.registry import MODELS
from refbench.errors import RefbenchError, unknown_name
from refbench.plaintext import one_line

_PEP723 = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a model specification points to."""

    text: str
    """As the user wrote it."""
    kind: Literal["registered", "class", "script", "folder"]
    path: Path | None = None
    """The file or folder, absolute; None for a registered class."""
    attribute: str | None = None
    """The class in the file, when named."""

    @property
    def target(self) -> str:
        """What :func:`resolve` makes the same specification of in any working folder."""
        if self.path is None:
            return self.text
        return f"{self.path}:{self.attribute}" if self.attribute else str(self.path)


def script_dependencies(path: Path) -> list[str] | None:
    """What the PEP 723 header of a script declares; None when there is no such header.

    Raises:
        RefbenchError: the header is there but is not valid TOML.
    """
    import tomllib

    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    for match in _PEP723.finditer(text):
        if match["type"] == "script":
            lines = (line[2:] if line.startswith("# ") else line[1:] for line in match["content"].splitlines())
            try:
                header = tomllib.loads("\n".join(lines))
            except tomllib.TOMLDecodeError as error:
                raise RefbenchError(
                    f"Expected a valid script header (PEP 723, TOML) in {path}, but {one_line(error)}; correct it."
                ) from None
            found = header.get("dependencies", [])
            if not isinstance(found, list):
                raise RefbenchError(f"Expected dependencies in {path} to be a list of requirements, but it is not one.")
            return [str(d) for d in found]
    return None


def resolve(spec: str | os.PathLike[str]) -> Spec:
    """Find out what a specification points to, without importing it.

    Raises:
        RefbenchError: an unknown name (with near names), or a path where nothing is.
    """
    text = os.fspath(spec)
    if text in MODELS:
        where = MODELS[text]
        module, _, attribute = where.partition(":")
        if attribute.isupper():  # a constant: the path of a file that comes with the package
            target = MODELS.load(text)
            if isinstance(target, Path):
                return _file(text, target, None)
        return Spec(text, "registered", None, f"{module}:{attribute}")
    path = Path(text).expanduser()
    if path.is_dir():
        return Spec(text, "folder", path.resolve())
    if path.is_file():
        return _file(text, path, None)
    head, colon, attribute = text.rpartition(":")
    if colon and Path(head).expanduser().is_file():
        return _file(text, Path(head).expanduser(), attribute)
    if any(c in text for c in "/\\") or text.endswith(".py") or ".py:" in text:
        raise RefbenchError(
            f"Expected an adapter file or a folder of PNGs at {text}, but nothing is there; check the path, "
            "or give a name of `refbench list models`."
        )
    raise unknown_name("model", text, MODELS, otherwise="a file.py, or a folder of PNGs")


def _file(text: str, path: Path, attribute: str | None) -> Spec:
    if path.suffix != ".py":
        raise RefbenchError(
            f"Expected a Python file (.py) or a folder of PNGs as model, but {path} is neither; "
            "`refbench new-adapter` writes a skeleton."
        )
    if attribute is None and script_dependencies(path) is not None:
        return Spec(text, "script", path.resolve())
    return Spec(text, "class", path.resolve(), attribute)


def absolute_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose value is a path with a separator in it that exists here, made absolute.

    A child works in a folder of its own, so ``weights=./last.safetensors`` would mean nothing there.
    """

    def absolute(value: Any) -> Any:
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if text is None:
            return value
        return str(Path(text).expanduser().resolve()) if os.sep in text and Path(text).expanduser().exists() else text

    return {key: absolute(value) for key, value in options.items()}


def literal_in(path: Path, name: str) -> Any:
    """The literal assigned to `name` at the top of a script, read without running it; None where there is none."""
    return _literals(path, path.stat().st_mtime_ns).get(name)


@functools.lru_cache(maxsize=64)
def _literals(path: Path, changed: int) -> dict[str, Any]:
    """All literals of a script; `changed` only tells two states of the file apart."""
    import ast

    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            with contextlib.suppress(ValueError):
                found |= dict.fromkeys(names, ast.literal_eval(node.value))
    return found
