"""The catalogue as rows for a table."""

from __future__ import annotations

from typing import Any

from refbench.weights.catalogue import Hub, Own, Source, Url, entry
from refbench.weights.places import locate


def row(name: str) -> dict[str, Any]:
    """One entry as plain values; nothing is read but folders."""
    weights = entry(name)
    path = locate(name)
    return {
        "name": name,
        "for": weights.use,
        "source": where_from(weights.source),
        "MB": "?" if weights.mb is None else f"{weights.mb:,.0f}" if weights.mb >= 1 else "< 1",
        "licence": weights.licence,
        "SHA-256": _hash(weights.sha256),
        "here": "no" if path is None else "yes",
        "path": None if path is None else str(path),
        "sha256": weights.sha256,
        "size": weights.size,
        "restricted": weights.restricted,
    }


def where_from(source: Source) -> str:
    """A source in words."""
    if isinstance(source, Hub):
        gate = ", gated" if source.gated else ""
        return f"hub {source.repo}@{source.revision}{gate}: {', '.join(source.files)}"
    if isinstance(source, Url):
        return source.url
    if isinstance(source, Own):
        return f"yours: {source.variable}"
    kind = "Python index" if source.registry == "python" else "npm"
    return f"{kind}, {source.name} {source.version}: {source.path}"


def _hash(sha256: str | None) -> str:
    if sha256 is None:
        return "not published; recorded at first fetch"
    return f"{sha256[:12]}..." if len(sha256) == 64 else f"{sha256}... (only these digits are published)"
