"""Mutated entries: each ends with a verdict in bounded time, and none passes that claims another thing."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refbench.leaderboard.verify import verify
from refbench.runs.jsontext import as_json

from .conftest import METRICS, World
from .mutate import mutant

SECONDS = 30
"""Longest time for one entry of eight small samples; an honest one takes half a second."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"no verdict after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(world: World, place: Path, count: int, seed: int) -> dict[str, Any]:
    """Verify so many mutants; what went wrong, and counts of verdicts, findings and kinds."""
    wrong: list[str] = []
    verdicts: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        folder = place / str(number)
        folder.mkdir(parents=True)
        one = mutant(np.random.default_rng([seed, number]), world.entry, folder, number)
        began = time.monotonic()
        try:
            with at_most(SECONDS):
                verdict = verify(one.path, suite=world.spec, metrics=METRICS, samples=0, **one.options)
                json.loads(as_json(verdict.model_dump(mode="json")), parse_constant=lambda name: 1 / 0)
                assert (verdict.text() + verdict.comment()).replace("\n", "").isprintable()
        except Exception as error:
            wrong.append(f"{number}: {one.kind}, {one.told}: {type(error).__name__}: {error}")
            continue
        finally:
            slowest = max(slowest, time.monotonic() - began)
        names = [finding.name for finding in verdict.findings]
        if verdict.verdict == "verified" and not one.harmless():
            wrong.append(f"{number}: {one.kind}, {one.told}: passed")
        if "cannot-verify" in names:
            wrong.append(f"{number}: {one.kind}, {one.told}: {verdict.findings[0].message}")
        kinds[one.kind] += 1
        verdicts[verdict.verdict] += 1
        findings.update(names)
        shutil.rmtree(folder)
    return {
        "entries": count, "wrong": wrong, "slowest_seconds": round(slowest, 2), "verdicts": dict(verdicts),
        "kinds": dict(kinds.most_common()), "findings": dict(findings.most_common()),
    }  # fmt: skip


def test_mutated_entries_end_with_a_verdict(world: World, tmp_path: Path) -> None:
    assert fuzz(world, tmp_path, 54, seed=0)["wrong"] == []


@pytest.mark.slow
def test_a_thousand_mutated_entries(world: World, tmp_path: Path) -> None:
    assert fuzz(world, tmp_path, 1000, seed=1)["wrong"] == []
