"""What is kept to save time never costs more than time: every place works where nothing can be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import manifest, tiny

from refbench.cache import keep
from refbench.metrics.features import FeatureStore
from refbench.runs import measure as stage
from refbench.runs.api import metric_state
from refbench.runs.folder import RunFolder
from refbench.runs.health import doctor_result
from refbench.runs.progress import Silent
from refbench.weights.places import remember

from .test_generate import Noise, answered


@pytest.fixture(params=["under a file", "no such place"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that nobody can make, root included."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache" if request.param == "under a file" else Path("/proc/refbench")


def test_file_is_kept_whole_or_not(tmp_path: Path, unwritable: Path) -> None:
    assert keep(tmp_path / "new" / "a.json", b"1")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]
    assert not keep(unwritable / "a.json", b"1")


def test_features_stay_in_memory(unwritable: Path) -> None:
    store = FeatureStore(unwritable)
    store.save("0" * 64, {"a.b@c": {"x": np.arange(3)}})
    np.testing.assert_array_equal(store.load("0" * 64)["a.b@c"]["x"], [0, 1, 2])


def test_hashes_and_the_doctor_go_without(unwritable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFBENCH_CACHE", str(unwritable))
    monkeypatch.setattr("refbench.metrics.doctor.run_doctor", lambda *_: [])
    remember("read", "a", [1, 2, "3"])
    assert doctor_result(metric_state(["mse"])[0], "cpu")["failed"] == 0


def test_scores_are_same_without_cache(tmp_path: Path, unwritable: Path) -> None:
    suite = tiny(2)
    cards, _ = metric_state(["psnr", "ssim", "fsimc", "seam"])
    notes: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    def measured(name: str, cache: Path) -> tuple[bytes, bytes]:
        run = RunFolder(tmp_path / name)
        run.write_manifest(manifest(samples=suite.ids, suite_hash=suite.hash))
        answered(run, suite, Noise().open)
        stage.measure(run, run.read_manifest(), suite, cards, cache=cache, progress=Told())
        return run.scores.read_bytes(), run.answers.read_bytes()

    assert measured("without", unwritable) == measured("with", tmp_path / "cache")
    (note,) = notes
    assert "keeps it in memory" in note
