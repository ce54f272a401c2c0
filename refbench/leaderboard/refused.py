"""The error of the verifier: a finding with a name, so that a person can look it up and a test can expect it."""

from __future__ import annotations

from refbench.errors import RefbenchError


class RefusedError(RefbenchError):
    """An entry that cannot be accepted.

    Args:
        name: of the finding, as docs/submitting.md lists it, e.g. "path-traversal".
        message: one sentence: what was expected, what came, where, what to do.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
