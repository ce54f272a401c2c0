"""Prepared assets of the real layout, shared with the tests of the tasks."""

from tests.tasks.conftest import assets

__all__ = ["assets"]
