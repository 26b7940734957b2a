"""Parquet files that anybody may have written: read without taking any amount of memory for a few bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_LEAST = 64 << 20  # bytes that any file may unpack to
_RATIO = 1000  # and bytes for each of the file's; tables of runs, long runs of equal values included, stay below 200
_ROWS = 1024  # read at a time, since one row may repeat a text of any length


def read_table(path: Path) -> pa.Table:
    """Read a whole Parquet file.

    Raises:
        OSError: it cannot be read, or its content would unpack to more than 64 MiB and a thousand times its size.
        pa.ArrowException: it is damaged.
    """
    allowed = max(_LEAST, _RATIO * path.stat().st_size)
    with path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        meta = parquet.metadata
        said = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
        # A number takes a byte at least (bits of booleans aside), however well it was packed.
        _check(max(said, meta.num_rows * meta.num_columns), allowed)
        batches, size = [], 0
        for batch in parquet.iter_batches(_ROWS):
            size += batch.nbytes
            _check(size, allowed)
            batches.append(batch)
        return pa.Table.from_batches(batches, parquet.schema_arrow).combine_chunks()


def _check(size: int, allowed: int) -> None:
    if size > allowed:
        raise OSError(f"it unpacks to {size:,} bytes or more, {allowed:,} at most are read from a file of its size")
