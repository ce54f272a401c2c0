"""Refining from files: what is refused before any work, and what the written picture keeps of the draft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refbench.adapters.omnirefiner import OmniRefiner
from refbench.crops import box_mask
from refbench.errors import RefbenchError
from refbench.images import load_rgba
from refbench.omnirefiner.refine import refine
from refbench.runs.refining import Job, refine_files
from refbench.runs.single import measure_files

RNG = np.random.default_rng(5)
SIZE = (40, 48)
BOX = (8, 10, 16, 12)
MASK = box_mask(BOX, SIZE)


GREY = """
import numpy as np
from refbench.schema import AdapterCard

class Grey:
    card = AdapterCard(name='grey', summary='The mask becomes grey.', licence='CC0-1.0')

    def refine(self, inputs):
        return np.where(inputs.mask[..., None], np.uint8(90), inputs.draft)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grey.py").write_text(GREY)
    Image.fromarray(RNG.integers(0, 256, (*SIZE, 3)).astype(np.uint8)).save(tmp_path / "draft.png")
    return tmp_path


def refine_file(draft: Path, out: Path, mask: Path | None = None, show: Path | None = None) -> None:
    job = Job(draft, draft, mask, out, show)
    list(refine_files([job], str(draft.parent / "grey.py"), box=None if mask else BOX, device="cpu"))


def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refbench.adapters.load.load_adapter", lambda *_, **__: pytest.fail("loaded first"))


def test_box_outside_reference_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idle(monkeypatch)
    job = Job(folder / "draft.png", folder / "draft.png", None, folder / "out.png")
    with pytest.raises(RefbenchError, match="a box inside the reference of 48 x 40 px, but got 0,0,49,3"):
        list(refine_files([job], "grey.py", box=BOX, reference_box=(0, 0, 49, 3), device="cpu"))


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(RefbenchError, match=f"steps to be a whole number of at least 1, but it is '{steps}'"):
        OmniRefiner(steps=steps)


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_the_draft_keeps_its_alpha(folder: Path, ending: str) -> None:
    draft = RNG.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
    draft[10:14, 8:24, 3] = 255
    Image.fromarray(draft).save(folder / "alpha.png")
    out = folder / f"out.{ending}"
    refine_file(folder / "alpha.png", out)
    found = load_rgba(out)
    assert np.array_equal(found[..., 3], draft[..., 3])
    assert np.array_equal(found[~MASK], draft[~MASK])
    assert (found[10:14, 8:24, :3] == 90).all()  # opaque: the refined colour itself


@pytest.mark.parametrize(
    ("name", "words"), [("out.jpg", "keeps every pixel"), ("out", "has no ending"), (".", "is a folder")]
)
@pytest.mark.parametrize("option", ["out", "show"])
def test_wrong_output_is_told_before_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str, option: str
) -> None:
    idle(monkeypatch)
    given = {"out": folder / "o.png", "show": folder / "s.png", option: folder / name}
    with pytest.raises(RefbenchError, match=f"Expected --{option} .*{words}"):
        refine_file(folder / "draft.png", given["out"], show=given["show"])


@pytest.mark.parametrize(("kind", "words"), [("transparent", "without transparency"), ("white", "all white"),
                                             ("black", "all black"), ("grey", "binary mask")])  # fmt: skip
def test_refine_and_measure_have_one_rule(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str) -> None:
    idle(monkeypatch)
    values = np.zeros((*SIZE, 4), np.uint8)
    values[..., 3] = np.where(MASK, 255, 0) if kind == "transparent" else 255
    values[..., :3] = {"white": 255, "black": 0, "grey": 128}.get(kind, 255)
    mask, draft = folder / "mask.png", folder / "draft.png"
    Image.fromarray(values).save(mask)
    said = []
    for call in (
        lambda: refine_file(draft, folder / "o.png", mask=mask),
        lambda: measure_files(draft, draft, None, mask, None, ["psnr"], device="cpu"),
    ):
        with pytest.raises(RefbenchError, match=words) as caught:
            call()
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_box_of_everything_is_refused() -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(RefbenchError, match="at the box, but it is all white"):
        refine(picture, picture, box=(0, 0, SIZE[1], SIZE[0]))
