"""What is ready here, and why the rest is not, without asking the network or importing anything heavy."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.adapters import ready
from refbench.adapters.registry import MODELS
from refbench.runs.catalogue import models, table
from refbench.schema import AdapterCard


class Needy:
    """A model that says itself what it lacks."""

    card = AdapterCard(name="needy", summary="Needs a moon.", requires=("json", "no_such_module_here"))
    lacks: str | None = "no moon, wait for one"

    @classmethod
    def ready(cls) -> str | None:
        return cls.lacks

    def refine(self, inputs: object) -> None: ...


@pytest.fixture
def _needy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS._builtin, "needy", f"{__name__}:Needy")


@pytest.mark.usefixtures("_needy")
def test_class_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready.readiness("needy") == "install no_such_module_here; no moon, wait for one"
    monkeypatch.setattr(Needy, "lacks", None)
    assert ready.readiness("needy") == "install no_such_module_here"
    monkeypatch.setattr(Needy, "card", Needy.card.model_copy(update={"requires": ()}))
    assert ready.readiness("needy") is None
    assert ready.readiness("identity") is None


@pytest.mark.usefixtures("_needy")
def test_the_table_and_its_reasons() -> None:
    columns, cells = table("models", models(), wide=True)
    assert columns[:4] == ["name", "ready", "licence", "size"]
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in cells}
    assert rows["identity"]["licence"] == "Apache-2.0"
    assert rows["identity"]["size"] == "none"
    kontext = rows["flux-kontext"]
    assert (kontext["paper"], kontext["size"], kontext["VRAM"]) == ("arXiv 2506.15742", "33.7 GB", "34 GB")
    assert rows["omnirefiner"]["size"] == "none"  # in the package
    assert rows["sd-inpaint"]["size"] == "?"
    assert rows["needy"]["ready"] == "no"
    assert rows["needy"]["missing"] == "install no_such_module_here; no moon, wait for one"


@pytest.mark.parametrize(
    ("here", "needs", "reason"),
    [
        (0.0, 16, "no GPU (needs about 16 GB)"),
        (0.0, None, None),
        (24.0, 34, "needs about 34 GB on a GPU, 24 here"),
        (23.6, 24, None),  # what a card of 24 GB reports
        (80.0, 34, None),
    ],
)
def test_graphics_memory(here: float, needs: float | None, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "graphics_memory_gb", lambda: here)
    assert ready.no_gpu(needs) == reason


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRST_KEY", raising=False)
    monkeypatch.delenv("SECOND_KEY", raising=False)
    assert ready.no_key("FIRST_KEY", "SECOND_KEY") == "no key in the environment, set FIRST_KEY or SECOND_KEY"
    monkeypatch.setenv("SECOND_KEY", "secret")
    assert ready.no_key("FIRST_KEY", "SECOND_KEY") is None


def test_hub_download_is_found_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert ready.hub_folder("a/b", "unet/x.bin") is None
    assert ready.no_weights("a/b", "unet/x.bin") == "no weights, `hf download a/b`"
    assert ready.no_weights("a/b", "x", "x", "y/*") == "no weights, `hf download a/b x y/*`"
    for commit in ("111", "222"):
        place = tmp_path / "models--a--b" / "snapshots" / commit / "unet"
        place.mkdir(parents=True)
        (place / "x.bin").write_bytes(b"")
    assert ready.hub_folder("a/b", "unet/x.bin", "111") == tmp_path / "models--a--b" / "snapshots" / "111"
    assert ready.hub_folder("a/b", "unet/x.bin") in [
        tmp_path / "models--a--b" / "snapshots" / c for c in ("111", "222")
    ]
    assert ready.no_weights("a/b", "unet/x.bin") is None
    assert ready.no_weights(str(place.parent), "unet/x.bin") is None
