"""Who opens an adapter: to call it directly, behind a wall, or only for its card."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.adapters.card import check_card
from refbench.adapters.registry import MODELS
from refbench.adapters.spec import Spec, absolute_options, literal_in, resolve
from refbench.devices import resolve as placed
from refbench.errors import RefbenchError, UnavailableError
from refbench.schema import AdapterCard

if TYPE_CHECKING:
    from refbench.adapters.child import Born
    from refbench.adapters.contract import Account, Contained
    from refbench.adapters.process import Runner


def load_adapter(spec: str | os.PathLike[str], *, device: str = "cpu", **options: Any) -> Contained:
    """Get an adapter to call directly: a registered name, file.py, file.py:Class, or a folder of PNGs.

    ``refine(sample)`` gives a :class:`~refbench.schema.Refinement` of each: image, seconds, seed and facts; what goes
    wrong is raised. A class is constructed and set up in this process; a script runs in its own. Call ``close()`` at
    the end. For runs that must survive crashes and hangs use :func:`open_contained`.

    Args:
        spec: as after ``--model``.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for a GPU where there is one.
        **options: of the adapter.

    Raises:
        RefbenchError: unknown name (with near names), no such file, no adapter in it, unknown option,
            a card that is not complete, or the model does not start.
    """
    return _opened(spec, {"device": placed(device), "options": options}, in_process=True)


@contextlib.contextmanager
def open_contained(
    spec: str | os.PathLike[str] | Spec,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    timeout_s: float = 600.0,
    start_timeout_s: float = 1800.0,
    options: Mapping[str, Any] | None = None,
    hide: Sequence[Path] = (),
    network: bool = True,
    threads: int | None = None,
    runner: Runner = "auto",
    in_process: bool = False,
    account: Account | None = None,
    born: Born | None = None,
) -> Iterator[Contained]:
    """Open an adapter behind a wall, and close it at the end of the block.

    Args:
        spec: a registered name, file.py, file.py:Class, a folder of PNGs, or what one of these was resolved to.
        device: passed to the adapter, e.g. "cpu" or "cuda".
        batch_size: most samples given to the adapter together, where it has ``refine_batch``.
        timeout_s: longest time for one sample in seconds (times the samples in a batch).
        start_timeout_s: longest time to load and set up, in seconds (weights may be downloaded).
        options: keyword arguments of the adapter; plain values.
        hide: folders that the adapter must find empty, e.g. the suite's; enforced by the system where it can
            (:func:`refbench.adapters.sandbox.can_confine`), and watched in class adapters everywhere.
        network: False closes the network in the same way.
        threads: CPU threads of the child's numeric libraries; None leaves them to the environment.
        runner: for scripts, see :class:`refbench.adapters.process.ScriptContained`.
        in_process: run a class adapter here, without a wall, for debugging.
        account: what a run gives to a class adapter that costs money.
        born: told of each child process that is started, so that another thread can end it.

    Raises:
        RefbenchError: unknown name, no such file, the adapter does not load or its card is incomplete.
        UnavailableError: hiding was asked for a script and the system cannot do it.
    """
    if not (0 < timeout_s < math.inf and 0 < start_timeout_s < math.inf) or batch_size < 1:
        raise RefbenchError(
            f"Expected a finite timeout above 0 s and a batch size of at least 1, but they are "
            f"{timeout_s:g} s and {batch_size}."
        )
    walls = {"hide": hide, "network": network, "threads": threads, "start_timeout_s": start_timeout_s, "born": born}
    contained = _opened(
        spec,
        {"device": device, "options": absolute_options(options or {})},
        in_process=in_process,
        walls={**walls, "timeout_s": timeout_s},
        runner=runner,
        of_class={"batch_size": batch_size, "account": account},
    )
    try:
        yield contained
    finally:
        contained.close()


def _opened(
    spec: str | os.PathLike[str] | Spec,
    given: dict[str, Any],
    *,
    in_process: bool,
    walls: Mapping[str, Any] | None = None,
    runner: Runner = "auto",
    of_class: Mapping[str, Any] | None = None,
) -> Contained:
    """The adapter of a specification, by its kind."""
    found, walls = spec if isinstance(spec, Spec) else resolve(spec), walls or {}
    closed = bool(walls.get("hide")) or not walls.get("network", True)
    if found.kind == "folder":
        from refbench.adapters.folder import FolderAdapter

        assert found.path is not None
        if given["options"]:
            raise RefbenchError(
                f"Expected no options for a folder of PNGs, but there are: {', '.join(given['options'])}."
            )
        return FolderAdapter(found.path, walls.get("timeout_s", 600.0))
    if found.kind == "script":
        from refbench.adapters.process import ScriptContained
        from refbench.adapters.sandbox import can_confine

        if closed and not can_confine():
            raise UnavailableError(
                "Expected Linux user namespaces to hide folders or the network from a script, but this system has "
                "none or forbids them; run it in a container without the suite's data."
            )
        return ScriptContained(found, **given, **walls, runner=runner)
    if in_process:
        from refbench.adapters.classes import ClassAdapter

        if closed:
            raise RefbenchError(
                "Expected a child process in order to hide folders or the network, but in_process is set."
            )
        return ClassAdapter(found, **given, **(of_class or {}))
    from refbench.adapters.contained import WorkerContained

    return WorkerContained(found, **given, **walls, **(of_class or {}))


def load_card(name: str) -> AdapterCard:
    """The card of a registered model without starting it, where its class carries one; else by constructing it."""
    found = resolve(name)
    if found.kind == "script":
        assert found.path is not None
        return check_card(literal_in(found.path, "CARD"), name)
    card = getattr(MODELS.load(name), "card", None)
    if isinstance(card, AdapterCard):
        return card
    from refbench.adapters.classes import construct

    return check_card(construct(found, "cpu", {}).card, name)
