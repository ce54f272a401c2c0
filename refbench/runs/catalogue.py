"""What there is, as rows for a table: models, the tasks of a suite, metrics. Nothing heavy is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError, unknown_name
from refbench.schema import AdapterCard, MetricCard

if TYPE_CHECKING:
    from refbench.tasks.suite import Suite

Row = Mapping[str, Any]
AXES = {
    "texture_fidelity": "texture",
    "reference_alignment": "alignment",
    "local_consistency": "consistency",
    "pixel_fidelity": "pixel",
    "diagnostics": "diagnostics",
}


def models() -> list[dict[str, Any]]:
    """Every registered model's card, with `ready`: "yes", or "no: " and what is missing here."""
    from refbench.adapters.registry import MODELS

    return [_model(name) for name in MODELS]


def _model(name: str) -> dict[str, Any]:
    from refbench.adapters.load import load_card
    from refbench.adapters.ready import readiness

    try:
        card = load_card(name)
        missing = readiness(name, card)
    except RefbenchError as error:
        card, missing = AdapterCard(name=name, summary=""), str(error)
    return {**card.model_dump(mode="json"), "name": name, "ready": f"no: {missing}" if missing else "yes"}


def metrics() -> list[dict[str, Any]]:
    """Every metric's card, with `better`, `ready` ("yes", or "no: " and what is missing) and the card's hash."""
    from refbench.metrics.registry import list_cards

    return [_metric(card, missing) for card, missing in list_cards()]


def _metric(card: MetricCard, missing: str | None) -> dict[str, Any]:
    from refbench.metrics.contract import card_hash

    low, high = card.range
    return {
        **card.model_dump(mode="json"),
        "better": "higher" if card.higher_is_better else "lower",
        "range": f"{'-inf' if low is None else f'{low:g}'} .. {'inf' if high is None else f'{high:g}'}",
        "scored": "yes" if card.scored else f"no: {card.note}",
        "ready": "yes" if missing is None else f"no: {missing}",
        "card": card_hash(card),
    }


def tasks(suite: str) -> list[dict[str, Any]]:
    """The tasks of a suite: samples, categories, modes, share of true views, sources, mean masked share."""
    from refbench.tasks.suite import load_suite

    found = load_suite(suite)
    return [_task(found, task) for task in found.tasks]


def _task(suite: Suite, task: str) -> dict[str, Any]:
    metas = [meta for meta in suite.metas if meta.task == task]
    return {
        "task": task,
        "samples": len(metas),
        "category": ", ".join(sorted({meta.category for meta in metas})),
        "mode": ", ".join(sorted({meta.mode for meta in metas})),
        "true views": sum(meta.view == "true" for meta in metas),
        "sources": len({meta.source_id for meta in metas}),
        "mask share": f"{sum(meta.mask_share for meta in metas) / max(len(metas), 1):.1%}",
    }


def one(kind: str, name: str, suite: str) -> dict[str, Any]:
    """All about one: the row of its list; of a task also its degradations, mask kinds, licences and sample ids.

    Args:
        kind: "models", "metrics" or "tasks".
        suite: where a task is looked up.

    Raises:
        RefbenchError: nothing has that name (with the near ones).
    """
    if kind == "models":
        from refbench.adapters.registry import MODELS

        if name not in MODELS:
            raise unknown_name("model", name, MODELS)
        return _model(name)
    if kind == "metrics":
        from refbench.metrics.registry import METRICS, make_metrics

        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
        (metric,) = make_metrics([name]).values()
        return _metric(metric.card_once, metric.missing())
    from refbench.tasks.suite import load_suite

    found = load_suite(suite)
    if name not in found.tasks:
        raise unknown_name("task", name, found.tasks)
    metas = [meta for meta in found.metas if meta.task == name]
    counts: dict[str, Counter[str]] = {
        "degradations": Counter(meta.degradation for meta in metas),
        "masks": Counter(meta.mask_kind for meta in metas),
        "licences": Counter(meta.licence for meta in metas),
    }
    return {
        **_task(found, name),
        **{key: dict(c.most_common()) for key, c in counts.items()},
        "ids": [m.id for m in metas],
    }


def in_full(facts: Row) -> dict[str, str]:
    """The facts of one as words; those that are not known or not there are left out."""

    def words(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Mapping):
            return ", ".join(f"{key} ({count})" for key, count in value.items())
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return f"{value:,}" if isinstance(value, int) else str(value)

    shown = {key: value for key, value in facts.items() if value is not None and value not in ("", [], ())}
    if "better" in shown:  # of a metric, whose words for these stand under other keys
        shown = {key: value for key, value in shown.items() if key not in ("higher_is_better", "note")}
    if "download_mb" in facts:
        shown["download_mb"] = size(facts)
    shown.pop("name" if "name" in shown else "task")  # it is the title
    titles = {"vram_gb": "VRAM in GB", "price_per_image_usd": "USD a picture", "download_mb": "download"}
    return {titles.get(key, key.replace("_", " ")): words(value) for key, value in shown.items()}


def size(row: Row) -> str:
    """What a model downloads: "33.7 GB", "none", or "?" where its card does not know."""
    megabytes, weights = row["download_mb"], row["weights"]
    if megabytes is None:
        return "?" if weights and not weights.startswith("in the package") else "none"
    if megabytes == 0:
        return "none"
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:g} MB"


def _paper(row: Row) -> str:
    return (row["paper"] or "–").removeprefix("https://").removeprefix("www.").replace("arxiv.org/abs/", "arXiv ")


def _yes(row: Row, key: str) -> str:
    value = row[key]
    return value.partition(":")[0] if isinstance(value, str) else "yes" if value else "no"


Column = tuple[str, Callable[[Row], str]]
NARROW: dict[str, list[Column]] = {
    "models": [
        ("name", lambda row: row["name"]),
        ("ready", lambda row: _yes(row, "ready")),
        ("licence", lambda row: row["licence"]),
        ("size", size),
    ],
    "metrics": [
        ("name", lambda row: row["name"]),
        ("ready", lambda row: _yes(row, "ready")),
        ("axis", lambda row: AXES[row["axis"]]),
        ("region", lambda row: row["region"]),
        ("better", lambda row: row["better"]),
        ("scored", lambda row: _yes(row, "scored")),
    ],
    "tasks": [
        (key, lambda row, key=key: str(row[key]))  # type: ignore[misc]
        for key in ("task", "samples", "true views", "sources", "mask share")
    ],
}
"""List -> (title, cell of a row) of its columns, which fit 80 characters."""
FURTHER: dict[str, list[Column]] = {
    "models": [
        ("VRAM", lambda row: "–" if row["vram_gb"] is None else f"{row['vram_gb']:g} GB"),
        ("price", lambda row: "–" if row["price_per_image_usd"] is None else f"${row['price_per_image_usd']:g}"),
        ("network", lambda row: _yes(row, "needs_network")),
        ("repeats", lambda row: _yes(row, "deterministic")),
        ("paper", _paper),
        ("weights", lambda row: row["weights"] or "–"),
        ("missing", lambda row: row["ready"].removeprefix("yes").removeprefix("no: ")),
    ],
    "metrics": [
        ("range", lambda row: row["range"]),
        ("card", lambda row: row["card"]),
        ("backend", lambda row: row["backend"]),
        ("definition", lambda row: row["definition"]),
        ("note", lambda row: row["note"]),
        ("missing", lambda row: row["ready"].removeprefix("yes").removeprefix("no: ")),
    ],
    "tasks": [("category", lambda row: row["category"]), ("mode", lambda row: row["mode"])],
}
"""What `--wide` adds."""


def table(kind: str, rows: Sequence[Row], *, wide: bool = False) -> tuple[list[str], list[list[str]]]:
    """Column titles and cells of a list; what a card does not know is a "?", what there is not a dash."""
    columns = NARROW[kind] + (FURTHER[kind] if wide else [])
    return [title for title, _ in columns], [[cell(row) for _, cell in columns] for row in rows]
