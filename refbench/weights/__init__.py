"""Weight files that refbench does not carry: what they are, where they lie, and how they come here.

Metrics and adapters name a file of the catalogue; :func:`locate` finds it in a folder of the user's, a hub's or
torch's cache, an installed package or refbench's own cache, :func:`require` refuses a missing or wrong one by name,
and :func:`fetch` downloads it. Nothing heavy is imported, and nothing but :func:`fetch` uses the network.
"""

from __future__ import annotations

from refbench.weights.catalogue import CATALOGUE, Hub, Own, Package, Source, Url, Weights, entry
from refbench.weights.fetching import fetch
from refbench.weights.places import OFFLINE, Verdict, digest, locate, missing, offline, require, verify

__all__ = [
    "CATALOGUE",
    "OFFLINE",
    "Hub",
    "Own",
    "Package",
    "Source",
    "Url",
    "Verdict",
    "Weights",
    "digest",
    "entry",
    "fetch",
    "locate",
    "missing",
    "offline",
    "require",
    "verify",
]
