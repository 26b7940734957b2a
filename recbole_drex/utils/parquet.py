"""Parquet files that anybody may have written: read without taking any amount of memory for a few bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_LEAST = 64 << 20  # bytes that any file may unpack to
_RATIO = 1000  # and bytes for each of its own; tables of runs, with long runs of equal values, stay below 200
_SMALL = 1 << 20  # bytes of a file in which a text that is repeated may be nearly all there is


def read_table(path: Path) -> pa.Table:
    """Read a whole Parquet file.

    Raises:
        OSError: it cannot be read, or would unpack to more than 64 MiB and a thousand times its size.
        pa.ArrowException: it is damaged.
    """
    with path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        batches = list(read_batches(parquet, path.stat().st_size))
        return pa.Table.from_batches(batches, parquet.schema_arrow).combine_chunks()


def read_batches(
    parquet: pq.ParquetFile, size: int, columns: Sequence[str] | None = None, rows: int = 1
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file of ``size`` bytes, in batches of at least ``rows`` (but for the last one).

    Raises:
        OSError: it would unpack to more than 64 MiB and a thousand times its size.
        pa.ArrowException: it is damaged.
    """
    allowed, unpacked, kept = check_sizes(parquet, size), 0, []
    # What one value takes shows when it has been unpacked, so few are unpacked at a time.
    for batch in parquet.iter_batches(64 if size < _SMALL else 1024, columns=columns):
        unpacked += batch.nbytes
        _check(unpacked, allowed)
        kept.append(batch)
        if sum(map(len, kept)) >= rows:
            yield pa.concat_batches(kept)
            kept = []
    if kept:
        yield pa.concat_batches(kept)


def check_sizes(parquet: pq.ParquetFile, size: int) -> int:
    """Check what a Parquet file of ``size`` bytes says of itself; returns how many bytes it may unpack to.

    Raises:
        OSError: it says that it unpacks to more.
    """
    allowed, meta = max(_LEAST, _RATIO * size), parquet.metadata
    declared = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    width = sum(_width(field.type) for field in parquet.schema_arrow)
    _check(max(declared, meta.num_rows * width), allowed)
    return allowed


def _width(kind: pa.DataType) -> int:
    """Bytes that a value takes at least."""
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # a text or list: where it begins
        return 4


def _check(size: int, allowed: int) -> None:
    if size > allowed:
        raise OSError(f"it unpacks to {size:,} bytes or more; {allowed:,} at most are read from a file of its size")
