"""From what a user writes after ``--model`` to an adapter: a name, a file, a file:Class, or a folder of PNGs."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from refbench.adapters.registry import MODELS
from refbench.devices import resolve as placed
from refbench.errors import RefbenchError, in_words, missing_package, near_names, unknown_name
from refbench.plaintext import check_utf8, one_line
from refbench.schema import AdapterCard

if TYPE_CHECKING:
    from refbench.adapters.contract import Adapter

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


def _import_file(path: Path) -> ModuleType:
    name = f"refbench_adapter_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RefbenchError(f"Expected a Python file at {path}, but it cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class up by its module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except RefbenchError:
        raise
    except Exception as error:
        raise missing_package(error, f"for {path.name}") or RefbenchError(
            f"Expected the adapter file {path} to import, but {describe(error)}; try `python {path}`."
        ) from error
    return module


def _factory(spec: Spec) -> Any:
    """The class (or function) that makes the adapter."""
    if spec.kind == "registered":
        return MODELS.load(spec.text)
    assert spec.path is not None
    module = _import_file(spec.path)
    if spec.attribute is not None:
        if not hasattr(module, spec.attribute):
            names = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
            raise unknown_name(f"class in {spec.path.name}", spec.attribute, names)
        return getattr(module, spec.attribute)
    found = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and callable(getattr(value, "refine", None))
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise RefbenchError(
            f"Expected a class with `card` and `refine(inputs)` in {spec.path}, or a script with a PEP 723 header, "
            "but there is neither; `refbench new-adapter` writes a skeleton."
        )
    raise RefbenchError(
        f"Expected one adapter class in {spec.path}, but there are {len(found)}; "
        f"name one: {spec.path.name}:{', '.join(sorted(found))}."
    )


def _construct(factory: Any, spec: Spec, device: str, options: dict[str, Any]) -> Any:
    try:
        parameters = dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        parameters = {}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and n != "device"]
    for option in options:
        if not takes_any and option not in names:
            near = near_names(option, names)
            hint = f"did you mean {in_words(near)}" if near else f"it takes {', '.join(names) or 'none'}"
            raise RefbenchError(f"Expected an option of the model '{spec.text}', but it has no '{option}'; {hint}.")
    arguments = dict(options)
    if takes_any or "device" in parameters:
        arguments["device"] = device
    try:
        return factory(**arguments)
    except RefbenchError:
        raise
    except Exception as error:
        lacking = missing_package(error, f"for the model '{spec.text}'")
        raise lacking or RefbenchError(f"Expected the model '{spec.text}' to start, but {describe(error)}.") from error


def check_card(card: Any, spec: str) -> AdapterCard:
    """A valid card from an adapter's `card`, which may also be a dictionary of its fields.

    Raises:
        RefbenchError: missing, or a field is wrong.
    """
    from pydantic import ValidationError

    if isinstance(card, AdapterCard):
        return _whole(card, spec)
    if not isinstance(card, dict):
        raise RefbenchError(
            f"Expected the model '{spec}' to have a `card` (refbench.schema.AdapterCard), but it is "
            f"{type(card).__name__}; describe the model there."
        )
    try:
        return _whole(AdapterCard.model_validate(card), spec)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RefbenchError(
            f"Expected a valid card from the model '{spec}', but '{one_line(field, 60)}': "
            f"{one_line(first['msg'], 120)}."
        ) from None


def _whole(card: AdapterCard, spec: str) -> AdapterCard:
    """The card, if all of its text can be written down."""
    for field, value in card.model_dump().items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                check_utf8(text, f"the field '{field}' of the card of the model '{spec}'")
    return card


def describe(error: BaseException) -> str:
    """An exception of foreign code in half a sentence, with the place where it was raised."""
    import traceback

    from pydantic import ValidationError

    said = str(error)
    frames = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, ValidationError):  # of a card, in many lines and with pydantic's own place
        first = error.errors()[0]
        said = f"{error.title}, '{'.'.join(map(str, first['loc']))}': {first['msg']}"
        frames = [frame for frame in frames if Path(frame.filename).parent.name != "pydantic"]
    text = one_line(f"{type(error).__name__}: {said}" if said else type(error).__name__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    advice = " - use a smaller --batch-size or another --device" if "out of memory" in text.lower() else ""
    return f"it raised {text.rstrip('.')}{where}{advice}"


def load_class(spec: Spec, device: str, options: dict[str, Any]) -> Adapter:
    """Construct an adapter of kind `registered` or `class` in this process; errors as :func:`load_adapter`."""
    adapter = _construct(_factory(spec), spec, device, options)
    if not callable(getattr(adapter, "refine", None)):
        raise RefbenchError(
            f"Expected the model '{spec.text}' to have refine(inputs), but {type(adapter).__name__} has none; write it."
        )
    check_card(getattr(adapter, "card", None), spec.text)
    return adapter  # type: ignore[no-any-return]


def load_adapter(spec: str | os.PathLike[str], *, device: str = "cpu", **options: Any) -> Adapter:
    """Get an adapter to call directly: a registered name, file.py, file.py:Class, or a folder of PNGs.

    A class is constructed and set up in this process; a script runs in its own (call ``close()`` at the end).
    For runs that must survive crashes and hangs use :func:`refbench.adapters.contained.open_contained`.

    Args:
        spec: as after ``--model``.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for a GPU where there is one.
        **options: of the adapter.

    Raises:
        RefbenchError: unknown name (with near names), no such file, no adapter in it, unknown option,
            a card that is not complete, or the model does not start.
    """
    found, device = resolve(spec), placed(device)
    if found.kind == "folder":
        from refbench.adapters.folder import FolderAdapter

        assert found.path is not None
        return FolderAdapter(found.path, **options)
    if found.kind == "script":
        from refbench.adapters.process import ScriptAdapter

        return ScriptAdapter(found, device=device, options=options)
    adapter = load_class(found, device, options)
    set_up(adapter, found.text)
    return adapter


def set_up(adapter: Any, name: str) -> None:
    """Call the adapter's ``setup()``, if it has one.

    Raises:
        RefbenchError: it failed.
    """
    setup = getattr(adapter, "setup", None)
    if callable(setup):
        try:
            setup()
        except RefbenchError:
            raise
        except Exception as error:
            lacking = missing_package(error, f"for the model '{name}'")
            raise lacking or RefbenchError(f"Expected the model '{name}' to set up, but {describe(error)}.") from error


def load_card(name: str) -> AdapterCard:
    """The card of a registered model without starting it, where its class carries one; else by constructing it."""
    found = resolve(name)
    if found.kind == "script":
        assert found.path is not None
        return check_card(literal_in(found.path, "CARD"), name)
    card = getattr(MODELS.load(name), "card", None)
    return (
        card if isinstance(card, AdapterCard) else check_card(getattr(load_class(found, "cpu", {}), "card", None), name)
    )


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


def missing_requirements(card: AdapterCard) -> tuple[str, ...]:
    """The modules that a card requires and this environment has not."""
    return tuple(m for m in card.requires if importlib.util.find_spec(m.partition(".")[0]) is None)
