from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refbench.adapters import wire

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)) | hnp.arrays(
    np.bool_, hnp.array_shapes(max_dims=2, max_side=6)
)


class _Dribble(io.BytesIO):
    """A pipe that reads and writes at most seven bytes at a time."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[:7])

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:7])


@settings(max_examples=50)
@given(
    st.lists(arrays, max_size=4), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3)
)
def test_message_arrives_as_it_was_sent(sent: list[np.ndarray[Any, Any]], header: dict[str, Any]) -> None:
    header.pop("arrays", None)
    pipe = _Dribble()
    wire.send(pipe, header, sent)  # type: ignore[arg-type]
    pipe.seek(0)
    got, received = wire.receive(pipe)  # type: ignore[arg-type]
    assert got == header
    assert len(received) == len(sent)
    for a, b in zip(sent, received, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        assert b.flags.writeable


@given(st.binary(min_size=0, max_size=64))
def test_garbage_is_refused_and_never_run(data: bytes) -> None:
    with pytest.raises((wire.GarbageError, wire.ClosedError)):
        wire.receive(io.BytesIO(data))  # type: ignore[arg-type]


def test_large_message_is_refused_unread() -> None:
    pipe = io.BytesIO()
    wire.send(pipe, {}, [np.zeros((100, 100), np.uint8)])  # type: ignore[arg-type]
    pipe.seek(0)
    with pytest.raises(wire.GarbageError, match="10000 bytes where 99 are allowed"):
        wire.receive(pipe, 99)  # type: ignore[arg-type]
