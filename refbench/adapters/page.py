"""The table of models as a page, out of cards, scripts' needs and what was tried; the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refbench.adapters.diffusion import DiffusersEditor
from refbench.adapters.load import load_card
from refbench.adapters.registry import MODELS
from refbench.adapters.spec import literal_in, resolve
from refbench.adapters.tried import TRIED, Tried
from refbench.adapters.web.service import WebEditor
from refbench.schema import AdapterCard

COMMAND = "refbench list models --markdown > docs/models.md"
"""Writes the page."""
HEAD = f"""# Models

Made by `{COMMAND}`; a test says when it is stale. How each is asked and what
to type: [running-models.md](running-models.md). A model of your own: [adapters.md](adapters.md).

*Stand-ins* are random tiny models of the published classes, small checkouts with the authors' entry points, or a local
server: they show that everything reaches its place, and nothing about quality. Sizes and prices are published or
computed, not measured. `--paste-back` keeps the draft outside the mask, for every editor and service alike; the last
column says what stands there without it.

| model | licence | needs | USD a picture | ran here | only on stand-ins | only more shows | outside the mask |
|---|---|---|---|---|---|---|---|
"""
_EXTRAS = {"diffusers": "models", "httpx": "web"}
"""Module that a card requires -> the package's extra that brings it."""


def models_page() -> str:
    """The page in Markdown, a row for each registered model in order."""
    return HEAD + "".join(f"| {' | '.join(_row(name))} |\n" for name in MODELS)


def _row(name: str) -> Iterator[str]:
    card, seen = load_card(name), TRIED.get(name, Tried())
    price = card.price_per_image_usd
    yield f"`{name}`: {card.summary}"
    yield card.licence
    yield "; ".join(_needs(name, card)) or "nothing more"
    yield "–" if price is None else f"{price:g}"
    for cell in (seen.here, seen.stand_in, seen.open):
        yield cell or "–"
    yield _outside(name)


def _needs(name: str, card: AdapterCard) -> Iterator[str]:
    """Extra, environment, checkout, licence, weights, memory and key."""
    found = resolve(name)
    if found.path is not None:
        needs: dict[str, Any] = literal_in(found.path, "NEEDS") or {}
        yield "uv"
        if "checkout" in needs:
            yield f"checkout {needs['checkout']['repository'].removeprefix('https://github.com/')}"
        if "accept" in needs:
            yield f"`accept_licence={needs['accept']}`"
    yield from (f"extra `{extra}`" for module, extra in _EXTRAS.items() if module in card.requires)
    kind = MODELS.load(name)
    if isinstance(kind, type) and issubclass(kind, WebEditor):
        yield "an endpoint" if kind.keyless else f"key in `{kind.variable}`"
    elif card.weights:
        megabytes = card.download_mb or 0
        size = f", {megabytes / 1000:.1f} GB" if megabytes >= 1000 else f", {megabytes:g} MB" if megabytes else ""
        yield f"{card.weights}{size}"
    if card.vram_gb:
        yield f"GPU of {card.vram_gb:g} GB"


def _outside(name: str) -> str:
    """What stands outside the mask where nothing is asked for."""
    found = resolve(name)
    if found.path is not None:
        options = literal_in(found.path, "OPTIONS") or {}
        return "the draft (turn off: `paste_back=false`)" if options.get("paste_back") else "its own"
    kind = MODELS.load(name)
    repaints = isinstance(kind, type) and issubclass(kind, DiffusersEditor | WebEditor)
    return "its own" if repaints else "the draft"
