"""One colour a model everywhere, told apart by everyone, at the venues' own sizes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.errors import RefbenchError
from refbench.report.style import PALETTE, STYLES, colours, markers, rc, readable, style_named

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(matrix: object) -> np.ndarray:
    from skimage.color import rgb2lab

    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(matrix).T
    linear = np.clip(linear, 0, 1)
    shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(shown[None])[0]


@pytest.mark.parametrize("sight", SIGHT)
def test_every_pair_of_colours_stays_apart(sight: str) -> None:
    from skimage.color import deltaE_ciede2000

    lab = seen(SIGHT[sight])
    least = min(float(deltaE_ciede2000(lab[i], lab[j])) for i, j in itertools.combinations(range(len(lab)), 2))
    assert least >= 7.5  # about three times the just noticeable difference (2.3)


@given(st.lists(st.sampled_from(["identity", "omnirefiner", "warp-blend", "a", "b", "c", "kontext"]), unique=True))
def test_shipped_models_never_change_colour(names: list[str]) -> None:
    found = colours(names)
    for name in {"identity", "omnirefiner", "warp-blend"} & set(names):
        assert found[name] == colours([name])[name]
    assert len(set(found.values())) == len(names)


def test_order_of_runs_does_not_matter() -> None:
    assert colours(["b", "a", "omnirefiner"]) == colours(["omnirefiner", "a", "b"])


@pytest.mark.parametrize("colour", PALETTE)
def test_coloured_words_are_readable_on_white(colour: str) -> None:
    dark = readable(colour)
    parts = np.array([int(dark[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.4  # WCAG 2 AA asks for 4.5; colours are rounded


def test_markers_tell_more_than_ten_apart() -> None:
    names = [f"m{i:02d}" for i in range(20)]
    pairs = {(colours(names)[n], markers(names)[n]) for n in names}
    assert len(pairs) == 20


def test_venues_have_widths_and_readable_type() -> None:
    assert STYLES["neurips"].text == 5.5  # neurips_2024.sty: \textwidth 5.5in
    assert STYLES["cvpr"].text == 6.875  # cvpr.sty: \textwidth 6.875in, \columnsep 0.3125in
    assert STYLES["cvpr"].column == pytest.approx((6.875 - 0.3125) / 2, abs=0.005)
    assert all(style.small >= 7 for style in STYLES.values())


def test_an_unknown_style_names_the_nearest() -> None:
    with pytest.raises(RefbenchError, match="neurips"):
        style_named("neurip")


def test_user_settings_of_matplotlib_have_no_say() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 40}), rc(STYLES["cvpr"]):
        assert mpl.rcParams["font.size"] == 8.0
        assert mpl.rcParams["pdf.fonttype"] == 42


def test_formula_as_name_is_text_in_csv(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt
    import pandas as pd

    from refbench.report.drawn import Drawn, save

    data = pd.DataFrame({"run": ["=HYPERLINK(1)", "-x"], "mean": [-1.5, 2.0]})
    save(Drawn("f", plt.figure(), data, "A figure."), tmp_path, next(iter(STYLES.values())))
    assert (tmp_path / "f.csv").read_text() == "run,mean\n'=HYPERLINK(1),-1.5\n'-x,2\n"
