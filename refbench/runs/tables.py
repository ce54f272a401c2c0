"""Score tables as parquet, a row group a chunk, with the state of each chunk in the file: what was measured, from what.

The state makes measuring resumable and re-scoring cheap: a chunk whose key (sample ids, output hashes, card
hashes) is unchanged is copied, one whose cards changed keeps the rows of the others. Files depend on nothing
but rows and state, so that a resumed run ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TypeAlias

from refbench.errors import RefbenchError

if TYPE_CHECKING:
    import pyarrow as pa

STATE_KEY = b"refbench"

Kind: TypeAlias = Literal["scores", "answers"]
KINDS: tuple[Kind, ...] = ("scores", "answers")


class ScoreRow(NamedTuple):
    """A row of ``scores.parquet``."""

    sample: str
    task: str
    metric: str
    axis: str
    region: str
    value: float
    higher_is_better: bool
    card: str


class ChunkState(NamedTuple):
    """What a row group was made from."""

    ids: tuple[str, ...]
    outputs: tuple[str | None, ...]
    """First 16 hex digits of each output's hash, None where there is no output; empty for answers."""
    cards: tuple[tuple[str, ...], ...]
    """(metric, card hash), or (answer, metric, card hash), in column order."""

    @property
    def key(self) -> str:
        """16 hex digits that are equal only for equal states."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]


def schema(kind: Kind) -> pa.Schema:
    """Columns of a score table."""
    import pyarrow as pa

    text = pa.string()
    columns = [("sample", text), ("task", text)]
    columns += [("answer", text)] if kind == "answers" else []
    columns += [("metric", text), ("axis", text), ("region", text), ("value", pa.float64())]
    return pa.schema([*columns, ("higher_is_better", pa.bool_()), ("card", text)])


def table(kind: Kind, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows, in the order of the columns, as a table."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema(kind).names)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema(kind), strict=True)],
        schema=schema(kind),
    )


class Stored:
    """A score table: its state, and its rows chunk by chunk.

    Args:
        handle: the open file; None where there is none, which is a table of no chunks.
        kind: of the table.
        path: where it is, for messages.

    Raises:
        RefbenchError: the file is there but is no table that refbench wrote.
    """

    def __init__(self, handle: BinaryIO | None, kind: Kind, path: str) -> None:
        import pyarrow.parquet as pq

        self.kind, self._handle = kind, handle
        self.states: tuple[ChunkState, ...] = ()
        self._file: pq.ParquetFile | None = None
        if handle is None:
            return
        try:
            self._file = pq.ParquetFile(handle)
            found = self._file.schema_arrow
            states = json.loads(found.metadata[STATE_KEY])
            self.states = tuple(
                ChunkState(tuple(s[0]), tuple(s[1]), tuple(tuple(card) for card in s[2])) for s in states
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise RefbenchError(
                f"Expected a score table at {path}, but it is damaged ({str(error).splitlines()[0]}); delete it and "
                "run 'refbench measure' on the run again, nothing is generated anew."
            ) from None
        if not found.remove_metadata().equals(schema(kind)) or self._file.num_row_groups != len(self.states):
            raise RefbenchError(
                f"Expected the columns of a refbench {kind} table at {path}, but they differ; delete the file and run "
                "'refbench measure' on the run again."
            )

    def rows(self, chunk: int) -> pa.Table:
        """The rows of one chunk."""
        assert self._file is not None
        return self._file.read_row_group(chunk)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._handle is not None:
            self._handle.close()


def fill(handle: BinaryIO, kind: Kind, chunks: Iterator[pa.Table], states: Sequence[ChunkState]) -> None:
    """Write a table into an open file, one row group a chunk, holding one chunk in memory at a time."""
    import pyarrow.parquet as pq

    state = json.dumps(states, separators=(",", ":")).encode()
    with pq.ParquetWriter(handle, schema(kind).with_metadata({STATE_KEY: state}), compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(chunk.replace_schema_metadata(None), row_group_size=max(len(chunk), 1))
