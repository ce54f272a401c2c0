"""Adapters that are classes: found, constructed, set up, and asked for answers in this process."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from refbench.adapters.card import check_card
from refbench.adapters.contract import (
    Account,
    Batched,
    Closing,
    FailedError,
    Paid,
    RefusedError,
    SetUp,
    StopError,
    failed,
    normalise_output,
    split_answer,
)
from refbench.adapters.registry import MODELS
from refbench.adapters.spec import Spec
from refbench.errors import RefbenchError, in_words, missing_package, near_names, unknown_name
from refbench.plaintext import one_line
from refbench.schema import Failure, Inputs, Isolation, Refinement


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


def construct(spec: Spec, device: str, options: Mapping[str, Any]) -> Any:
    """What the class (or function) of a specification makes, not set up.

    Raises:
        RefbenchError: it does not import, has no such option, does not start, has no ``refine`` or no whole card.
    """
    factory = _factory(spec)
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
        adapter = factory(**arguments)
    except RefbenchError:
        raise
    except Exception as error:
        lacking = missing_package(error, f"for the model '{spec.text}'")
        raise lacking or RefbenchError(f"Expected the model '{spec.text}' to start, but {describe(error)}.") from error
    if not callable(getattr(adapter, "refine", None)):
        raise RefbenchError(
            f"Expected the model '{spec.text}' to have refine(inputs), but {type(adapter).__name__} has none; write it."
        )
    check_card(getattr(adapter, "card", None), spec.text)
    return adapter


def describe(error: BaseException) -> str:
    """An exception of foreign code in half a sentence, with the place where it was raised."""
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


class ClassAdapter:
    """A class adapter in this process, ready to answer; a crash or a hang of it is one of this process.

    Args:
        spec: of kind "registered" or "class".
        device: given to the adapter.
        options: keyword arguments of the adapter.
        batch_size: most samples given to the adapter together, where it has ``refine_batch``.
        account: of the run, for an adapter that costs money.

    Raises:
        RefbenchError: as :func:`construct`, or its ``setup()`` failed.
    """

    isolation: Isolation = "in-process"

    def __init__(
        self,
        spec: Spec,
        *,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        account: Account | None = None,
    ) -> None:
        self.adapter = construct(spec, device, options or {})
        """What the author's class made."""
        self.batch_size = batch_size
        self.pays = isinstance(self.adapter, Paid)
        if account is not None and isinstance(self.adapter, Paid):
            self.adapter.use_account(account)
        if isinstance(self.adapter, SetUp):
            try:
                self.adapter.setup()
            except RefbenchError:
                raise
            except Exception as error:
                lacking = missing_package(error, f"for the model '{spec.text}'")
                raise lacking or RefbenchError(
                    f"Expected the model '{spec.text}' to set up, but {describe(error)}."
                ) from error
        self.card = check_card(self.adapter.card, spec.text)
        self.together = isinstance(self.adapter, Batched)

    def refine(self, inputs: Inputs, /) -> Refinement:
        """The refinement of one sample; whatever the adapter raises is raised."""
        start = time.perf_counter()
        answer = self.adapter.refine(inputs)
        return _answered(answer, inputs, time.perf_counter() - start)

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Refinement]:
        """One refinement for each input, in order; an exception is that sample's failure."""
        size = self.batch_size if self.together else 1
        return [done for first in range(0, len(batch), size) for done in self._chunk(batch[first : first + size])]

    def _chunk(self, batch: Sequence[Inputs]) -> list[Refinement]:
        if self.together and len(batch) > 1:
            start = time.perf_counter()
            try:
                answers = self.adapter.refine_batch(list(batch))
                seconds = (time.perf_counter() - start) / len(batch)
                if len(answers) == len(batch):
                    return [_checked(answer, one, seconds) for answer, one in zip(answers, batch, strict=True)]
                sys.stderr.write(f"refine_batch: {len(answers)} answers for {len(batch)} samples; one by one\n")
            except (Exception, SystemExit) as error:
                _failure(error)
        return [self._one(inputs) for inputs in batch]

    def _one(self, inputs: Inputs) -> Refinement:
        start = time.perf_counter()
        try:
            answer = self.adapter.refine(inputs)
        except (Exception, SystemExit) as error:
            seconds, (failure, sentence) = time.perf_counter() - start, _failure(error)
            told = (error.price_usd, error.facts) if isinstance(error, FailedError) else (None, {})
            return failed(inputs, seconds, failure, sentence, *told)
        return _checked(answer, inputs, time.perf_counter() - start)

    @staticmethod
    def remarks(every: Collection[str], planned: Collection[str]) -> list[str]:
        """None: a class has an answer to whatever it is asked."""
        return []

    def close(self) -> None:
        """Let the adapter close."""
        if isinstance(self.adapter, Closing):
            self.adapter.close()


def _failure(error: BaseException) -> tuple[Failure, str]:
    """The word for an exception and a sentence; one that is no :class:`RefbenchError` goes to stderr in full."""
    error = missing_package(error, "for this model") or error
    if isinstance(error, RefbenchError):
        failure: Failure = (
            "refused" if isinstance(error, RefusedError) else "stop" if isinstance(error, StopError) else "error"
        )
        return failure, one_line(error, 500)
    traceback.print_exception(error, limit=-8, file=sys.stderr)
    return "error", f"Expected an image from the adapter, but {describe(error)}."


def _answered(answer: Any, inputs: Inputs, seconds: float) -> Refinement:
    value, price, facts = split_answer(answer)
    image = normalise_output(value, inputs)
    return Refinement(inputs.id, image, seconds, price_usd=price, seed=inputs.seed, facts=facts)


def _checked(answer: Any, inputs: Inputs, seconds: float) -> Refinement:
    """The refinement that an answer is, or the failure of one that is none."""
    try:
        return _answered(answer, inputs, seconds)
    except RefbenchError as error:
        return failed(inputs, seconds, "invalid", one_line(error, 500))
