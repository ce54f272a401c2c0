"""Generation: shards depend on seed and number alone, and a killed run ends with the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import RefbenchError
from refbench.tasks.generate import SHARD, generate
from refbench.tasks.suite import load_suite


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_generated_quadruplets_are_a_suite(assets: Path, tmp_path: Path) -> None:
    found = generate(SHARD + 1, tmp_path / "g", size=64, workers=1, assets=assets)
    suite = load_suite(tmp_path / "g")
    assert suite.hash == found
    assert len(suite) == 2 * SHARD
    suite.verify()
    for sample in suite.select(limit=20):
        assert np.array_equal(sample.draft[~sample.mask], suite.target(sample)[~sample.mask])
        assert 0.01 <= sample.meta.mask_share <= 0.35


def test_killed_run_ends_with_equal_bytes(assets: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "x" / "set", tmp_path / "y" / "set"
    generate(2 * SHARD, whole, size=64, workers=1, assets=assets)
    generate(SHARD, broken, size=64, workers=1, assets=assets)
    (broken / "data" / "shard-00001.parquet").write_bytes(b"PAR1 torn")  # a torn write of some other program
    (broken / "suite.json").unlink()
    generate(2 * SHARD, broken, size=64, workers=2, assets=assets)
    assert _hashes(whole) == _hashes(broken)


def test_another_seed_is_another_folder(assets: Path, tmp_path: Path) -> None:
    first = generate(1, tmp_path / "a", size=64, workers=1, assets=assets)
    assert first != generate(1, tmp_path / "b", size=64, seed=1, workers=1, assets=assets)
    with pytest.raises(RefbenchError, match="another folder"):
        generate(1, tmp_path / "a", size=64, seed=1, workers=1, assets=assets)


def test_bad_numbers_and_missing_assets_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="n = 0"):
        generate(0, tmp_path)
    with pytest.raises(RefbenchError, match="size = 1000"):
        generate(1, tmp_path, size=1000)
    with pytest.raises(RefbenchError, match="refbench tasks fetch"):
        generate(1, tmp_path / "g")
