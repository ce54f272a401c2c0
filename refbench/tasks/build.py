"""Build `core` and `mini`, and the validation suite, from the fetched sources and the committed recipes."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from refbench import images
from refbench.errors import RefbenchError
from refbench.tasks.cards import task_card
from refbench.tasks.recipes import make_sample
from refbench.tasks.sheets import contact_sheet
from refbench.tasks.sources import Sources
from refbench.tasks.suite import data_folder, suite_digest
from refbench.tasks.variation import vary
from refbench.tasks.writing import Question, check_writable, file_entry, parquet_bytes, row_of, write_header

VERSION = "1.0"
MINI = 4
VALIDATION = Path(__file__).parent / "validation.jsonl"
"""Recipes of the validation suite: made as `core`'s are, of assets that neither `core` nor training uses."""
TASKS = (
    "text-refine", "logo-refine", "pattern-refine", "object-refine", "face-refine",
    "text-replace", "logo-replace", "pattern-replace",
)  # fmt: skip

Progress = Callable[[str, int, int], None]


def load_recipes(path: Path | None = None) -> list[dict[str, Any]]:
    """The committed recipes of `core`, in order.

    Raises:
        RefbenchError: the file is missing or a line is no JSON object with an id and a known task.
    """
    path = path or data_folder() / "core" / "recipes.jsonl"
    found: list[dict[str, Any]] = []
    for number, line in enumerate(images.read_bytes(path).decode().splitlines(), 1):
        try:
            recipe = json.loads(line)
            if recipe["task"] not in TASKS or not str(recipe["id"]).startswith(recipe["task"] + "-"):
                raise ValueError(f"task {recipe['task']}")
        except (ValueError, KeyError, TypeError) as error:
            raise RefbenchError(
                f"Expected a recipe (JSON with id and task) in {path}, line {number}, but {error}."
            ) from None
        found.append(recipe)
    return found


def build_core(
    sources: str | Path,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    recipes: Path | None = None,
    sheets: bool = True,
    workers: int = 2,
) -> str:
    """Make every sample of `core` from its recipe and write `core` and `mini`.

    Args:
        sources: the folder that `refbench tasks fetch` filled.
        out: folder that receives ``core/`` and ``mini/``; the embedded suites' own folder when None.
        progress: called with a task's name, samples done and samples in all.
        recipes: another recipes.jsonl than the embedded one.
        sheets: also draw the contact sheets.
        workers: processes; the result does not depend on it.

    Returns:
        The hash of `core`.

    Raises:
        RefbenchError: sources or recipes are missing or wrong, or the folder cannot be written.
    """
    plan = load_recipes(recipes)
    base = check_writable(out if out is not None else data_folder())
    found, listed = _build("core", plan, base / "core", sources, progress, sheets, workers)
    _write_mini(base / "mini", plan, listed)
    return found


def build_validation(
    sources: str | Path, out: str | Path, progress: Progress | None = None, *, variants: int = 0, sheets: bool = True,
    workers: int = 2,
) -> str:  # fmt: skip
    """Make the validation suite in the folder `out`: eight tasks of eight, on which constants and settings are chosen.

    Its pictures, clips, logos and objects are of the validation split; its fonts, of which that split has none, and
    the kinds of its patterns are those of training.

    Args:
        variants: so many variations of each sample in its place (:func:`refbench.tasks.variation.vary`); 0 for the
            samples themselves.

    Other arguments and errors as in :func:`build_core`.

    Returns:
        The hash of the suite.
    """
    plan, name = load_recipes(VALIDATION), "validation"
    folder = check_writable(out)
    if variants:
        plan, name = vary(plan, variants, Sources(sources), progress=progress), f"validation-x{variants}"
    return _build(name, plan, folder, sources, progress, sheets, workers)[0]


def _build(
    name: str,
    plan: list[dict[str, Any]],
    folder: Path,
    sources: str | Path,
    progress: Progress | None,
    sheets: bool,
    workers: int,
) -> tuple[str, list[tuple[str, list[tuple[str, str]]]]]:
    """Carry out recipes and write them as the suite `name`: its hash, and per task the ids and hashes."""
    Sources(sources)  # a clear error now rather than from a worker
    listed: list[tuple[str, list[tuple[str, str]]]] = []
    files: dict[str, tuple[int, str]] = {}
    tasks = [task for task in TASKS if any(recipe["task"] == task for recipe in plan)]
    ordered = [recipe for task in tasks for recipe in plan if recipe["task"] == task]
    made: dict[str, list[tuple[Question, dict[str, Any]]]] = {task: [] for task in tasks}
    for done, (question, row) in enumerate(_make_all(ordered, sources, workers), 1):
        made[question.meta.task].append((question, row))
        if progress:
            progress(question.meta.task, done, len(plan))
    for task in tasks:
        questions, rows = [q for q, _ in made[task]], [row for _, row in made[task]]
        data = parquet_bytes(rows)
        images.write_atomic(folder / task / "data.parquet", data)
        images.write_atomic(folder / task / "README.md", task_card(name, task, questions).encode())
        if sheets:
            images.write_atomic(folder / "sheets" / f"{task}.jpg", contact_sheet(questions))
        files[f"{task}/data.parquet"] = file_entry(data)
        listed.append((task, [(row["id"], row["sha256"]) for row in rows]))
    return write_header(folder, name, VERSION, listed, files), listed


def _make_one(job: tuple[dict[str, Any], str]) -> tuple[Question, dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    question = make_sample(job[0], Sources(job[1]))
    return question, row_of(question)


def _make_all(
    plan: list[dict[str, Any]], sources: str | Path, workers: int
) -> Iterator[tuple[Question, dict[str, Any]]]:
    jobs = [(recipe, str(sources)) for recipe in plan]
    if workers <= 1:
        yield from map(_make_one, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_make_one, jobs)


def _write_mini(folder: Path, plan: Iterable[dict[str, Any]], listed: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """`mini`: of each task the samples marked so in the recipes, else the first ones."""
    marked = {recipe["id"] for recipe in plan if recipe.get("mini")}
    tasks: list[tuple[str, list[tuple[str, str]]]] = []
    for task, entries in listed:
        chosen = [entry for entry in entries if entry[0] in marked]
        tasks.append((task, (chosen + [entry for entry in entries if entry not in chosen])[:MINI]))
    header = {
        "name": "mini", "version": VERSION, "of": "core",
        "hash": suite_digest(entry for _, entries in tasks for entry in entries),
        "tasks": [{"name": task, "samples": [name for name, _ in entries]} for task, entries in tasks],
    }  # fmt: skip
    images.write_atomic(folder / "suite.json", (json.dumps(header, indent=1) + "\n").encode())
