"""One score under one name: a run that lacks a scoring metric has none, in tables, JSON and all that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refbench.metrics import registry
from refbench.metrics.alignment import contextual
from refbench.metrics.texture import reader
from refbench.registry import Registry

from .conftest import Cli

KEPT = ("ssim", "squeeze_pooled", "ocr_cer", "contextual", "background_ssim")
LACK = "ocr_cer needs the model files of no-such-package, which is not installed: run `uv pip install"


@pytest.fixture(autouse=True)
def _few_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four quick metrics make the score here, one of which needs a package, and one stands beside it."""
    monkeypatch.setattr(registry, "METRICS", Registry("metric", {name: registry.METRICS[name] for name in KEPT}))


@pytest.fixture
def runs(cli: Cli, suite: Path, here: Path) -> list[Path]:
    """Two runs measured where no text can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "PACKAGE", "no_such_package")
        for model in ("sharpen", "reference-paste"):
            assert cli("eval", "--model", model, "--suite", suite, "--out", here / model).code == 0
    return [here / "sharpen", here / "reference-paste"]


def test_table_json_and_manifest_say_why(
    cli: Cli, suite: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PACKAGE", "no_such_package")
    done = cli("eval", "--model", "sharpen", "--suite", suite, "--out", runs[0])
    (row,) = [line.split() for line in done.out.splitlines() if line.split()[:1] == ["all"]]
    assert row[1:3] == row[-4:-2] == ["not", "scored"]  # texture and score; then pixel fidelity and its interval
    assert f"no score here for texture: {LACK}" in done.out
    assert f"no score here for score: {LACK}" in done.out
    found = json.loads(cli("eval", "--model", "sharpen", "--suite", suite, "--out", runs[0], "--json").out)
    assert found["mean"]["value"] is None
    assert found["axes"]["texture_fidelity"]["value"] is None
    assert found["axes"]["reference_alignment"]["value"] is not None
    assert set(found["withheld"]) == {"texture_fidelity", "mean"}
    assert found["withheld"]["mean"].startswith(LACK)
    manifest = json.loads((runs[0] / "manifest.json").read_text())
    assert set(manifest["unavailable"]) == {"ocr_cer"}
    assert "ssim" in manifest["metric_cards"]


def test_compare_names_no_better_one(cli: Cli, runs: list[Path]) -> None:
    done = cli("compare", *runs)
    assert done.code == 0, done.err
    assert f"not compared: mean: {LACK}" in done.out
    assert "On the whole" not in done.out
    found = json.loads(cli("compare", *runs, "--json").out)
    overall = {row["measure"] for row in found["pairs"][0]["differences"] if row["view"] == "overall"}
    assert overall == {"reference_alignment", "local_consistency"}
    assert set(found["withheld"]) == {"texture_fidelity", "mean"}


def test_page_shows_why_and_figures_refuse(cli: Cli, runs: list[Path], here: Path) -> None:
    assert cli("report", *runs, "--out", here / "page").code == 0
    assert LACK in (here / "page" / "index.html").read_text()
    done = cli("figures", *runs, "--out", here / "figures")
    assert done.code == 2
    assert f"has no score, since {LACK}" in done.sentence
    assert "refbench measure" in done.sentence


def test_entry_is_not_made_without_score(cli: Cli, runs: list[Path], here: Path) -> None:
    done = cli("submit", runs[0], "--to", here / "entries", "--by", "tests")
    assert done.code == 2
    assert f"it has no score, since {LACK}" in done.sentence


def test_once_mended_it_scores_as_everywhere(cli: Cli, suite: Path, runs: list[Path], here: Path) -> None:
    mended = json.loads(cli("measure", runs[0], "--json").out)
    straight = json.loads(cli("eval", "--model", "sharpen", "--suite", suite, "--out", here / "new", "--json").out)
    assert mended["withheld"] == {}
    assert mended["mean"]["value"] is not None
    assert (mended["mean"], mended["axes"]) == (straight["mean"], straight["axes"])


def test_part_of_metrics_is_no_score(cli: Cli, suite: Path, here: Path) -> None:
    assert cli("generate", "--model", "sharpen", "--suite", suite, "--out", here / "run").code == 0
    found = json.loads(cli("measure", here / "run", "--metrics", "ssim,contextual,background_ssim", "--json").out)
    assert found["mean"]["value"] is None
    assert found["axes"]["reference_alignment"]["value"] is not None
    assert "squeeze_pooled was not measured in this run: run `refbench measure`" in found["withheld"]["mean"]
    assert json.loads(cli("measure", here / "run", "--json").out)["mean"]["value"] is not None


def test_another_packages_metric_stands_beside(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.METRICS, "_plugins", {"hue": "refbench.metrics.alignment.contextual:Hue"})
    hue = type("Hue", (contextual.Contextual,), {})
    monkeypatch.setattr(contextual, "Hue", hue, raising=False)
    done = cli("list", "metrics")
    assert done.code == 2
    assert "Expected the metric 'hue' of another package to stand beside the score" in done.sentence
    card = contextual.Contextual("cpu").card().model_copy(update={"name": "hue", "scored": False, "note": "beside it"})
    monkeypatch.setattr(hue, "card", lambda _: card)
    assert cli("list", "metrics").code == 0
    assert "hue" not in registry.score_metrics()
