"""``refbench check-adapter``: try an adapter on tiny samples before a whole run."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
