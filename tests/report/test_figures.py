"""Figures: what they show, that they fit the page, and that the CSV behind each holds what was drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.errors import RefbenchError
from refbench.report import ablation, charts, grid, layout, metrics_chart
from refbench.report.figures import KINDS, make_figures
from refbench.report.style import STYLES, sideways, text_width
from refbench.results.resultset import RunSet
from refbench.spelling import latex_text

NEURIPS = STYLES["neurips"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("logs")
    sft = [
        {"stage": "sft", "step": 50 * i, "loss": 1 / i, **({"val/right": 20.0 + i} if i % 5 == 0 else {})}
        for i in range(1, 60)
    ]
    grpo = [
        {"stage": "grpo", "step": i, "reward/pixel": -1 / i, "reward/perceptual": 1 - 1 / i, "lr": 1e-4}
        for i in range(1, 60)
    ]
    paths = {}
    for name, rows in (("SFT", sft), ("GRPO", grpo)):
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


@pytest.fixture(scope="module")
def made(
    results: RunSet, logs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    out = tmp_path_factory.mktemp("figures")
    stages = {"Base": "sharpen", "SFT": "warp-blend", "GRPO": "omnirefiner"}
    written = make_figures(results, out, "cvpr", focus="omnirefiner", stages=stages, logs=logs)
    return out, dict(written.skipped)


def test_all_possible_figures_are_made(made: tuple[Path, dict[str, str]]) -> None:
    out, skipped = made
    assert set(skipped) == {"audit"}
    assert "--audit" in skipped["audit"]
    for kind in set(KINDS) - {"audit", "tables"}:
        for ending in ("pdf", "png", "csv", "tex"):
            assert (out / f"{kind}.{ending}").stat().st_size > 100, f"{kind}.{ending}"


def test_figures_fit_the_text_block(made: tuple[Path, dict[str, str]]) -> None:
    for path in made[0].glob("*.pdf"):
        found = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", path.read_bytes())
        assert found is not None
        width, height = (float(v) / 72 for v in found.groups())
        style = sideways(STYLES["cvpr"]) if path.stem == "qualitative_all" else STYLES["cvpr"]
        assert width <= style.text + 0.01, path.name
        assert height <= style.height + 0.01, path.name


def test_pdf_is_vector_without_date(made: tuple[Path, dict[str, str]]) -> None:
    data = (made[0] / "axes.pdf").read_bytes()
    assert b"/Subtype /Type3" not in data
    assert b"/CreationDate" not in data
    assert b"/Subtype /Image" not in data  # charts hold no pixels


def test_same_runs_give_same_bytes(results: RunSet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_figures(results, tmp_path / name, only=["axes", "wins"])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_csv_of_axes_holds_summaries(made: tuple[Path, dict[str, str]], results: RunSet) -> None:
    table = pd.read_csv(made[0] / "axes.csv").set_index(["model", "axis"])
    for run in results.models:
        for axis, cell in run.numbers.axes.items():
            assert tuple(table.loc[(run.name, axis), ["value", "low", "high"]]) == pytest.approx(
                (cell.value, cell.low, cell.high), rel=1e-5
            )  # six digits are written


def test_wide_figures_span_both_columns_in_latex(made: tuple[Path, dict[str, str]]) -> None:
    assert r"\begin{figure*}" in (made[0] / "axes.tex").read_text()
    assert r"\begin{figure}" in (made[0] / "wins.tex").read_text()
    turned = (made[0] / "qualitative_all.tex").read_text()
    assert r"\begin{sidewaysfigure*}" in turned
    assert r"\usepackage{rotating}" in turned


def test_narrow_figure_is_not_blown_up(made: tuple[Path, dict[str, str]]) -> None:
    found = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", (made[0] / "wins.pdf").read_bytes())
    assert found is not None
    width = float(found.group(1)) / 72
    assert width < 0.98 * STYLES["cvpr"].column
    assert f"width={width:.2f}in" in (made[0] / "wins.tex").read_text()
    assert r"width=\textwidth" in (made[0] / "axes.tex").read_text()


def test_impossible_figure_by_name_is_error(results: RunSet, tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="--stage"):
        make_figures(results, tmp_path, only=["ablation"])
    with pytest.raises(RefbenchError, match="Unknown figure 'axis'"):
        make_figures(results, tmp_path, only=["axis"])


# ---- which samples are shown


def test_spread_is_best_median_and_worst(results: RunSet) -> None:
    choices, words = grid.choose(results, "spread", "warp-blend")
    run = results.run("warp-blend")
    worked = run.points["mean"].drop("logo-refine-001").sort_values()
    by = {c.label: c.sample for c in choices}
    assert by["best"] == worked.index[-1]
    assert by["worst"] == worked.index[0]
    assert run.points["mean"][by["median"]] == pytest.approx(worked.iloc[(len(worked) - 1) // 2])
    assert "warp-blend" in words
    assert "15 refined samples" in words


def test_categories_show_each_categorys_median(results: RunSet) -> None:
    choices, _ = grid.choose(results, "categories", "omnirefiner")
    assert [c.label for c in choices] == ["text", "logo", "pattern", "object", "face"]
    for choice in choices:
        scores = results.run("omnirefiner").points["mean"]
        peers = sorted(scores[[s for s, m in results.metas.items() if m.category == choice.label]])
        assert scores[choice.sample] == peers[(len(peers) - 1) // 2]


def test_typical_samples_prefer_no_model(results: RunSet) -> None:
    choices, words = grid.choose(results, "typical", "omnirefiner")
    assert choices == grid.choose(results, "typical", "identity")[0]
    assert [c.label for c in choices] == ["text", "logo", "pattern", "object", "face"]
    assert f"all {len(results.models)} models" in words
    for choice in choices:
        means = {s: np.mean([r.points["mean"][s] for r in results.models]) for s in results.metas}
        peers = sorted(means[s] for s, m in results.metas.items() if m.category == choice.label)
        assert means[choice.sample] == pytest.approx(peers[(len(peers) - 1) // 2])


def test_grid_of_everyone_shows_every_run(results: RunSet) -> None:
    found = grid.grid(results, NEURIPS, rule=["logo-refine-001"], everyone=True)
    assert found.data["shown"].all()
    assert found.sideways
    assert {r.name for r in results.models} <= {t.get_text() for t in found.figure.texts}


COLUMNS = (
    "warp-blend", "reference-paste", "omnirefiner-sft", "omnirefiner", "waifu2x", "identity", "omnirefiner-base",
    "sharpen", "texture-transfer", "realesrgan-x4", "kontext-dev-lora",
)  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", list(STYLES))
@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("count", [1, 4, 6, 11])
def test_grids_fit_the_page(name: str, turned: bool, rows: int, count: int) -> None:
    style = sideways(STYLES[name]) if turned else STYLES[name]
    heads = ["Draft", "Reference", *COLUMNS[:count], "Target"]
    sides = [("pattern", f"pattern-replace-{i:03d}") for i in range(rows)]
    laid = layout.plan(style, heads, sides)
    assert laid.width <= style.text + 1e-6
    assert laid.height <= style.height + 1e-6
    if count < 11 or turned:  # eleven do not stand legibly on an upright page; --models chooses, the rest lies
        assert ["".join(lines).replace(" ", "") for lines in laid.heads] == heads
        assert laid.head_size >= 0.7 * style.small
        assert laid.tall >= 0.025 * style.font
    for number, lines in enumerate(laid.heads):
        width = max(text_width(line, laid.head_size, style) for line in lines)
        lean = np.cos(np.radians(layout.ANGLE)) if laid.slanted and number < len(heads) - 1 else 0.5
        assert laid.left(number) + laid.cell / 2 + lean * width <= laid.width + 0.02
        if not laid.slanted:
            assert width <= laid.cell + 1e-6


def test_list_is_called_chosen_by_hand(results: RunSet) -> None:
    choices, words = grid.choose(results, ["face-refine-001"], "identity")
    assert choices[0].sample == "face-refine-001"
    assert "by hand" in words
    with pytest.raises(RefbenchError, match="nonsense"):
        grid.choose(results, ["nonsense"], "identity")


def test_grid_says_models_and_draws_failures(results: RunSet) -> None:
    found = grid.grid(results, NEURIPS, rule=["logo-refine-001"], models=["warp-blend", "omnirefiner"])
    shown = found.data.set_index("model")
    assert not shown.loc["identity", "shown"]
    assert shown.loc["warp-blend", "failed"] == "The child died (signal 9)."
    assert "failed" in [t.get_text() for ax in found.figure.axes for t in ax.texts]


@given(
    st.integers(30, 400), st.integers(30, 400), st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.05, 1), st.booleans()
)
def test_windows_stay_inside_around_the_region(
    height: int, width: int, x: float, y: float, size: float, tight: bool
) -> None:
    box = (int(x * width), int(y * height), max(int(size * (1 - x) * width), 1), max(int(size * (1 - y) * height), 1))
    left, top, w, h = grid.window((height, width), box, tight=tight)
    assert left >= 0
    assert left + w <= width
    assert top >= 0
    assert top + h <= height
    # One px of slack: the window is rounded to whole pixels.
    if box[2] <= w - 1 and box[3] <= h - 1:
        assert left <= box[0] + 1
        assert box[0] + box[2] <= left + w + 1
        assert top <= box[1] + 1
        assert box[1] + box[3] <= top + h + 1


# ---- charts


def test_wins_ties_and_losses_mirror_each_other(results: RunSet) -> None:
    found = charts.wins(results)
    for (a, b), (won, tied, lost) in found.items():
        assert found[b, a] == (lost, tied, won)
        assert won + tied + lost == len(results.metas)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 100)), min_size=1, max_size=8))
def test_front_is_beaten_by_no_point(points: list[tuple[float, float]]) -> None:
    front = charts.pareto_front(points)

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    for i, point in enumerate(points):
        beaten = any(beats(other, point) for other in points)
        if i in front:
            assert not beaten
        else:
            assert beaten or point in [points[k] for k in front]


def test_bad_values_are_told_at_edge(results: RunSet) -> None:
    from refbench.stats.recovery import Cell

    low, high = charts.limits([Cell(value=-900.0, low=-1000.0, high=-800.0), Cell(value=50.0, low=40.0, high=60.0)])
    assert low > -100
    assert high > 60


def test_cost_leaves_out_silent_models(results: RunSet) -> None:
    found = charts.pareto_chart(results, NEURIPS)
    assert set(found.data["cost"]) == {"seconds"}  # one model tells parameters, one a price: too few to compare
    assert set(found.data.loc[found.data["on_front"], "model"]) >= {"identity", "omnirefiner"}


def test_correlation_is_spearmans_of_the_recoveries(results: RunSet) -> None:
    from scipy.stats import spearmanr

    table = metrics_chart.correlation(results)
    both = np.concatenate([r.recoveries[["mse", "palette"]].to_numpy() for r in results.models])
    both = both[np.isfinite(both).all(axis=1)]
    assert table.loc["mse", "palette"] == pytest.approx(spearmanr(both[:, 0], both[:, 1]).statistic)


def audit_table() -> pd.DataFrame:
    rows = [
        ("mse", "pixel_fidelity", "blur", 80.0, 1.0, "right", True),
        ("mse", "pixel_fidelity", "background change", 0.0, 1.0, "blind", True),
        ("embed", "reference_alignment", "blur", -20.0, 0.4, "wrong", False),
        ("seam", "local_consistency", "blur", 2500.0, 0.7, "weak", True),
    ]
    return pd.DataFrame(rows, columns=list(metrics_chart.AUDIT_COLUMNS))


def test_audit_shows_verdicts_and_brackets(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    audit_table().to_csv(path, index=False)
    found = metrics_chart.audit_chart(metrics_chart.read_audit(path), NEURIPS)
    ax = found.figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["(embed)", "seam", "mse"]
    assert {"80", "\u221220~", "25x~"} <= {t.get_text() for t in ax.texts}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a,b\n1,2\n", "metric"),
        ("metric,axis,failure,step4,monotone,verdict,scored\n", "rows"),
        ("metric,axis,failure,step4,monotone,verdict,scored\npsnr,mean,blur,1,1,right,True\n", "known axes"),
        ("metric,axis,failure,step4,monotone,verdict,scored\n1,texture_fidelity,2,x,1,right,True\n", "numbers"),
        ("PK\x03\x04junk", "refbench audit"),
    ],
)
def test_what_is_no_audit_table_told(tmp_path: Path, content: str, told: str) -> None:
    for name in ("wrong.csv", "wrong.zip"):
        (tmp_path / name).write_text(content)
        with pytest.raises(RefbenchError, match=told):
            metrics_chart.read_audit(tmp_path / name)


# ---- training logs


def test_log_lines_of_step_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 1, "val/right": 20.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo'
    )
    table = ablation.read_log(path)
    assert table["step"].tolist() == [1, 2]
    assert table.loc[0, "val/right"] == 20.0
    path.write_text('{"loss": 1}\n{"step": 2}\n')
    with pytest.raises(RefbenchError, match="line 1"):
        ablation.read_log(path)


def test_rewards_are_drawn_before_losses(logs: dict[str, Path]) -> None:
    assert ablation.curve_names(ablation.read_log(logs["GRPO"])) == ["reward/pixel", "reward/perceptual"]
    assert ablation.curve_names(ablation.read_log(logs["SFT"])) == ["loss", "val/right"]


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 300))
def test_smoothing_leaves_a_straight_line_alone(a: float, b: float, count: int) -> None:
    line = [a + b * i for i in range(count)]
    assert ablation.smooth(line) == pytest.approx(line, abs=1e-8 * (1 + abs(a) + abs(b) * count))


def test_unknown_stage_of_log_is_told(results: RunSet, logs: dict[str, Path]) -> None:
    with pytest.raises(RefbenchError, match="'RL'"):
        ablation.ablation_chart(results, NEURIPS, {"SFT": "sharpen"}, {"RL": logs["GRPO"]})


# ---- LaTeX


def test_names_cannot_break_latex() -> None:
    nasty = "a_b & 100% \\input{x} #$^~{}\n\x1b[31m"
    text = latex_text(nasty)
    assert "\\input{" not in text
    assert "\n" not in text
    assert "\x1b" not in text
    assert re.search(r"(?<!\\)[&%#_$]", text) is None


def test_table_marks_best_and_alike(results: RunSet) -> None:
    from refbench.report.latex import main_table

    compared = results.compare(views=("overall",), resamples=200)
    text = main_table(results, compared)
    best = results.ranked[0]
    (line,) = [line for line in text.splitlines() if line.strip().startswith(best.name)]
    assert rf"\mathbf{{{best.numbers.mean.value:.1f}}}" in line
    for pair in compared.pairs:
        if best.name in (pair.a, pair.b):
            other = results.run(pair.b if pair.a == best.name else pair.a)
            alike = not pair.difference("overall", "all", "mean").holds
            assert (rf"\underline{{{other.numbers.mean.value:.1f}}}" in text) == alike
    assert text.count(r"\\") == 1 + len(results.models)
    assert r"\toprule" in text
