from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from refbench.adapters.load import open_contained
from refbench.adapters.scaffold import new_adapter
from refbench.adapters.selftest import check_adapter, made_up_samples
from refbench.errors import RefbenchError
from refbench.images import check_mask, save_png

HEAD = """
import os, numpy as np
from refbench.schema import AdapterCard
class Mine:
    card = AdapterCard(name="mine", summary="Does one thing wrong on purpose.", licence="MIT", needs_reference=False)
    def refine(self, inputs):
        out = inputs.draft.copy()
        {body}
        return out
"""


@pytest.mark.parametrize("kind", ["class", "script"])
def test_skeleton_works_as_it_is_written(kind: Literal["class", "script"], tmp_path: Path) -> None:
    path = new_adapter("my-refiner", kind=kind, out=tmp_path)
    assert path == tmp_path / "my_refiner.py"
    rows = check_adapter(path, runner="python")  # tests have no network to install the script's pins
    assert {r.name for r in rows if r.status == "fail"} == set()
    assert {r.name for r in rows if r.status == "skip"} <= {"card", "works without the network"}
    assert "my-refiner" in rows[0].detail
    with open_contained(path, runner="python", options={"strength": 0.0}) as contained:
        (done,) = contained.refine_batch(made_up_samples()[:1])
    assert done.image is not None
    assert (done.image == made_up_samples()[0].draft).all()  # the option arrives: nothing is pasted


@pytest.mark.parametrize("name", ["My Refiner", "", "a--b", "../evil", "1st", "x" * 80])
def test_impossible_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="lower-case letters"):
        new_adapter(name, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_skeleton_never_overwrites(tmp_path: Path) -> None:
    new_adapter("mine", out=tmp_path)
    with pytest.raises(RefbenchError, match="exists already"):
        new_adapter("mine", kind="script", out=tmp_path)


def test_samples_are_sound_and_same_every_time() -> None:
    first, second = made_up_samples(), made_up_samples()
    assert len({s.draft.shape for s in first}) >= 6
    for a, b in zip(first, second, strict=True):
        assert (a.draft == b.draft).all()
        check_mask(a.mask, a.draft.shape[:2], a.id)
        if a.reference_box:
            x, y, w, h = a.reference_box
            assert x >= 0
            assert y >= 0
            assert x + w <= a.reference.shape[1]
            assert y + h <= a.reference.shape[0]


@pytest.mark.parametrize("name", ["identity", "reference-paste", "sharpen"])
def test_builtin_models_pass(name: str) -> None:
    rows = check_adapter(name)
    assert [r for r in rows if r.status == "fail"] == []


def test_a_quick_self_test_finds_faults(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEAD.format(body="open(__file__ + '.calls', 'a').write('.')"), encoding="utf-8")
    whole = [(r.name, r.status) for r in check_adapter(tmp_path / "mine.py")]
    assert whole == [(r.name, r.status) for r in check_adapter(tmp_path / "mine.py", quick=True)]
    assert (tmp_path / "mine.py.calls").read_text() == "." * (48 + 18)
    body = "out[inputs.mask] = int.from_bytes(os.urandom(1), 'little') % 200"
    (tmp_path / "random.py").write_text(HEAD.format(body=body), encoding="utf-8")
    failed = {r.name for r in check_adapter(tmp_path / "random.py", quick=True) if r.status == "fail"}
    assert "repeats itself" in failed


@pytest.mark.parametrize(
    ("body", "row", "status", "words"),
    [
        ("out[inputs.mask] = np.random.randint(256)", "repeats itself", "fail", "use inputs.seed"),
        ("out[inputs.mask] = len(inputs.id)", "ignores the sample's name", "fail", "depends on the sample's id"),
        ("out[inputs.mask] = os.getpid() % 251", "a fresh process and batches of 4", "fail", "the image is another"),
        ("out[inputs.mask] = inputs.reference.mean()", "uses the reference", "pass", ""),
        ("out[inputs.mask] = inputs.reference[0, 0]", "uses the reference", "fail", "does not need the reference"),
        ("out[:] = 7", "keeps the background", "skip", "local consistency"),
        ("pass", "changes the masked part", "skip", "do-nothing"),
        ("out[inputs.mask] = inputs.seed", "seed", "pass", "another image"),
        ("out = out[:64, :64]", "answers odd-tight", "fail", "121 x 97 px"),
        ("out = out if inputs.prompt else None", "answers empty-prompt", "fail", "returned nothing"),
    ],
)
def test_each_habit_of_adapter_is_seen(tmp_path: Path, body: str, row: str, status: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(body=body))
    rows = {r.name: r for r in check_adapter(path)}
    assert rows[row].status == status, rows[row]
    assert words in rows[row].detail


def test_missing_licence_and_broken_file_fail(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        HEAD.format(body="pass").replace(', licence="MIT"', "").replace("Does one thing wrong on purpose.", "X")
    )
    rows = {r.name: r for r in check_adapter(path)}
    assert rows["card"].status == "fail"
    assert "a summary of a sentence and the licence" in rows["card"].detail
    assert [(r.name, r.status) for r in check_adapter(tmp_path / "nowhere.py")] == [("loads", "fail")]


def test_folder_is_checked_image_by_image(tmp_path: Path) -> None:
    save_png(tmp_path / "a-1.png", made_up_samples()[0].draft)
    assert [r.status for r in check_adapter(tmp_path) if r.name == "images decode"] == ["pass"]
    (tmp_path / "b-1.png").write_text("no image")
    assert [r.status for r in check_adapter(tmp_path) if r.name == "images decode"] == ["fail"]
