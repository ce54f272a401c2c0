"""The walk of one sample from the suite's file to a cell of the board: which modules it passes, and how often back.

    python benchmarks/walk.py [--sample ID] [--model NAME] [--list]

A model is evaluated on a suite of one sample and put on a board of its own, while every call from one module of
refbench to another is noted in the process that holds the suite (the model's own process is not followed). Counted are

- modules: those of which a function runs;
- climbs: pairs of modules of which the first calls the second, though the second imports the first (itself or through
  others) and not the other way round: what a lower module hands back up, but not a base class that calls its subclass;
- returns: pairs of modules, one calling the other, beyond the first that leads into a module: ways back into a place
  where the walk was before;
- files of the suite, the run or the board that are opened for reading more than once (not those that pyarrow opens).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import refbench

PACKAGE = Path(refbench.__file__).parent
CALLS: Counter[tuple[str, str]] = Counter()
"""(calling module, called module) -> calls, in the order of the first."""
HANDED: set[tuple[str, str]] = set()
"""Those of :data:`CALLS` that are no method of one object calling another of its methods."""
VISITED: dict[str, None] = {}
OPENED: Counter[str] = Counter()


def module_of(frame: FrameType) -> str | None:
    """The module of refbench whose function a frame runs; None elsewhere, and for bodies of modules and classes."""
    name = frame.f_globals.get("__name__", "")
    inside = name.partition(".")[0] == "refbench" and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    return name.removeprefix("refbench.") if inside else None


def note(frame: FrameType, event: str, _: Any) -> None:
    """A profile function: remember a call between two modules."""
    if event != "call" or (callee := module_of(frame)) is None:
        return
    VISITED[callee] = None
    back = frame.f_back
    while back is not None:
        caller = module_of(back)
        if caller is not None:
            if caller != callee:
                CALLS[caller, callee] += 1
                own = back.f_locals.get("self")
                if own is None or frame.f_locals.get("self") is not own:
                    HANDED.add((caller, callee))
            return
        back = back.f_back


def imports() -> dict[str, set[str]]:
    """Module -> modules of refbench that it imports anywhere in its file."""
    files = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            found[name] |= {one.removeprefix("refbench.") for one in named} & files.keys() - {name}
    return found


def climbs(calls: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs whose called module needs the calling one, and not the other way round."""
    needed = imports()

    @cache
    def reached(name: str) -> frozenset[str]:
        seen: set[str] = set()
        ahead = [name]
        while ahead:
            for one in needed.get(ahead.pop(), set()) - seen:
                seen.add(one)
                ahead.append(one)
        return frozenset(seen)

    return [(a, b) for a, b in calls if (a, b) in HANDED and a in reached(b) and b not in reached(a)]


def one_sample(folder: Path, sample: str) -> Path:
    """A suite of one sample of `core`, as `mini` is one of some: its suite.json beside a link to the data."""
    from refbench.tasks.suite import load_suite, suite_digest

    whole = load_suite("core")
    (folder / "core").symlink_to(whole.folder, target_is_directory=True)
    (folder / "one").mkdir()
    found = suite_digest([(sample, whole._places[sample].sha256)])
    header = {
        "name": "one", "version": "1", "of": "core", "hash": found,
        "tasks": [{"name": whole.sample(sample).meta.task, "samples": [sample]}],
    }  # fmt: skip
    (folder / "one" / "suite.json").write_text(json.dumps(header))
    return folder / "one"


@contextlib.contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Calls, and files opened below a folder or in the suites' data, are counted within."""
    watched, active = (str(folder), str(PACKAGE.parent / "tasks")), [True]

    def opened(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and active and str(arguments[0]).startswith(watched) and "r" in str(arguments[1] or "r"):
            OPENED[str(arguments[0]).removeprefix(str(folder) + "/")] += 1

    sys.addaudithook(opened)  # for good: a hook cannot be taken back
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        active.clear()


def walk(sample: str, model: str) -> None:
    """Evaluate the sample, put the run on a board, and render it."""
    for found in pkgutil.walk_packages([str(PACKAGE)], "refbench."):
        if "script" not in found.name and "__main__" not in found.name:
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)
    from refbench.cli.main import main

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        suite, run, board = one_sample(folder, sample), folder / "run", folder / "board"
        commands = [
            ["eval", "--model", model, "--suite", str(suite), "--out", str(run), "--device", "cpu"],
            ["leaderboard", "add", str(run), "--board", str(board), "--suite", str(suite)],
        ]
        with noted(folder), contextlib.redirect_stdout(io.StringIO()) as said:
            for command in commands:
                sys.argv = ["refbench", *command]
                try:
                    code = main()
                except SystemExit as left:
                    code = left.code
                if code not in (0, None):
                    raise SystemExit(f"refbench {' '.join(command)} ended with {code}:\n{said.getvalue()}")
        cells = (board / "README.md").read_text("utf-8")
        assert model in cells, "the walk ends in a cell of the board"


def main() -> None:
    """Walk and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", default="logo-refine-000")
    parser.add_argument("--model", default="warp-blend")
    parser.add_argument("--list", action="store_true", help="name every module, climb and file")
    asked = parser.parse_args()
    walk(asked.sample, asked.model)
    up = climbs(CALLS)
    reached = {called for _, called in CALLS}
    twice = {name: times for name, times in OPENED.items() if times > 1}
    print(f"modules  {len(VISITED):4d}  in {len({name.split('.')[0] for name in VISITED})} rooms")
    print(f"climbs   {len(up):4d}")
    print(f"returns  {len(CALLS) - len(reached):4d}  of {len(CALLS)} pairs of modules")
    print(f"files    {len(twice):4d}  read more than once, {sum(twice.values()) - len(twice)} times too often")
    if asked.list:
        ways = {name: ([a for a, b in CALLS if b == name], [b for a, b in CALLS if a == name]) for name in VISITED}
        for name, (before, after) in ways.items():
            print(f"{name}\n    from {', '.join(before) or '-'}\n    to   {', '.join(after) or '-'}")
        print("climbs: " + ", ".join(f"{one} -> {two}" for one, two in up))
        for name, times in sorted(twice.items(), key=lambda item: -item[1]):
            print(f"{times:3d} {name}")


if __name__ == "__main__":
    main()
