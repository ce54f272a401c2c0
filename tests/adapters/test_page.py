"""The page of models is that of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.adapters.load import load_card
from refbench.adapters.page import COMMAND, models_page
from refbench.adapters.registry import MODELS
from refbench.adapters.tried import TRIED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HERE = {"identity", "warp-blend", "place-blend", "omnirefiner", "waifu2x", "realsr"}


def row(name: str) -> list[str]:
    (found,) = (line for line in models_page().splitlines() if line.startswith(f"| `{name}`: "))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def test_the_committed_page_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == models_page(), f"write it anew: {COMMAND}"


def test_every_model_says_what_was_seen() -> None:
    assert set(TRIED) == set(MODELS)
    for name, seen in TRIED.items():
        assert bool(seen.here) != bool(seen.stand_in), name
        assert bool(seen.open) or seen.here, name
    assert {name for name, seen in TRIED.items() if seen.here} >= HERE


@pytest.mark.parametrize(
    ("name", "needs", "outside"),
    [
        ("warp-blend", "nothing more", "the draft"),
        ("flux-kontext", "extra `models`; black-forest-labs/FLUX.1-Kontext-dev, 33.7 GB; GPU of 34 GB", "its own"),
        ("gpt-image", "extra `web`; key in `OPENAI_API_KEY`", "its own"),
        ("openai-images", "extra `web`; an endpoint", "its own"),
        ("omnigen2", "uv; checkout VectorSpaceLab/OmniGen2; OmniGen2/OmniGen2; GPU of 17 GB", "its own"),
    ],
)
def test_row_says_what_model_needs(name: str, needs: str, outside: str) -> None:
    cells = row(name)
    card = load_card(name)
    assert len(cells) == 8
    assert cells[0] == f"`{name}`: {card.summary}"
    assert (cells[1], cells[2], cells[7]) == (card.licence, needs, outside)
    assert cells[3] == ("–" if card.price_per_image_usd is None else f"{card.price_per_image_usd:g}")


def test_paste_back_can_be_turned_off() -> None:
    assert row("mosaic")[7] == row("hifi-inpaint")[7] == "the draft (turn off: `paste_back=false`)"
