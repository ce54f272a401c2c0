"""What there is, as rows for a table: models, the tasks of a suite, metrics. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refbench.errors import RefbenchError
from refbench.schema import AdapterCard


def models() -> list[dict[str, Any]]:
    """Every registered model's card, with `ready`: "yes", or "no: " and what is missing here."""
    from refbench.adapters.load import load_card
    from refbench.adapters.ready import readiness
    from refbench.adapters.registry import MODELS

    rows = []
    for name in MODELS:
        try:
            card = load_card(name)
            missing = readiness(name, card)
        except RefbenchError as error:
            card, missing = AdapterCard(name=name, summary=""), str(error)
        rows.append({**card.model_dump(mode="json"), "name": name, "ready": f"no: {missing}" if missing else "yes"})
    return rows


def model_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns, cells, and lines below the table that say why a model is not ready, of the rows of :func:`models`.

    What a card does not know is a "?".
    """

    def size(megabytes: float | None, weights: str | None) -> str:
        if megabytes is None:
            return "?" if weights and not weights.startswith("in the package") else "none"
        if megabytes == 0:
            return "none"
        return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:g} MB"

    cells = []
    for row in rows:
        price, vram = row["price_per_image_usd"], row["vram_gb"]
        paper = (row["paper"] or "").removeprefix("https://").removeprefix("www.").replace("arxiv.org/abs/", "arXiv ")
        ready = row["ready"].partition(":")[0]
        cells.append([
            row["name"], row["licence"], paper or "–", row["weights"] or "–", size(row["download_mb"], row["weights"]),
            "–" if vram is None else f"{vram:g} GB", "–" if price is None else f"${price:g}",
            "yes" if row["needs_network"] else "no", "yes" if row["deterministic"] else "no", ready,
        ])  # fmt: skip
    columns = ["name", "licence", "paper", "weights", "download", "VRAM", "price", "network", "repeats", "ready here"]
    lines = [f"{row['name']}: {row['ready'].removeprefix('no: ')}" for row in rows if row["ready"] != "yes"]
    return columns, cells, ["Not ready here, because:", *(f"  {line}" for line in lines)] if lines else []


def tasks(suite: str) -> list[dict[str, Any]]:
    """The tasks of a suite: samples, categories, modes, share of true views, sources, mean masked share."""
    from refbench.tasks.suite import load_suite

    found = load_suite(suite)
    rows = []
    for task in found.tasks:
        metas = [meta for meta in found.metas if meta.task == task]
        rows.append(
            {
                "task": task,
                "samples": len(metas),
                "category": ", ".join(sorted({meta.category for meta in metas})),
                "mode": ", ".join(sorted({meta.mode for meta in metas})),
                "true views": sum(meta.view == "true" for meta in metas),
                "sources": len({meta.source_id for meta in metas}),
                "mask share": f"{sum(meta.mask_share for meta in metas) / max(len(metas), 1):.1%}",
            }
        )
    return rows


def metrics() -> list[dict[str, Any]]:
    """Every metric's card, with `better`, `ready` ("yes", or "no: " and what is missing) and the card's hash."""
    from refbench.metrics.contract import card_hash
    from refbench.metrics.registry import list_cards

    rows = []
    for card, missing in list_cards():
        low, high = card.range
        span = f"{'-inf' if low is None else f'{low:g}'} .. {'inf' if high is None else f'{high:g}'}"
        data = card.model_dump(mode="json")
        data |= {
            "better": "higher" if card.higher_is_better else "lower",
            "range": span,
            "scored": "yes" if card.scored else f"no: {card.note}",
            "ready": "yes" if missing is None else f"no: {missing}",
            "card": card_hash(card),
        }
        rows.append(data)
    return rows
