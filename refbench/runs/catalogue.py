"""What there is, as rows for a table: models, the tasks of a suite, metrics. Nothing heavy is imported."""

from __future__ import annotations

from typing import Any

from refbench.errors import RefbenchError


def models() -> list[dict[str, Any]]:
    """Every registered model's card, with `ready`: "yes", or "no: " and what is missing here."""
    from refbench.adapters.load import load_card, missing_requirements
    from refbench.adapters.registry import MODELS

    rows = []
    for name in MODELS:
        try:
            card = load_card(name)
        except RefbenchError as error:
            rows.append({"name": name, "summary": "", "licence": "", "ready": f"no: {error}"})
            continue
        missing = missing_requirements(card)
        ready = f"no: install {', '.join(missing)}" if missing else "yes"
        rows.append({**card.model_dump(mode="json"), "name": name, "ready": ready})
    return rows


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
