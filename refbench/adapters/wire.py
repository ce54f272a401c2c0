"""Messages between refbench and a worker: a JSON header and raw arrays, over a pair of pipes.

Nothing is pickled: a worker runs foreign code, and unpickling what it sends would run that code here.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.schema import Inputs

_PREFIX = struct.Struct("<4sI")
_MAGIC = b"rfb1"
_DTYPES = {"uint8": np.dtype(np.uint8), "bool": np.dtype(np.bool_)}
MAX_HEADER = 16 * 2**20
MAX_ARRAYS = 8 * 2**30


class ClosedError(Exception):
    """The other side has gone."""


class GarbageError(Exception):
    """What came is not a message."""


def _write(stream: io.RawIOBase, data: memoryview) -> None:
    while data:
        try:
            written = stream.write(data)
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from None
        data = data[written or 0 :]


def _read(stream: io.RawIOBase, buffer: memoryview) -> None:
    while buffer:
        try:
            count = stream.readinto(buffer)
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from None
        if not count:
            raise ClosedError("end of stream")
        buffer = buffer[count:]


def send(stream: io.RawIOBase, header: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """Write one message.

    Raises:
        ClosedError: the other side has gone.
    """
    specs = [{"shape": a.shape, "dtype": str(a.dtype)} for a in arrays]
    head = json.dumps({**header, "arrays": specs}).encode()
    _write(stream, memoryview(_PREFIX.pack(_MAGIC, len(head)) + head))
    for array in arrays:
        if array.size:
            _write(stream, np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)


def receive(stream: io.RawIOBase, max_arrays: int = MAX_ARRAYS) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message; the arrays are fresh and writable.

    Args:
        stream: unbuffered binary stream.
        max_arrays: refuse a message whose arrays are larger than this many bytes together.

    Raises:
        ClosedError: the other side has gone.
        GarbageError: what came is not a message, or larger than allowed.
    """
    prefix = bytearray(_PREFIX.size)
    _read(stream, memoryview(prefix))
    magic, length = _PREFIX.unpack(prefix)
    if magic != _MAGIC or length > MAX_HEADER:
        raise GarbageError(f"not a message: {bytes(prefix)!r}")
    head = bytearray(length)
    _read(stream, memoryview(head))
    arrays: list[NDArray[Any]] = []
    try:
        header = json.loads(head)
        specs = [(tuple(int(n) for n in s["shape"]), _DTYPES[s["dtype"]]) for s in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GarbageError("not a message: the header is not what was agreed") from None
    if any(n < 0 for shape, _ in specs for n in shape):
        raise GarbageError("not a message: negative size")
    sizes = [int(np.prod(shape, dtype=object)) for shape, _ in specs]
    if sum(sizes) > max_arrays:
        raise GarbageError(f"a message of {sum(sizes)} bytes where {max_arrays} are allowed")
    for (shape, dtype), size in zip(specs, sizes, strict=True):
        data = np.empty(size, np.uint8)
        if size:
            _read(stream, data.data)
        arrays.append(data.view(dtype).reshape(shape))
    return header, arrays


def pack_inputs(batch: Sequence[Inputs]) -> tuple[list[dict[str, Any]], list[NDArray[Any]]]:
    """The inputs of several samples as plain values and arrays (draft, reference, mask of each)."""
    plain = [
        {"id": i.id, "prompt": i.prompt, "reference_box": i.reference_box and list(i.reference_box), "seed": i.seed}
        for i in batch
    ]
    return plain, [array for i in batch for array in (i.draft, i.reference, i.mask)]


def unpack_inputs(plain: list[dict[str, Any]], arrays: list[NDArray[Any]]) -> list[Inputs]:
    """The reverse of :func:`pack_inputs`."""
    batch = []
    for n, item in enumerate(plain):
        draft, reference, mask = arrays[3 * n : 3 * n + 3]
        box = item["reference_box"]
        batch.append(
            Inputs(item["id"], draft, reference, mask, item["prompt"], tuple(box) if box else None, item["seed"])
        )
    return batch
