"""One lazy registry: a name maps to "module:attribute", imported only when asked for.

Two kinds of thing are found by name: models (adapters) and metrics. Built-in names are declared in the room that
owns them; other packages add theirs with an entry point in the group ``refbench.<kind>s`` whose value is the same
"module:attribute".
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from refbench.errors import RefbenchError, missing_package, unknown_name


class Registry(Mapping[str, str]):
    """Names of one kind of thing, each resolved to an object on first use.

    Args:
        kind: what the names stand for, singular, as the user says it ("model", "metric").
        builtin: name -> "module:attribute" for what refbench ships, in display order.
        group: entry point group that other packages use to add names; built-in names win.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str], group: str | None = None) -> None:
        self.kind = kind
        self._builtin = dict(builtin)
        self._group = group
        self._plugins: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._plugins is None:
            found = entry_points(group=self._group) if self._group else ()
            self._plugins = {e.name: e.value for e in found}
        return {**self._plugins, **self._builtin}

    def __getitem__(self, name: str) -> str:
        known = self._all()
        if name not in known:
            raise unknown_name(self.kind, name, known)
        return known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def is_plugin(self, name: str) -> bool:
        """Whether another package adds this name."""
        return name not in self._builtin and name in self._all()

    def __iter__(self) -> Iterator[str]:
        builtin = list(self._builtin)
        return iter(builtin + sorted(set(self._all()) - set(builtin)))

    def __len__(self) -> int:
        return len(self._all())

    def load(self, name: str) -> Any:
        """Import and return the object behind a name.

        Raises:
            RefbenchError: the name is unknown (with near names), or its module cannot be imported.
        """
        where = self[name]
        module, _, attribute = where.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise missing_package(error, f"for the {self.kind} '{name}'") or RefbenchError(
                f"The {self.kind} '{name}' is registered as '{where}', which does not import: {error}."
            ) from error
