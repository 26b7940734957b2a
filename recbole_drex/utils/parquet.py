"""Safe reading of untrusted Parquet files, which could decompress to any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_LEAST = 64 << 20  # bytes that any file may decompress to
_RATIO = 1000  # maximum ratio of decompression; tables of runs, with many equal values, stay below 200
_SMALL = 1 << 20  # bytes of a file that may consist mostly of one repeated text


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
    """The rows of a Parquet file of ``size`` bytes, in batches of at least ``rows`` (except the last one).

    Raises:
        OSError: it would unpack to more than 64 MiB and a thousand times its size.
        pa.ArrowException: it is damaged.
    """
    allowed, unpacked, kept = check_sizes(parquet, size), 0, []
    # The size of a value is known only after decompression, so few values are decompressed at a time.
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
    """Check the sizes that a Parquet file of ``size`` bytes declares; returns the allowed decompressed size.

    Raises:
        OSError: it declares a larger size.
    """
    allowed, meta = max(_LEAST, _RATIO * size), parquet.metadata
    declared = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    width = sum(_width(field.type) for field in parquet.schema_arrow)
    _check(max(declared, meta.num_rows * width), allowed)
    return allowed


def _width(kind: pa.DataType) -> int:
    """Minimum bytes of a value."""
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # a text or list: its offset
        return 4


def _check(size: int, allowed: int) -> None:
    if size > allowed:
        raise OSError(f"it unpacks to {size:,} bytes or more; {allowed:,} at most are read from a file of its size")
