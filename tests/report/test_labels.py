"""Names beside points, and characters that a font lacks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from refbench.report import glyphs
from refbench.report.figures import make_figures
from refbench.report.grid import fills, grid
from refbench.report.labels import place_labels
from refbench.report.style import STYLES, rc, text_width
from refbench.results.resultset import open_results
from refbench.spelling import latex_text, spelt
from report.synthetic import CARDS, SyntheticSuite, make_runs

NEURIPS = STYLES["neurips"]


def covers(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > 0.01).all())


@pytest.mark.parametrize("count", [3, 8, 14, 30])
@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_no_whisker_point_or_label(count: int, seed: int) -> None:
    import matplotlib.pyplot as plt

    rng = np.random.default_rng([seed, count])
    points = [
        (float(x), float(y)) for x, y in zip(10 ** rng.uniform(-2, 2, count), rng.uniform(0, 60, count), strict=True)
    ]
    whiskers = [((x, y - d), (x, y + d)) for (x, y), d in zip(points, rng.uniform(1, 9, count), strict=True)]
    names = [f"model-{'x' * int(rng.integers(0, 10))}-{k}" for k in range(count)]
    with rc(NEURIPS):
        figure, ax = plt.subplots(figsize=(3.2, 2.2))
        ax.set_xscale("log")
        ax.set(xlim=(0.003, 300), ylim=(-12, 72))
        figure.canvas.draw()
        left_out = place_labels(ax, points, names, ["#000000"] * count, NEURIPS, whiskers)
        boxes = {text.get_text(): text.get_window_extent().get_points() for text in ax.texts}
    assert {*boxes} | {*left_out} == {*names}
    assert not {*boxes} & {*left_out}
    assert count > 8 or not left_out
    frame = ax.get_window_extent().get_points()
    for name, box in boxes.items():
        assert (box[0] >= frame[0]).all()
        assert (box[1] <= frame[1]).all()
        assert not any(covers(box, other) for key, other in boxes.items() if key != name)
        for line in whiskers:
            ends = ax.transData.transform(line)
            assert not covers(box, ends + np.array([[-1.0, 0.0], [1.0, 0.0]]))
    plt.close(figure)


@pytest.mark.parametrize(
    ("box", "full"), [((0, 0, 200, 150), True), ((10, 8, 180, 130), True), ((60, 40, 80, 60), False)]
)
def test_filling_region_is_not_repeated(box: tuple[int, int, int, int], full: bool) -> None:
    assert fills((150, 200), box) is full


def test_grid_shows_full_mask_once(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    class Full(SyntheticSuite):
        def _make(self, name: str):
            draft, reference, target, mask, _ = super()._make(name)
            mask[:] = False
            mask[1:-1, 1:-1] = True
            return draft, reference, target, mask, (0, 0, reference.shape[1], reference.shape[0])

    suite = Full(per_task=1, size=(84, 112))
    results = open_results(make_runs(tmp_path, suite, ["identity", "sharpen"]), suite=suite, cards=CARDS, resamples=50)
    made = grid(results, NEURIPS, rule=["text-refine-000", "logo-refine-000"])
    assert len(made.figure.axes) == 2 * 5  # one picture each of draft, reference, two models and target
    assert "enlarged where it does not fill the picture" in made.caption
    plt.close(made.figure)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain-name", "plain-name"),
        ("図像", "[U+56F3 U+50CF]"),
        ("モデル-2", "[mo de ru]-2"),
        ("go🚀", "go[rocket]"),
        ("go🚀\ufe0f\u200d", "go[rocket]"),
        ("cafe\u0301", "café"),
        ("한", "[han]"),
    ],
)
def test_characters_in_words(text: str, words: str) -> None:
    assert spelt(text, lambda c: ord(c) < 0x180) == words


def test_latex_has_only_allowed_characters() -> None:
    text = latex_text("図-é “x” 🚀 a_b")
    assert text == "{[}U+56F3]-é ``x'' [rocket] a\\_b"
    assert max(map(ord, text)) < 0x180


def test_another_font_is_used_before_words() -> None:
    assert glyphs.families("a☺", "STIXGeneral") in (["STIXGeneral"], ["STIXGeneral", "DejaVu Sans"])
    assert glyphs.families("a😀", "STIXGeneral") == ["STIXGeneral", "DejaVu Sans"]
    assert glyphs.drawable("a😀", "STIXGeneral") == "a😀"
    assert text_width("a😀", 8, NEURIPS) > text_width("a", 8, NEURIPS)


def test_no_box_stands_for_a_name(tmp_path: Path, small: SyntheticSuite) -> None:
    names = {"warp-blend": "図像-モデル", "sharpen": "$x^2$ 😀 \U000e0041\U0001faf6"}
    folders = make_runs(tmp_path, small, ["identity", "warp-blend", "sharpen"], names=names)
    results = open_results(folders, suite=small, cards=CARDS, resamples=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each glyph that its fonts lack
        made = make_figures(results, tmp_path / "out", only=["axes", "wins", "cost", "qualitative", "tables"])
    assert set(made.lacking) <= {*"図像モデル", "\U000e0041", "\U0001faf6"}
    assert "図像-モデル" in (tmp_path / "out" / "axes.csv").read_text()  # the numbers keep the real names
