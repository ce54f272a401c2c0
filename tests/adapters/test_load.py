from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refbench.adapters.contract import RefusedError
from refbench.adapters.load import load_adapter, load_card, open_contained
from refbench.adapters.spec import absolute_options, resolve, script_dependencies
from refbench.errors import RefbenchError
from refbench.images import save_png
from refbench.schema import AdapterCard, Inputs

ONE = """
from refbench.schema import AdapterCard
class Mine:
    card = AdapterCard(name="mine", summary="Returns the draft, brighter.", licence="MIT")
    def __init__(self, amount: int = 1): self.amount = amount
    def refine(self, inputs): return inputs.draft
"""


def test_name_file_and_class_load(tmp_path: Path, sample: Callable[..., Inputs]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(ONE + ONE.replace("Mine", "Other").replace('"mine"', '"other"'))
    assert load_adapter("identity").card.name == "identity"
    assert load_adapter(f"{path}:Mine").card.name == "mine"
    assert load_adapter(f"{path}:Other", amount=3).adapter.amount == 3
    refined = load_adapter(f"{path}:Mine").refine(sample("a"))
    assert (refined.image == sample("a").draft).all()
    assert (refined.id, refined.seed, refined.error, refined.price_usd, refined.facts) == ("a", 3, None, None, {})
    assert refined.seconds > 0


@pytest.mark.parametrize(
    ("spec", "text", "words"),
    [
        ("warpblend", None, "did you mean warp-blend"),
        ("./nowhere.py", None, "nothing is there"),
        ("FILE", ONE + ONE.replace("Mine", "Other"), "there are 2; name one: mine.py:Mine, Other"),
        ("FILE", "x = 1", "there is neither"),
        ("FILE:Mime", ONE, "did you mean Mine"),
        ("FILE", "def (", "SyntaxError"),
        ("FILE", "import not_a_module_at_all", "ModuleNotFoundError"),
        ("FILE", ONE.replace("self.amount = amount", "1 / 0"), "ZeroDivisionError"),
        ("FILE", ONE.replace("    card", "    cart"), "to have a `card`"),
        (
            "FILE",
            ONE.replace('="MIT"', '="MIT", price_per_image_usd=float("nan")'),
            "AdapterCard, 'price_per_image_usd': Input should be a finite number (mine.py, line 4)",
        ),
        ("FILE", ONE + "    def setup(self): raise OSError('no disk')", "OSError: no disk"),
        ("FILE", "# /// script\n# dependencies = [\n# ///\n", "valid script header"),
    ],
)
def test_unloadable_one_is_told(tmp_path: Path, spec: str, text: str | None, words: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    for call in (lambda s: load_adapter(s), lambda s: open_contained(s).__enter__()):
        with pytest.raises(RefbenchError) as error:
            call(spec.replace("FILE", str(path)))
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_every_kind_of_model_answers_alike(
    tmp_path: Path, faulty: Path, faulty_script: Path, sample: Callable[..., Inputs]
) -> None:
    asked = sample("counts-1")
    save_png(tmp_path / "counts-1.png", 255 - asked.draft)
    for spec, picture, price, facts in (
        (faulty, 255 - asked.draft, 0.5, {"calls": 1}),
        (faulty_script, asked.draft, 0.25, {}),
        (tmp_path, 255 - asked.draft, None, {}),
    ):
        adapter = load_adapter(spec)
        refined = adapter.refine(asked)
        assert refined.image is not None
        np.testing.assert_array_equal(refined.image, picture)
        assert (refined.id, refined.seed, refined.error, refined.failure) == ("counts-1", 3, None, None)
        assert (refined.price_usd, refined.facts, refined.seconds > 0) == (price, facts, True)
        assert adapter.remarks({"counts-1"}, ["counts-1"]) == []
        adapter.close()


def test_every_kind_raises_what_it_refuses(
    tmp_path: Path, faulty: Path, faulty_script: Path, sample: Callable[..., Inputs]
) -> None:
    for spec in (faulty, faulty_script):
        adapter = load_adapter(spec)
        with pytest.raises(RefusedError, match="declined"):
            adapter.refine(sample("refuses-1"))
        adapter.close()
    save_png(tmp_path / "a.png", sample("a").draft)
    with pytest.raises(RefbenchError, match=r"b\.png .* it is not there"):
        load_adapter(tmp_path).refine(sample("b"))
    with pytest.raises(RefbenchError, match="no options for a folder of PNGs"):
        load_adapter(tmp_path, steps=3)


def test_unknown_option_names_near_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(ONE)
    with pytest.raises(RefbenchError, match="has no 'amonut'; did you mean amount"):
        load_adapter(path, amonut=3)


def test_card_as_dictionary_names_wrong_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(ONE.replace("AdapterCard(", "dict("))
    with open_contained(path) as contained:
        assert contained.card.licence == "MIT"
    path.write_text(ONE.replace("AdapterCard(", "dict(colour='red', "))
    with pytest.raises(RefbenchError, match="'colour'"):
        load_adapter(path)


def test_card_is_read_without_starting_model() -> None:
    assert isinstance(load_card("warp-blend"), AdapterCard)


def test_script_headers_told_from_other_files(faulty: Path, faulty_script: Path, tmp_path: Path) -> None:
    assert script_dependencies(faulty) is None
    assert script_dependencies(faulty_script) == []
    path = tmp_path / "s.py"
    path.write_text('# /// script\r\n# dependencies = [\r\n#   "numpy==2.4.6",\r\n# ]\r\n# ///\r\n')
    assert script_dependencies(path) == ["numpy==2.4.6"]
    assert resolve(path).kind == "script"
    assert resolve(f"{faulty_script}:X").kind == "class"


def test_existing_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_text("")
    given = {"a": "./weights", "b": "weights", "c": "org/model", "d": 3, "e": Path("weights")}
    assert absolute_options(given) == {**given, "a": str(tmp_path / "weights"), "e": "weights"}


def test_folder_answers_flat_or_by_task(tmp_path: Path, sample: Callable[..., Inputs]) -> None:
    image = 255 - sample("x").draft
    save_png(tmp_path / "text-refine" / "text-refine-001.png", image)
    save_png(tmp_path / "loose-001.png", image)
    save_png(tmp_path / "small-001.png", image[:-1])
    (tmp_path / "broken-001.png").write_bytes(b"\x89PNG but not really")
    (tmp_path / "card.json").write_text('{"name": "sent-in", "summary": "Made elsewhere by hand.", "licence": "CC0"}')
    names = ("text-refine-001", "loose-001", "small-001", "broken-001", "missing-001")
    with open_contained(tmp_path) as contained:
        assert (contained.isolation, contained.card.name) == ("folder", "sent-in")
        done = contained.refine_batch([sample(n) for n in names])
    for refinement in done[:2]:
        assert refinement.image is not None
        np.testing.assert_array_equal(refinement.image, image)
    assert [r.failure for r in done[2:]] == ["invalid", "invalid", "missing"]
    assert "56 x 39 px" in (done[2].error or "")
    assert "missing-001.png" in (done[4].error or "")
