"""What is known of a truth alone, kept from one model to the next: features on disk by content and card hash."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.cache import keep

Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]
"""The arrays of one feature by name."""


class FeatureStore:
    """One file a truth, named by its key, holding arrays named "metric.feature@card/array".

    The key is the hash of the truth's content and the card's hash that of the definition, so that nothing stale
    can be read: another picture or another definition has another name. A file that cannot be read is made anew.

    Args:
        folder: where files lie, made when needed; None keeps features in memory only.
        memory_mb: most recently used truths are kept in memory up to this size.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, memory_mb: float = 64.0) -> None:
        self.folder = None if folder is None else Path(folder)
        self._limit = int(memory_mb * 2**20)
        self._held: OrderedDict[str, tuple[int, dict[str, Arrays]]] = OrderedDict()
        self._size = 0

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"

    def load(self, key: str) -> Mapping[str, Arrays]:
        """All features of a truth: "metric.feature@card" -> arrays by name; empty where none are known."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][1]
        path = self._path(key)
        if path is None or not path.is_file():
            return {}
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            flat = load(path.read_bytes())
        except (SafetensorError, OSError, ValueError):
            return {}
        features: dict[str, dict[str, NDArray[np.generic]]] = {}
        for name, array in flat.items():
            feature, _, part = name.rpartition("/")
            features.setdefault(feature, {})[part] = array
        self._hold(key, dict(features))
        return features

    def save(self, key: str, features: Mapping[str, Arrays]) -> None:
        """Keep all features of a truth, in memory and on disk; in memory alone once the disk cannot be written."""
        self._hold(key, dict(features))
        path = self._path(key)
        if path is None:
            return
        from safetensors.numpy import save

        flat = {
            f"{name}/{part}": np.array(array, order="C")
            for name, arrays in features.items()
            for part, array in arrays.items()
        }
        if not keep(path, save(flat)):
            self.folder = None

    def _hold(self, key: str, features: dict[str, Arrays]) -> None:
        size = sum(array.nbytes for arrays in features.values() for array in arrays.values())
        if key in self._held:
            self._size -= self._held.pop(key)[0]
        self._held[key] = (size, features)
        self._size += size
        while self._size > self._limit and len(self._held) > 1:
            self._size -= self._held.popitem(last=False)[1][0]
